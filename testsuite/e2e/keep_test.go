package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// wantNamed demands that status names everything that the cloud has. An image
// belongs to all who use it and is named as a use; an import under way is the
// image to be, under the same id.
func (s *system) wantNamed(name string) {
	s.t.Helper()
	st := s.status(name)
	if st.Phase != cluster.PhaseFailed || st.Failure == "" || st.Progress == nil {
		s.t.Fatalf("status after a failure that keeps: phase %q, failure %q", st.Phase, st.Failure)
	}
	named := strings.Join(st.Progress.Remaining, "\n")
	text := s.ichor(codeOK, []string{"ichor delete " + name}, "status", name)
	account := s.account()
	count := 0
	for _, kind := range append(slices.Clone(chosen.Named), stack.Imports) {
		for _, r := range account.Kind(kind) {
			count++
			if !strings.Contains(named, r.ID) || !strings.Contains(text.Stdout, r.ID) {
				s.t.Errorf("status does not name %s", r)
			}
		}
	}
	if count != len(st.Progress.Remaining) {
		s.t.Errorf("status names %d resources, the account has %d:\n%s\naccount: %s", len(st.Progress.Remaining), count, named, account)
	}
}

// TestKeep lets provisioning fail, or be canceled, with onFailure: keep.
func TestKeep(t *testing.T) {
	s := start(t, nil)
	for i, c := range []stack.Create{
		chosen.Making(chosen.Routes.LoadBalancer, ""), chosen.Making(chosen.Routes.Machine, "-cp-"), chosen.Making(chosen.Routes.Machine, "-general-"),
	} {
		t.Run("failed at "+c.Route+c.Contains, func(t *testing.T) {
			s, name := s.on(t), fmt.Sprintf("keep-%d", i)
			spec := s.spec(name)
			spec.Spec.OnFailure = cluster.OnFailureKeep
			s.fault(c.Fault())
			s.ichor(codeFailed, []string{"Quota", "resources remain", "ichor delete " + name}, "provision", "-f", s.write(spec))
			if s.clearFaults() == 0 {
				t.Error("no request was refused")
			}
			s.wantNamed(name)
			s.ichor(codeOK, nil, "delete", name)
			s.wantEmpty()
			s.wantNothingRuns(name)
		})
	}

	t.Run("canceled", func(t *testing.T) {
		s, name := s.on(t), "keep-canceled"
		spec := s.spec(name)
		spec.Spec.OnFailure = cluster.OnFailureKeep
		s.ichor(codeOK, nil, "provision", "--detach", "-f", s.write(spec))
		s.untilStep(name, "machine API")
		if err := s.temporal.CancelWorkflow(t.Context(), cluster.LifecycleID(name), ""); err != nil {
			t.Fatal(err)
		}
		if err := s.runError(cluster.LifecycleID(name), ""); err == nil || !strings.Contains(err.Error(), "canceled") {
			t.Errorf("the canceled run ended with: %v", err)
		}
		s.wantNamed(name)
		s.ichor(codeOK, nil, "delete", name)
		s.wantEmpty()
		s.wantNothingRuns(name)
	})

	t.Run("failed, then gone on with", func(t *testing.T) {
		s := s.on(t)
		spec := s.spec("keep-on")
		spec.Spec.OnFailure = cluster.OnFailureKeep
		file := s.write(spec)
		s.fault(chosen.Making(chosen.Routes.Machine, "-general-").Fault())
		s.ichor(codeFailed, []string{"Quota"}, "provision", "-f", file)
		before := s.account()
		s.clearFaults()
		s.ichor(codeOK, []string{`Cluster "keep-on" is ready: 2 nodes`}, "provision", "-f", file)
		s.wantNodes("keep-on", 2)
		after := map[string]bool{}
		for _, r := range s.account().Resources {
			after[r.ID] = true
		}
		for _, r := range before.Resources {
			if !after[r.ID] {
				t.Errorf("%s was replaced", r)
			}
		}
		s.ichor(codeOK, nil, "delete", "keep-on")
		s.wantEmpty()
	})
}

// TestSharedImage lets two clusters of one account use one image.
func TestSharedImage(t *testing.T) {
	s := start(t, nil)
	one, two := s.write(s.spec("one")), s.write(s.spec("two"))
	first, second := s.background("provision", "-f", one), s.background("provision", "-f", two)
	s.judge(<-first, codeOK, nil, "provision one")
	s.judge(<-second, codeOK, nil, "provision two")
	images := s.account().Kind(stack.Images)
	if len(images) != 1 {
		t.Fatalf("two clusters that began at once made the images %v", images)
	}

	s.ichor(codeOK, nil, "delete", "one")
	s.wantImage(images[0])
	for _, r := range s.account().Resources {
		if strings.HasPrefix(r.Name, "one-") || r.Name == "one" || r.Tags[cluster.TagClusterName] == "one" {
			t.Errorf("left of the first cluster: %s", r)
		}
	}
	s.wantNodes("two", 2)

	// The image still serves: the account grows by a third cluster from it.
	s.ichor(codeOK, nil, "provision", "-f", s.write(s.spec("three")))
	s.wantImage(images[0])
	s.ichor(codeOK, nil, "delete", "three")
	s.wantImage(images[0])
	s.ichor(codeOK, nil, "delete", "two")
	s.wantEmpty()
}

func (s *system) wantImage(want stack.Resource) {
	s.t.Helper()
	if got := s.account().Kind(stack.Images); len(got) != 1 || got[0].ID != want.ID {
		s.t.Errorf("images %v, want %v", got, want)
	}
}
