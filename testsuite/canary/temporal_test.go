package canary_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/testsuite/canary"
)

var keyword = temporal.NewSearchAttributeKeyKeyword("IchorTestKeyword")

func codecKey(t *testing.T, fill byte) codec.Key {
	t.Helper()
	k, err := codec.ParseKey(secrets.NewValue([]byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// leaks has one secret for every place in which a run keeps something.
type leaks map[string]string

// leakyWorkflow puts every secret where its name says, then waits.
func leakyWorkflow(ctx workflow.Context, in leaks) (string, error) {
	if err := workflow.SetQueryHandler(ctx, "leak", func() (string, error) { return in["query"], nil }); err != nil {
		return "", err
	}
	if err := workflow.SetUpdateHandler(ctx, "update", func(workflow.Context, string) (string, error) { return in["update result"], nil }); err != nil {
		return "", err
	}
	workflow.SetCurrentDetails(ctx, in["details"])
	var side string
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return in["side effect"] }).Get(&side); err != nil {
		return "", err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, Summary: in["activity summary"],
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	var out string
	if err := workflow.ExecuteActivity(ctx, "leak", in).Get(ctx, &out); err == nil {
		return "", errors.New("the activity succeeded")
	}
	pending := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Minute, WaitForCancellation: true,
	})
	waiting := workflow.ExecuteActivity(pending, "beat", in)
	var release string
	workflow.GetSignalChannel(ctx, "release").Receive(ctx, &release)
	if err := waiting.Get(ctx, &out); err != nil {
		return "", err
	}
	return in["result"], nil
}

// TestScanTemporal plants a secret in every place of a run. Without the codec
// the scanner finds them all; with it, only what Temporal never encrypts, and
// all of them again once it decodes as the UI does.
func TestScanTemporal(t *testing.T) {
	dial := startTemporal(t)
	keys := []codec.Key{codecKey(t, 1)}
	codecs, err := codec.Codecs(keys)
	if err != nil {
		t.Fatal(err)
	}
	places := []string{
		"input", "memo", "static summary", "search attribute", "query", "update", "update result", "details", "side effect",
		"activity summary", "error message", "error cause", "error details", "heartbeat", "activity result", "signal", "result",
	}
	for _, tc := range []struct {
		name  string
		keys  []codec.Key
		o     canary.TemporalOptions
		clear []string // readable as stored
		shown []string // readable once decoded
	}{
		{name: "without codec", clear: places},
		{name: "with codec", keys: keys, clear: []string{"search attribute"}},
		{name: "as the UI shows it", keys: keys, o: canary.TemporalOptions{Codecs: codecs}, clear: []string{"search attribute"}, shown: places},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var set canary.Set
			in := leaks{}
			for _, p := range places {
				in[p] = set.Plant(p)
			}
			c := dial(tc.keys)
			id := "leaky " + tc.name
			tc.o.Dir, tc.o.Queries = t.TempDir(), []string{"leak", "unknown"}
			before := runLeaky(t, c, id, in, func() canary.Report {
				report, err := set.ScanTemporal(t.Context(), c, tc.o)
				if err != nil {
					t.Fatal(err)
				}
				return report
			})
			after, err := set.ScanTemporal(t.Context(), c, tc.o)
			if err != nil {
				t.Fatal(err)
			}
			var clear, shown []string
			for _, f := range append(before.Findings, after.Findings...) {
				if !strings.HasPrefix(f.Where, "workflow "+id) {
					t.Errorf("%v", f)
				}
				if strings.Contains(f.Where, " decoded") {
					shown = append(shown, f.Secret)
				} else {
					clear = append(clear, f.Secret)
				}
			}
			if diff := cmp.Diff(sorted(tc.clear), sorted(clear)); diff != "" {
				t.Errorf("as stored:\n%s", diff)
			}
			if diff := cmp.Diff(sorted(tc.shown), sorted(shown)); diff != "" {
				t.Errorf("decoded:\n%s", diff)
			}
			if len(before.Unanswered) < 1 || !strings.Contains(before.Unanswered[0], "unknown") {
				t.Errorf("unanswered: %q", before.Unanswered)
			}
			if before.Answers == 0 || after.Events == 0 || after.Err() == nil {
				t.Errorf("%+v", after)
			}
			if files, err := os.ReadDir(tc.o.Dir); err != nil || len(files) < after.Workflows {
				t.Errorf("%d exported histories of %d runs, %v", len(files), after.Workflows, err)
			}
		})
	}
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// runLeaky runs the workflow; look is called while an activity is pending.
func runLeaky(t *testing.T, c client.Client, id string, in leaks, look func() canary.Report) canary.Report {
	t.Helper()
	beating, finish := make(chan struct{}), make(chan struct{})
	w := worker.New(c, id, worker.Options{})
	w.RegisterWorkflowWithOptions(leakyWorkflow, workflow.RegisterOptions{Name: "leaky"})
	w.RegisterActivityWithOptions(func(context.Context, leaks) error {
		return temporal.NewApplicationErrorWithCause(in["error message"], "Quota", errors.New(in["error cause"]), in["error details"])
	}, activity.RegisterOptions{Name: "leak"})
	w.RegisterActivityWithOptions(func(ctx context.Context, in leaks) (string, error) {
		activity.RecordHeartbeat(ctx, in["heartbeat"])
		close(beating)
		<-finish
		return in["activity result"], nil
	}, activity.RegisterOptions{Name: "beat"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	ctx := t.Context()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: id, Memo: map[string]any{"memo": in["memo"]}, StaticSummary: in["static summary"],
		TypedSearchAttributes: temporal.NewSearchAttributes(keyword.ValueSet(in["search attribute"])),
	}, "leaky", in)
	if err != nil {
		t.Fatal(err)
	}
	<-beating
	handle, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: "update", Args: []any{in["update"]}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		t.Fatal(err)
	}
	var result string
	if err := handle.Get(ctx, &result); err != nil {
		t.Fatal(err)
	}
	report := look()
	close(finish)
	if err := c.SignalWorkflow(ctx, id, "", "release", in["signal"]); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(ctx, &result); err != nil {
		t.Fatal(err)
	}
	return report
}

// A worker that lacks the key must do no harm: neither to a run that starts nor
// to one that gets a signal. Once a worker has the key, both go on.
func TestWorkerWithoutKeyDoesNoHarm(t *testing.T) {
	dial := startTemporal(t)
	keys := []codec.Key{codecKey(t, 1)}
	for name, wrong := range map[string][]codec.Key{"no key": nil, "another key": {codecKey(t, 2)}} {
		t.Run(name, func(t *testing.T) {
			ctx, right := t.Context(), dial(keys)
			run, err := right.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: name, TaskQueue: name, WorkflowTaskTimeout: time.Second}, "echo", "input")
			if err != nil {
				t.Fatal(err)
			}
			if err := right.SignalWorkflow(ctx, name, "", "release", " and signal"); err != nil {
				t.Fatal(err)
			}
			work := func(c client.Client, until func()) {
				w := worker.New(c, name, worker.Options{})
				w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in string) (string, error) {
					var s string
					workflow.GetSignalChannel(ctx, "release").Receive(ctx, &s)
					return in + s, nil
				}, workflow.RegisterOptions{Name: "echo"})
				if err := w.Start(); err != nil {
					t.Fatal(err)
				}
				defer w.Stop()
				until()
			}
			work(dial(wrong), func() {
				events := right.GetWorkflowHistory(ctx, name, "", true, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
				for events.HasNext() {
					event, err := events.Next()
					if err != nil {
						t.Fatal(err)
					}
					if event.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED {
						if text := event.GetWorkflowTaskFailedEventAttributes().GetFailure().GetMessage(); len(wrong) == 0 && !strings.Contains(text, "codec key") {
							t.Errorf("the reason does not help: %s", text)
						}
						return
					}
				}
				t.Error("the run ended")
			})
			var got string
			work(right, func() {
				if err := run.Get(ctx, &got); err != nil {
					t.Fatal(err)
				}
			})
			if got != "input and signal" {
				t.Errorf("result %q", got)
			}
		})
	}
}
