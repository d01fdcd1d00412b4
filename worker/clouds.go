package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/cloudscale"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/telemetry"
)

// clouds opens accounts by the names that specs use. To add a cloud is to add a
// line to open.
type clouds struct {
	c       config
	secrets secrets.Resolver
	seen    *telemetry.Telemetry

	mu   sync.Mutex
	open map[string]opened // by provider and token digest
}

type opened struct {
	provider cloud.Provider
	account  string
}

// Open implements activities.Clouds. The token is resolved anew each time, so a
// renewed one is used without a restart.
func (c *clouds) Open(ctx context.Context, spec cluster.Cloud) (cloud.Provider, string, error) {
	token, err := c.secrets.Resolve(ctx, secrets.Ref(spec.Credentials))
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Unauthorized, "open cloud account", "spec.cloud.credentials: %s", err)
	}
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256([]byte(spec.Provider + "\x00" + token.RevealString()))
	key := hex.EncodeToString(sum[:])
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.open[key]; ok {
		return o.provider, o.account, nil
	}
	p, err := c.dial(spec.Provider, token)
	if err != nil {
		return nil, "", err
	}
	if c.open == nil {
		c.open = map[string]opened{}
	}
	// The account is named by four bytes of its token's digest, so that two
	// references to one token share images and their locks.
	o := opened{provider: p, account: key[:8]}
	c.open[key] = o
	return o.provider, o.account, nil
}

func (c *clouds) dial(name string, token secrets.Value) (cloud.Provider, error) {
	switch name {
	case cloudscale.Name:
		return cloudscale.New(cloudscale.Options{
			Token: token, BaseURL: c.c.CloudscaleURL, Rate: c.c.RequestRate, Logger: c.seen.Logger(), Observe: c.seen.CloudCalls(name),
			Settings: cloudscale.Settings{
				Settle: c.c.Settle, AbsenceWindow: c.c.AbsenceWindow, CreateTimeout: c.c.CreateTimeout,
				PostWindow: c.c.PostWindow, Poll: c.c.CloudPoll,
			},
		})
	}
	return nil, fault.New(fault.Invalid, "open cloud account", "spec.cloud.provider: %q is not a cloud that this worker knows", name)
}
