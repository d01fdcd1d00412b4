package main

import (
	"context"
	"crypto/sha256"
	"sync"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/cloudscale"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/telemetry"
)

// clouds opens accounts by the names that specs use, to list machines only. To
// add a cloud is to add a line to dial.
type clouds struct {
	c       config
	secrets secrets.Resolver
	seen    *telemetry.Telemetry

	mu   sync.Mutex
	open map[[sha256.Size]byte]cloud.Provider // by provider and token digest
}

// list implements snapshot.CloudList.
func (c *clouds) list(ctx context.Context, account cluster.Cloud, clusters []cluster.Ref) ([]cloud.Machine, error) {
	p, err := c.account(ctx, account)
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

// account resolves the token anew each time, so a renewed one is used without a
// restart.
func (c *clouds) account(ctx context.Context, spec cluster.Cloud) (cloud.Provider, error) {
	token, err := c.secrets.Resolve(ctx, secrets.Ref(spec.Credentials))
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256([]byte(spec.Provider + "\x00" + token.RevealString()))
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.open[key]; ok {
		return p, nil
	}
	p, err := c.dial(spec.Provider, token)
	if err != nil {
		return nil, err
	}
	if c.open == nil {
		c.open = map[[sha256.Size]byte]cloud.Provider{}
	}
	c.open[key] = p
	return p, nil
}

func (c *clouds) dial(name string, token secrets.Value) (cloud.Provider, error) {
	switch name {
	case cloudscale.Name:
		return cloudscale.New(cloudscale.Options{
			Token: token, BaseURL: c.c.CloudscaleURL, Rate: c.c.RequestRate, Logger: c.seen.Logger(), Observe: c.seen.CloudCalls(name),
		})
	}
	return nil, fault.New(fault.Invalid, "open cloud account", "%q is not a cloud that this provider knows", name)
}
