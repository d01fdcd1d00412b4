package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/testsuite/stack"
)

// look is the pause between two looks at what has no events of its own.
const look = 100 * time.Millisecond

// observer notes when machines and the cluster got how far, without the product.
type observer struct {
	stack *stack.Stack
	shape shape
	ichor string

	mu         sync.Mutex
	machineAPI map[string]time.Time
	etcd       time.Time
	kubernetes time.Time
	ready      map[string]time.Time
}

func newObserver(s *stack.Stack, sh shape, ichor string) *observer {
	return &observer{stack: s, shape: sh, ichor: ichor, machineAPI: map[string]time.Time{}, ready: map[string]time.Time{}}
}

// watch returns when every node is ready.
func (w *observer) watch(ctx context.Context) error {
	control, err := w.controlPlanes(ctx)
	if err != nil {
		return err
	}
	consoles := make(chan error, 1)
	go func() { consoles <- w.watchConsoles(ctx, control) }()
	return errors.Join(w.watchCluster(ctx), <-consoles)
}

// every calls f until it is done or fails.
func every(ctx context.Context, what string, f func() (bool, error)) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// controlPlanes waits until the control plane's servers exist.
func (w *observer) controlPlanes(ctx context.Context) ([]server, error) {
	var control []server
	err := every(ctx, "wait for control planes to be created", func() (bool, error) {
		var o observed
		if err := w.stack.Cloud(ctx, "GET", "/_devcloud/timeline", nil, &o.timeline); err != nil {
			return false, err
		}
		control = nil
		for _, s := range o.servers() {
			if strings.Contains(s.name, "-"+controlPlaneGroup+"-") {
				control = append(control, s)
			}
		}
		return len(control) == w.shape.controlPlanes, nil
	})
	return control, err
}

// What a console says, as devcloud's machines do.
const (
	saysRunning      = "[talos] running as"
	saysBootstrapped = "[etcd] bootstrapped cluster"
)

func (w *observer) watchConsoles(ctx context.Context, control []server) error {
	return every(ctx, "read consoles", func() (bool, error) {
		for _, s := range control {
			var lines []string
			if err := w.stack.Cloud(ctx, "GET", "/_devcloud/servers/"+s.uuid+"/console", nil, &lines); err != nil {
				return false, err
			}
			now := time.Now()
			w.mu.Lock()
			for _, l := range lines {
				if _, seen := w.machineAPI[s.uuid]; !seen && strings.Contains(l, saysRunning) {
					w.machineAPI[s.uuid] = now
				}
				if w.etcd.IsZero() && strings.Contains(l, saysBootstrapped) {
					w.etcd = now
				}
			}
			w.mu.Unlock()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.machineAPI) == len(control) && !w.etcd.IsZero(), nil
	})
}

// watchCluster asks the API until it answers and follows its nodes.
func (w *observer) watchCluster(ctx context.Context) error {
	config, err := w.kubeconfig(ctx)
	if err != nil {
		return err
	}
	config.Timeout = 2 * time.Second
	probe, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	err = every(ctx, "wait for the Kubernetes API", func() (bool, error) {
		answer := probe.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx)
		return answer.Error() == nil, nil
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.kubernetes = time.Now()
	w.mu.Unlock()
	config.Timeout = 0 // a watch lasts
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return every(ctx, "follow nodes", func() (bool, error) { return w.follow(ctx, api), nil })
}

// follow watches nodes until all are ready or the watch ends.
func (w *observer) follow(ctx context.Context, api kubernetes.Interface) bool {
	// A watch from the beginning begins with what exists.
	events, err := api.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return false // asked again
	}
	defer events.Stop()
	for e := range events.ResultChan() {
		node, ok := e.Object.(*corev1.Node)
		if !ok || e.Type == watch.Deleted || !initialised(node) {
			continue
		}
		w.mu.Lock()
		if _, seen := w.ready[node.Name]; !seen {
			w.ready[node.Name] = time.Now()
		}
		all := len(w.ready) == w.shape.nodes()
		w.mu.Unlock()
		if all {
			return true
		}
	}
	return false
}

// initialised is what the product waits for too: Ready, provider ID, no taint of
// a node that the cloud has not been asked about.
func initialised(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if t.Key == "node.cloudprovider.kubernetes.io/uninitialized" {
			return false
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue && n.Spec.ProviderID != ""
		}
	}
	return false
}

// kubeconfig asks the product for credentials once its record has them.
func (w *observer) kubeconfig(ctx context.Context) (*rest.Config, error) {
	var out []byte
	err := every(ctx, "get a kubeconfig", func() (bool, error) {
		cmd := exec.CommandContext(ctx, w.ichor, "kubeconfig", clusterName)
		cmd.Env = w.stack.Env()
		var err error
		out, err = cmd.Output()
		return err == nil, nil
	})
	if err != nil {
		return nil, err
	}
	return clientcmd.RESTConfigFromKubeConfig(out)
}

// writeSpec writes the cluster to provision and returns its path.
func writeSpec(dir, root string, sh shape) (string, error) {
	name := filepath.Join(dir, "cluster.yaml")
	text := fmt.Sprintf(`apiVersion: ichor.dev/v1alpha1
kind: Cluster
metadata:
  name: %s
spec:
  cloud:
    provider: cloudscale
    zone: lpg1
    credentials: env:CLOUDSCALE_API_TOKEN
  talos:
    version: v1.13.5
    extensions: [siderolabs/intel-ucode]
  kubernetes:
    version: v1.36.3
  network:
    cidr: 10.200.0.0/22
    adminCIDRs: [127.0.0.0/8]
  endpoint:
    loadBalancer: {}
  controlPlane:
    replicas: %d
    flavor: flex-4-2
    diskGiB: 20
  nodeGroups:
    - name: workers
      flavor: flex-8-4
      min: 0
      max: %d
      count: %d
  manifests:
    - name: cloudscale-ccm
      file: %s
  secrets:
    - namespace: kube-system
      name: cloudscale
      key: access-token
      from: env:CLOUDSCALE_API_TOKEN
  onFailure: keep
`, clusterName, sh.controlPlanes, sh.workers, sh.workers, filepath.Join(root, "examples", "manifests", "cloudscale-ccm.yaml"))
	return name, os.WriteFile(name, []byte(text), 0o600)
}
