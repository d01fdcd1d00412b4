package main

import (
	"cmp"
	"context"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/talos"
)

// factoryAdapter resolves the Talos part of a spec at an Image Factory.
type factoryAdapter struct{ factory talos.Factory }

func (f factoryAdapter) Freeze(ctx context.Context, spec cluster.Spec, os cluster.Talos, arch string, caps cloud.Capabilities) (cluster.Frozen, error) {
	out, err := f.factory.Freeze(ctx, os, spec.Kubernetes.Version, talos.Target{
		Platform: caps.TalosPlatform, Arch: cmp.Or(arch, cluster.DefaultArch), Format: caps.ImageFormat,
	})
	out.Arch = arch
	return out, err
}

func (f factoryAdapter) CheckInstaller(ctx context.Context, image string) error {
	return f.factory.CheckInstaller(ctx, image)
}

// Rules makes the rules about versions: those of this release of Ichor, over the
// releases that the factory builds now.
func (f factoryAdapter) Rules(ctx context.Context) (plan.VersionRules, error) {
	releases, err := f.factory.Releases(ctx)
	if err != nil {
		return plan.VersionRules{}, err
	}
	return talos.VersionRules(releases), nil
}
