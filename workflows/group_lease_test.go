package workflows

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
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

// Members that are given back one after the other share looks at the group, and
// what happened to the last one meanwhile is noticed all the same.
func TestReleasesShareLooks(t *testing.T) {
	const members = 30
	for _, tc := range []struct {
		name    string
		version workflow.Version
		least   int
		most    int
	}{
		{name: "shared", version: 1, least: 2, most: 4},
		{name: "a run of before", version: workflow.DefaultVersion, least: members, most: members + 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newFakeWorld()
			looks, counting := 0, false
			w.mocks = func(env *testsuite.TestWorkflowEnvironment) {
				env.OnGetVersion(changeLooks, workflow.DefaultVersion, workflow.Version(1)).Return(tc.version)
				env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
					if info.ActivityType.Name != "InspectGroup" || !counting {
						return
					}
					looks++
					var in activities.InspectGroupInput
					if err := args.Get(&in); err != nil || len(in.Known) == 0 {
						t.Errorf("%d members are compared, %v", len(in.Known), err)
					}
				})
			}
			acts := map[time.Duration]act{
				time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
					for i, m := range status(t, env).Members {
						update(env, t, UpdateLease, fmt.Sprintf("take-%d", i), leaseOf(m.ID, "a", false), func(_ activities.LeaseResult, err error) {
							if err != nil {
								t.Errorf("lease: %v", err)
							}
						})
					}
				},
				time.Hour + 10*time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
					if s := status(t, env); len(s.Members) != members || w.calls["create machine"] != members {
						t.Errorf("%d members, %d creates", len(s.Members), w.calls["create machine"])
					}
				},
				3 * time.Hour: end(demoRef),
			}
			// One every four seconds, each with time for a look of its own.
			begin := time.Hour + 10*time.Minute + time.Second
			for i := range members {
				acts[begin+time.Duration(i)*4*time.Second] = func(env *testsuite.TestWorkflowEnvironment) {
					counting = true
					id := status(t, env).Members[i].ID
					if i == members-1 { // while it is leased, somebody deletes it
						w.change(func() {
							w.machines = slices.DeleteFunc(w.machines, func(m cloud.Machine) bool { return m.Ref.ID == id })
						})
					}
					update(env, t, UpdateLease, fmt.Sprintf("give-%d", i), leaseOf(id, "a", true), func(_ activities.LeaseResult, err error) {
						if err != nil {
							t.Errorf("release: %v", err)
						}
					})
				}
			}
			acts[begin+members*4*time.Second+2*time.Minute] = func(*testsuite.TestWorkflowEnvironment) {
				counting = false
				if looks < tc.least || looks > tc.most {
					t.Errorf("%d looks, want %d to %d", looks, tc.least, tc.most)
				}
				if w.calls["create machine"] != members+1 {
					t.Errorf("%d creates: the one that was deleted was not noticed", w.calls["create machine"])
				}
			}
			runGroup(t, w, scalable(members, 0, members), acts)
		})
	}
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
