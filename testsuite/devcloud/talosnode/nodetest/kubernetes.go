package nodetest

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// Kubernetes records what the nodes ask for; everything is ready at once.
type Kubernetes struct {
	mu       sync.Mutex
	controls []guest.ControlPlane
	kubelets []guest.Kubelet
	restarts []guest.ControlPlane
	dropped  []string
	drained  []string
	objects  []byte
	restored map[string][]byte
	backend  netip.AddrPort
	quorum   map[string]bool
}

// StartControlPlane implements guest.Kubernetes.
func (k *Kubernetes) StartControlPlane(_ context.Context, spec guest.ControlPlane) (guest.RunningControlPlane, error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.controls = append(k.controls, spec)

	return &running{k: k, name: spec.NodeName}, nil
}

// StartKubelet implements guest.Kubernetes.
func (k *Kubernetes) StartKubelet(spec guest.Kubelet) guest.RunningKubelet {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.kubelets = append(k.kubelets, spec)

	return &running{k: k, name: spec.NodeName}
}

// Snapshot implements guest.Kubernetes: the objects are what SetObjects said.
func (k *Kubernetes) Snapshot(string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	return slices.Clone(k.objects), nil
}

// SetObjects makes every snapshot hold these bytes.
func (k *Kubernetes) SetObjects(objects []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.objects = objects
}

// Restore implements guest.Kubernetes.
func (k *Kubernetes) Restore(cluster string, objects []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()

	if k.restored == nil {
		k.restored = map[string][]byte{}
	}

	k.restored[cluster] = slices.Clone(objects)

	return nil
}

// Restored returns what was put into the datastore of an etcd cluster.
func (k *Kubernetes) Restored(cluster string) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()

	return k.restored[cluster]
}

// DropCluster implements guest.Kubernetes.
func (k *Kubernetes) DropCluster(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.dropped = append(k.dropped, name)
}

// Kubelet returns what a node asked for first.
func (k *Kubernetes) Kubelet(name string) (guest.Kubelet, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()

	for _, s := range k.kubelets {
		if s.NodeName == name {
			return s, true
		}
	}

	return guest.Kubelet{}, false
}

// LastKubelet returns what a node asked for last.
func (k *Kubernetes) LastKubelet(name string) guest.Kubelet {
	k.mu.Lock()
	defer k.mu.Unlock()

	for _, s := range slices.Backward(k.kubelets) {
		if s.NodeName == name {
			return s
		}
	}

	return guest.Kubelet{}
}

// StaticPods returns a node's static pods as its kubelet sees them now, by name.
func (k *Kubernetes) StaticPods(node string) map[string]guest.StaticPod {
	out := map[string]guest.StaticPod{}

	if look := k.LastKubelet(node).StaticPods; look != nil {
		for _, pod := range look() {
			out[pod.Name] = pod
		}
	}

	return out
}

// Control returns what a control plane node asked for first.
func (k *Kubernetes) Control(name string) (guest.ControlPlane, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()

	for _, s := range k.controls {
		if s.NodeName == name {
			return s, true
		}
	}

	return guest.ControlPlane{}, false
}

type running struct {
	k    *Kubernetes
	name string
}

// Restart implements guest.RunningControlPlane.
func (r *running) Restart(spec guest.ControlPlane) error {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()

	r.k.restarts = append(r.k.restarts, spec)

	return nil
}

// Drain implements guest.RunningKubelet.
func (r *running) Drain(context.Context) error {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()

	r.k.drained = append(r.k.drained, r.name)

	return nil
}

// Drained returns the nodes that drained themselves, in order.
func (k *Kubernetes) Drained() []string {
	k.mu.Lock()
	defer k.mu.Unlock()

	return slices.Clone(k.drained)
}

// Restarts returns the specs that API servers were restarted with, in order.
func (k *Kubernetes) Restarts() []guest.ControlPlane {
	k.mu.Lock()
	defer k.mu.Unlock()

	return slices.Clone(k.restarts)
}

func (r *running) Backend() netip.AddrPort { return r.k.backend }
func (r *running) Ready() bool             { return true }
func (r *running) Registered() bool        { return true }
func (r *running) LastError() string       { return "" }
func (r *running) Stop()                   {}

// Quorum returns what a control plane was told last.
func (k *Kubernetes) Quorum(name string) (ok, told bool) {
	k.mu.Lock()
	defer k.mu.Unlock()

	ok, told = k.quorum[name]

	return ok, told
}

// Dropped returns the datastores that were forgotten.
func (k *Kubernetes) Dropped() []string {
	k.mu.Lock()
	defer k.mu.Unlock()

	return slices.Clone(k.dropped)
}

func (r *running) SetQuorum(ok bool) {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()

	if r.k.quorum == nil {
		r.k.quorum = map[string]bool{}
	}

	r.k.quorum[r.name] = ok
}
