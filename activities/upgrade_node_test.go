package activities

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
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

func TestInstallTalos(t *testing.T) {
	for _, tc := range []struct {
		name  string
		errs  []error
		want  fault.Kind
		calls int
	}{
		{name: "installs", calls: 1},
		{name: "waits for an earlier attempt", errs: []error{fault.New(fault.Conflict, "install", "busy"), fault.New(fault.Conflict, "install", "busy")}, calls: 3},
		{name: "image was cleared away", errs: []error{fault.New(fault.NotFound, "install", "pull it first"), nil}, calls: 2},
		{name: "image cannot be had", errs: []error{fault.New(fault.NotFound, "install", "pull it first"), fault.New(fault.Invalid, "pull", "there is no image")}, want: fault.Invalid, calls: 1},
		{name: "leaves pauses to the workflow", errs: []error{fault.New(fault.Unavailable, "install", "IO error")}, want: fault.Unavailable, calls: 1},
		{name: "refused for its version", errs: []error{fault.New(fault.Unsafe, "install", "exit code 4")}, want: fault.Unsafe, calls: 1},
		{name: "no such image", errs: []error{fault.New(fault.Invalid, "install", "exit code 2")}, want: fault.Invalid, calls: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			s.hook = func(_, _ string, after bool) error {
				if after || len(tc.errs) == 0 {
					return nil
				}
				err := tc.errs[0]
				tc.errs = tc.errs[1:]
				return err
			}
			err := do(t, s.upgrades().InstallTalos, InstallInput{NodeWorkInput: workOn(workers[0]), Image: "img"})
			wantType(t, err, tc.want)
			if got := s.count("install img"); got != tc.calls {
				t.Errorf("%d calls, want %d", got, tc.calls)
			}
		})
	}
	t.Run("busy for ever", func(t *testing.T) {
		s := newScene()
		s.hook = func(string, string, bool) error { return fault.New(fault.Conflict, "install", "busy") }
		err := do(t, s.upgrades().InstallTalos, InstallInput{NodeWorkInput: workOn(workers[0]), Image: "img"})
		wantType(t, err, fault.NotYet, "another installation runs there")
	})
}

func TestPullImages(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	leg := FreezeLegResult{Spec: s.rec.Spec, SpecDigest: "x", Frozen: s.rec.Frozen}
	wantType(t, do(t, u.PullImage, PullImageInput{NodeWorkInput: workOn(workers[0]), Image: "installer", Space: SystemImage}), "")
	wantType(t, do(t, u.PullComponentImages, PullComponentsInput{NodeWorkInput: workOn(workers[0]), Leg: leg}), "")
	wantType(t, do(t, u.PullComponentImages, PullComponentsInput{NodeWorkInput: workOn(planes[0]), Leg: leg}), "")
	want := []string{
		"pull installer system 192.0.2.11",
		"pull kubelet:v1.35.1-slim system 192.0.2.11",
		"pull kubelet:v1.35.1-slim system 192.0.2.1",
		"pull api:v1.35.1 kubernetes 192.0.2.1", "pull cm:v1.35.1 kubernetes 192.0.2.1", "pull sched:v1.35.1 kubernetes 192.0.2.1",
	}
	if diff := cmp.Diff(want, s.calls); diff != "" {
		t.Error(diff)
	}
	s.hook = func(string, string, bool) error { return fault.New(fault.Invalid, "pull", "there is no image") }
	wantType(t, do(t, u.PullImage, PullImageInput{NodeWorkInput: workOn(workers[0]), Image: "none", Space: SystemImage}), fault.Invalid)
}

// TestSilentRollback is the boot loader's quiet return to the old system, which
// looks like success to whoever asks for a ready node only.
func TestSilentRollback(t *testing.T) {
	want := plan.Versions{Talos: "v1.14.1", Schematic: schematicB}
	in := WaitBootedInput{NodeWorkInput: workOn(workers[0]), BootID: "boot-0", Want: want}
	for _, tc := range []struct {
		name  string
		facts func(*NodeFacts)
		want  fault.Kind
		words []string
	}{
		{name: "as wanted", facts: func(f *NodeFacts) { f.Version, f.Schematic = want.Talos, want.Schematic }},
		{
			name: "old version", facts: func(*NodeFacts) {}, want: fault.Unsafe,
			words: []string{"demo-worker-1", "booted the old slot: runs v1.13.5 with schematic aaaaaaaaaaaa, wanted v1.14.1 with schematic bbbbbbbbbbbb"},
		},
		{name: "old schematic", facts: func(f *NodeFacts) { f.Version = want.Talos }, want: fault.Unsafe, words: []string{"booted the old slot"}},
		{name: "the same boot", facts: func(f *NodeFacts) { f.BootID = "boot-0" }, want: fault.NotYet, words: []string{"has not booted anew"}},
		{name: "old and not ready", facts: func(f *NodeFacts) { f.Ready, f.Unmet = false, []string{"services: kubelet"} }, want: fault.NotYet, words: []string{"not ready: services: kubelet"}},
		{name: "schematic not told", facts: func(f *NodeFacts) { f.Version, f.Schematic = want.Talos, "" }, want: fault.NotYet, words: []string{"does not tell its schematic"}},
		{name: "lost its state", facts: func(f *NodeFacts) { *f = NodeFacts{Stage: "maintenance"} }, want: fault.NotYet, words: []string{"maintenance mode"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			n := s.nodes[workers[0].Node.Address]
			n.facts.BootID = "boot-1"
			tc.facts(&n.facts)
			out, err := act(t, s.upgrades().WaitBooted, in)
			wantType(t, err, tc.want, tc.words...)
			if tc.want == "" && (out.Talos != want.Talos || !out.NodeReady || out.BootID != "boot-1" || out.Kubelet != "v1.35.1") {
				t.Errorf("got %+v", out)
			}
		})
	}
	t.Run("no boot was needed", func(t *testing.T) {
		in := in
		in.BootID = ""
		_, err := act(t, newScene().upgrades().WaitBooted, in)
		wantType(t, err, fault.NotYet, "it runs v1.13.5")
	})
}

func TestWaitBootedWaitsForTheNode(t *testing.T) {
	in := WaitBootedInput{NodeWorkInput: workOn(workers[0]), BootID: "boot-0", Want: plan.Versions{Talos: "v1.13.5"}, Stable: 10 * time.Millisecond}
	away := fault.New(fault.Unavailable, "dial", "refused")
	for _, tc := range []struct {
		name  string
		set   func(*scene)
		want  fault.Kind
		words []string
	}{
		{name: "comes back", set: func(s *scene) {
			looks := 0
			s.hook = func(string, string, bool) error {
				if looks++; looks < 5 {
					return away
				}
				return nil
			}
		}},
		{name: "never back", set: func(s *scene) { s.hook = func(string, string, bool) error { return away } }, want: fault.Unavailable, words: []string{"its machine API does not answer"}},
		{name: "no Node object", set: func(s *scene) { delete(s.objectsOf, "demo-worker-1") }, want: fault.NotYet, words: []string{"has no Node object"}},
		{name: "node not Ready", set: func(s *scene) {
			s.objectsOf["demo-worker-1"].Ready, s.objectsOf["demo-worker-1"].Reason = false, "no CNI"
		}, want: fault.NotYet, words: []string{"not Ready: no CNI"}},
		{name: "Kubernetes away", set: func(s *scene) { s.kubeErr = fault.New(fault.Unavailable, "read node", "refused") }, want: fault.Unavailable, words: []string{apiSilent}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			s.nodes[workers[0].Node.Address].facts.BootID = "boot-1"
			tc.set(s)
			_, err := act(t, s.upgrades().WaitBooted, in)
			wantType(t, err, tc.want, tc.words...)
		})
	}
}

// TestStable asks that a condition that breaks begins anew.
func TestStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stable{need: 10 * time.Second}
		look := func(want bool) {
			t.Helper()
			if done, saw := s.holds(); done != want {
				t.Errorf("done is %v: %s", done, saw)
			}
		}
		look(false)
		time.Sleep(9 * time.Second)
		look(false)
		s.broken()
		time.Sleep(9 * time.Second)
		look(false)
		time.Sleep(10 * time.Second)
		look(true)
	})
	if done, _ := (&stable{}).holds(); !done {
		t.Error("nothing to hold for is not enough")
	}
}

func TestWaitBootedUntilItIsStable(t *testing.T) {
	s := newScene()
	s.nodes[workers[0].Node.Address].facts.BootID = "boot-1"
	_, err := act(t, s.upgrades().WaitBooted, WaitBootedInput{NodeWorkInput: workOn(workers[0]), BootID: "boot-0", Stable: time.Hour})
	wantType(t, err, fault.NotYet, "all is well for", "of 1h0m0s")
}

func TestApplyMachineConfig(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	n := s.nodes[workers[0].Node.Address]
	in := ApplyConfigInput{NodeWorkInput: workOn(workers[0])}
	out, err := act(t, u.ApplyMachineConfig, in)
	wantType(t, err, "")
	if !out.Changed || out.Staged || out.SHA256 != n.facts.ConfigSHA256 {
		t.Errorf("applied: %+v", out)
	}
	out, err = act(t, u.ApplyMachineConfig, in)
	wantType(t, err, "")
	if out.Changed || s.count("apply") != 1 {
		t.Errorf("again: %+v, %v", out, s.calls)
	}
	// Other components make another config, which this node takes staged only.
	n.needsReboot = true
	in.Components = Components{Kubelet: "v1.36.0"}
	for range 2 { // as long as it has not booted, staging it again is the same
		out, err = act(t, u.ApplyMachineConfig, in)
		wantType(t, err, "")
		if !out.Changed || !out.Staged || out.BootID != "boot-0" || out.SHA256 == n.facts.ConfigSHA256 || out.SHA256 != n.staged {
			t.Errorf("staged: %+v", out)
		}
	}
	n.boot()
	out, err = act(t, u.ApplyMachineConfig, in)
	wantType(t, err, "")
	if out.Changed || out.Staged {
		t.Errorf("after the boot: %+v", out)
	}
}

func TestApplyMachineConfigIsLostOrRefused(t *testing.T) {
	in := ApplyConfigInput{NodeWorkInput: workOn(workers[0])}
	for _, tc := range []struct {
		name  string
		set   func(*scene)
		want  fault.Kind
		words []string
	}{
		{name: "answer lost", set: func(s *scene) {
			s.hook = func(method, _ string, after bool) error {
				if after && strings.HasPrefix(method, "apply") {
					return fault.New(fault.Ambiguous, "apply", "the answer was lost")
				}
				return nil
			}
		}},
		{name: "away after the effect", set: func(s *scene) {
			s.hook = func(method, _ string, after bool) error {
				if after && strings.HasPrefix(method, "apply") {
					return fault.New(fault.Unavailable, "apply", "the connection broke")
				}
				return nil
			}
		}},
		{name: "refused", want: fault.Invalid, words: []string{"unknown field"}, set: func(s *scene) {
			s.hook = func(method, _ string, _ bool) error {
				if strings.HasPrefix(method, "apply") {
					return fault.New(fault.Invalid, "apply", "unknown field")
				}
				return nil
			}
		}},
		{name: "lost its state", want: fault.Unsafe, words: []string{"maintenance mode", "replaced"}, set: func(s *scene) {
			s.nodes[workers[0].Node.Address].facts = NodeFacts{Stage: "maintenance"}
		}},
		{name: "bad patch", want: fault.Invalid, words: []string{"spec.talos.patches[0]"}, set: func(s *scene) {
			s.rec.Spec.Talos.Patches = append(s.rec.Spec.Talos.Patches, source("p", "bad"))
			s.bodies["p@bad"] = "bad"
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			tc.set(s)
			out, err := act(t, s.upgrades().ApplyMachineConfig, in)
			wantType(t, err, tc.want, tc.words...)
			if tc.want == "" && (!out.Changed || s.count("apply staged=false") != 1) {
				t.Errorf("%+v after %v", out, s.calls)
			}
		})
	}
}

// TestLastLookIsCutOff asks that a wait ends with what was seen, not with the
// timeout of the look that its end interrupted.
func TestLastLookIsCutOff(t *testing.T) {
	looks := 0
	err := (&stage{}).run(t, func(ctx context.Context) error {
		return poll(ctx, "wait", time.Millisecond, func(ctx context.Context) (bool, string, error) {
			if looks++; looks < 3 {
				return false, "two of three", nil
			}
			<-ctx.Done()
			return false, "no answer", fault.Wrap(fault.Unavailable, "ask", ctx.Err())
		})
	})
	wantType(t, err, fault.NotYet, "still waiting: two of three")
	if looks != 3 {
		t.Errorf("%d looks", looks)
	}
	err = (&stage{}).run(t, func(ctx context.Context) error {
		return poll(ctx, "wait", time.Millisecond, func(ctx context.Context) (bool, string, error) {
			<-ctx.Done()
			return false, "no answer", fault.Wrap(fault.Unavailable, "ask", ctx.Err())
		})
	})
	wantType(t, err, fault.Unavailable, "no answer")
}
