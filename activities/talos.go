package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Talos acts on nodes through the machine API.
type Talos struct {
	Store    Store
	Configs  MachineConfigs
	Machines Machines
	Timing   Timing
}

// WaitMachineAPIInput names a control plane machine that the cloud runs.
type WaitMachineAPIInput struct {
	Ref   cluster.Ref         `json:"ref"`
	Group string              `json:"group"`
	Role  cluster.Role        `json:"role"`
	Node  cluster.NodeAddress `json:"node"`
}

// WaitMachineAPI returns when the node's machine API answers with the cluster's
// own certificate. A node that came up without its config gets it. Safe to
// repeat: equal config is applied at most while the node waits for one.
func (t *Talos) WaitMachineAPI(ctx context.Context, in WaitMachineAPIInput) (NodeProbe, error) {
	var last NodeProbe
	_, bundle, err := open(ctx, t.Store, in.Ref)
	if err != nil {
		return last, err
	}
	err = poll(ctx, "wait for machine API of "+in.Node.Name, t.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		p, err := t.Machines.Probe(ctx, bundle, in.Node.Address)
		if err != nil {
			return false, "no answer on " + in.Node.Address + ":50000", err
		}
		last = p
		if !p.Maintenance {
			return true, "stage " + p.Stage, nil
		}
		data, _, err := machineConfig(ctx, t.Store, t.Configs, configOf{cluster: in.Ref, role: in.Role, group: in.Group, name: in.Node.Name})
		if err != nil {
			return false, "waits for its config", err
		}
		return false, "config sent", t.Machines.ApplyMaintenance(ctx, in.Node.Address, data)
	})
	return last, err
}

// BootstrapEtcdInput names the one recorded node and its peers.
type BootstrapEtcdInput struct {
	Ref   cluster.Ref           `json:"ref"`
	Node  cluster.NodeAddress   `json:"node"`
	Peers []cluster.NodeAddress `json:"peers,omitempty"`
}

// BootstrapEtcd starts etcd on the recorded node. Every node judges a bootstrap
// by its own data only, so a second node would start a second cluster: the
// activity refuses (Unsafe) any node but the recorded one, and when a peer runs
// etcd already while this node does not. Already bootstrapped is success.
func (t *Talos) BootstrapEtcd(ctx context.Context, in BootstrapEtcdInput) error {
	const op = "bootstrap etcd"
	rec, bundle, err := open(ctx, t.Store, in.Ref)
	if err != nil {
		return err
	}
	if rec.BootstrapMachine != in.Node.MachineID {
		return fault.New(fault.Unsafe, op, "machine %s is not the recorded bootstrap machine %q", in.Node.MachineID, rec.BootstrapMachine)
	}
	return poll(ctx, op, t.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		own, err := t.Machines.Etcd(ctx, bundle, in.Node.Address)
		if err != nil {
			return false, "asking " + in.Node.Name, err
		}
		if own.Running {
			return true, "etcd runs", nil
		}
		for _, peer := range in.Peers {
			view, err := t.Machines.Etcd(ctx, bundle, peer.Address)
			if err != nil && !fault.Is(err, fault.Unavailable, fault.NotYet) {
				return false, "asking " + peer.Name, err
			}
			if err == nil && view.Running {
				return false, "", fault.New(fault.Unsafe, op, "%s runs etcd already but %s does not; recover by hand instead of bootstrapping again", peer.Name, in.Node.Name)
			}
		}
		err = t.Machines.Bootstrap(ctx, bundle, in.Node.Address)
		return err == nil, "bootstrap requested on " + in.Node.Name, err
	})
}

// WaitEtcdInput names the control plane nodes that must all vote.
type WaitEtcdInput struct {
	Ref   cluster.Ref           `json:"ref"`
	Nodes []cluster.NodeAddress `json:"nodes"`
}

// WaitEtcd returns when every node is a voter, all of them agree on that, there
// is a leader and no alarm.
func (t *Talos) WaitEtcd(ctx context.Context, in WaitEtcdInput) (EtcdView, error) {
	var last EtcdView
	_, bundle, err := open(ctx, t.Store, in.Ref)
	if err != nil {
		return last, err
	}
	want := make([]string, 0, len(in.Nodes))
	for _, n := range in.Nodes {
		want = append(want, n.Name)
	}
	slices.Sort(want)
	err = poll(ctx, "wait for etcd", t.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		for _, n := range in.Nodes {
			view, err := t.Machines.Etcd(ctx, bundle, n.Address)
			if err != nil {
				return false, "asking " + n.Name, err
			}
			last = view
			switch {
			case !view.Running:
				return false, "etcd does not run on " + n.Name, nil
			case !slices.Equal(view.Voters, want):
				return false, fmt.Sprintf("%s sees voters %s, learners %s", n.Name, strings.Join(view.Voters, ", "), strings.Join(view.Learners, ", ")), nil
			case view.Leader == "":
				return false, n.Name + " sees no leader", nil
			case len(view.Alarms) > 0:
				return false, "alarms: " + strings.Join(view.Alarms, ", "), nil
			}
		}
		return true, fmt.Sprintf("%d voters", len(want)), nil
	})
	return last, err
}

// within bounds one call inside an activity.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if beat := activity.GetInfo(ctx).HeartbeatTimeout; beat > 0 {
		d = min(d, beat)
	}
	return context.WithTimeout(ctx, d)
}
