package replay

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/ichor-project/ichor/testsuite/canary"
	"github.com/ichor-project/ichor/workflows"
)

// registry passes workflows on to a replayer and lists their names. A replay
// runs no activities.
type registry struct {
	worker.WorkflowReplayer
	types []string
}

func (r *registry) RegisterWorkflowWithOptions(w any, o workflow.RegisterOptions) {
	r.types = append(r.types, o.Name)
	r.WorkflowReplayer.RegisterWorkflowWithOptions(w, o)
}

func (*registry) RegisterActivity(any)                                         {}
func (*registry) RegisterActivityWithOptions(any, activity.RegisterOptions)    {}
func (*registry) RegisterDynamicActivity(any, activity.DynamicRegisterOptions) {}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{WorkflowReplayer: worker.NewWorkflowReplayer()}
	workflows.Register(r, workflows.Activities{})
	return r
}

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// run replays a history as the run that it was: workflows look at their own id.
func (r *registry) run(h *historypb.History) error {
	started := h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	return r.ReplayWorkflowHistoryWithOptions(quiet, h, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: started.GetWorkflowId(), RunID: started.GetOriginalExecutionRunId()},
	})
}

// history is a recorded run.
type history struct {
	name string
	body []byte
	*historypb.History
}

func (h history) kind() string {
	return h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()
}

func (h history) copy() *historypb.History { return proto.CloneOf(h.History) }

func histories(t *testing.T) []history {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("histories", "*", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories (%v); record them with: go run ./testsuite/replay/record", err)
	}
	var out []history
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		h, err := client.HistoryFromJSON(bytes.NewReader(body), client.HistoryJSONOptions{})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, history{strings.TrimSuffix(strings.TrimPrefix(file, "histories/"), ".json"), body, h})
	}
	return out
}

// TestHistoriesReplay is the guard: what runs today must go on tomorrow.
func TestHistoriesReplay(t *testing.T) {
	for _, h := range histories(t) {
		t.Run(h.name, func(t *testing.T) {
			if err := newRegistry(t).run(h.copy()); err != nil {
				t.Errorf("%s no longer replays, so runs of today would stop; keep the old way behind workflow.GetVersion: %v", h.kind(), err)
			}
		})
	}
}

// TestEveryEndingIsRecorded demands a history of each workflow and of each way in
// which the lifecycle workflows end.
func TestEveryEndingIsRecorded(t *testing.T) {
	have := map[string]bool{}
	for _, h := range histories(t) {
		events := h.GetEvents()
		end := strings.TrimPrefix(events[len(events)-1].GetEventType().String(), "WorkflowExecution")
		have[h.kind()+" "+end] = true
	}
	for _, kind := range newRegistry(t).types {
		if !slices.ContainsFunc([]string{"Completed", "Failed", "Canceled", "ContinuedAsNew"}, func(end string) bool { return have[kind+" "+end] }) {
			t.Errorf("no history of %s", kind)
		}
	}
	for _, want := range []string{
		"ProvisionCluster Completed", "ProvisionCluster Failed", "ProvisionCluster Canceled",
		"DeleteCluster Completed", "DeleteCluster Failed", "ScaleNodeGroup Completed", "ScaleNodeGroup ContinuedAsNew", "HoldImage Completed",
	} {
		if !have[want] {
			t.Errorf("no history of the ending: %s; there are %v", want, have)
		}
	}
}

// damages are changes of code, seen from the other side: history that the code of
// today would not have made.
var damages = []struct {
	name string
	do   func(h *historypb.History) bool
}{
	{"another activity in its place", func(h *historypb.History) bool {
		return first(h, func(e *historypb.HistoryEvent) bool {
			a := e.GetActivityTaskScheduledEventAttributes()
			if a != nil {
				a.ActivityType = &commonpb.ActivityType{Name: "AnotherActivity"}
			}
			return a != nil
		})
	}},
	{"two activities in the other order", func(h *historypb.History) bool {
		var seen []*historypb.ActivityTaskScheduledEventAttributes
		for _, e := range h.GetEvents() {
			a := e.GetActivityTaskScheduledEventAttributes()
			if a == nil || len(seen) > 0 && a.GetActivityType().GetName() == seen[0].GetActivityType().GetName() {
				continue
			}
			if seen = append(seen, a); len(seen) == 2 {
				a.ActivityType, seen[0].ActivityType = seen[0].GetActivityType(), a.GetActivityType()
				return true
			}
		}
		return false
	}},
	{"a child of another type", func(h *historypb.History) bool {
		return first(h, func(e *historypb.HistoryEvent) bool {
			a := e.GetStartChildWorkflowExecutionInitiatedEventAttributes()
			if a != nil {
				a.WorkflowType = &commonpb.WorkflowType{Name: "AnotherWorkflow"}
			}
			return a != nil
		})
	}},
	{"a signal to another workflow", func(h *historypb.History) bool {
		return first(h, func(e *historypb.HistoryEvent) bool {
			a := e.GetSignalExternalWorkflowExecutionInitiatedEventAttributes()
			if a != nil {
				a.WorkflowExecution = &commonpb.WorkflowExecution{WorkflowId: "another"}
			}
			return a != nil
		})
	}},
	{"an end that never came", func(h *historypb.History) bool {
		last := h.GetEvents()[len(h.GetEvents())-1]
		if last.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW {
			return false
		}
		last.EventType = enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
		last.Attributes = &historypb.HistoryEvent_WorkflowExecutionContinuedAsNewEventAttributes{
			WorkflowExecutionContinuedAsNewEventAttributes: &historypb.WorkflowExecutionContinuedAsNewEventAttributes{},
		}
		return true
	}},
}

// first applies change to events until it says that it has changed one.
func first(h *historypb.History, change func(*historypb.HistoryEvent) bool) bool {
	return slices.ContainsFunc(h.GetEvents(), change)
}

// TestDamagedHistoriesFail proves that a replay notices: a guard that never fails
// guards nothing.
func TestDamagedHistoriesFail(t *testing.T) {
	done := map[string]int{}
	for _, h := range histories(t) {
		damaged := 0
		for _, d := range damages {
			broken := h.copy()
			if !d.do(broken) {
				continue
			}
			damaged++
			done[d.name]++
			if err := newRegistry(t).run(broken); err == nil {
				t.Errorf("%s replays with %s", h.name, d.name)
			}
		}
		if damaged == 0 {
			t.Errorf("%s was not damaged in any way", h.name)
		}
	}
	for _, d := range damages {
		if done[d.name] == 0 {
			t.Errorf("no history could be damaged by %s", d.name)
		}
	}
}

// TestHistoriesHoldNoSecrets looks for what was planted while they were recorded.
func TestHistoriesHoldNoSecrets(t *testing.T) {
	var set canary.Set
	for name, value := range Doors {
		set.Add(name, value)
	}
	for _, h := range histories(t) {
		if err := canary.Error(set.Scan(h.name, h.body)); err != nil {
			t.Error(err)
		}
	}
	// The scan is awake: it finds what a payload holds.
	leak := fmt.Sprintf(`{"data":%q}`, "cmVjb3JkZWQtY2FuYXJ5LWNyZWRlbnRpYWxz")
	if len(set.Scan("a leak", []byte(leak))) == 0 {
		t.Error("the scan does not find a credential in base64")
	}
}
