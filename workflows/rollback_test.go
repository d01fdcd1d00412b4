package workflows

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// slots is a fleet whose nodes have another system in their other slot.
type slots struct {
	*fakeFleet
	other plan.Versions
	// falls says that the boot loader goes back by itself.
	falls bool
}

func (s *slots) GetRecord(context.Context, activities.GetRecordInput) (cluster.Record, error) {
	return s.record, nil
}

func (s *slots) OpenAccount(context.Context, activities.OpenAccountInput) (activities.ResolveCloudResult, error) {
	return activities.ResolveCloudResult{Account: "acct", Capabilities: fakeProvider{}.Capabilities(), Timing: activities.DefaultTiming()}, nil
}

func (s *slots) RollbackNode(_ context.Context, in activities.RebootInput) error {
	if s.other.Talos == "" {
		return fault.New(fault.Unsafe, "roll back", "the other slot is empty")
	}
	return s.act("rollback", in.Target, func(n *fakeNode) {
		if n.BootID != in.BootID {
			return
		}
		n.BootID += "+"
		if !s.falls {
			n.Talos, n.Schematic = s.other.Talos, s.other.Schematic
		}
	})
}

func (s *slots) WaitBooted(_ context.Context, in activities.WaitBootedInput) (plan.UpgradeNode, error) {
	var out plan.UpgradeNode
	err := s.act("boot", in.Target, func(n *fakeNode) { out = n.UpgradeNode })
	if out.BootID == in.BootID {
		return out, fault.New(fault.NotYet, "wait for the node", "it has not booted anew")
	}
	return out, err
}

func (s *slots) run(t *testing.T, in RollbackInput, acts map[time.Duration]act) (RollbackResult, error) {
	t.Helper()
	env := repairEnv(t, s.fakeFleet, RollbackNode)
	env.RegisterWorkflow(UpgradeNode)
	for name, fn := range map[string]any{"GetRecord": s.GetRecord, "OpenAccount": s.OpenAccount, "RollbackNode": s.RollbackNode, "WaitBooted": s.WaitBooted} {
		env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	for at, do := range acts {
		env.RegisterDelayedCallback(func() { do(env) }, at)
	}
	env.ExecuteWorkflow(RollbackNode, in)
	if !env.IsWorkflowCompleted() {
		t.Fatal("it did not end")
	}
	var out RollbackResult
	err := env.GetWorkflowError()
	if err == nil {
		if gerr := env.GetWorkflowResult(&out); gerr != nil {
			t.Fatal(gerr)
		}
	}
	for _, n := range s.nodes {
		if n.held || n.Cordoned || n.leased != "" {
			t.Errorf("%s was left held %t, cordoned %t, leased %q", n.Name, n.held, n.Cordoned, n.leased)
		}
	}
	return out, err
}

// repairEnv is an environment in which groups answer with the fleet's nodes.
func repairEnv(t *testing.T, f *fakeFleet, wf any) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&activities.Boundary{}}})
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: cluster.LifecycleID("demo"), TaskQueue: TaskQueue})
	env.RegisterWorkflow(wf)
	f.register(env)
	env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, SignalAsk, mock.Anything).Return(
		func(_, id, _, _ string, _ any) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			r := f.members(groupOf(id))
			env.RegisterDelayedCallback(func() { env.SignalWorkflow(SignalReport, r) }, 0)
			return nil
		})
	return env
}

var v13before = plan.Versions{Talos: v13.Talos, Schematic: v13.Schematic}

// The other slot is booted once, drained and behind the gates, and the answer says
// what runs then.
func TestRollback(t *testing.T) {
	for _, node := range []string{"demo-cp-00", "worker01"} {
		s := &slots{fakeFleet: newFleet(3, 2, v14, v14), other: v13before}
		out, err := s.run(t, RollbackInput{Cluster: "demo", Node: node}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if out.Runs.Talos != v13.Talos || out.From.Talos != v14.Talos || !strings.Contains(out.Message, "runs Talos "+v13.Talos) {
			t.Errorf("%s: %+v", node, out)
		}
		if s.counts["rollback "+out.Node] != 1 || s.index("drain "+out.Node) > s.index("rollback "+out.Node) || s.index("hold "+out.Node) < 0 {
			t.Errorf("%s: %v", node, s.log)
		}
		if slices.ContainsFunc(s.log, func(e string) bool { return !strings.HasSuffix(e, out.Node) }) {
			t.Errorf("others were touched: %v", s.log)
		}
	}
}

// What cannot be is refused with the reason, and leaves the node as it was.
func TestRollbackRefused(t *testing.T) {
	for _, c := range []struct {
		name, node, want string
		kind             fault.Kind
		prepare          func(*slots)
	}{
		{"unknown", "demo-cp-99", "has no node", fault.NotFound, nil},
		{"no other slot", "demo-worker-00", "other slot is empty", fault.Unsafe, func(s *slots) { s.other = plan.Versions{} }},
		{"the same comes up", "demo-worker-00", "did not come up", fault.Unsafe, func(s *slots) { s.falls = true }},
		{"no answer", "demo-cp-01", "ichor replace demo demo-cp-01", fault.Unavailable, func(s *slots) { s.out["demo-cp-01"] = true }},
		{"no cluster", "demo-cp-01", "is deleting", fault.Conflict, func(s *slots) { s.record.Phase = cluster.PhaseDeleting }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &slots{fakeFleet: newFleet(3, 1, v14, v14), other: v13before}
			if c.prepare != nil {
				c.prepare(s)
			}
			_, err := s.run(t, RollbackInput{Cluster: "demo", Node: c.node}, nil)
			if err == nil || kindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A drain that a budget holds up parks, shows it, and goes on when told; cancelled
// instead it leaves the node as it was.
func TestRollbackParks(t *testing.T) {
	for _, resume := range []bool{true, false} {
		s := &slots{fakeFleet: newFleet(1, 1, v14, v14), other: v13before}
		s.refuse = func(action, _ string, n int) error {
			if action == "drain" && n == 1 {
				return temporal.NewNonRetryableApplicationError("pdb web allows no disruption", string(fault.NotYet), nil)
			}
			return nil
		}
		_, err := s.run(t, RollbackInput{Cluster: "demo", Node: "demo-worker-00"}, map[time.Duration]act{
			time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
				if p := progress(t, env); !strings.Contains(p.Parked, "pdb web") {
					t.Errorf("parked: %q", p.Parked)
				}
				if resume {
					env.SignalWorkflow(SignalResume, nil)
				} else {
					env.CancelWorkflow()
				}
			},
		})
		if want := map[bool]int{true: 1, false: 0}[resume]; s.counts["rollback demo-worker-00"] != want || (err == nil) != resume {
			t.Errorf("resumed %t: %v, %v", resume, err, s.log)
		}
	}
}

func progress(t *testing.T, env *testsuite.TestWorkflowEnvironment) Progress {
	t.Helper()
	v, err := env.QueryWorkflow(QueryProgress)
	if err != nil {
		t.Fatal(err)
	}
	var p Progress
	if err := v.Get(&p); err != nil {
		t.Fatal(err)
	}
	return p
}
