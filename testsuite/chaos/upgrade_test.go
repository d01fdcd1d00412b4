package chaos

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
)

// upgradesPerSystem is how many seeds one cluster is upgraded by before the next
// one is made: each seed has extensions that no machine of it has seen.
const upgradesPerSystem = 25

// kubernetesEvery is how many seeds there are to each that changes the version of
// Kubernetes instead of the extensions of Talos.
const kubernetesEvery = 6

// kubernetesSteps are the versions that a cluster goes through; the first is the
// one it is born with.
var kubernetesSteps = []string{"v1.35.2", "v1.35.4", "v1.36.0", "v1.36.1", "v1.36.2", "v1.36.3"}

// upgradeSettings are waits after which a node that is not well parks. Kubernetes
// and this machine do not get faster with the cloud.
var upgradeSettings = map[string]string{
	"ICHOR_POLL": "150ms", "ICHOR_CLOUD_POLL": "150ms", "ICHOR_HEARTBEAT": "4s", "ICHOR_RECONCILE_INTERVAL": "3s",
	"ICHOR_JOINED_DEADLINE": "60s", "ICHOR_BOOTSTRAP_DEADLINE": "60s", "ICHOR_IMAGE_DEADLINE": "60s", "ICHOR_DRAIN_DEADLINE": "6s",
}

// One cluster is upgraded again and again, once for each seed, while its machines
// fail and the worker dies. However a roll is hit, etcd keeps its quorum, a roll
// that cannot go on says which node and why, and finishes when that is mended.
func TestChaosUpgrade(t *testing.T) {
	t.Log("all control planes of a cluster share one kube-apiserver process here")
	for batch := range slices.Chunk(seeds(t), upgradesPerSystem) {
		t.Run(fmt.Sprintf("from seed %d", batch[0]), func(t *testing.T) {
			t.Parallel()
			for left := batch; len(left) > 0; {
				begun := left[0]
				// A failure leaves a cluster in a state that says nothing about the
				// next seed, which gets a new one.
				t.Run(fmt.Sprintf("system of %d", begun), func(t *testing.T) {
					s := newUpgrading(t)
					for good := true; good && len(left) > 0; left = left[1:] {
						seed := left[0]
						good = t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
							t.Cleanup(func() {
								if t.Failed() {
									t.Logf("run this seed again with: make chaos-upgrade SEED=%d", seed)
								}
							})
							s.survive(t, seed)
						})
					}
				})
				if len(left) > 0 && left[0] == begun {
					t.Fatal("no cluster could be made")
				}
			}
		})
	}
}

// upgrading is a system whose cluster is upgraded many times.
type upgrading struct {
	*rig.Rig
	kube        kubernetes.Interface
	talosconfig string
	kubernetes  int // index of kubernetesSteps

	mu    sync.Mutex
	storm *upgradeStorm // of the seed under way
}

// web is a workload on the workers, so that a drain has something to evict.
const web = "web"

func newUpgrading(t *testing.T) *upgrading {
	t.Helper()
	s := &upgrading{}
	s.Rig = rig.Start(t, rig.Options{SharedAPIServers: true, Settings: upgradeSettings, Hook: s.hook})
	s.Spec.Spec.Kubernetes.Version = kubernetesSteps[0]
	s.Spec.Spec.Talos.Version = "v1.14.1"
	// All machines have one image, and none a published one: each is an import.
	if g := &s.Spec.Spec.NodeGroups[0]; len(g.Extensions) > 0 {
		s.Spec.Spec.Talos.Extensions, g.Extensions = g.Extensions, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.Provision(ctx); err != nil {
		t.Fatalf("provision: %v\n%s", err, s.Explain(t.Context()))
	}
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	s.talosconfig = filepath.Join(dir, "talosconfig")
	for _, args := range [][]string{
		{"kubeconfig", rig.Cluster, "--ttl", "12h", "--write", kubeconfig},
		{"talosconfig", rig.Cluster, "--ttl", "12h", "--write", s.talosconfig},
	} {
		if r, err := s.Ichor(ctx, args...); err != nil || r.Code != codeOK {
			t.Fatalf("ichor %v: %v %s", args, err, r)
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	if s.kube, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": web}
	_, err = s.kube.AppsV1().Deployments(metav1.NamespaceDefault).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: web},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: new(int64(1)),
					Containers:                    []corev1.Container{{Name: web, Image: "registry.k8s.io/pause:3.10"}},
				},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create a workload: %v", err)
	}
	return s
}

// extensionNames are those of which each seed has a choice of its own.
var extensionNames = []string{"btrfs", "drbd", "gvisor", "iscsi-tools", "qemu-guest-agent", "util-linux-tools"}

// extensions differ from those of all seeds near by.
func extensions(seed uint64) []string {
	choice, out := seed%(1<<len(extensionNames)-1)+1, []string{}
	for i, name := range extensionNames {
		if choice>>i&1 == 1 {
			out = append(out, "siderolabs/"+name)
		}
	}
	return out
}

// hook is asked at every moment of every activity.
func (s *upgrading) hook(r *rig.Rig, task killer.Task, m killer.Moment) bool {
	s.mu.Lock()
	st := s.storm
	s.mu.Unlock()
	if st == nil {
		return false
	}
	if m == killer.BeforeEffect {
		st.strike(task)
	}
	return st.kill(r, task, m)
}

// nodeOf is the node that a workflow works on; empty if it is of the roll itself.
func nodeOf(workflow string) string {
	_, name, _ := strings.Cut(workflow, "/node/")
	return name
}
