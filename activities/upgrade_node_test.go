package activities

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

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
