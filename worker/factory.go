package main

import (
	"context"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/talos"
)

// factoryAdapter resolves the Talos part of a spec at an Image Factory.
type factoryAdapter struct{ factory talos.Factory }

func (f factoryAdapter) Freeze(ctx context.Context, spec cluster.Spec, caps cloud.Capabilities) (cluster.Frozen, error) {
	return f.factory.Freeze(ctx, spec.Talos, spec.Kubernetes.Version, talos.Target{
		Platform: caps.TalosPlatform, Arch: "amd64", Format: caps.ImageFormat,
	})
}
