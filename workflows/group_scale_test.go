package workflows

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

func scalable(count, least, most int) GroupInput {
	in := groupInput(count)
	in.Min, in.Max = least, most
	return in
}

func sends(op string, req ScaleRequest) act {
	return func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(op, req) }
}

func more(id string, n int) act {
	return sends(SignalIncreaseSize, ScaleRequest{RequestID: id, Delta: n, Origin: OriginAutoscaler})
}

func target(n int) *int { return &n }

// expect checks a status: the target is the number of places that count,
// whatever has happened.
func expect(t *testing.T, env *testsuite.TestWorkflowEnvironment, want map[MemberPhase]int) GroupStatus {
	t.Helper()
	s := status(t, env)
	got, counted := map[MemberPhase]int{}, 0
	for _, m := range s.Members {
		got[m.Phase]++
		if m.Counted() {
			counted++
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("members %v, want %v", got, want)
	}
	if s.Target != counted {
		t.Errorf("target %d, but %d places count", s.Target, counted)
	}
	return s
}

func TestGroupGrowsAndShrinks(t *testing.T) {
	w := newFakeWorld()
	runGroup(t, w, scalable(1, 1, 5), map[time.Duration]act{
		1 * time.Hour: more("a", 2),
		2 * time.Hour: more("a", 2), // once only
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 3})
			if s.Template == nil || s.Template.Allocatable.MemoryBytes == 0 {
				t.Errorf("template: %+v", s.Template)
			}
		},
		4 * time.Hour: sends(SignalSetTarget, ScaleRequest{Target: target(1)}),
		5 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 1}) },
		6 * time.Hour: end(demoRef),
	})
	if len(w.drained) != 2 || len(w.forgotten) != 2 || len(w.cordoned) != 2 {
		t.Errorf("cordoned %v, drained %v, Node objects deleted %v", w.cordoned, w.drained, w.forgotten)
	}
	if w.calls["create machine"] != 3 {
		t.Errorf("creates: %v", w.creates)
	}
}

// What the autoscaler deletes it has drained; names of every sort are accepted,
// and what is repeated is success without effect.
func TestAutoscalerDeletes(t *testing.T) {
	w := newFakeWorld()
	placeholder := PlaceholderInstance("demo", "worker", "a", 1)
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		1 * time.Hour: more("a", 2),
		2 * time.Hour: sends(SignalDeleteNodes, ScaleRequest{RequestID: "b", Nodes: []string{placeholder}, Origin: OriginAutoscaler}),
		3 * time.Hour: sends(SignalDeleteNodes, ScaleRequest{RequestID: "c", Nodes: []string{placeholder}, Origin: OriginAutoscaler}),
		4 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 2})
			if last := s.Requests[len(s.Requests)-1]; !last.Accepted || last.Target != 2 {
				t.Errorf("repeated deletion: %+v", last)
			}
			env.SignalWorkflow(SignalDeleteNodes, ScaleRequest{Nodes: []string{s.Members[0].ProviderID, s.Members[1].Name}, Origin: OriginAutoscaler})
		},
		5 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{}) },
		6 * time.Hour: end(demoRef),
	})
	if len(w.drained) != 0 || len(w.forgotten) != 3 || len(w.machines) != 0 {
		t.Errorf("drained %v, Node objects deleted %v, left %v", w.drained, w.forgotten, w.machines)
	}
}

// A refused machine keeps its place until the autoscaler gives it up; the group
// keeps its min after a pause.
func TestQuotaFailsPlace(t *testing.T) {
	w := newFakeWorld()
	full := true
	w.inject = func(op string, n int) (error, error) {
		if op == "create machine" && n > 1 && full {
			return fault.New(fault.Quota, op, "quota of servers reached"), nil
		}
		return nil, nil
	}
	runGroup(t, w, scalable(1, 1, 5), map[time.Duration]act{
		1 * time.Hour: more("a", 1),
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 1, MemberFailed: 1})
			i := slices.IndexFunc(s.Members, func(m GroupMember) bool { return m.Phase == MemberFailed })
			if f := s.Members[i].Failure; f == nil || f.Kind != fault.Quota {
				t.Errorf("failure: %+v", f)
			}
			env.SignalWorkflow(SignalDeleteNodes, ScaleRequest{Nodes: []string{s.Members[i].Instance, s.Members[1-i].Name}, Origin: OriginAutoscaler})
		},
		2*time.Hour + 10*time.Minute: func(*testsuite.TestWorkflowEnvironment) { w.change(func() { full = false }) },
		4 * time.Hour:                func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 1}) },
		5 * time.Hour:                end(demoRef),
	})
}

// slowWatch stands in for the watch, which polls in real time: here each look
// takes half a minute of the workflow's time.
func slowWatch(w *fakeWorld) func(*testsuite.TestWorkflowEnvironment) {
	return func(env *testsuite.TestWorkflowEnvironment) {
		env.OnActivity("WatchGroup", mock.Anything, mock.Anything).After(30 * time.Second).Return(
			func(_ context.Context, in activities.WatchGroupInput) (activities.WatchGroupResult, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				out := activities.WatchGroupResult{Members: slices.Clone(in.Known)}
				for i := range out.Members {
					f := &out.Members[i]
					for _, m := range w.machines {
						if m.Ref.Cloud == f.CloudID {
							f.State, f.ProviderID = m.State, m.ProviderID
							f.NodeReady = !w.silent(m)
						}
					}
				}
				return out, nil
			})
	}
}

// A machine whose node never joins is replaced once; then the place has failed,
// and no machine is left of it.
func TestNeverJoins(t *testing.T) {
	w := newFakeWorld()
	w.silent = func(m cloud.Machine) bool { return m.Name != w.machines[0].Name }
	w.mocks = slowWatch(w)
	var first string
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		1*time.Hour - time.Minute: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 1}) },
		1 * time.Hour:             more("a", 1),
		1*time.Hour + 5*time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			for _, m := range expect(t, env, map[MemberPhase]int{MemberReady: 1, MemberBooting: 1}).Members {
				if m.Phase == MemberBooting {
					first = m.ProviderID
				}
			}
		},
		1*time.Hour + 9*time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			for _, m := range expect(t, env, map[MemberPhase]int{MemberReady: 1, MemberBooting: 1}).Members {
				if m.Phase == MemberBooting && (m.Replaces != 1 || !slices.Contains(m.Aliases, first) || m.Instance != PlaceholderInstance("demo", "worker", "a", 0)) {
					t.Errorf("replacement: %+v", m)
				}
			}
		},
		1*time.Hour + 15*time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 1, MemberFailed: 1})
			if s.Backoff == nil || s.Backoff.Failures != 1 {
				t.Errorf("backoff: %+v", s.Backoff)
			}
			if len(w.machines) != 1 {
				t.Errorf("machines: %v", w.machines)
			}
			// The autoscaler may still know the first machine's id.
			env.SignalWorkflow(SignalDeleteNodes, ScaleRequest{Nodes: []string{first}, Origin: OriginAutoscaler})
		},
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 1}) },
		4 * time.Hour: end(demoRef),
	})
	if n := w.calls["create machine"]; n != 3 {
		t.Errorf("%d creates", n)
	}
}

// An acknowledged request beyond max keeps its place without a machine; a
// person's is refused with the reason.
func TestBeyondMax(t *testing.T) {
	w := newFakeWorld()
	var refused error
	runGroup(t, w, scalable(1, 0, 3), map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { more("a", 2)(env); more("b", 2)(env) },
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 3, MemberFailed: 2})
			if s.Target != 5 {
				t.Errorf("target %d", s.Target)
			}
			env.UpdateWorkflow(SignalSetTarget, "u1", &testsuite.TestUpdateCallback{
				OnReject: func(err error) { refused = err }, OnAccept: func() {}, OnComplete: func(any, error) {},
			}, ScaleRequest{RequestID: "u1", Target: target(9)})
		},
		3 * time.Hour: sends(SignalDecreaseTargetSize, ScaleRequest{RequestID: "c", Delta: 4, Origin: OriginAutoscaler}),
		4 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 3}) },
		5 * time.Hour: end(demoRef),
	})
	if refused == nil || !strings.Contains(refused.Error(), "outside of the group's min 0 and max 3") {
		t.Errorf("refused: %v", refused)
	}
	if w.calls["create machine"] != 3 {
		t.Errorf("creates %v", w.creates)
	}
}

// A cancelled request has no effect, whether the cancellation comes before it,
// with it, or after its machines exist.
func TestCancelRequest(t *testing.T) {
	w := newFakeWorld()
	cancel := func(id string) act {
		return sends(SignalCancelRequest, ScaleRequest{Cancel: id, Origin: OriginAutoscaler})
	}
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		1 * time.Hour:             cancel("a"),
		1*time.Hour + time.Minute: more("a", 2),
		2 * time.Hour:             func(env *testsuite.TestWorkflowEnvironment) { more("b", 2)(env); cancel("b")(env) },
		3 * time.Hour:             more("c", 2),
		4 * time.Hour:             cancel("c"),
		5 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			expect(t, env, map[MemberPhase]int{MemberReady: 1})
			if len(w.machines) != 1 {
				t.Errorf("machines: %v", w.machines)
			}
		},
		6 * time.Hour: end(demoRef),
	})
	if len(w.machines) != 0 {
		t.Errorf("left: %v", w.machines)
	}
}

// A paused group keeps what it is asked for until it is resumed.
func TestPause(t *testing.T) {
	w := newFakeWorld()
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		1 * time.Hour:               sends(SignalPause, ScaleRequest{Reason: "maintenance"}),
		1*time.Hour + time.Minute:   more("a", 1),
		1*time.Hour + 2*time.Minute: sends(SignalSetTarget, ScaleRequest{RequestID: "b", Target: target(5)}),
		1*time.Hour + 3*time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 1, MemberWanted: 1})
			if last := s.Requests[len(s.Requests)-1]; last.Accepted || !strings.Contains(last.Message, "maintenance") {
				t.Errorf("answer while paused: %+v", last)
			}
			env.SignalWorkflow(SignalResume, nil)
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := expect(t, env, map[MemberPhase]int{MemberReady: 2}); s.Paused != nil {
				t.Errorf("paused: %+v", s.Paused)
			}
		},
		3 * time.Hour: end(demoRef),
	})
}

// A machine that somebody deletes is replaced; one that somebody made is shown
// and left alone; a duplicate goes.
func TestInspect(t *testing.T) {
	w := newFakeWorld()
	runGroup(t, w, scalable(2, 0, 5), map[time.Duration]act{
		1 * time.Hour: func(*testsuite.TestWorkflowEnvironment) {
			w.change(func() {
				twin := w.machines[1]
				twin.Ref.Cloud = "twin"
				stranger := cloud.Machine{Name: "stranger", Ref: cloud.MachineRef{ID: "zzzzz", Cloud: "x", Owner: twin.Ref.Owner}}
				w.machines = append(w.machines[1:], twin, stranger)
			})
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 2})
			if len(s.Unknown) != 1 || !strings.Contains(s.Unknown[0], "stranger") {
				t.Errorf("unknown: %v", s.Unknown)
			}
			if len(w.machines) != 3 {
				t.Errorf("machines: %v", w.machines)
			}
		},
		3 * time.Hour: end(demoRef),
	})
}

// A request that nobody could obey in time fails without a create.
func TestTooLate(t *testing.T) {
	w := newFakeWorld()
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			env.SignalWorkflow(SignalIncreaseSize, ScaleRequest{Delta: 2, Origin: OriginAutoscaler, At: env.Now().Add(-20 * time.Minute)})
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			expect(t, env, map[MemberPhase]int{MemberReady: 1, MemberFailed: 2})
		},
		3 * time.Hour: end(demoRef),
	})
	if w.calls["create machine"] != 1 {
		t.Errorf("creates %v", w.creates)
	}
}

// Where there is no capacity the alternatives are tried.
func TestAlternatives(t *testing.T) {
	w := newFakeWorld()
	w.inject = func(op string, n int) (error, error) {
		if op == "create machine" && n == 2 {
			return fault.New(fault.Capacity, op, "out of stock"), nil
		}
		return nil, nil
	}
	in := scalable(1, 0, 5)
	in.Alternatives = []cluster.Alternative{{Flavor: "flex-8-4"}}
	runGroup(t, w, in, map[time.Duration]act{
		1 * time.Hour: more("a", 1),
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 2}) },
		3 * time.Hour: end(demoRef),
	})
	if n := w.calls["create machine"]; n != 3 {
		t.Errorf("%d creates", n)
	}
}
