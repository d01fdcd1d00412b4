package e2e

import (
	"net/http"
	"path/filepath"
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
	spec, err := stack.Spec(root, "life")
	if err != nil {
		t.Fatal(err)
	}
	one := 1
	for i := range spec.Spec.NodeGroups {
		spec.Spec.NodeGroups[i].Count = &one
	}
	file := s.write(spec)
	s.ichor(codeOK, []string{"nodes ready: done", `Cluster "life" is ready: 5 nodes`, "https://", "ichor kubeconfig life"}, "provision", "-f", file)

	t.Run("nodes", func(t *testing.T) { s.on(t).wantNodes("life", 5) })
	t.Run("status", func(t *testing.T) { s.on(t).wantReady("life", map[string]int{"cp": 3, "general": 1, "batch": 1}) })
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
		s.wantReady("life", map[string]int{"cp": 3, "general": 1, "batch": 1})
	})
	t.Run("delete", func(t *testing.T) {
		s := s.on(t)
		s.ichor(codeOK, []string{`Cluster "life" is deleted`, "5 machines"}, "delete", "life")
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
// Ready, with the provider ID of its own server, and initialised.
func (s *system) wantNodes(name string, count int) {
	s.t.Helper()
	nodes, err := s.kube(name).CoreV1().Nodes().List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	var servers []stack.Resource
	if err := s.Cloud(s.t.Context(), http.MethodGet, "v1/servers", nil, &servers); err != nil {
		s.t.Fatal(err)
	}
	uuid := map[string]string{}
	for _, v := range servers {
		if strings.HasPrefix(v.Name, name+"-") {
			uuid[v.Name] = v.UUID
		}
	}
	if len(nodes.Items) != count || len(uuid) != count {
		s.t.Errorf("%d nodes and %d servers, want %d of each", len(nodes.Items), len(uuid), count)
	}
	for _, n := range nodes.Items {
		if want := "cloudscale://" + uuid[n.Name]; uuid[n.Name] == "" || n.Spec.ProviderID != want {
			s.t.Errorf("node %s: provider ID %q, want %q", n.Name, n.Spec.ProviderID, want)
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
