package activities

import (
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
)

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
