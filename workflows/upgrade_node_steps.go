package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// look learns what the node runs now: much may have happened since the roll was
// planned.
//
// One that does not answer may have been deleted: while it is waited for, its
// group has it back, and sees to it.
func (n *nodeUpgrade) look(ctx workflow.Context) error {
	n.lends = true
	defer func() { n.lends = false }()
	return n.patient(ctx, "machine API", func(ctx workflow.Context) error {
		out, err := call(ctx, &n.desk, n.waiting("look at "+n.name(), n.timing().Joined), aUpgrades.ObserveNodes,
			activities.ObserveNodesInput{Ref: n.in.Ref, Nodes: []activities.UpgradeTarget{n.in.Target}, Leg: &n.in.Leg})
		if err != nil {
			return err
		}
		if len(out.Nodes) != 1 || out.Nodes[0].Problem != "" {
			return fail(fault.NotYet, "%s does not answer: %s", n.name(), problemOf(out.Nodes))
		}
		n.in.Seen = out.Nodes[0]
		return nil
	})
}

func problemOf(nodes []plan.UpgradeNode) string {
	if len(nodes) == 0 {
		return "nothing is known of it"
	}
	return nodes[0].Problem
}

// gate asks whether etcd keeps quorum while this node is out. A node that is no
// member needs none.
func (n *nodeUpgrade) gate(ctx workflow.Context) error { return n.etcd(ctx, n.name(), 0) }

// whole waits until every member is a healthy voter again.
func (n *nodeUpgrade) whole(ctx workflow.Context) error { return n.etcd(ctx, "", n.stable()) }

func (n *nodeUpgrade) etcd(ctx workflow.Context, leaving string, stable time.Duration) error {
	if !n.controlPlane() {
		return nil
	}
	return n.patient(ctx, "etcd", func(ctx workflow.Context) error {
		_, err := call(ctx, &n.desk, n.waiting("etcd gate", n.timing().Bootstrap), aUpgrades.WaitEtcdGate, activities.EtcdGateInput{
			Ref: n.in.Ref, Nodes: n.in.ControlPlanes, Leaving: leaving, Single: n.in.Strategy.SingleControlPlane, Stable: stable,
		})
		return err
	})
}

func (n *nodeUpgrade) stable() time.Duration {
	if s := time.Duration(n.in.Strategy.Stable); s > 0 {
		return s
	}
	return defaultStable
}

// defaultStable is for how long a node must be well before the next one is
// touched: long enough for a kubelet or an etcd member that crashes at once to
// show it.
const defaultStable = 10 * time.Second

func (n *nodeUpgrade) pull(ctx workflow.Context, image string) error {
	if before(n.in.Seen.Talos, 1, 13) {
		return nil // the old upgrade pulls by itself
	}
	return do(ctx, &n.desk, n.waiting("pull "+image, n.timing().Image), aUpgrades.PullImage,
		activities.PullImageInput{NodeWorkInput: n.work(), Image: image, Space: activities.SystemImage})
}

func (n *nodeUpgrade) install(ctx workflow.Context, image string, old bool) error {
	if old {
		return nil // installs when it reboots
	}
	opts := n.waiting("install "+image, n.timing().Image)
	// What the installer says once it says again: a person has to look.
	opts.RetryPolicy.NonRetryableErrorTypes = []string{string(fault.Internal)}
	err := do(ctx, &n.desk, opts, aUpgrades.InstallTalos,
		activities.InstallInput{NodeWorkInput: n.work(), Image: image})
	if err == nil {
		n.note = "installed; it takes effect with its next reboot"
	}
	return err
}

func (n *nodeUpgrade) forfeit(ctx workflow.Context) error {
	if !n.controlPlane() || len(n.in.ControlPlanes) < 2 {
		return nil
	}
	return do(ctx, &n.desk, n.waiting("hand over etcd leadership", n.timing().Bootstrap), aUpgrades.ForfeitLeadership,
		activities.EtcdGateInput{Ref: n.in.Ref, Nodes: n.in.ControlPlanes, Leaving: n.name(), Single: n.in.Strategy.SingleControlPlane})
}

func (n *nodeUpgrade) hold(ctx workflow.Context, cordon bool) error {
	err := do(ctx, &n.desk, n.short("hold "+n.name()), aUpgrades.HoldNode, activities.HoldNodeInput{NodeWorkInput: n.work(), Cordon: cordon})
	n.held = n.held || err == nil || ctx.Err() != nil
	return err
}

// drain cordons the node and evicts its pods. What a disruption budget holds up
// parks the node, still cordoned, until somebody decides: the reboot is never
// lost, and never sent over the head of a budget.
func (n *nodeUpgrade) drain(ctx workflow.Context) error {
	if err := n.hold(ctx, true); err != nil {
		return err
	}
	limit := time.Duration(n.in.Strategy.DrainTimeout)
	if limit <= 0 {
		limit = orDefault(n.timing().Drain, activities.DefaultTiming().Drain)
	}
	return n.patient(ctx, "drain", func(ctx workflow.Context) error {
		return do(ctx, &n.desk, n.waiting("drain "+n.name(), limit), aUpgrades.DrainForWork,
			activities.DrainForWorkInput{NodeWorkInput: n.work(), Options: n.drainOptions()})
	})
}

func (n *nodeUpgrade) drainOptions() activities.DrainOptions {
	o := activities.DrainOptions{DeleteEmptyDir: true, GraceSeconds: -1}
	for _, g := range n.in.Strategy.Groups {
		if g.Group != n.in.Target.Group {
			continue
		}
		o.Force = g.Force
		if g.DeleteEmptyDir != nil {
			o.DeleteEmptyDir = *g.DeleteEmptyDir
		}
		if g.Grace > 0 {
			o.GraceSeconds = int(time.Duration(g.Grace) / time.Second)
		}
	}
	return o
}

func (n *nodeUpgrade) reboot(ctx workflow.Context, boot string) error {
	return do(ctx, &n.desk, n.waiting("reboot "+n.name(), n.timing().Joined), aUpgrades.RebootNode,
		activities.RebootInput{NodeWorkInput: n.work(), BootID: boot, Mode: activities.RebootDefault})
}

func (n *nodeUpgrade) upgradeWhole(ctx workflow.Context, image string) error {
	return do(ctx, &n.desk, n.waiting("upgrade "+n.name(), n.timing().Joined), aUpgrades.UpgradeTalosWhole,
		activities.WholeUpgradeInput{NodeWorkInput: n.work(), Image: image, BootID: n.in.Seen.BootID})
}

// booted waits until the node is back and runs what it should.
func (n *nodeUpgrade) booted(ctx workflow.Context, already bool, want plan.Versions) error {
	// That it stays so is the gates' to see, once for all.
	in := activities.WaitBootedInput{NodeWorkInput: n.work(), BootID: n.in.Seen.BootID, Want: want}
	if already {
		in.BootID = ""
	}
	_, err := call(ctx, &n.desk, n.waiting("wait for "+n.name(), n.timing().Joined), aUpgrades.WaitBooted, in)
	return err
}

func (n *nodeUpgrade) apply(ctx workflow.Context) (activities.ApplyConfigResult, error) {
	return call(ctx, &n.desk, n.waiting("apply the config of "+n.name(), n.timing().Bootstrap), aUpgrades.ApplyMachineConfig,
		activities.ApplyConfigInput{NodeWorkInput: n.work(), Leg: &n.in.Leg, Components: n.in.Components})
}

// gates are the user's own checks, and the node's readiness.
func (n *nodeUpgrade) gates(ctx workflow.Context) error { return n.healthy(ctx, n.name()) }

// userGates are the user's own checks, where the node itself is gone.
func (n *nodeUpgrade) userGates(ctx workflow.Context) error { return n.healthy(ctx, "") }

func (n *nodeUpgrade) healthy(ctx workflow.Context, node string) error {
	return n.patient(ctx, "health gates", func(ctx workflow.Context) error {
		return do(ctx, &n.desk, n.waiting("health gates", n.timing().Joined), aUpgrades.WaitGates,
			activities.GatesInput{Ref: n.in.Ref, Gates: n.in.Strategy.Gates, Stable: n.stable(), Node: node})
	})
}
