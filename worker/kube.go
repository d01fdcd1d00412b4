package main

import (
	"context"
	"time"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/kube"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

// kubeAdapter opens clusters with credentials minted for the purpose.
type kubeAdapter struct{}

func (kubeAdapter) Open(_ context.Context, rec cluster.Record, bundle secrets.Value) (activities.KubeAPI, error) {
	access := talos.Access{Bundle: bundle, Cluster: rec.Ref.Name, TTL: 2 * activities.KubeClientLife, Now: time.Now()}
	kubeconfig, err := talos.Kubeconfig(access, rec.Endpoint)
	if err != nil {
		return nil, err
	}
	c, err := kube.New(kubeconfig, kube.Options{})
	if err != nil {
		return nil, err
	}
	return kubeAPI{c}, nil
}

// OpenKubeconfig opens a cluster that was built by other means.
func (kubeAdapter) OpenKubeconfig(_ context.Context, kubeconfig secrets.Value) (activities.KubeAPI, error) {
	if kubeconfig.Empty() {
		c, err := kube.NewInCluster(kube.Options{})
		if err != nil {
			return nil, err
		}
		return kubeAPI{c}, nil
	}
	c, err := kube.New(kubeconfig, kube.Options{})
	if err != nil {
		return nil, err
	}
	return kubeAPI{c}, nil
}

// kubeAPI is a cluster as activities see it.
type kubeAPI struct{ *kube.Client }

var (
	_ activities.KubeAPI      = kubeAPI{}
	_ activities.KubeUpgrades = kubeAPI{}
)

func (k kubeAPI) Nodes(ctx context.Context) ([]activities.KubeNode, error) {
	list, err := k.Client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]activities.KubeNode, 0, len(list))
	for _, n := range list {
		out = append(out, kubeNode(n))
	}
	return out, nil
}

func (k kubeAPI) GetNode(ctx context.Context, name string) (activities.KubeNode, error) {
	n, err := k.Node(ctx, name)
	if err != nil {
		return activities.KubeNode{}, err
	}
	return kubeNode(n), nil
}

func kubeNode(n kube.Node) activities.KubeNode {
	return activities.KubeNode{
		Name: n.Name, Ready: n.Ready, Reason: n.Reason, ProviderID: n.ProviderID,
		Uninitialized: n.Uninitialized, Version: n.KubeletVersion, Cordoned: n.Unschedulable,
		Capacity: n.Capacity, Allocatable: n.Allocatable,
	}
}

func (k kubeAPI) NameMachine(ctx context.Context, node, providerID string) error {
	return k.SetProviderID(ctx, node, providerID)
}

func (k kubeAPI) CordonNode(ctx context.Context, name string) error {
	return k.Retire(ctx, name)
}

func (k kubeAPI) EvictPods(ctx context.Context, node string) ([]activities.PodLeft, error) {
	left, err := k.Evict(ctx, node)
	if err != nil {
		return nil, err
	}
	return podsLeft(left), nil
}

func (k kubeAPI) DrainRound(ctx context.Context, node string, opts activities.DrainOptions) ([]activities.PodLeft, error) {
	left, err := k.Drain(ctx, node, kube.DrainOptions{
		Force: opts.Force, DeleteEmptyDir: opts.DeleteEmptyDir, GraceSeconds: opts.GraceSeconds,
	})
	if err != nil {
		return nil, err
	}
	return podsLeft(left), nil
}

func podsLeft(left []kube.PodLeft) []activities.PodLeft {
	out := make([]activities.PodLeft, 0, len(left))
	for _, p := range left {
		out = append(out, activities.PodLeft{Namespace: p.Namespace, Name: p.Name, Why: p.Why})
	}
	return out
}

func (k kubeAPI) StaticPod(ctx context.Context, node, component string) (activities.StaticPodView, error) {
	p, err := k.Client.StaticPod(ctx, node, component)
	if err != nil {
		return activities.StaticPodView{}, err
	}
	return activities.StaticPodView{Image: p.Image, Version: p.Version, ConfigVersion: p.ConfigVersion, Ready: p.Ready}, nil
}

func (k kubeAPI) DiffManifests(ctx context.Context, name string, manifest []byte) ([]activities.ObjectChange, error) {
	list, err := k.Client.DiffManifests(ctx, name, manifest)
	if err != nil {
		return nil, err
	}
	return objectChanges(list), nil
}

func (k kubeAPI) Bootstrap(ctx context.Context, manifest []byte, opts activities.BootstrapOptions) ([]activities.ObjectChange, error) {
	list, err := k.Client.Bootstrap(ctx, manifest, kube.BootstrapOptions{DryRun: opts.DryRun, Images: opts.Images})
	return objectChanges(list), err
}

func (k kubeAPI) RolledOut(ctx context.Context, w activities.WorkloadRef) error {
	return k.Client.RolledOut(ctx, w.Kind, w.Namespace, w.Name)
}

func objectChanges(list []kube.ObjectChange) []activities.ObjectChange {
	out := make([]activities.ObjectChange, 0, len(list))
	for _, c := range list {
		out = append(out, activities.ObjectChange{
			APIVersion: c.APIVersion, Kind: c.Kind, Namespace: c.Namespace, Name: c.Name, Change: string(c.Change), Fields: c.Fields, Kept: c.Kept,
		})
	}
	return out
}
