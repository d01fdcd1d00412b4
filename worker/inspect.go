package main

import (
	"context"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/kube"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

// inspector looks for the pre-flight of upgrades.
type inspector struct{ factory talos.Factory }

var _ activities.Inspector = inspector{}

func (inspector) Authorities(bundle secrets.Value) ([]activities.Certificate, error) {
	list, err := talos.Authorities(bundle)
	return certificates(list), err
}

func certificates(list []talos.Certificate) []activities.Certificate {
	out := make([]activities.Certificate, 0, len(list))
	for _, c := range list {
		out = append(out, activities.Certificate(c))
	}
	return out
}

func (inspector) Node(ctx context.Context, bundle secrets.Value, address string) (activities.NodeInspection, error) {
	i, err := talos.Inspect(ctx, talos.DialOptions{Bundle: bundle, Address: address})
	return activities.NodeInspection{Certificates: certificates(i.Certificates), FreeBytes: i.FreeBytes, DiskBytes: i.DiskBytes}, err
}

func (inspector) Flags(config secrets.Value) ([]activities.ComponentFlags, error) {
	list, err := talos.ReadFlags(config)
	out := make([]activities.ComponentFlags, 0, len(list))
	for _, f := range list {
		out = append(out, activities.ComponentFlags(f))
	}
	return out, err
}

func (inspector) RemovedFlags(ctx context.Context, from, to string, flags []activities.ComponentFlags) ([]activities.RemovedFlag, error) {
	in := make([]kube.Flags, 0, len(flags))
	for _, f := range flags {
		in = append(in, kube.Flags(f))
	}
	list, err := kube.RemovedFlags(ctx, from, to, in)
	out := make([]activities.RemovedFlag, 0, len(list))
	for _, r := range list {
		out = append(out, activities.RemovedFlag(r))
	}
	return out, err
}

func (i inspector) InstallerBytes(ctx context.Context, image string) (int64, error) {
	return i.factory.InstallerBytes(ctx, image)
}
