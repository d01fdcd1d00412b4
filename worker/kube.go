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

type kubeAPI struct{ *kube.Client }

func (k kubeAPI) Nodes(ctx context.Context) ([]activities.KubeNode, error) {
	list, err := k.Client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]activities.KubeNode, 0, len(list))
	for _, n := range list {
		out = append(out, activities.KubeNode{
			Name: n.Name, Ready: n.Ready, Reason: n.Reason, ProviderID: n.ProviderID,
			Uninitialized: n.Uninitialized, Version: n.KubeletVersion,
		})
	}
	return out, nil
}
