package workflows

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
)

// The test environment drops signals that race with continue-as-new, whatever
// the code does, so this runs on a real server that suggests a new run every
// few events. The groups must come up, take every signal, and end when told.
func TestGroupsSurviveContinueAsNew(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := realServer(ctx, t, "--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=25")
	world := newFakeWorld()
	w := startWorker(t, c, world)
	defer w.Stop()

	start := func(kind string, in any) client.WorkflowRun {
		t.Helper()
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: cluster.LifecycleID("demo"), TaskQueue: TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
		}, kind, in)
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	if err := start(TypeProvisionCluster, ProvisionInput{Cluster: demoSpec()}).Get(ctx, nil); err != nil {
		t.Fatal(err)
	}

	// Signals from everywhere while the group keeps starting anew.
	group := cluster.GroupID("demo", "worker")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 40 {
				if err := c.SignalWorkflow(ctx, group, "", SignalAsk, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := chainLength(ctx, t, c, group); n < 3 {
		t.Errorf("the group ran %d times; it was to start anew again and again", n)
	}
	var out DeleteResult
	if err := start(TypeDeleteCluster, DeleteInput{Name: "demo"}).Get(ctx, &out); err != nil {
		t.Fatal(err)
	}
	if out.Machines != 5 || len(world.machines)+len(world.resources)+len(world.images) != 0 {
		t.Errorf("deleted %d machines, left %v %v %v", out.Machines, world.machines, world.resources, world.images)
	}
	for what, n := range world.creates {
		if n != 1 {
			t.Errorf("%s was created %d times", what, n)
		}
	}
	for _, name := range []string{"cp", "worker"} {
		d, err := c.DescribeWorkflowExecution(ctx, cluster.GroupID("demo", name), "")
		if err != nil {
			t.Fatal(err)
		}
		if s := d.GetWorkflowExecutionInfo().GetStatus(); s != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
			t.Errorf("group %s is %s", name, s)
		}
	}
}

// realServer runs a Temporal server for the time of the test.
func realServer(ctx context.Context, t *testing.T, args ...string) client.Client {
	t.Helper()
	quiet := log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	temporalCLI, err := filepath.Abs("../bin/tools/temporal")
	if err != nil {
		t.Fatal(err)
	}
	server, err := testsuite.StartDevServer(ctx, testsuite.DevServerOptions{
		ExistingPath: temporalCLI, ClientOptions: &client.Options{Logger: quiet}, LogLevel: "error", Stdout: io.Discard, Stderr: io.Discard,
		SearchAttributes: temporal.NewSearchAttributes(
			AttrCluster.ValueSet(""), AttrPhase.ValueSet(""), AttrCloud.ValueSet(""), AttrKind.ValueSet("")),
		ExtraArgs: args,
	})
	if err != nil {
		t.Fatalf("%v (make bin/tools/temporal builds the server)", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server.Client()
}

func startWorker(t *testing.T, c client.Client, world *fakeWorld) worker.Worker {
	t.Helper()
	w := worker.New(c, TaskQueue, worker.Options{
		Interceptors: []interceptor.WorkerInterceptor{&activities.Boundary{}}, StickyScheduleToStartTimeout: time.Second,
		// A busy machine is no deadlock.
		DeadlockDetectionTimeout: time.Minute,
	})
	Register(w, world.activities())
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// chainLength counts the runs of a workflow id along the chain of continue-as-new.
func chainLength(ctx context.Context, t *testing.T, c client.Client, id string) int {
	t.Helper()
	n, run := 0, ""
	for {
		n++
		it := c.GetWorkflowHistory(ctx, id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		e, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		run = e.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId()
		if run == "" {
			return n
		}
		if n > 1000 {
			t.Fatalf("%s never began", id)
		}
	}
}
