package activities

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// InCluster is the kubeconfig of the cluster that the worker runs in.
const InCluster = "in-cluster"

// kubeconfigLife is how long a client of a given kubeconfig is used before the
// reference is read again: its credentials may be renewed at any time.
const kubeconfigLife = 5 * time.Minute

// open returns a client for a target that is not None.
func (k *Kube) open(ctx context.Context, t KubeTarget) (KubeAPI, error) {
	if t.Kubeconfig == "" {
		api, _, err := k.api(ctx, t.Ref)
		return api, err
	}
	key := "kubeconfig " + t.Kubeconfig
	k.mu.Lock()
	c, ok := k.apis[key]
	k.mu.Unlock()
	if ok && time.Since(c.opened) < kubeconfigLife {
		return c.api, nil
	}
	var kubeconfig secrets.Value
	if t.Kubeconfig != InCluster {
		var err error
		if kubeconfig, err = k.Secrets.Resolve(ctx, secrets.Ref(t.Kubeconfig)); err != nil {
			return nil, fault.New(fault.KindOf(err), "read kubeconfig", "%v", err)
		}
		if kubeconfig.Empty() {
			return nil, fault.New(fault.Invalid, "read kubeconfig", "the reference names an empty document")
		}
	}
	api, err := k.Kube.OpenKubeconfig(ctx, kubeconfig)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.apis == nil {
		k.apis = map[string]kubeClient{}
	}
	k.apis[key] = kubeClient{api: api, opened: time.Now()}
	return api, nil
}

// dropped forgets a client whose credentials are refused, so that the next call
// reads the kubeconfig anew.
func (k *Kube) dropped(t KubeTarget, err error) {
	if t.Kubeconfig == "" || !fault.Is(err, fault.Unauthorized) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.apis, "kubeconfig "+t.Kubeconfig)
}

// node does one thing to one node. An absent node, and a cluster that nobody
// can reach, need nothing.
func (k *Kube) node(ctx context.Context, t KubeTarget, do func(context.Context, KubeAPI) error) error {
	if t.None {
		return nil
	}
	api, err := k.open(ctx, t)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, nodeTimeout)
	defer cancel()
	err = do(ctx, api)
	k.dropped(t, err)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// CordonNode keeps new pods off a node, with a taint of Ichor's own beside the
// usual mark: an autoscaler that restarts removes that mark from all nodes. An
// absent node is success. Safe to repeat.
func (k *Kube) CordonNode(ctx context.Context, in CordonNodeInput) error {
	defer alive(ctx, "cordoning the node")()
	return k.node(ctx, in.Kube, func(ctx context.Context, api KubeAPI) error { return api.CordonNode(ctx, in.Name) })
}

// DrainNode evicts the pods of a node until none is left but those of DaemonSets
// and static ones, and honours disruption budgets. When its time is over it ends
// with NotYet, naming the pods that are left and what holds them. An absent node
// is success. Safe to repeat; the node should be cordoned before.
func (k *Kube) DrainNode(ctx context.Context, in DrainNodeInput) error {
	if in.Kube.None {
		return nil
	}
	return poll(ctx, "drain node "+in.Name, k.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		api, err := k.open(ctx, in.Kube)
		if err != nil {
			return false, "", err
		}
		ctx, cancel := within(ctx, drainTimeout)
		defer cancel()
		left, err := api.EvictPods(ctx, in.Name)
		k.dropped(in.Kube, err)
		if fault.Is(err, fault.NotFound) {
			return true, "the node is gone", nil
		}
		return err == nil && len(left) == 0, leftText(left), err
	})
}

// drainTimeout bounds one round of evictions: a full node has 110 pods, and an
// eviction may pass a webhook. It is shorter than any sensible heartbeat.
const drainTimeout = 15 * time.Second

// podsNamed bounds how many pods a message names.
const podsNamed = 5

func leftText(left []PodLeft) string {
	if len(left) == 0 {
		return ""
	}
	names := make([]string, 0, podsNamed)
	for _, p := range left[:min(len(left), podsNamed)] {
		names = append(names, fmt.Sprintf("%s/%s: %s", p.Namespace, p.Name, p.Why))
	}
	more := ""
	if n := len(left) - len(names); n > 0 {
		more = fmt.Sprintf("; and %d more", n)
	}
	return fmt.Sprintf("%d pods are left: %s%s", len(left), strings.Join(names, "; "), more)
}
