package main

import (
	"context"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

// machineAdapter speaks the machine API: it dials, asks and closes each time,
// because a connection must not outlive a reboot.
type machineAdapter struct{}

func (machineAdapter) Probe(ctx context.Context, bundle secrets.Value, address string) (activities.NodeProbe, error) {
	s, err := talos.ProbeNode(ctx, talos.DialOptions{Bundle: bundle, Address: address})
	if err != nil {
		return activities.NodeProbe{}, err
	}
	out := activities.NodeProbe{Maintenance: s.Maintenance, Version: s.Version, Stage: s.Stage, Ready: s.Ready}
	for _, u := range s.Unmet {
		out.Unmet = append(out.Unmet, u.Name+": "+u.Reason)
	}
	return out, nil
}

func (machineAdapter) ApplyMaintenance(ctx context.Context, address string, config secrets.Value) error {
	return talos.ApplyMaintenance(ctx, address, config)
}

func (machineAdapter) Bootstrap(ctx context.Context, bundle secrets.Value, address string) error {
	return onNode(ctx, bundle, address, func(n *talos.Node) error {
		_, err := n.Bootstrap(ctx)
		return err
	})
}

// onNode dials, works and closes.
func onNode(ctx context.Context, bundle secrets.Value, address string, work func(*talos.Node) error) error {
	n, err := talos.Dial(ctx, talos.DialOptions{Bundle: bundle, Address: address})
	if err != nil {
		return err
	}
	err = work(n)
	if cerr := n.Close(); err == nil {
		err = cerr
	}
	return err
}

func (machineAdapter) Etcd(ctx context.Context, bundle secrets.Value, address string) (activities.EtcdView, error) {
	s, err := talos.ProbeEtcd(ctx, talos.DialOptions{Bundle: bundle, Address: address})
	if err != nil {
		return activities.EtcdView{}, err
	}
	return activities.EtcdView{
		Running: s.Running, Voters: s.Voters(), Learners: s.Learners(),
		Alarms: append(s.Alarms, s.Local.Errors...), Leader: s.Leader(),
	}, nil
}
