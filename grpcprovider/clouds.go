package main

import (
	"context"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/registry"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/telemetry"
)

// clouds lists the machines of accounts, and does nothing else there.
type clouds struct{ accounts *registry.Registry }

func newClouds(c config, resolver secrets.Resolver, seen *telemetry.Telemetry) clouds {
	return clouds{registry.New(registry.Options{
		Secrets: resolver, Rate: c.RequestRate, CloudscaleURL: c.CloudscaleURL, Logger: seen.Logger(), Observe: seen.CloudCalls,
	})}
}

// list implements snapshot.CloudList.
func (c clouds) list(ctx context.Context, account cluster.Cloud, clusters []cluster.Ref) ([]cloud.Machine, error) {
	p, _, err := c.accounts.Open(ctx, account)
	if err != nil {
		return nil, err
	}
	var all []cloud.Machine
	for _, ref := range clusters {
		machines, err := p.ListMachines(ctx, cloud.Owner{Cluster: ref})
		if err != nil {
			return nil, err
		}
		all = append(all, machines...)
	}
	return all, nil
}
