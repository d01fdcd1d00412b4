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
	updatepb "go.temporal.io/api/update/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

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
	// signals are those that arrived; signalErr is the error of the next one,
	// and ended makes it find no run, which has ended by then.
	signals   []workflows.ConfigureRequest
	signalErr error
	ended     bool
}

type run struct {
	kind    string
	running bool
	input   *commonpb.Payloads
	in      workflows.GroupInput
	more    []*historypb.HistoryEvent
}

func (s *server) begin(id string, running bool, in workflows.GroupInput) *run {
	s.t.Helper()
	s.runs[id] = &run{kind: workflows.TypeScaleNodeGroup, running: running, input: payloads(s.t, in), in: in}
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
	r := s.runs[id]
	first := &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			WorkflowType: &commonpb.WorkflowType{Name: r.kind}, Input: r.input,
		},
	}}
	return &events{left: append([]*historypb.HistoryEvent{first}, r.more...)}
}

type events struct{ left []*historypb.HistoryEvent }

func (e *events) HasNext() bool { return len(e.left) > 0 }

func (e *events) Next() (*historypb.HistoryEvent, error) {
	next := e.left[0]
	e.left = e.left[1:]
	return next, nil
}

func (s *server) SignalWorkflow(_ context.Context, id, runID, name string, arg any) error {
	req, ok := arg.(workflows.ConfigureRequest)
	if runID != "" || name != workflows.SignalConfigure || !ok || req.RequestID == "" {
		s.t.Fatalf("signal %s with %v to run %q", name, arg, runID)
	}
	r := s.runs[id]
	if s.ended {
		s.ended, r.running = false, false
	}
	if err := s.signalErr; err != nil {
		s.signalErr = nil
		return err
	}
	if !r.running {
		return serviceerror.NewNotFound("workflow execution already completed")
	}
	s.signals = append(s.signals, req)
	r.more = append(r.more, signalled(s.t, name, req))
	return nil
}

func payloads(t *testing.T, arg any) *commonpb.Payloads {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayloads(arg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func signalled(t *testing.T, name string, arg any) *historypb.HistoryEvent {
	t.Helper()
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{
		WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: name, Input: payloads(t, arg)},
	}}
}

func updated(t *testing.T, name string, arg any) *historypb.HistoryEvent {
	t.Helper()
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionUpdateAcceptedEventAttributes{
		WorkflowExecutionUpdateAcceptedEventAttributes: &historypb.WorkflowExecutionUpdateAcceptedEventAttributes{
			AcceptedRequest: &updatepb.Request{Input: &updatepb.Input{Name: name, Args: payloads(t, arg)}},
		},
	}}
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
	if err := Start(t.Context(), s, setup, o); err != nil || len(s.started) != 2 || len(s.signals) != 0 {
		t.Errorf("again: %v, %d starts, told %v", err, len(s.started), s.signals)
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
	setup := load(t, "testdata/groups.yaml")
	s.begin(workerID, true, setup.Groups[0])
	setup.Groups[0].Max++
	s.signalErr = serviceerror.NewUnavailable("down")
	if err := Start(t.Context(), s, setup, StartOptions{}); !fault.Is(err, fault.Unavailable) || len(s.signals) != 0 {
		t.Errorf("%v, told %v", err, s.signals)
	}
	s.err = serviceerror.NewInvalidArgument("Namespace default has no mapping defined for search attribute IchorKind")
	o := StartOptions{TaskQueue: "q"}
	if _, err := o.start(t.Context(), s, workerID, workflows.GroupInput{}); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}
