package activities

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Kube acts in clusters through their Kubernetes API.
type Kube struct {
	Store   Store
	Kube    Kubernetes
	Secrets secrets.Resolver
	Timing  Timing

	mu   sync.Mutex
	apis map[string]kubeClient // by cluster uid and endpoint
}

// KubeClientLife is how long a client is used before its credentials are minted
// anew; they must be valid for longer.
const KubeClientLife = 2 * time.Hour

type kubeClient struct {
	api    KubeAPI
	opened time.Time
}

// api returns a client for the cluster; clients are kept, since minting
// credentials and discovery cost more than the calls.
func (k *Kube) api(ctx context.Context, ref cluster.Ref) (KubeAPI, cluster.Record, error) {
	rec, bundle, err := open(ctx, k.Store, ref)
	if err != nil {
		return nil, rec, err
	}
	if rec.Endpoint == "" {
		return nil, rec, fault.New(fault.NotYet, "open Kubernetes API", "the cluster has no endpoint yet")
	}
	key := ref.UID + " " + rec.Endpoint
	k.mu.Lock()
	defer k.mu.Unlock()
	if c, ok := k.apis[key]; ok && time.Since(c.opened) < KubeClientLife {
		return c.api, rec, nil
	}
	api, err := k.Kube.Open(ctx, rec, bundle)
	if err != nil {
		return nil, rec, err
	}
	if k.apis == nil {
		k.apis = map[string]kubeClient{}
	}
	k.apis[key] = kubeClient{api: api, opened: time.Now()}
	return api, rec, nil
}

// WaitAPIInput names a cluster.
type WaitAPIInput struct {
	Ref cluster.Ref `json:"ref"`
}

// WaitKubernetesAPI returns when the API answers through the endpoint.
func (k *Kube) WaitKubernetesAPI(ctx context.Context, in WaitAPIInput) error {
	api, rec, err := k.api(ctx, in.Ref)
	if err != nil {
		return err
	}
	return poll(ctx, "wait for the Kubernetes API", k.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		ctx, cancel := within(ctx, nodeTimeout)
		defer cancel()
		err := api.Ready(ctx)
		return err == nil, "asking " + rec.Endpoint, err
	})
}

// ApplyAddonsInput names a cluster whose API answers.
type ApplyAddonsInput struct {
	Ref cluster.Ref `json:"ref"`
}

// ApplyAddonsResult counts what was applied.
type ApplyAddonsResult struct {
	Secrets   int `json:"secrets"`
	Manifests int `json:"manifests"`
}

// ApplyAddons creates the spec's Kubernetes Secrets and applies its manifests by
// server-side apply, in order. Safe to repeat.
func (k *Kube) ApplyAddons(ctx context.Context, in ApplyAddonsInput) (ApplyAddonsResult, error) {
	var out ApplyAddonsResult
	api, rec, err := k.api(ctx, in.Ref)
	if err != nil {
		return out, err
	}
	defer alive(ctx, "applying secrets and manifests")()
	for i, s := range rec.Spec.Secrets {
		value, err := k.Secrets.Resolve(ctx, refOf(s))
		if err != nil {
			return out, fault.New(fault.KindOf(err), "resolve secret", "spec.secrets[%d].from: %v", i, err)
		}
		if err := api.EnsureSecret(ctx, s.Namespace, s.Name, s.Key, value); err != nil {
			return out, err
		}
		out.Secrets++
	}
	for _, m := range rec.Spec.Manifests {
		body, err := k.Store.Body(ctx, m.Ref, m.SHA256)
		if err != nil {
			return out, err
		}
		if err := api.Apply(ctx, m.Name, body.Reveal()); err != nil {
			return out, err
		}
		out.Manifests++
	}
	return out, nil
}

// DeleteNodeInput names a Node object whose machine is gone.
type DeleteNodeInput struct {
	// Ref names a cluster with a record; Kube, when set, decides instead.
	Ref  cluster.Ref `json:"ref"`
	Kube KubeTarget  `json:"kube,omitzero"`
	Name string      `json:"name"`
}

// DeleteNode removes a Node object. Absent is success.
func (k *Kube) DeleteNode(ctx context.Context, in DeleteNodeInput) error {
	defer alive(ctx, "deleting the Node object")()
	target := in.Kube
	if target == (KubeTarget{}) {
		target.Ref = in.Ref
	}
	return k.node(ctx, target, func(ctx context.Context, api KubeAPI) error { return api.DeleteNode(ctx, in.Name) })
}

// lookAtNodes updates what Kubernetes says of members that run, and returns the
// least of what ready ones have. An API that does not answer yet is no error
// here: it is why the nodes are not ready. With names, nodes without a provider ID
// are told theirs.
func (k *Kube) lookAtNodes(ctx context.Context, target KubeTarget, names bool, facts []MemberFact) (seen bool, least *Observed, err error) {
	waiting := func(f MemberFact) bool { return f.State == cloud.MachineRunning && !f.NodeReady }
	if target.None {
		for i := range facts {
			if waiting(facts[i]) {
				facts[i].Joined, facts[i].NodeReady, facts[i].Detail = true, true, ""
			}
		}
		return true, nil, nil
	}
	if !slices.ContainsFunc(facts, waiting) {
		return true, nil, nil
	}
	api, err := k.open(ctx, target)
	if err != nil {
		return false, nil, err
	}
	nodes, err := k.list(ctx, target, api)
	if err != nil {
		for i := range facts {
			if waiting(facts[i]) {
				facts[i].Detail = apiSilent
			}
		}
		if fault.Is(err, fault.Unauthorized, fault.Invalid) {
			return false, nil, err
		}
		return false, nil, nil
	}
	for i := range facts {
		if waiting(facts[i]) {
			facts[i].Detail = "no Node object yet"
		}
		at := slices.IndexFunc(nodes, func(n KubeNode) bool { return n.Name == facts[i].Name })
		if at < 0 || facts[i].State != cloud.MachineRunning {
			continue
		}
		facts[i].Joined = true
		facts[i].NodeReady, facts[i].Detail = judgeNode(nodes[at], facts[i].ProviderID)
		if names && nodes[at].ProviderID == "" && facts[i].ProviderID != "" {
			// The next look tries again.
			if err := api.NameMachine(ctx, nodes[at].Name, facts[i].ProviderID); err != nil {
				facts[i].Detail = fmt.Sprintf("its provider ID cannot be set: %v", err)
			}
		}
		if facts[i].NodeReady {
			least = least.least(nodes[at])
		}
	}
	return true, least, nil
}

// apiSilent is the detail of members whose nodes could not be looked at.
const apiSilent = "the Kubernetes API does not answer yet"

// list lists the nodes of a target.
func (k *Kube) list(ctx context.Context, target KubeTarget, api KubeAPI) ([]KubeNode, error) {
	ctx, cancel := within(ctx, nodeTimeout)
	defer cancel()
	nodes, err := api.Nodes(ctx)
	k.dropped(target, err)
	return nodes, err
}

// judgeNode says whether a node has fully joined, and what is missing if not.
func judgeNode(n KubeNode, providerID string) (bool, string) {
	switch {
	case n.ProviderID != "" && n.ProviderID != providerID:
		return false, fmt.Sprintf("the node has provider ID %s, the machine %s", n.ProviderID, providerID)
	case !n.Ready:
		return false, "not Ready: " + n.Reason
	case n.Uninitialized:
		return false, "not initialised by the cloud controller manager"
	case n.ProviderID == "":
		return false, "has no provider ID"
	}
	return true, ""
}
