package workflows

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

var demoRef = cluster.Ref{Name: "demo", UID: "u1"}

func groupInput(target int) GroupInput {
	t := activities.DefaultTiming()
	t.Poll = 10 * time.Millisecond
	return GroupInput{
		Cluster: demoRef, Group: "worker", Role: cluster.RoleWorker, Cloud: cluster.Cloud{Provider: "fake"}, Flavor: "flex-4-2",
		Spread: true, Target: target, Site: Site{Account: "acct", Capabilities: fakeProvider{}.Capabilities(), Timing: t},
	}
}

// runGroup runs a group on its own; at says what happens at which time.
func runGroup(t *testing.T, w *fakeWorld, in GroupInput, at map[time.Duration]func(*testsuite.TestWorkflowEnvironment)) {
	t.Helper()
	w.objects["etcd"] = "runs"
	w.rev, w.record = 1, cluster.Record{Ref: demoRef, Phase: cluster.PhaseReady, Endpoint: "https://192.0.2.1:6443", Frozen: cluster.Frozen{
		Bundle: "bundle", BaseConfig: []cluster.BaseConfig{{Role: cluster.RoleWorker, Ref: "base"}},
	}}
	env := newEnv(t, w, cluster.GroupID("demo", "worker"))
	if w.mocks != nil {
		w.mocks(env)
	}
	for when, f := range at {
		env.RegisterDelayedCallback(func() { f(env) }, when)
	}
	env.ExecuteWorkflow(ScaleNodeGroup, in)
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
}

func status(t *testing.T, env *testsuite.TestWorkflowEnvironment) GroupStatus {
	t.Helper()
	v, err := env.QueryWorkflow(QueryGroup)
	if err != nil {
		t.Fatal(err)
	}
	var s GroupStatus
	if err := v.Get(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

type act = func(*testsuite.TestWorkflowEnvironment)

func end(ref cluster.Ref) act {
	return func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(SignalEnd, EndGroup{Cluster: ref}) }
}

// The group parks in its root while it deletes; resume must reach it there.
func TestParkedGroupIsResumed(t *testing.T) {
	w := newFakeWorld()
	refused := 0
	w.inject = func(op string, _ int) (error, error) {
		if op == "delete machine" && refused < 2 {
			refused++
			return fault.New(fault.Unauthorized, op, "token revoked"), nil
		}
		return nil, nil
	}
	runGroup(t, w, groupInput(2), map[time.Duration]act{
		time.Hour: end(demoRef),
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := status(t, env); !strings.Contains(s.Parked, "token revoked") || !s.Ending {
				t.Errorf("status: %+v", s)
			}
			env.SignalWorkflow(SignalResume, nil)
		},
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(SignalResume, nil) },
	})
	if len(w.machines) != 0 || refused != 2 {
		t.Errorf("%d machines left, refused %d times", len(w.machines), refused)
	}
}

// A group obeys its own cluster only, and a request to cancel does not end it.
func TestGroupIgnoresAnotherClusterAndCancel(t *testing.T) {
	w := newFakeWorld()
	runGroup(t, w, groupInput(2), map[time.Duration]act{
		time.Hour:     end(cluster.Ref{Name: "demo", UID: "later"}),
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { env.CancelWorkflow() },
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := status(t, env); s.Ending || len(s.Members) != 2 || s.Members[0].Phase != MemberReady {
				t.Errorf("status: %+v", s)
			}
		},
		4 * time.Hour: end(demoRef),
	})
	if len(w.machines) != 0 {
		t.Errorf("left: %v", w.machines)
	}
}

// Machines of an earlier incarnation are adopted, one for each id.
func TestGroupAdopts(t *testing.T) {
	w := newFakeWorld()
	in := groupInput(2)
	in.Resumed = true
	p := fakeProvider{w}
	for _, id := range []string{"aaaaa", "bbbbb"} {
		_, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Create: true, Spec: cloud.MachineSpec{
			ID: id, Name: cluster.MachineName("demo", "worker", id), Owner: cloud.Owner{Cluster: demoRef, Group: "worker"},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	runGroup(t, w, in, map[time.Duration]act{
		time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := status(t, env); len(s.Members) != 2 || s.Members[0].ID != "aaaaa" || s.Members[1].Phase != MemberReady {
				t.Errorf("status: %+v", s)
			}
		},
		2 * time.Hour: end(demoRef),
	})
	if len(w.creates) != 2 || len(w.machines) != 0 {
		t.Errorf("creates %v, left %v", w.creates, w.machines)
	}
}
