package standalone

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// server is as much of Temporal as starting entities needs.
type server struct {
	t    *testing.T
	runs map[string]*run // by workflow id
	err  error           // of every call
	// race makes that many starts lose against somebody else's.
	race    int
	started []client.StartWorkflowOptions
}

type run struct {
	kind    string
	running bool
	input   *commonpb.Payloads
	in      workflows.GroupInput
}

func (s *server) begin(id string, running bool, in workflows.GroupInput) *run {
	s.t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayloads(in)
	if err != nil {
		s.t.Fatal(err)
	}
	s.runs[id] = &run{kind: workflows.TypeScaleNodeGroup, running: running, input: p, in: in}
	return s.runs[id]
}

type handle struct{ client.WorkflowRun }

func (handle) GetRunID() string { return "new" }

func (s *server) ExecuteWorkflow(_ context.Context, o client.StartWorkflowOptions, kind any, args ...any) (client.WorkflowRun, error) {
	if s.err != nil {
		return nil, s.err
	}
	in, ok := args[0].(workflows.GroupInput)
	if kind != workflows.TypeScaleNodeGroup || !ok || len(args) != 1 {
		s.t.Fatalf("started %v with %v", kind, args)
	}
	if s.race > 0 {
		s.race--
		s.begin(o.ID, true, in)
	}
	if r := s.runs[o.ID]; r != nil && r.running {
		return nil, serviceerror.NewWorkflowExecutionAlreadyStarted("", "", "old")
	}
	s.started = append(s.started, o)
	s.begin(o.ID, true, in)
	return handle{}, nil
}

func (s *server) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	r := s.runs[id]
	switch {
	case s.err != nil:
		return nil, s.err
	case r == nil:
		return nil, serviceerror.NewNotFound("")
	}
	status := enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	if r.running {
		status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
		Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: "old"}, Status: status,
	}}, nil
}

func (s *server) GetWorkflowHistory(_ context.Context, id, _ string, _ bool, _ enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	return &events{r: s.runs[id]}
}

type events struct {
	r *run
	n int
}

func (e *events) HasNext() bool { return e.n == 0 }

func (e *events) Next() (*historypb.HistoryEvent, error) {
	e.n++
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: e.r.kind}, Input: e.r.input,
		},
	}}, nil
}

func newServer(t *testing.T) *server { return &server{t: t, runs: map[string]*run{}} }

const workerID = "cluster/shop/group/worker"

func TestStart(t *testing.T) {
	s, setup := newServer(t), load(t, "testdata/groups.yaml")
	var log bytes.Buffer
	o := StartOptions{TaskQueue: "mine", Log: slog.New(slog.NewJSONHandler(&log, nil))}
	setup.Notes = []string{"a note"}
	if err := Start(t.Context(), s, setup, o); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i, x := range s.started {
		ids = append(ids, x.ID)
		if x.TaskQueue != "mine" || x.WorkflowIDConflictPolicy != enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL || !x.WorkflowExecutionErrorWhenAlreadyStarted {
			t.Errorf("options: %+v", x)
		}
		kind, _ := x.TypedSearchAttributes.GetKeyword(workflows.AttrKind)
		name, _ := x.TypedSearchAttributes.GetKeyword(workflows.AttrCluster)
		if kind != "group" || name != "shop" {
			t.Errorf("search attributes %q %q", kind, name)
		}
		if diff := cmp.Diff(setup.Groups[i], s.runs[x.ID].in); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff([]string{workerID, "cluster/shop/group/batch"}, ids); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"a note", `"group":"shop/worker"`, `"group":"shop/batch"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, &log)
		}
	}
	if err := Start(t.Context(), s, setup, o); err != nil || len(s.started) != 2 {
		t.Errorf("again: %v, %d starts", err, len(s.started))
	}
}

func TestStartAfterATerminatedEntityLooksForItsMachines(t *testing.T) {
	s, setup := newServer(t), load(t, "testdata/groups.yaml")
	s.begin(workerID, false, setup.Groups[0])
	if err := Start(t.Context(), s, setup, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	if !s.runs[workerID].in.Resumed || s.runs["cluster/shop/group/batch"].in.Resumed {
		t.Error("only a group that ran before has creates that may be under way")
	}
}

func TestTwoStartsAtOnceMakeOneEntity(t *testing.T) {
	s, setup := newServer(t), load(t, "testdata/groups.yaml")
	setup.Groups = setup.Groups[:1]
	s.race = 1
	if err := Start(t.Context(), s, setup, StartOptions{}); err != nil || len(s.started) != 0 {
		t.Errorf("%v, %d starts", err, len(s.started))
	}
}

func TestStartRefusesAnotherFileForARunningGroup(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*workflows.GroupInput)
		want   string // "": no difference
		stays  bool   // no advice to terminate
	}{
		{name: "max", change: func(g *workflows.GroupInput) { g.Max = 99 }, want: "another max than"},
		{name: "several", change: func(g *workflows.GroupInput) { g.Min, g.Flavor, g.ImageID = 0, "flex-2-1", "x" }, want: "another flavor, image, min than"},
		{name: "user data", change: func(g *workflows.GroupInput) { g.Standalone.UserData = &activities.UserData{Ref: "r", SHA256: "s"} }, want: "another userData than"},
		{name: "tag", change: func(g *workflows.GroupInput) { g.Standalone.AdoptAlso = []cluster.Tag{{Key: "a"}} }, want: "another tag than"},
		{name: "kubeconfig", change: func(g *workflows.GroupInput) { g.Standalone.Kube.None = true }, want: "another kubeconfig than"},
		{name: "credentials", change: func(g *workflows.GroupInput) {
			g.Cloud.Credentials, g.Cluster.UID, g.Standalone.Kube.Ref.UID = "env:B", "other", "other"
		}, want: "another credentials than", stays: true},
		{name: "a cluster of Ichor", change: func(g *workflows.GroupInput) { g.Standalone = nil }, want: "serve that with --cluster shop", stays: true},
		{name: "its own state", change: func(g *workflows.GroupInput) {
			g.Target, g.Resumed, g.State = 7, true, &workflows.GroupState{Target: 7}
		}},
		{name: "empty lists", change: func(g *workflows.GroupInput) { g.Networks, g.Standalone.Taints = []string{}, []cluster.Taint{} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, setup := newServer(t), load(t, "testdata/groups.yaml")
			old := load(t, "testdata/groups.yaml").Groups[0]
			tc.change(&old)
			s.begin(workerID, true, old)
			err := Start(t.Context(), s, setup, StartOptions{})
			if len(s.started) != 1 || s.started[0].ID != "cluster/shop/group/batch" {
				t.Errorf("started %v; the other group is not affected", s.started)
			}
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), workerID) {
				t.Fatalf("%v", err)
			}
			if tc.stays == strings.Contains(err.Error(), "terminate") {
				t.Errorf("advice: %v", err)
			}
		})
	}
}

func TestStartRefusesAForeignWorkflow(t *testing.T) {
	s, setup := newServer(t), load(t, "testdata/groups.yaml")
	s.begin(workerID, true, setup.Groups[0]).kind = "Other"
	if err := Start(t.Context(), s, setup, StartOptions{}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), `"Other"`) {
		t.Error(err)
	}
	s.begin(workerID, true, setup.Groups[0]).input = &commonpb.Payloads{Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("binary/encrypted")}}}}
	if err := Start(t.Context(), s, setup, StartOptions{}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "other keys") {
		t.Error(err)
	}
}

func TestErrorsOfTemporal(t *testing.T) {
	for _, tc := range []struct {
		err  error
		kind fault.Kind
	}{
		{serviceerror.NewUnavailable("down"), fault.Unavailable},
		{context.DeadlineExceeded, fault.Unavailable},
		{serviceerror.NewNamespaceNotFound("x"), fault.Unavailable},
		{serviceerror.NewPermissionDenied("no", ""), fault.Unauthorized},
		{serviceerror.NewInvalidArgument("too long"), fault.Invalid},
	} {
		s := newServer(t)
		s.err = tc.err
		err := Start(t.Context(), s, load(t, "testdata/groups.yaml"), StartOptions{})
		if fault.KindOf(err) != tc.kind || !errors.Is(err, tc.err) {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
	s := newServer(t)
	s.err = serviceerror.NewInvalidArgument("Namespace default has no mapping defined for search attribute IchorKind")
	o := StartOptions{TaskQueue: "q"}
	if _, err := o.start(t.Context(), s, workerID, workflows.GroupInput{}); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}
