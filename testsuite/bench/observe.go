package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
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
	on    manner
	stack *stack.Stack
	shape shape
	ichor string

	mu         sync.Mutex
	machineAPI map[string]time.Time
	etcd       time.Time
	// local is when the API of a control plane answered at the node itself,
	// kubernetes when it did through the endpoint.
	local, kubernetes time.Time
	nodes             map[string]*arrival
}

// arrival is when a node was first seen, seen Ready, and seen initialised by the
// cloud's controller and Ready.
type arrival struct{ seen, ready, initialised time.Time }

func newObserver(on manner, s *stack.Stack, sh shape, ichor string) *observer {
	return &observer{on: on, stack: s, shape: sh, ichor: ichor, machineAPI: map[string]time.Time{}, nodes: map[string]*arrival{}}
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
		o := observed{on: w.on}
		var err error
		if o.names, err = machineNames(ctx, w.stack); err != nil {
			return false, err
		}
		if err := w.stack.Cloud(ctx, "GET", "/_devcloud/timeline", nil, &o.timeline); err != nil {
			return false, err
		}
		control = nil
		for _, s := range o.servers() {
			if isControlPlane(s.name) {
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
			lines, err := w.stack.Console(ctx, stack.Resource{Cloud: w.on.provider, ID: s.uuid})
			if err != nil {
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
	local := make(chan error, 1)
	if w.on.beside {
		go func() { local <- w.watchNodeAPIs(ctx, config) }()
	} else {
		close(local)
	}
	err = w.answers(ctx, &w.kubernetes, config)
	if err := errors.Join(err, <-local); err != nil {
		return err
	}
	config.Timeout = 0 // a watch lasts
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return every(ctx, "follow nodes", func() (bool, error) { return w.follow(ctx, api), nil })
}

// answers notes when an API server first does, at any of some places.
func (w *observer) answers(ctx context.Context, at *time.Time, places ...*rest.Config) error {
	var probes []kubernetes.Interface
	for _, config := range places {
		probe, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		probes = append(probes, probe)
	}
	return every(ctx, "wait for the Kubernetes API", func() (bool, error) {
		for _, probe := range probes {
			if probe.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				*at = time.Now()
				return true, nil
			}
		}
		return false, nil
	})
}

// watchNodeAPIs asks the control planes themselves, as the load balancer will.
func (w *observer) watchNodeAPIs(ctx context.Context, config *rest.Config) error {
	endpoint, err := url.Parse(config.Host)
	if err != nil {
		return err
	}
	var places []*rest.Config
	err = every(ctx, "wait for control planes to be created", func() (bool, error) {
		a, err := w.stack.Account(ctx)
		places = nil
		for _, m := range a.Machines() {
			if m.Address == "" || !isControlPlane(m.Name) {
				continue
			}
			at := rest.CopyConfig(config)
			at.Host = "https://" + net.JoinHostPort(m.Address, endpoint.Port())
			at.ServerName = endpoint.Hostname()
			places = append(places, at)
		}
		return len(places) == w.shape.controlPlanes, err
	})
	if err != nil {
		return err
	}
	return w.answers(ctx, &w.local, places...)
}

// isControlPlane tells by the name that the product gives.
func isControlPlane(machine string) bool { return strings.Contains(machine, "-"+controlPlaneGroup+"-") }

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
		if !ok || e.Type == watch.Deleted {
			continue
		}
		if w.sees(node, time.Now()) {
			return true
		}
	}
	return false
}

// sees notes how far a node is, and reports whether all are there.
func (w *observer) sees(n *corev1.Node, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.nodes[n.Name]
	if a == nil {
		a = &arrival{seen: now}
		w.nodes[n.Name] = a
	}
	if a.ready.IsZero() && isReady(n) {
		a.ready = now
	}
	if a.initialised.IsZero() && initialised(n) {
		a.initialised = now
	}
	done := 0
	for _, a := range w.nodes {
		if !a.initialised.IsZero() {
			done++
		}
	}
	return done == w.shape.nodes()
}

// initialised is what the product waits for too: Ready, provider ID, no taint of
// a node that the cloud has not been asked about.
func initialised(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if t.Key == "node.cloudprovider.kubernetes.io/uninitialized" {
			return false
		}
	}
	return isReady(n) && n.Spec.ProviderID != ""
}

func isReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// kubeconfig asks the product for credentials once its record has them.
func (w *observer) kubeconfig(ctx context.Context) (*rest.Config, error) {
	var out []byte
	err := every(ctx, "get a kubeconfig", func() (bool, error) {
		var err error
		out, err = ichor(ctx, w.stack, w.ichor, "kubeconfig", clusterName)
		return err == nil, nil
	})
	if err != nil {
		return nil, err
	}
	return clientcmd.RESTConfigFromKubeConfig(out)
}
