package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

func demoSpec() cluster.Cluster {
	two := 2
	return cluster.Cluster{
		APIVersion: cluster.APIVersion, Kind: cluster.Kind, Metadata: cluster.Metadata{Name: "demo"},
		Spec: cluster.Spec{
			Cloud: cluster.Cloud{Provider: "fake", Zone: "z1", Credentials: "env:X"}, Talos: cluster.Talos{Version: "v1.13.5"},
			Kubernetes: cluster.Kubernetes{Version: "v1.36.3"}, ControlPlane: cluster.ControlPlane{Replicas: 3, Flavor: "flex-4-2"},
			NodeGroups: []cluster.NodeGroup{{Name: "worker", Flavor: "flex-4-2", Min: 1, Max: 5, Count: &two}},
			OnFailure:  cluster.OnFailureRollback,
		},
	}
}

// newEnv is a test environment for the workflow of an id, with everything that a
// worker registers.
func newEnv(t *testing.T, w *fakeWorld, id string) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var s testsuite.WorkflowTestSuite
	env := s.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&activities.Boundary{}}})
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id, TaskQueue: TaskQueue})
	env.SetTestTimeout(20 * time.Second)
	env.SetDetachedChildWait(false) // groups outlive the workflow that starts them
	Register(env, w.activities())
	env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).
		Return(&temporal.UnknownExternalWorkflowExecutionError{}).Maybe() // whatever does not run here
	return env
}

// run executes one workflow in the test environment under its proper id.
func run(t *testing.T, w *fakeWorld, id string, fn any, in any, during func(*testsuite.TestWorkflowEnvironment)) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	env := newEnv(t, w, id)
	if during != nil {
		during(env)
	}
	env.ExecuteWorkflow(fn, in)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	return env
}

func provisionDemo(t *testing.T, w *fakeWorld, during func(*testsuite.TestWorkflowEnvironment)) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	return run(t, w, cluster.LifecycleID("demo"), ProvisionCluster, ProvisionInput{Cluster: demoSpec()}, during)
}

func TestProvisionCreatesEverythingOnce(t *testing.T) {
	w := newFakeWorld()
	env := provisionDemo(t, w, nil)
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	var out ProvisionResult
	if err := env.GetWorkflowResult(&out); err != nil {
		t.Fatal(err)
	}
	if out.Nodes != 5 || out.Endpoint != "https://192.0.2.1:6443" {
		t.Errorf("result: %+v", out)
	}
	if len(w.machines) != 5 || w.calls["bootstrap"] != 1 {
		t.Errorf("%d machines, %d bootstraps", len(w.machines), w.calls["bootstrap"])
	}
	for what, n := range w.creates {
		if n != 1 {
			t.Errorf("%s was created %d times", what, n)
		}
	}
	if w.record.Phase != cluster.PhaseReady || len(w.record.ControlPlanes) != 3 || w.record.BootstrapMachine == "" {
		t.Errorf("record: %+v", w.record)
	}
}

func TestWrongIDDoesNothing(t *testing.T) {
	w := newFakeWorld()
	env := run(t, w, "something-else", ProvisionCluster, ProvisionInput{Cluster: demoSpec()}, nil)
	err := env.GetWorkflowError()
	if kindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "--workflow-id cluster/demo/lifecycle --fail-existing") {
		t.Errorf("error: %v", err)
	}
	if !strings.Contains(err.Error(), "run run-7 (ProvisionCluster) holds that lock now") {
		t.Errorf("the error does not name the holder: %v", err)
	}
	if len(w.calls) != 0 || w.rev != 0 {
		t.Errorf("something was done: %v", w.calls)
	}
}

func TestUnknownFieldIsNamed(t *testing.T) {
	var in ProvisionInput
	if err := in.UnmarshalJSON([]byte(`{"metadata":{"name":"demo"},"spec":{"cloudz":{}}}`)); err != nil {
		t.Fatal(err)
	}
	if in.Metadata.Name != "demo" || !strings.Contains(in.problem, "spec.cloudz") {
		t.Errorf("decoded %q, problem %q", in.Metadata.Name, in.problem)
	}
}

// Whatever is created answers nothing the first time, having done its work or
// not: in the end there is one of each.
func TestLostAnswersOfCreates(t *testing.T) {
	for _, done := range []bool{true, false} {
		w := newFakeWorld()
		lost := fault.New(fault.Ambiguous, "create", "no answer")
		w.inject = func(op string, n int) (before, after error) {
			if !strings.HasPrefix(op, "create") || n != 1 {
				return nil, nil
			}
			if done {
				return nil, lost
			}
			return lost, nil
		}
		env := provisionDemo(t, w, nil)
		if err := env.GetWorkflowError(); err != nil {
			t.Fatal(err)
		}
		if len(w.machines) != 5 || len(w.images) != 1 {
			t.Errorf("done %v: %d machines, %d images", done, len(w.machines), len(w.images))
		}
		for what, n := range w.creates {
			if n != 1 {
				t.Errorf("done %v: %s was created %d times", done, what, n)
			}
		}
	}
}

// A failure at any phase leaves nothing when the spec says rollback, and the
// first error is the one that is told.
func TestRollbackLeavesNothing(t *testing.T) {
	for _, op := range []string{"create image", "create network", "create lb", "create machine", "create placement", "sync members", "probe", "bootstrap"} {
		t.Run(strings.ReplaceAll(op, " ", "-"), func(t *testing.T) {
			w := newFakeWorld()
			w.inject = func(o string, n int) (error, error) {
				if o == op && (op != "create machine" || n == 2) {
					return fault.New(fault.Quota, op, "limit reached"), nil
				}
				return nil, nil
			}
			env := provisionDemo(t, w, nil)
			err := env.GetWorkflowError()
			if kindOf(err) != fault.Quota || !strings.Contains(err.Error(), "limit reached") {
				t.Errorf("error: %v", err)
			}
			if len(w.machines)+len(w.resources)+len(w.images) != 0 {
				t.Errorf("left: %v %v %v", w.machines, w.resources, w.images)
			}
			if w.record.Phase != cluster.PhaseDeleted {
				t.Errorf("record phase %s", w.record.Phase)
			}
		})
	}
}

func TestKeepNamesWhatRemains(t *testing.T) {
	w := newFakeWorld()
	w.inject = func(o string, _ int) (error, error) {
		if o == "bootstrap" {
			return fault.New(fault.Invalid, "bootstrap", "no"), nil
		}
		return nil, nil
	}
	spec := demoSpec()
	spec.Spec.OnFailure = cluster.OnFailureKeep
	env := run(t, w, cluster.LifecycleID("demo"), ProvisionCluster, ProvisionInput{Cluster: spec}, nil)
	if err := env.GetWorkflowError(); kindOf(err) != fault.Invalid {
		t.Errorf("error: %v", err)
	}
	if len(w.machines) != 3 || w.record.Phase != cluster.PhaseFailed {
		t.Errorf("%d machines, phase %s", len(w.machines), w.record.Phase)
	}
	v, err := env.QueryWorkflow(QueryProgress)
	if err != nil {
		t.Fatal(err)
	}
	var p Progress
	if err := v.Get(&p); err != nil {
		t.Fatal(err)
	}
	// Three machines, three resources, one placement group, one image.
	if len(p.Remaining) != 8 {
		t.Errorf("remaining: %v", p.Remaining)
	}
}

func TestCancelRollsBack(t *testing.T) {
	w := newFakeWorld()
	var cancel func()
	w.inject = func(o string, n int) (error, error) {
		if o != "ready" {
			return nil, nil
		}
		if n == 1 {
			cancel()
		}
		return fault.New(fault.NotYet, "ready", "never"), nil
	}
	env := provisionDemo(t, w, func(env *testsuite.TestWorkflowEnvironment) { cancel = env.CancelWorkflow })
	err := env.GetWorkflowError()
	if err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("error: %v", err)
	}
	if len(w.machines)+len(w.resources)+len(w.images) != 0 {
		t.Errorf("left: %v %v %v", w.machines, w.resources, w.images)
	}
}

// A second run goes on with what a kept failure left, even when the groups of
// the first run are lost: their machines are adopted, not made again.
func TestProvisionGoesOnAfterKeep(t *testing.T) {
	w := newFakeWorld()
	fails := true
	w.inject = func(o string, _ int) (error, error) {
		if o == "bootstrap" && fails {
			return fault.New(fault.Invalid, "bootstrap", "no"), nil
		}
		return nil, nil
	}
	spec := demoSpec()
	spec.Spec.OnFailure = cluster.OnFailureKeep
	run(t, w, cluster.LifecycleID("demo"), ProvisionCluster, ProvisionInput{Cluster: spec}, nil)
	// The test environment gives every run the same id.
	w.change(func() { fails, w.record.Ref.UID = false, "earlier" })
	env := run(t, w, cluster.LifecycleID("demo"), ProvisionCluster, ProvisionInput{Cluster: spec}, nil)
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	if len(w.machines) != 5 || w.record.Phase != cluster.PhaseReady {
		t.Errorf("%d machines, phase %s", len(w.machines), w.record.Phase)
	}
	for what, n := range w.creates {
		if n != 1 {
			t.Errorf("%s was created %d times", what, n)
		}
	}
}

// A second run of a half-made cluster that cannot even open the account must not
// take that for an empty account.
func TestResumedRunNeverForgetsWhatItCannotSee(t *testing.T) {
	w := newFakeWorld()
	provisionDemo(t, w, nil)
	w.change(func() {
		w.record.Phase, w.record.Ref.UID = cluster.PhaseCreating, "earlier" // as after a termination
		w.inject = func(op string, _ int) (error, error) {
			if op == "flavors" {
				return fault.New(fault.Invalid, op, "flavor withdrawn"), nil
			}
			return nil, nil
		}
	})
	env := provisionDemo(t, w, nil)
	if err := env.GetWorkflowError(); err == nil || !strings.Contains(err.Error(), "flavor withdrawn") {
		t.Errorf("error: %v", err)
	}
	if w.record.Phase == cluster.PhaseDeleted || len(w.machines) != 5 {
		t.Errorf("phase %s, %d machines", w.record.Phase, len(w.machines))
	}
}

// A second run that fails takes back what the first one made, too.
func TestResumedRollbackEmptiesTheAccount(t *testing.T) {
	w := newFakeWorld()
	provisionDemo(t, w, nil)
	w.change(func() {
		w.record.Phase, w.record.Ref.UID = cluster.PhaseCreating, "earlier"
		w.inject = func(op string, _ int) (error, error) {
			if op == "sync members" {
				return fault.New(fault.Invalid, op, "no"), nil
			}
			return nil, nil
		}
	})
	provisionDemo(t, w, nil)
	if len(w.machines)+len(w.resources)+len(w.images) != 0 || w.record.Phase != cluster.PhaseDeleted {
		t.Errorf("phase %s, left: %v %v %v", w.record.Phase, w.machines, w.resources, w.images)
	}
}

func TestProvisionAgainIsANoOp(t *testing.T) {
	w := newFakeWorld()
	provisionDemo(t, w, nil)
	calls := w.calls["create machine"]
	env := provisionDemo(t, w, nil)
	var out ProvisionResult
	if err := env.GetWorkflowResult(&out); err != nil {
		t.Fatal(err)
	}
	if !out.Unchanged || w.calls["create machine"] != calls {
		t.Errorf("result %+v, %d more creates", out, w.calls["create machine"]-calls)
	}
	w.change(func() { w.record.Ref.UID = "earlier" }) // the test environment gives every run the same id
	other := demoSpec()
	other.Spec.ControlPlane.Replicas = 1
	env = run(t, w, cluster.LifecycleID("demo"), ProvisionCluster, ProvisionInput{Cluster: other}, nil)
	if err := env.GetWorkflowError(); kindOf(err) != fault.Conflict {
		t.Errorf("another spec: %v", err)
	}
}
