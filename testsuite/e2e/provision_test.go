package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// TestLifeOfACluster is what an operator does with a cluster, by the commands of
// the tutorial, judged by Kubernetes, by talosctl and by the cloud.
func TestLifeOfACluster(t *testing.T) {
	s := start(t, nil)
	spec, err := chosen.Spec(root, "life")
	if err != nil {
		t.Fatal(err)
	}
	if chosen.Scarce != "" {
		if err := chosen.MakeScarce(t.Context(), s.Stack); err != nil {
			t.Fatal(err)
		}
	}
	groups, nodes := map[string]int{cluster.ControlPlaneGroup: spec.Spec.ControlPlane.Replicas}, spec.Spec.ControlPlane.Replicas
	for _, g := range spec.Spec.NodeGroups {
		groups[g.Name] = *g.Count
		nodes += *g.Count
	}
	file := s.write(spec)
	s.ichor(codeOK, []string{
		"nodes ready: done", fmt.Sprintf(`Cluster "life" is ready: %d nodes`, nodes), "https://", "ichor kubeconfig life",
	}, "provision", "-f", file)

	t.Run("nodes", func(t *testing.T) { s.on(t).wantNodes("life", nodes) })
	t.Run("status", func(t *testing.T) { s.on(t).wantReady("life", groups) })
	t.Run("zones", func(t *testing.T) { s.on(t).wantZones(spec) })
	t.Run("talosctl", func(t *testing.T) { s.on(t).wantTalos("life") })
	t.Run("the same spec again", func(t *testing.T) {
		s := s.on(t)
		before := s.account()
		s.ichor(codeOK, []string{"ready already", "nothing was changed"}, "provision", "-f", file)
		if after := s.account(); after.String() != before.String() {
			t.Errorf("the account has changed; before: %s\nafter: %s", before, after)
		}
	})
	t.Run("another spec", func(t *testing.T) {
		s := s.on(t)
		before := s.account()
		other := spec
		other.Spec.ControlPlane.Replicas = 5
		s.ichor(codeConflict, []string{"life", "spec"}, "provision", "-f", s.write(other))
		if after := s.account(); after.String() != before.String() {
			t.Errorf("the account has changed; before: %s\nafter: %s", before, after)
		}
		s.wantReady("life", groups)
	})
	if chosen.Scarce != "" {
		t.Run("a zone without capacity", func(t *testing.T) { s.on(t).withoutCapacity("life", nodes, groups) })
	}
	t.Run("delete", func(t *testing.T) {
		s := s.on(t)
		s.ichor(codeOK, []string{`Cluster "life" is deleted`, fmt.Sprintf("%d machines", nodes)}, "delete", "life")
		s.wantEmpty()
		s.ichor(codeOK, []string{"was deleted before; nothing was to be done"}, "delete", "life")
		if got := s.status("life").Phase; got != cluster.PhaseDeleted {
			t.Errorf("phase %q after the deletion", got)
		}
		s.ichor(codeNotFound, []string{"authorities"}, "kubeconfig", "life")
	})
}

// kube is a client with the credentials that an operator gets.
func (s *system) kube(name string) kubernetes.Interface {
	s.t.Helper()
	file := filepath.Join(s.dir, name+".kubeconfig")
	s.ichor(codeOK, nil, "kubeconfig", name, "--write", file)
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// wantNodes compares Kubernetes with the cloud: the same machines by name, each
// Ready, with the provider ID of its own machine, and initialised by the cloud's
// controller, whose labels say where and what the machine is.
func (s *system) wantNodes(name string, count int) {
	s.t.Helper()
	nodes, err := s.kube(name).CoreV1().Nodes().List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	machines := map[string]stack.Resource{}
	for _, m := range s.account().Machines() {
		if strings.HasPrefix(m.Name, name+"-") {
			machines[m.Name] = m
		}
	}
	if len(nodes.Items) != count || len(machines) != count {
		s.t.Errorf("%d nodes and %d machines, want %d of each", len(nodes.Items), len(machines), count)
	}
	for _, n := range nodes.Items {
		m := machines[n.Name]
		if want := chosen.ProviderID(m); m.ID == "" || n.Spec.ProviderID != want {
			s.t.Errorf("node %s: provider ID %q, want %q", n.Name, n.Spec.ProviderID, want)
		}
		for label, want := range map[string]string{
			corev1.LabelTopologyZone: m.Zone, corev1.LabelTopologyRegion: chosen.Region, corev1.LabelInstanceTypeStable: m.Detail,
		} {
			if n.Labels[label] != want {
				s.t.Errorf("node %s: label %s is %q, want %q", n.Name, label, n.Labels[label], want)
			}
		}
		if arm := slices.Contains(chosen.Arm, m.Tags[cluster.TagGroup]); arm != (n.Status.NodeInfo.Architecture == "arm64") {
			s.t.Errorf("node %s of group %s is %s", n.Name, m.Tags[cluster.TagGroup], n.Status.NodeInfo.Architecture)
		}
		ready := false
		for _, c := range n.Status.Conditions {
			ready = ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}
		if !ready {
			s.t.Errorf("node %s is not Ready: %+v", n.Name, n.Status.Conditions)
		}
		for _, taint := range n.Spec.Taints {
			if taint.Key == "node.cloudprovider.kubernetes.io/uninitialized" {
				s.t.Errorf("node %s is tainted %s", n.Name, taint.Key)
			}
		}
	}
}

// wantReady compares what status says with the wanted members of each group.
func (s *system) wantReady(name string, groups map[string]int) {
	s.t.Helper()
	st := s.status(name)
	if st.Phase != cluster.PhaseReady || !strings.HasPrefix(st.Endpoint, "https://") || len(st.Unknown) > 0 {
		s.t.Errorf("status: phase %q, endpoint %q, unknown %q", st.Phase, st.Endpoint, st.Unknown)
	}
	got := map[string]int{}
	for _, g := range st.Groups {
		for _, m := range g.Members {
			if m.Phase == "ready" && m.ProviderID != "" && m.Address != "" {
				got[g.Group]++
			}
		}
	}
	for g, n := range groups {
		if got[g] != n || len(got) != len(groups) {
			s.t.Errorf("ready members by group: %v, want %v", got, groups)
			break
		}
	}
}

// wantTalos lets the real talosctl look at the machines with the credentials that
// an operator gets.
func (s *system) wantTalos(name string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name+".talosconfig")
	s.ichor(codeOK, nil, "talosconfig", name, "--write", file)
	rec := s.status(name)
	var address, hosts string
	controls, machines := 0, 0
	for _, g := range rec.Groups {
		for _, m := range g.Members {
			machines++
			if g.Group == cluster.ControlPlaneGroup {
				address = m.Address
				hosts += m.Name + " "
				controls++
			}
		}
	}
	talosctl := func(args ...string) string {
		s.t.Helper()
		r, err := s.Tool(s.t.Context(), []string{"TALOSCONFIG=" + file}, "talosctl", append(args, "--nodes", address)...)
		if err != nil || r.Code != 0 {
			s.t.Fatalf("talosctl %v: %v %s", args, err, r)
		}
		return r.Stdout
	}
	if out := talosctl("version"); !strings.Contains(out, "v1.13.5") {
		s.t.Errorf("talosctl version:\n%s", out)
	}
	members := talosctl("etcd", "members")
	for host := range strings.FieldsSeq(hosts) {
		if !strings.Contains(members, host) {
			s.t.Errorf("etcd has no member %s:\n%s", host, members)
		}
	}
	if got := len(strings.Split(strings.TrimSpace(members), "\n")) - 1; got != controls {
		s.t.Errorf("%d etcd members, want %d:\n%s", got, controls, members)
	}
	if out := talosctl("get", "members"); strings.Count(out, " Member ") != machines {
		s.t.Errorf("talosctl get members lists other than %d members:\n%s", machines, out)
	}
}
