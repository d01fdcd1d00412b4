package workflows

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
)

// update sends an update and hands its outcome to got.
func update[T any](env *testsuite.TestWorkflowEnvironment, t *testing.T, name, id string, in any, got func(T, error)) {
	t.Helper()
	env.UpdateWorkflow(name, id, &testsuite.TestUpdateCallback{
		OnAccept: func() {},
		OnReject: func(err error) { var zero T; got(zero, err) },
		OnComplete: func(out any, err error) {
			v, _ := out.(T)
			got(v, err)
		},
	}, in)
}

func leaseOf(machine, holder string, release bool) activities.LeaseInput {
	return activities.LeaseInput{Ref: demoRef, Group: "worker", Machine: machine, Holder: holder, Release: release, Reason: "upgrade"}
}

// A member that somebody works on is neither deleted nor replaced before it is
// given back, and a second holder is refused.
func TestLeasedMemberStays(t *testing.T) {
	w := newFakeWorld()
	var id, name string
	granted := 0
	runGroup(t, w, scalable(2, 0, 5), map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			id, name = status(t, env).Members[0].ID, status(t, env).Members[0].Name
			update(env, t, UpdateLease, "l1", leaseOf(id, "a", false), func(r activities.LeaseResult, err error) {
				if err != nil || !r.Held {
					t.Errorf("lease: %+v, %v", r, err)
				}
				granted++
			})
		},
		61 * time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			update(env, t, UpdateLease, "l2", leaseOf(id, "b", false), func(_ activities.LeaseResult, err error) {
				if err == nil || !strings.Contains(err.Error(), "a works on") {
					t.Errorf("second holder: %v", err)
				}
				granted++
			})
			env.SignalWorkflow(SignalDeleteNodes, ScaleRequest{RequestID: "d", Nodes: []string{name}, Origin: OriginAutoscaler})
		},
		70 * time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			expect(t, env, map[MemberPhase]int{MemberReady: 1, MemberDeleting: 1})
			if w.calls["delete machine"] != 0 {
				t.Error("the machine was deleted under its holder")
			}
			update(env, t, UpdateLease, "l3", leaseOf(id, "a", true), func(_ activities.LeaseResult, err error) {
				if err != nil {
					t.Errorf("release: %v", err)
				}
				granted++
			})
		},
		80 * time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			expect(t, env, map[MemberPhase]int{MemberReady: 1})
		},
		2 * time.Hour: end(demoRef),
	})
	if granted != 3 {
		t.Errorf("%d answers", granted)
	}
}

// A machine that somebody deletes by hand while it is leased is replaced only
// afterwards, and a lease that nobody renews runs out.
func TestLeaseRunsOut(t *testing.T) {
	w := newFakeWorld()
	runGroup(t, w, scalable(1, 1, 5), map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			id := status(t, env).Members[0].ID
			update(env, t, UpdateLease, "l1", leaseOf(id, "a", false), func(_ activities.LeaseResult, err error) {
				if err != nil {
					t.Errorf("lease: %v", err)
				}
			})
			w.change(func() { w.machines = nil })
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if w.calls["create machine"] != 1 {
				t.Error("replaced although it is leased")
			}
			if s := status(t, env); s.Members[0].Lease == nil || s.Members[0].Lease.Holder != "a" {
				t.Errorf("status: %+v", s.Members[0])
			}
		},
		5 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			expect(t, env, map[MemberPhase]int{MemberReady: 1})
			if w.calls["create machine"] != 2 {
				t.Errorf("%d creates", w.calls["create machine"])
			}
		},
		6 * time.Hour: end(demoRef),
	})
}

// What a group is told to be holds for machines made from then on.
func TestConfigure(t *testing.T) {
	w := newFakeWorld()
	in := scalable(1, 1, 2)
	next := in
	next.ImageID, next.Max, next.Zone = "image-2", 4, "lpg1"
	wrong := next
	wrong.Role = "controlplane"
	runGroup(t, w, in, map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			env.SignalWorkflow(SignalConfigure, ConfigureRequest{RequestID: "c1", Input: next})
		},
		61 * time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			update(env, t, SignalConfigure, "c2", ConfigureRequest{RequestID: "c2", Input: wrong}, func(_ ScaleResult, err error) {
				if err == nil || !strings.Contains(err.Error(), "role") {
					t.Errorf("wrong role: %v", err)
				}
			})
			env.SignalWorkflow(SignalIncreaseSize, ScaleRequest{RequestID: "i", Delta: 3, Origin: OriginAutoscaler})
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 4})
			if s.Max != 4 || s.Template == nil {
				t.Errorf("facts: %+v", s.GroupFacts)
			}
		},
		3 * time.Hour: end(demoRef),
	})
	if got := strings.Join(w.madeOf, " "); got != in.ImageID+" image-2 image-2 image-2" {
		t.Errorf("machines were made of: %s", got)
	}
}
