package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
)

// One cluster from its first API server to a server that dies: in one test,
// because each step needs the one before.
func TestClusterLife(t *testing.T) {
	cloud := newFakeCloud(t)
	w := newWorld(t, cloud.URL)
	plane := w.startPlane("cp-1", func(spec *guest.ControlPlane) { spec.DefaultCNI = false })
	external := func(spec *guest.Kubelet) { spec.ExternalCloudProvider = true }
	cp := w.runner.StartKubelet(w.kubeletSpec("cp-1", controlPlane, external, func(spec *guest.Kubelet) {
		spec.Labels = map[string]string{"node.kubernetes.io/exclude-from-external-load-balancers": ""}
	}))
	workerSpec := w.kubeletSpec("worker-1", external, func(spec *guest.Kubelet) {
		spec.Labels = map[string]string{"example.com/pool": "blue"}
		spec.Taints = []guest.Taint{{Key: "example.com/only", Value: "x", Effect: "PreferNoSchedule"}}
		spec.InternalIP = netip.MustParseAddr("10.0.0.21")
	})
	worker := w.runner.StartKubelet(workerSpec)
	eventually(t, "API ready", isTrue("ready", plane.Ready))
	api := w.admin()
	eventually(t, "nodes registered", func(context.Context) error {
		if cp.Registered() && worker.Registered() && cp.LastError() == "" && worker.LastError() == "" {
			return nil
		}
		return errors.New(cp.LastError() + "; " + worker.LastError())
	})

	t.Run("refused", func(t *testing.T) { refusals(t, w, api) })
	t.Run("registered as configured", func(t *testing.T) { registered(t, api) })
	t.Run("no network", func(t *testing.T) {
		if worker.Ready() {
			t.Fatal("ready without a CNI")
		}
		apply(t, api, daemonSet("cilium", "/opt/cni/bin"))
		eventually(t, "nodes ready", func(ctx context.Context) error {
			return errors.Join(node(ctx, api, "cp-1", nodeReady), node(ctx, api, "worker-1", nodeReady))
		})
		eventually(t, "kubelets know", isTrue("ready", func() bool { return cp.Ready() && worker.Ready() }))
	})
	t.Run("cloud controller", func(t *testing.T) { cloudController(t, w, cloud, api) })
	t.Run("workload", func(t *testing.T) { workload(t, api) })
	t.Run("static pods", func(t *testing.T) { staticPods(t, api) })
	t.Run("job", func(t *testing.T) { job(t, api) })
	t.Run("reboot", func(t *testing.T) { cp = reboot(t, w, api, cp) })
	t.Run("logs", func(t *testing.T) { logs(t, w) })
	t.Run("server off and on", func(t *testing.T) {
		worker.Stop()
		cloud.set("worker-1", "stopped")
		eventually(t, "node marked as switched off", func(ctx context.Context) error {
			return node(ctx, api, "worker-1", func(node *corev1.Node) error {
				if nodeReady(node) == nil || taint(node, shutdownTaint) == "" || taint(node, "node.kubernetes.io/unreachable") == "" {
					return fmt.Errorf("taints %v", node.Spec.Taints)
				}
				return nil
			})
		})
		cloud.set("worker-1", "running")
		worker = w.runner.StartKubelet(workerSpec)
		eventually(t, "node back", func(ctx context.Context) error {
			return node(ctx, api, "worker-1", func(node *corev1.Node) error {
				if taint(node, shutdownTaint) != "" || taint(node, "node.kubernetes.io/unreachable") != "" {
					return fmt.Errorf("taints %v", node.Spec.Taints)
				}
				return nodeReady(node)
			})
		})
		eventually(t, "deployment available again", func(ctx context.Context) error { return available(ctx, api) })
	})
	t.Run("server lost", func(t *testing.T) {
		worker.Stop()
		cloud.remove("worker-1")
		eventually(t, "node removed by the cloud controller", func(ctx context.Context) error {
			_, err := api.CoreV1().Nodes().Get(ctx, "worker-1", metav1.GetOptions{})
			if err == nil {
				return errors.New("still there")
			}
			return notFound(err)
		})
	})
}

const shutdownTaint = "node.cloudprovider.kubernetes.io/shutdown"

func registered(t *testing.T, api *client.Client) {
	worker, err := api.CoreV1().Nodes().Get(t.Context(), "worker-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if worker.Spec.ProviderID != "" || worker.Labels["example.com/pool"] != "blue" ||
		worker.Status.NodeInfo.OSImage != "Talos (v1.13.5)" || worker.Status.NodeInfo.KubeletVersion != "v1.36.3" {
		t.Errorf("node %+v", worker)
	}
	if got, want := worker.Status.Allocatable.Memory().Value()>>20, int64(7492); got != want {
		t.Errorf("allocatable memory %d MiB, want %d", got, want)
	}
	for key, want := range map[string]corev1.TaintEffect{
		"example.com/only": "PreferNoSchedule", "node.cloudprovider.kubernetes.io/uninitialized": "NoSchedule",
		"node.kubernetes.io/not-ready": "NoSchedule",
	} {
		if got := taint(worker, key); got != want {
			t.Errorf("taint %s: %q, want %q", key, got, want)
		}
	}
	if err := nodeReady(worker); err == nil || !strings.Contains(err.Error(), "NetworkPluginNotReady") {
		t.Errorf("readiness: %v, want NetworkPluginNotReady", err)
	}
	cp, err := api.CoreV1().Nodes().Get(t.Context(), "cp-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{
		"node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers",
	} {
		if _, ok := cp.Labels[label]; !ok {
			t.Errorf("the control plane lacks the label %s", label)
		}
	}
	if taint(cp, "node-role.kubernetes.io/control-plane") != "NoSchedule" {
		t.Error("the control plane lacks its taint")
	}
}

func workload(t *testing.T, api *client.Client) {
	apply(t, api, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web"}}},
			},
		},
	})
	eventually(t, "deployment available", func(ctx context.Context) error { return available(ctx, api) })
	pods, err := api.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]bool{}
	for _, pod := range pods.Items {
		addresses[pod.Status.PodIP] = true
		if pod.Spec.NodeName != "worker-1" {
			t.Errorf("%s runs on %s", pod.Name, pod.Spec.NodeName)
		}
	}
	if len(addresses) != len(pods.Items) {
		t.Errorf("%d pods share %d addresses", len(pods.Items), len(addresses))
	}
	evicted := pods.Items[0]
	if err := api.PolicyV1().Evictions("default").Evict(t.Context(), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Name: evicted.Name, Namespace: "default"},
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "evicted pod gone", func(ctx context.Context) error {
		_, err := api.CoreV1().Pods("default").Get(ctx, evicted.Name, metav1.GetOptions{})
		if err == nil {
			return errors.New("still there")
		}
		return notFound(err)
	})
	eventually(t, "replacement available", func(ctx context.Context) error { return available(ctx, api) })
}

func available(ctx context.Context, api *client.Client) error {
	web, err := api.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
	if err == nil && web.Status.AvailableReplicas != 2 {
		err = fmt.Errorf("%d pods available", web.Status.AvailableReplicas)
	}
	return err
}

func job(t *testing.T, api *client.Client) {
	if _, err := api.BatchV1().Jobs("default").Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "once"},
		Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "once", Image: "example.com/once"}},
		}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "job complete", func(ctx context.Context) error {
		once, err := api.BatchV1().Jobs("default").Get(ctx, "once", metav1.GetOptions{})
		if err == nil && once.Status.Succeeded != 1 {
			err = fmt.Errorf("%+v", once.Status)
		}
		return err
	})
}

// reboot restarts a kubelet twice: with its Node object, which it takes over, and
// after somebody has deleted that, which only a restart makes again.
func reboot(t *testing.T, w *world, api *client.Client, k guest.RunningKubelet) guest.RunningKubelet {
	spec := w.kubeletSpec("cp-1", controlPlane, func(spec *guest.Kubelet) { spec.Version, spec.BootID = "v1.36.2", "another" })
	before, err := api.CoreV1().Nodes().Get(t.Context(), "cp-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	k.Stop()
	k = w.runner.StartKubelet(spec)
	eventually(t, "back after a reboot", func(ctx context.Context) error {
		return node(ctx, api, "cp-1", func(node *corev1.Node) error {
			if node.Status.NodeInfo.BootID == before.Status.NodeInfo.BootID || node.Status.NodeInfo.KubeletVersion != "v1.36.2" {
				return errors.New("the status is that of the boot before")
			}
			if node.UID != before.UID || node.Spec.ProviderID != before.Spec.ProviderID {
				t.Fatalf("not the node from before: %+v", node)
			}
			if taint(node, "node.cloudprovider.kubernetes.io/uninitialized") != "" {
				t.Fatal("tainted again")
			}
			return nodeReady(node)
		})
	})
	if err := api.CoreV1().Nodes().Delete(t.Context(), "cp-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deletion noticed", func(context.Context) error {
		if k.Registered() || !strings.Contains(k.LastError(), "not found") {
			return errors.New(k.LastError())
		}
		return nil
	})
	if _, err := api.CoreV1().Nodes().Get(t.Context(), "cp-1", metav1.GetOptions{}); notFound(err) != nil || err == nil {
		t.Errorf("a running kubelet registered anew: %v", err)
	}
	k.Stop()
	k = w.runner.StartKubelet(spec)
	eventually(t, "registered anew", func(ctx context.Context) error { return node(ctx, api, "cp-1", nodeReady) })
	return k
}

// The control plane's pods show as mirrors, which nobody can delete for good and
// which no drain may touch.
func staticPods(t *testing.T, api *client.Client) {
	pods := api.CoreV1().Pods("kube-system")
	running := func(uid types.UID) func(context.Context) error {
		return func(ctx context.Context) error {
			pod, err := pods.Get(ctx, "kube-apiserver-cp-1", metav1.GetOptions{})
			switch {
			case err != nil:
				return err
			case pod.UID == uid:
				return errors.New("still the old one")
			case pod.Status.Phase != corev1.PodRunning || pod.Annotations[corev1.MirrorPodAnnotationKey] == "" ||
				pod.Spec.Containers[0].Image != "registry.k8s.io/kube-apiserver:v1.36.3":
				return fmt.Errorf("%+v", pod)
			}
			return nil
		}
	}
	eventually(t, "static pod shown", running(""))
	pod, err := pods.Get(t.Context(), "kube-apiserver-cp-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "static pod shown again", running(pod.UID))
}

// The logs tell why nodes stay as they are, and no secret.
func logs(t *testing.T, w *world) {
	files, err := filepath.Glob(filepath.Join(w.dataDir, "*", "logs", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = string(data)
	}
	for _, name := range []string{"kine.log", "kube-apiserver-cp-1.log", "kube-controller-manager.log", "kube-scheduler.log"} {
		if _, ok := all[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
	if log := all["cloudscale-cloud-controller-manager.log"]; !strings.Contains(log, "found more than one server named") {
		t.Errorf("the cloud controller does not say why it waited:\n%s", log)
	}
	_, secret, _ := strings.Cut(w.token(), ".")
	for name, text := range all {
		for _, canary := range []string{cloudToken, secret, "PRIVATE KEY"} {
			if strings.Contains(text, canary) {
				t.Errorf("%s shows a secret", name)
			}
		}
	}
}
