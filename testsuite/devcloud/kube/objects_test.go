package kube_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
	"github.com/ichor-project/ichor/testsuite/proc"
)

func notFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func taint(node *corev1.Node, key string) corev1.TaintEffect {
	for _, taint := range node.Spec.Taints {
		if taint.Key == key {
			return taint.Effect
		}
	}
	return ""
}

func apply(t *testing.T, api *client.Client, object any) {
	t.Helper()
	var err error
	switch o := object.(type) {
	case *appsv1.DaemonSet:
		_, err = api.AppsV1().DaemonSets(o.Namespace).Create(t.Context(), o, metav1.CreateOptions{})
	case *appsv1.Deployment:
		_, err = api.AppsV1().Deployments(o.Namespace).Create(t.Context(), o, metav1.CreateOptions{})
	case *corev1.ServiceAccount:
		_, err = api.CoreV1().ServiceAccounts(o.Namespace).Create(t.Context(), o, metav1.CreateOptions{})
	case *rbacv1.ClusterRole:
		_, err = api.RbacV1().ClusterRoles().Create(t.Context(), o, metav1.CreateOptions{})
	case *rbacv1.ClusterRoleBinding:
		_, err = api.RbacV1().ClusterRoleBindings().Create(t.Context(), o, metav1.CreateOptions{})
	case *corev1.Secret:
		_, err = api.CoreV1().Secrets(o.Namespace).Create(t.Context(), o, metav1.CreateOptions{})
	default:
		t.Fatalf("cannot apply a %T", object)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// daemonSet runs on the host's network of every node, as CNIs and cloud
// controllers do, and mounts a folder of the host if one is given.
func daemonSet(name, hostPath string) *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": name}
	set := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system", Labels: labels},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					HostNetwork: true,
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers:  []corev1.Container{{Name: name, Image: "example.com/" + name}},
				},
			},
		},
	}
	if hostPath != "" {
		set.Spec.Template.Spec.Volumes = []corev1.Volume{{
			Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: hostPath}},
		}}
	}
	return set
}

const cloudToken = "cloud-token"

// fakeCloud answers the two requests of the cloud controller.
type fakeCloud struct {
	*httptest.Server
	mu      sync.Mutex
	servers []map[string]any
}

func newFakeCloud(t *testing.T) *fakeCloud {
	t.Helper()
	f := &fakeCloud{}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeCloud) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := any(f.servers)
	status := http.StatusOK
	if r.Header.Get("Authorization") != "Bearer "+cloudToken {
		status, answer = http.StatusUnauthorized, map[string]string{"detail": "Invalid token."}
	} else if uuid, ok := strings.CutPrefix(r.URL.Path, "/v1/servers/"); ok {
		at := slices.IndexFunc(f.servers, func(s map[string]any) bool { return s["uuid"] == uuid })
		if at < 0 {
			status, answer = http.StatusNotFound, map[string]string{"detail": "Not found."}
		} else {
			answer = f.servers[at]
		}
	}
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
}

func (f *fakeCloud) add(name, uuid, private, public string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers = append(f.servers, map[string]any{
		"uuid": uuid, "name": name, "status": "running",
		"flavor": map[string]any{"slug": "flex-8-4"}, "zone": map[string]any{"slug": "lpg1"},
		"interfaces": []any{
			map[string]any{"type": "public", "addresses": []any{map[string]any{"version": 4, "address": public}}},
			map[string]any{"type": "private", "addresses": []any{map[string]any{"version": 4, "address": private}}},
		},
	})
}

func (f *fakeCloud) set(name, status string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, server := range f.servers {
		if server["name"] == name {
			server["status"] = status
		}
	}
}

func (f *fakeCloud) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers = slices.DeleteFunc(f.servers, func(s map[string]any) bool { return s["name"] == name })
}

func cloudController(t *testing.T, w *world, cloud *fakeCloud, api *client.Client) {
	cloud.add("cp-1", "11111111-0000-4000-8000-000000000001", "10.0.0.11", "198.51.100.1")
	// Two servers of one name, until one is removed.
	cloud.add("worker-1", "22222222-0000-4000-8000-000000000001", "10.0.0.99", "198.51.100.9")
	cloud.add("worker-1", "22222222-0000-4000-8000-000000000002", "10.0.0.21", "198.51.100.2")

	manifest := daemonSet("cloudscale-cloud-controller-manager", "")
	container := &manifest.Spec.Template.Spec.Containers[0]
	container.Env = []corev1.EnvVar{{Name: "CLOUDSCALE_ACCESS_TOKEN", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "cloudscale"}, Key: "access-token",
		},
	}}}
	manifest.Spec.Template.Spec.ServiceAccountName = manifest.Name
	apply(t, api, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: manifest.Name, Namespace: "kube-system"}})
	apply(t, api, manifest)
	apply(t, api, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "cloudscale", Namespace: "kube-system"},
		StringData: map[string]string{"access-token": cloudToken},
	})
	log := filepath.Join(w.dataDir, "etcd-etcd-1", "logs", manifest.Name+".log")
	eventually(t, "refused without a role", func(context.Context) error {
		if tail := proc.Tail(log, 20); !strings.Contains(tail, "cannot get resource") {
			return errors.New(tail)
		}
		return nil
	})
	apply(t, api, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: manifest.Name}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "update", "delete"}},
		{APIGroups: []string{""}, Resources: []string{"nodes/status"}, Verbs: []string{"patch"}},
	}})
	apply(t, api, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: manifest.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: manifest.Name, Namespace: "kube-system"}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: manifest.Name},
	})
	initialized := func(name, providerID string) func(*corev1.Node) error {
		return func(node *corev1.Node) error {
			if node.Spec.ProviderID != providerID || taint(node, "node.cloudprovider.kubernetes.io/uninitialized") != "" {
				return errors.New(name + " is not initialised: " + node.Spec.ProviderID)
			}
			return nil
		}
	}
	eventually(t, "control plane initialised", func(ctx context.Context) error {
		return node(ctx, api, "cp-1", initialized("cp-1", "cloudscale://11111111-0000-4000-8000-000000000001"))
	})
	worker, err := api.CoreV1().Nodes().Get(t.Context(), "worker-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if worker.Spec.ProviderID != "" || taint(worker, "node.cloudprovider.kubernetes.io/uninitialized") == "" {
		t.Error("initialised a node whose name two servers have")
	}
	cloud.mu.Lock()
	cloud.servers = slices.DeleteFunc(cloud.servers, func(s map[string]any) bool {
		return s["uuid"] == "22222222-0000-4000-8000-000000000001"
	})
	cloud.mu.Unlock()
	eventually(t, "worker initialised", func(ctx context.Context) error {
		return node(ctx, api, "worker-1", initialized("worker-1", "cloudscale://22222222-0000-4000-8000-000000000002"))
	})
	worker, err = api.CoreV1().Nodes().Get(t.Context(), "worker-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{
		"node.kubernetes.io/instance-type": "flex-8-4", "topology.kubernetes.io/zone": "lpg1",
		"topology.kubernetes.io/region": "lpg", "example.com/pool": "blue",
	} {
		if got := worker.Labels[label]; got != want {
			t.Errorf("label %s = %q, want %q", label, got, want)
		}
	}
	want := []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "10.0.0.21"}, {Type: corev1.NodeExternalIP, Address: "198.51.100.2"},
	}
	if !slices.Equal(worker.Status.Addresses, want) {
		t.Errorf("addresses %v, want %v", worker.Status.Addresses, want)
	}
}
