package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Machines that somebody else made are never deleted because nobody sees their nodes.
func TestAdoptedMachinesStay(t *testing.T) {
	w := newFakeWorld()
	w.silent = func(cloud.Machine) bool { return true }
	w.mocks = slowWatch(w)
	p := fakeProvider{w}
	for _, id := range []string{"aaaaa", "bbbbb"} {
		_, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Create: true, Spec: cloud.MachineSpec{
			ID: id, Name: "old-" + id, Owner: cloud.Owner{Cluster: demoRef, Group: "worker"},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	in := scalable(0, 0, 5)
	in.Standalone = &Standalone{Kube: activities.KubeTarget{Kubeconfig: "in-cluster"}}
	runGroup(t, w, in, map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := status(t, env)
			var ids []string
			for _, m := range w.machines {
				ids = append(ids, m.Name)
			}
			t.Logf("after 1h: machines %v; target %d deletes %d creates %d", ids, s.Target, w.calls["delete machine"], w.calls["create machine"])
			if w.calls["delete machine"] > 0 {
				t.Errorf("machines of somebody else were deleted")
			}
		},
		2 * time.Hour: end(demoRef),
	})
}

// Credentials that expire: rounds of the autoscaler, then resume.
func TestParkedCreates(t *testing.T) {
	w := newFakeWorld()
	expired := true
	w.inject = func(op string, _ int) (error, error) {
		if op == "create machine" && expired {
			return fault.New(fault.Unauthorized, op, "token expired"), nil
		}
		return nil, nil
	}
	in := scalable(0, 0, 3)
	in.Spread = false
	at := map[time.Duration]act{}
	for i := range 5 {
		begin := time.Duration(1+i) * time.Hour
		at[begin] = more(fmt.Sprintf("a%d", i), 3)
		at[begin+30*time.Minute] = func(env *testsuite.TestWorkflowEnvironment) {
			var nodes []string
			for n := range 3 {
				nodes = append(nodes, PlaceholderInstance("demo", "worker", fmt.Sprintf("a%d", i), n))
			}
			env.SignalWorkflow(SignalDeleteNodes, ScaleRequest{Nodes: nodes, Origin: OriginAutoscaler})
		}
	}
	at[8*time.Hour] = func(env *testsuite.TestWorkflowEnvironment) {
		s := status(t, env)
		t.Logf("before resume: target %d, members %d", s.Target, len(s.Members))
		w.change(func() { expired = false; w.calls["create machine"] = 0 })
		env.SignalWorkflow(SignalResume, nil)
	}
	at[9*time.Hour] = func(_ *testsuite.TestWorkflowEnvironment) {
		if n := w.calls["create machine"]; n != 0 {
			t.Errorf("%d machines were created on resume with target 0 and max 3", n)
		}
	}
	at[10*time.Hour] = end(demoRef)
	runGroup(t, w, in, at)
}

// A person's request ids may be prefixes of each other.
func TestCancelPrefix(t *testing.T) {
	w := newFakeWorld()
	runGroup(t, w, scalable(0, 0, 5), map[time.Duration]act{
		1 * time.Hour: more("r4", 1),
		2 * time.Hour: more("r4-1", 2),
		3 * time.Hour: sends(SignalCancelRequest, ScaleRequest{Cancel: "r4"}),
		4 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 2}) },
		5 * time.Hour: end(demoRef),
	})
}

// A cloud that cannot be read says nothing about nodes.
func TestOutageKillsHealthy(t *testing.T) {
	w := newFakeWorld()
	outage := false
	w.mocks = func(env *testsuite.TestWorkflowEnvironment) {
		env.OnActivity("WatchGroup", mock.Anything, mock.Anything).After(30 * time.Second).Return(
			func(_ context.Context, in activities.WatchGroupInput) (activities.WatchGroupResult, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				out := activities.WatchGroupResult{Members: slices.Clone(in.Known)}
				if outage {
					return out, activities.ApplicationError(fault.New(fault.Invalid, "list", "kubeconfig names an empty document"))
				}
				for i := range out.Members {
					out.Members[i].NodeReady = true
				}
				return out, nil
			})
	}
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		1*time.Hour - time.Minute:    func(*testsuite.TestWorkflowEnvironment) { w.change(func() { outage = true }) },
		1 * time.Hour:                more("a", 1),
		1*time.Hour + 20*time.Minute: func(*testsuite.TestWorkflowEnvironment) { w.change(func() { outage = false }) },
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			t.Logf("deletes %d creates %d", w.calls["delete machine"], w.calls["create machine"])
			expect(t, env, map[MemberPhase]int{MemberReady: 2})
		},
		3 * time.Hour: end(demoRef),
	})
}

// What fails for good is not asked every few seconds.
func TestHotLoops(t *testing.T) {
	w := newFakeWorld()
	w.inject = func(op string, n int) (error, error) {
		switch op {
		case "flavors":
			return fault.New(fault.Invalid, op, "no such flavor"), nil
		case "delete machine":
			if n < 100000 {
				return fault.New(fault.Invalid, op, "deletion protection"), nil
			}
		}
		return nil, nil
	}
	runGroup(t, w, scalable(2, 0, 5), map[time.Duration]act{
		1 * time.Hour: sends(SignalSetTarget, ScaleRequest{Target: target(1), Force: true}),
		3 * time.Hour: func(_ *testsuite.TestWorkflowEnvironment) {
			t.Logf("in 3 h: flavors %d, in 2 h delete machine %d", w.calls["flavors"], w.calls["delete machine"])
			if w.calls["flavors"] > 100 || w.calls["delete machine"] > 100 {
				t.Errorf("hot")
			}
			w.change(func() { w.calls["delete machine"] = 100000 })
		},
		4 * time.Hour: end(demoRef),
	})
}

// A name of a predecessor does not delete a replacement that works.
func TestAliasOfReady(t *testing.T) {
	w := newFakeWorld()
	var old string
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			old = status(t, env).Members[0].ProviderID
			w.change(func() { w.machines = nil }) // by hand
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			expect(t, env, map[MemberPhase]int{MemberReady: 1})
			env.SignalWorkflow(SignalDeleteNodes, ScaleRequest{Nodes: []string{old}, Origin: OriginAutoscaler})
		},
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 1}) },
		4 * time.Hour: end(demoRef),
	})
}

// Resume looks at once.
func TestResumeInspects(t *testing.T) {
	w := newFakeWorld()
	in := scalable(1, 0, 5)
	in.Site.Timing.Reconcile = 6 * time.Hour
	runGroup(t, w, in, map[time.Duration]act{
		1 * time.Hour: func(*testsuite.TestWorkflowEnvironment) { w.change(func() { w.machines = nil }) },
		5 * time.Hour: sends(SignalResume, ScaleRequest{}),
		7 * time.Hour: func(_ *testsuite.TestWorkflowEnvironment) {
			if len(w.machines) != 1 {
				t.Errorf("after 6 h and a resume nobody noticed")
			}
		},
		15 * time.Hour: end(demoRef),
	})
}

var (
	_ = errors.New
	_ cluster.Ref
)

// What was acknowledged while a group begins is part of what it answers.
func TestRequestsWhileBeginning(t *testing.T) {
	w := newFakeWorld()
	down := true
	w.mocks = func(env *testsuite.TestWorkflowEnvironment) {
		env.OnActivity("ListMachines", mock.Anything, mock.Anything).Return(
			func(context.Context, activities.ListMachinesInput) ([]cloud.Machine, error) {
				if down {
					return nil, activities.ApplicationError(fault.New(fault.Invalid, "list", "down"))
				}
				return nil, nil
			})
	}
	runGroup(t, w, scalable(0, 0, 5), map[time.Duration]act{
		1 * time.Hour: more("a", 3),
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := status(t, env)
			if s.Target != 3 && len(s.Requests) == 0 && len(s.Inbox) != 1 {
				t.Errorf("an acknowledged +3 is nowhere in the answer: target %d, requests %v", s.Target, s.Requests)
			}
			down = false
		},
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { t.Log("afterwards", status(t, env).Target) },
		4 * time.Hour: end(demoRef),
	})
}

// A control plane is not replaced by itself.
func TestControlPlaneIsNotReplaced(t *testing.T) {
	w := newFakeWorld()
	in := groupInput(3)
	in.Role = cluster.RoleControlPlane
	w.mocks = func(*testsuite.TestWorkflowEnvironment) {
		w.record.Frozen.BaseConfig = append(w.record.Frozen.BaseConfig, cluster.BaseConfig{Role: cluster.RoleControlPlane, Ref: "base"})
	}
	runGroup(t, w, in, map[time.Duration]act{
		1 * time.Hour: func(*testsuite.TestWorkflowEnvironment) { w.change(func() { w.machines = w.machines[1:] }) },
		3 * time.Hour: func(_ *testsuite.TestWorkflowEnvironment) {
			if n := w.calls["create machine"]; n != 3 {
				t.Errorf("%d creates", n)
			}
		},
		4 * time.Hour: end(demoRef),
	})
}

// A cloud that takes a create late gives its machine no less time to join.
func TestLateCreateIsNotThrownAway(t *testing.T) {
	w := newFakeWorld()
	var env0 *testsuite.TestWorkflowEnvironment
	begin := time.Time{}
	w.inject = func(op string, n int) (error, error) {
		if op == "create machine" && n > 1 && env0.Now().Sub(begin) < 8*time.Minute {
			return fault.New(fault.Unavailable, op, "maintenance"), nil
		}
		return nil, nil
	}
	made := map[string]time.Time{}
	w.silent = func(m cloud.Machine) bool { // joins after two minutes
		if made[m.Name].IsZero() {
			made[m.Name] = env0.Now()
		}
		return env0.Now().Sub(made[m.Name]) < 2*time.Minute
	}
	w.mocks = func(env *testsuite.TestWorkflowEnvironment) { env0 = env; slowWatch(w)(env) }
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		1*time.Hour - time.Second: func(env *testsuite.TestWorkflowEnvironment) { begin = env.Now() },
		1 * time.Hour:             more("a", 1),
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			expect(t, env, map[MemberPhase]int{MemberReady: 2})
			if w.calls["delete machine"] > 0 || len(w.creates) != 3 { // two machines and their placement group
				t.Errorf("%d deletes, created %v", w.calls["delete machine"], w.creates)
			}
		},
		3 * time.Hour: end(demoRef),
	})
}

// A pause stops what was not begun.
func TestPauseStopsQueuedCreates(t *testing.T) {
	w := newFakeWorld()
	w.mocks = func(env *testsuite.TestWorkflowEnvironment) {
		env.OnActivity("EnsureMachine", mock.Anything, mock.Anything).After(time.Minute).Return(
			func(ctx context.Context, in activities.EnsureMachineInput) (activities.EnsureMachineResult, error) {
				var out activities.EnsureMachineResult
				var err error
				out.MachineLook, err = fakeProvider{w}.EnsureMachine(ctx, cloud.EnsureMachineRequest{Spec: in.Machine, Create: in.Create})
				return out, err
			})
	}
	in := scalable(0, 0, 100)
	in.Spread = false
	runGroup(t, w, in, map[time.Duration]act{
		1 * time.Hour:                more("a", 100),
		1*time.Hour + 30*time.Second: sends(SignalPause, ScaleRequest{Reason: "stop"}),
		1*time.Hour + 5*time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			if n := len(w.creates); n > 20 {
				t.Errorf("%d machines were created, 20 were under way when the group was paused", n)
			}
			env.SignalWorkflow(SignalResume, nil)
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 100}) },
		3 * time.Hour: end(demoRef),
	})
}

// Machines that others made and whose nodes nobody sees cost little.
func TestUnseenAdoptedMachinesAreWatchedRarely(t *testing.T) {
	w := newFakeWorld()
	w.silent = func(cloud.Machine) bool { return true }
	looks := 0
	w.mocks = func(env *testsuite.TestWorkflowEnvironment) {
		env.OnActivity("WatchGroup", mock.Anything, mock.Anything).After(40 * time.Second).Return(
			func(_ context.Context, in activities.WatchGroupInput) (activities.WatchGroupResult, error) {
				looks++
				out := activities.WatchGroupResult{Members: slices.Clone(in.Known)}
				for i := range out.Members {
					out.Members[i].State = cloud.MachineRunning
				}
				return out, nil
			})
	}
	p := fakeProvider{w}
	if _, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Create: true, Spec: cloud.MachineSpec{
		ID: "aaaaa", Name: "old-a", Owner: cloud.Owner{Cluster: demoRef, Group: "worker"},
	}}); err != nil {
		t.Fatal(err)
	}
	in := scalable(0, 0, 5)
	in.Standalone = &Standalone{Kube: activities.KubeTarget{Kubeconfig: "in-cluster"}}
	runGroup(t, w, in, map[time.Duration]act{
		10 * time.Hour: func(_ *testsuite.TestWorkflowEnvironment) {
			if looks > 80 {
				t.Errorf("%d looks in ten hours", looks)
			}
		},
		11 * time.Hour: end(demoRef),
	})
}
