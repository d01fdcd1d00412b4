package e2e

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// mended is the cluster of TestRepair.
const mended = "mend"

// TestRepair breaks nodes of a cluster of three control planes in the ways that a
// person has to mend: one that was deleted, one that is off, one whose new system
// is worse than its old.
func TestRepair(t *testing.T) {
	s := start(t, upgradeSettings)
	spec := s.upgradable(mended, 1)
	spec.Spec.ControlPlane.Replicas = 3
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	t.Run("no other slot", func(t *testing.T) { s.on(t).noOtherSlot() })
	t.Run("control plane deleted", func(t *testing.T) { s.on(t).replacePlane(s.destroy) })
	t.Run("control plane off", func(t *testing.T) { s.on(t).replacePlane(s.switchOff) })
	t.Run("roll back", func(t *testing.T) { s.on(t).rollBack() })
	t.Run("no quorum", func(t *testing.T) { s.on(t).withoutQuorum() })
	s.ichor(codeOK, nil, "delete", mended)
	s.wantEmpty()
}

// destroy deletes a machine in the cloud's panel.
func (s *system) destroy(node string) {
	s.t.Helper()
	s.byHand(mended, node, stack.Delete)
}

// switchOff stops a machine in the cloud's panel.
func (s *system) switchOff(node string) {
	s.t.Helper()
	s.byHand(mended, node, stack.PowerOff)
}

// noOtherSlot rolls back a node that was never upgraded.
func (s *system) noOtherSlot() {
	worker := s.nodesOf(mended, "general")[0]
	s.ichor(codeConflict, []string{"slot"}, "rollback", mended, worker)
	s.ichor(codeNotFound, []string{"has no node"}, "rollback", mended, "mend-general-nobody")
	s.wantReleased(mended)
}

// replacePlane breaks a control plane and puts a new machine in its place; again,
// nothing is to be done.
func (s *system) replacePlane(breakIt func(string)) {
	before := s.nodesOf(mended, cluster.ControlPlaneGroup)
	old := before[0]
	breakIt(old)
	s.ichor(codeOK, []string{"has taken the place of " + old}, "replace", mended, old)
	after := s.nodesOf(mended, cluster.ControlPlaneGroup)
	if len(after) != 3 || slices.Contains(after, old) {
		s.t.Fatalf("control planes before %v, now %v", before, after)
	}
	s.wantPlanes(after)
	s.ichor(codeOK, []string{"nothing was to be done"}, "replace", mended, old)
	s.wantPlanes(after)
}

// wantPlanes demands that nodes, record and group name exactly these control planes,
// all Ready.
func (s *system) wantPlanes(want []string) {
	s.t.Helper()
	list, err := s.kube(mended).CoreV1().Nodes().List(s.t.Context(), metav1.ListOptions{LabelSelector: "node-role.kubernetes.io/control-plane"})
	if err != nil {
		s.t.Fatal(err)
	}
	var nodes, recorded, members []string
	for _, n := range list.Items {
		nodes = append(nodes, n.Name)
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status != "True" {
				s.t.Errorf("%s is not Ready: %s", n.Name, c.Message)
			}
		}
	}
	rec, _, err := s.store().Record(s.t.Context(), mended)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range rec.ControlPlanes {
		recorded = append(recorded, n.Name)
	}
	for _, g := range s.status(mended).Groups {
		for _, m := range g.Members {
			if g.Group == cluster.ControlPlaneGroup {
				members = append(members, m.Name)
			}
		}
		if g.Failure != nil {
			s.t.Errorf("group %s has failed: %s", g.Group, g.Failure.Message)
		}
	}
	for what, got := range map[string][]string{"nodes": nodes, "record": recorded, "members": members} {
		slices.Sort(got)
		if !slices.Equal(got, want) {
			s.t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
}

// rollBack takes an upgraded worker and a control plane back to what they ran.
func (s *system) rollBack() {
	_, err := s.upgrade(mended, workflows.UpgradeInput{
		UpgradeChange: activities.UpgradeChange{TalosVersion: newTalos}, Strategy: plan.UpgradeStrategy{Stable: briefly},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	planes := s.nodesOf(mended, cluster.ControlPlaneGroup)
	for _, node := range []string{s.nodesOf(mended, "general")[0], planes[1]} {
		s.ichor(codeOK, []string{node + " runs Talos " + oldTalos}, "rollback", mended, node)
		boots := s.allBoots(mended)[node]
		if boots[len(boots)-1] != oldTalos {
			s.t.Errorf("%s booted %v", node, boots)
		}
	}
	s.wantReleased(mended)
	s.ichor(codeOK, nil, "upgrade", mended)
	s.wantVersions(mended, newTalos, oldKubernetes)
}

// TestRestore loses every control plane of a cluster, and with them etcd, and brings
// it back from the snapshot that an upgrade took before it began.
func TestRestore(t *testing.T) {
	s := start(t, upgradeSettings)
	spec := s.upgradable(mended, 1)
	spec.Spec.ControlPlane.Replicas = 3
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	s.ichor(codeNotFound, []string{"no snapshot"}, "restore", mended, "--snapshot", "latest")
	note := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault}, Data: map[string]string{"note": name}}
	}
	maps := s.kube(mended).CoreV1().ConfigMaps(metav1.NamespaceDefault)
	if _, err := maps.Create(t.Context(), note("kept"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.upgrade(mended, workflows.UpgradeInput{
		UpgradeChange: activities.UpgradeChange{TalosVersion: newTalos}, Strategy: plan.UpgradeStrategy{Stable: briefly},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(t.Context(), note("lost"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := s.nodesOf(mended, cluster.ControlPlaneGroup)
	s.ichor(codeConflict, []string{"etcd lives"}, "restore", mended, "--snapshot", "latest")
	for _, node := range before {
		s.destroy(node)
	}
	s.ichor(codeConflict, []string{"ichor restore " + mended}, "replace", mended, before[0])
	s.ichor(codeOK, []string{"is back"}, "restore", mended, "--snapshot", "latest")

	after := s.nodesOf(mended, cluster.ControlPlaneGroup)
	if len(after) != 3 || slices.ContainsFunc(after, func(n string) bool { return slices.Contains(before, n) }) {
		t.Fatalf("control planes before %v, now %v", before, after)
	}
	s.wantPlanes(after)
	maps = s.kube(mended).CoreV1().ConfigMaps(metav1.NamespaceDefault)
	if _, err := maps.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("what was there before the snapshot: %v", err)
	}
	if _, err := maps.Get(t.Context(), "lost", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was made after the snapshot: %v", err)
	}
	worker := s.nodesOf(mended, "general")[0]
	s.until("the worker is Ready again", func() bool {
		n, err := s.kube(mended).CoreV1().Nodes().Get(t.Context(), worker, metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	})
	s.ichor(codeConflict, []string{"etcd lives"}, "restore", mended, "--snapshot", "latest")
	s.ichor(codeOK, nil, "delete", mended)
	s.wantEmpty()
}

// withoutQuorum loses two of three: nothing is removed, and the answer names what
// helps.
func (s *system) withoutQuorum() {
	planes := s.nodesOf(mended, cluster.ControlPlaneGroup)
	s.switchOff(planes[0])
	s.switchOff(planes[1])
	s.ichor(codeConflict, []string{"quorum"}, "replace", mended, planes[0])
	if got := s.nodesOf(mended, cluster.ControlPlaneGroup); !slices.Equal(got, planes) {
		s.t.Errorf("machines were touched: %s", strings.Join(got, ", "))
	}
}
