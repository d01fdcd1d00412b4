package main

import (
	"context"
	"io"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

var _ activities.NodeControl = machineAdapter{}

func (machineAdapter) Facts(ctx context.Context, bundle secrets.Value, address string) (activities.NodeFacts, error) {
	f, err := talos.ProbeFacts(ctx, talos.DialOptions{Bundle: bundle, Address: address})
	if err != nil {
		return activities.NodeFacts{}, err
	}
	out := activities.NodeFacts{
		Version: f.Version, Schematic: f.Schematic, Extensions: f.Extensions, BootID: f.BootID,
		Stage: f.Stage, Ready: f.Ready, FreeBytes: f.FreeBytes, ConfigSHA256: f.ConfigSHA256,
		Kubelet: f.Kubelet, APIServer: f.APIServer, ControllerManager: f.ControllerManager, Scheduler: f.Scheduler,
	}
	for _, u := range f.Unmet {
		out.Unmet = append(out.Unmet, u.Name+": "+u.Reason)
	}
	return out, nil
}

func (machineAdapter) Pull(ctx context.Context, bundle secrets.Value, address, image string, space activities.ImageSpace, progress func(string)) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error {
		return n.Pull(ctx, image, talos.ImageSpace(space), progress)
	})
}

func (machineAdapter) Install(ctx context.Context, bundle secrets.Value, address, image string, progress func(string)) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.Install(ctx, image, progress) })
}

func (machineAdapter) UpgradeWhole(ctx context.Context, bundle secrets.Value, address, image string) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.UpgradeWhole(ctx, image) })
}

func (machineAdapter) Reboot(ctx context.Context, bundle secrets.Value, address string, mode activities.RebootMode) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.Reboot(ctx, talos.RebootMode(mode)) })
}

func (machineAdapter) Rollback(ctx context.Context, bundle secrets.Value, address string) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.Rollback(ctx) })
}

func (machineAdapter) Apply(ctx context.Context, bundle secrets.Value, address string, config secrets.Value, staged bool) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.Apply(ctx, config, staged) })
}

func (machineAdapter) BootstrapManifests(ctx context.Context, bundle secrets.Value, address string) (out secrets.Value, err error) {
	err = onNode(ctx, bundle, address, func(n *talos.Node) error {
		out, err = n.BootstrapManifests(ctx)
		return err
	})
	return out, err
}

func (machineAdapter) EtcdHealth(ctx context.Context, bundle secrets.Value, address string) (activities.EtcdHealth, error) {
	h, err := talos.ProbeEtcdHealth(ctx, talos.DialOptions{Bundle: bundle, Address: address})
	if err != nil {
		return activities.EtcdHealth{}, err
	}
	out := activities.EtcdHealth{
		Running: h.Running, MemberID: h.Local.MemberID, Leader: h.Local.Leader, Learner: h.Local.Learner,
		Errors: h.Local.Errors, Alarms: h.Alarms,
	}
	for _, m := range h.Members {
		out.Members = append(out.Members, activities.EtcdMemberView{ID: m.ID, Name: m.Hostname, Learner: m.Learner})
	}
	return out, nil
}

func (machineAdapter) Forfeit(ctx context.Context, bundle secrets.Value, address string) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.EtcdForfeit(ctx) })
}

func (machineAdapter) RemoveMember(ctx context.Context, bundle secrets.Value, address string, id uint64) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error {
		if err := n.EtcdRemove(ctx, id); !fault.Is(err, fault.NotFound) {
			return err
		}
		return nil
	})
}

func (machineAdapter) Leave(ctx context.Context, bundle secrets.Value, address string) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.EtcdLeave(ctx) })
}

func (machineAdapter) Snapshot(ctx context.Context, bundle secrets.Value, address string, to io.Writer) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.EtcdSnapshot(ctx, to) })
}

func (machineAdapter) Recover(ctx context.Context, bundle secrets.Value, address string, from io.Reader) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error { return n.EtcdRecover(ctx, from) })
}
