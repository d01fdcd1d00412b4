package activities

import (
	"context"
	"sync"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
)

// restarts are the activities that end a boot.
var restarts = map[string]struct {
	call string
	do   func(*Upgrades, context.Context, string) error
}{
	"RebootNode": {"reboot default", func(u *Upgrades, ctx context.Context, boot string) error {
		return u.RebootNode(ctx, RebootInput{NodeWorkInput: workOn(workers[0]), BootID: boot})
	}},
	"RollbackNode": {"rollback", func(u *Upgrades, ctx context.Context, boot string) error {
		return u.RollbackNode(ctx, RebootInput{NodeWorkInput: workOn(workers[0]), BootID: boot})
	}},
	"UpgradeTalosWhole": {"whole img", func(u *Upgrades, ctx context.Context, boot string) error {
		return u.UpgradeTalosWhole(ctx, WholeUpgradeInput{NodeWorkInput: workOn(workers[0]), Image: "img", BootID: boot})
	}},
}

// TestRestartsAreDoneOnce lets an answer be lost before and after the effect, runs
// the activity twice, after another boot, and while the node is away: it boots
// once, whatever happens.
func TestRestartsAreDoneOnce(t *testing.T) {
	lost := fault.New(fault.Ambiguous, "call", "the answer was lost")
	for _, tc := range []struct {
		name  string
		set   func(*scene, *fakeNode)
		hook  func(*fakeNode, *int) func(method, address string, after bool) error
		boot  string
		boots int
		want  fault.Kind
		words []string
	}{
		{name: "once", boot: "boot-0", boots: 1},
		{name: "another boot since", boot: "boot-before", boots: 0},
		{name: "boot not known", boot: "", want: fault.Internal},
		{name: "lost after the effect", boot: "boot-0", boots: 1, hook: func(_ *fakeNode, calls *int) func(string, string, bool) error {
			return func(method, _ string, after bool) error {
				if method == "facts" || !after {
					return nil
				}
				*calls++
				return lost
			}
		}},
		{name: "lost before the effect", boot: "boot-0", boots: 1, hook: func(_ *fakeNode, calls *int) func(string, string, bool) error {
			return func(method, _ string, after bool) error {
				if method == "facts" || after {
					return nil
				}
				if *calls++; *calls == 1 {
					return lost
				}
				return nil
			}
		}},
		{name: "busy at first", boot: "boot-0", boots: 1, hook: func(_ *fakeNode, calls *int) func(string, string, bool) error {
			return func(method, _ string, after bool) error {
				if method == "facts" || after {
					return nil
				}
				if *calls++; *calls < 3 {
					return fault.New(fault.Conflict, "call", "another sequence runs")
				}
				return nil
			}
		}},
		{name: "on its way down", boot: "boot-0", boots: 0, set: func(_ *scene, n *fakeNode) { n.facts.Stage = "rebooting" }},
		{name: "silent, then back", boot: "boot-0", boots: 1, set: func(s *scene, n *fakeNode) {
			looks := 0
			n.boot()
			s.hook = func(method, _ string, _ bool) error {
				if looks++; method == "facts" && looks < 4 {
					return fault.New(fault.Unavailable, "dial", "refused")
				}
				return nil
			}
		}},
		{name: "silent for ever", boot: "boot-0", want: fault.Unavailable, words: []string{"does not answer"}, set: func(_ *scene, n *fakeNode) {
			n.err = fault.New(fault.Unavailable, "dial", "refused")
		}},
		{name: "not allowed", boot: "boot-0", want: fault.Unauthorized, set: func(_ *scene, n *fakeNode) {
			n.err = fault.New(fault.Unauthorized, "dial", "another cluster")
		}},
	} {
		for name, r := range restarts {
			t.Run(tc.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := newScene()
				n := s.nodes[workers[0].Node.Address]
				calls := 0
				if tc.set != nil {
					tc.set(s, n)
				}
				if tc.hook != nil {
					s.hook = tc.hook(n, &calls)
				}
				u := s.upgrades()
				err := do(t, func(ctx context.Context, boot string) error { return r.do(u, ctx, boot) }, tc.boot)
				wantType(t, err, tc.want, tc.words...)
				if n.boots != tc.boots {
					t.Errorf("%d boots, want %d; calls %v", n.boots, tc.boots, s.calls)
				}
				if tc.want != "" {
					return
				}
				// A later attempt finds it done.
				n.facts.Stage = "running"
				if tc.boots > 0 {
					before := s.count(r.call)
					wantType(t, do(t, func(ctx context.Context, boot string) error { return r.do(u, ctx, boot) }, tc.boot), "")
					if s.count(r.call) != before {
						t.Error("it was called again after it was done")
					}
				}
			})
		}
	}
}

func TestRebootTwiceAtOnce(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	n := s.nodes[workers[0].Node.Address]
	// As Talos: a second call while a sequence runs is refused.
	s.hook = func(method, _ string, after bool) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if method == "reboot powercycle" && !after && n.boots > 0 {
			return fault.New(fault.Conflict, "reboot", "a sequence runs")
		}
		return nil
	}
	errs := make([]error, 4)
	var both sync.WaitGroup
	for i := range errs {
		both.Go(func() {
			errs[i] = do(t, u.RebootNode, RebootInput{NodeWorkInput: workOn(workers[0]), BootID: "boot-0", Mode: RebootPowerCycle})
		})
	}
	both.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if n.boots != 1 {
		t.Errorf("%d boots", n.boots)
	}
}

func TestRollbackIntoAnEmptySlot(t *testing.T) {
	s := newScene()
	s.hook = func(method, _ string, _ bool) error {
		if method == "rollback" {
			return fault.New(fault.Unsafe, "roll back", "the other slot is empty")
		}
		return nil
	}
	err := do(t, s.upgrades().RollbackNode, RebootInput{NodeWorkInput: workOn(planes[0]), BootID: "boot-0"})
	wantType(t, err, fault.Unsafe, "the other slot is empty")
}
