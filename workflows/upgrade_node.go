package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// UpgradeNode does one kind of work on one node, under a lease on the group that
// owns it: nobody else deletes, replaces or drains it meanwhile. It ends with a
// report, never with a node that is left cordoned or leased. Cancelled before the
// reboot it leaves the node as it was; after it, it sees the node through.
func UpgradeNode(ctx workflow.Context, in NodeUpgradeInput) (NodeUpgradeResult, error) {
	if err := checkID(ctx, cluster.NodeWorkID(in.Ref.Name, in.Target.Node.Name), TypeUpgradeNode); err != nil {
		return NodeUpgradeResult{}, err
	}
	n := &nodeUpgrade{in: in, note: "nothing was changed", stopped: ctx.Err}
	n.site, n.parks = in.Site, true
	n.show = func(ctx workflow.Context) { n.tell(ctx, n.parked) }
	n.handleResume(ctx)
	_ = workflow.UpsertTypedSearchAttributes(ctx, AttrCluster.ValueSet(in.Ref.Name), AttrKind.ValueSet("node"))
	var err error
	if in.Work != WorkReplace { // which is the group's own
		err = n.lease(ctx, false)
		if err == nil {
			err = n.step(ctx, "look at the node", n.look)
		}
	}
	if err == nil {
		err = n.runbook(ctx)
	}
	n.giveBack(ctx)
	return n.result(err)
}

// runbook is what is done to a node.
func (n *nodeUpgrade) runbook(ctx workflow.Context) error {
	switch n.in.Work {
	case WorkTalos:
		return n.talos(ctx)
	case WorkAPIServer, WorkControllerManager, WorkScheduler, WorkKubelet:
		return n.component(ctx)
	case WorkConfig:
		return n.config(ctx)
	case WorkReplace:
		return n.replace(ctx)
	case WorkRollback:
		return n.rollback(ctx)
	}
	return fail(fault.Internal, "work of kind %s is not known", n.in.Work)
}

// talos installs another version or schematic. What an earlier attempt has done
// already is not done again.
func (n *nodeUpgrade) talos(ctx workflow.Context) error {
	frozen := n.in.Leg.Frozen.For(n.in.Target.Group)
	want := versionsOf(frozen)
	booted := n.in.Seen.Talos == want.Talos && runsSchematic(n.in.Seen) == want.Schematic
	old := !booted && before(n.in.Seen.Talos, 1, 13)
	if err := n.steps(ctx, !booted, []nodeStep{
		{"etcd lets it go", n.gate},
		{"pull the installer", func(ctx workflow.Context) error { return n.pull(ctx, frozen.InstallerImage) }},
		{"install " + want.Talos, func(ctx workflow.Context) error { return n.install(ctx, frozen.InstallerImage, old) }},
		{"drain", n.drain},
		// A drain may take hours: what held before it need not hold any more.
		{"hand over leadership", n.forfeit},
		{"etcd still lets it go", n.gate},
	}); err != nil {
		return err
	}
	// From here on the node is on its way: it is seen through.
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if !booted {
		n.note = "the reboot was sent"
		send := func(ctx workflow.Context) error { return n.reboot(ctx, n.in.Seen.BootID) }
		if old {
			send = func(ctx workflow.Context) error { return n.upgradeWhole(ctx, frozen.InstallerImage) }
		}
		if err := n.step(calm, "reboot", send); err != nil {
			return err
		}
	}
	return n.steps(calm, true, []nodeStep{
		{"wait for " + want.Talos, func(ctx workflow.Context) error { return n.booted(ctx, booted, want) }},
		{"etcd is whole again", n.whole},
		{"health gates", n.gates},
	})
}

// component changes the version of one part of Kubernetes by the machine config.
func (n *nodeUpgrade) component(ctx workflow.Context) error {
	version := n.in.Leg.Frozen.KubernetesVersion
	if n.in.Work != WorkKubelet {
		// etcd does not restart, but a control plane that is not well is no place
		// to restart its parts.
		if err := n.step(ctx, "etcd is whole", n.whole); err != nil {
			return err
		}
	}
	if err := n.step(ctx, "hold the node", func(ctx workflow.Context) error { return n.hold(ctx, false) }); err != nil {
		return err
	}
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	n.note = "its config was applied"
	return n.steps(calm, true, []nodeStep{
		{"apply the config", func(ctx workflow.Context) error { _, err := n.apply(ctx); return err }},
		{fmt.Sprintf("%s %s", n.in.Work, version), func(ctx workflow.Context) error {
			return do(ctx, &n.desk, n.waiting(fmt.Sprintf("%s %s on %s", n.in.Work, version, n.name()), n.timing().Joined), aUpgrades.WaitComponent,
				activities.WaitComponentInput{NodeWorkInput: n.work(), Component: string(n.in.Work), Version: version})
		}},
		{"health gates", n.gates},
	})
}

// config applies a machine config, with a reboot of our own where Talos needs
// one.
func (n *nodeUpgrade) config(ctx workflow.Context) error {
	if err := n.step(ctx, "etcd lets it go", n.gate); err != nil {
		return err
	}
	var out activities.ApplyConfigResult
	if err := n.step(ctx, "apply the config", func(ctx workflow.Context) (err error) { out, err = n.apply(ctx); return err }); err != nil {
		return err
	}
	n.note = "its config was applied"
	if out.Staged {
		n.note = "its config takes effect with its next reboot"
		if err := n.steps(ctx, true, []nodeStep{{"drain", n.drain}, {"hand over leadership", n.forfeit}, {"etcd still lets it go", n.gate}}); err != nil {
			return err
		}
	}
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if out.Staged {
		n.note = "the reboot was sent"
		if err := n.step(calm, "reboot", func(ctx workflow.Context) error { return n.reboot(ctx, out.BootID) }); err != nil {
			return err
		}
		n.in.Seen.BootID = out.BootID
	}
	return n.steps(calm, true, []nodeStep{
		{"wait for the node", func(ctx workflow.Context) error {
			return n.booted(ctx, !out.Staged, versionsOf(n.in.Leg.Frozen.For(n.in.Target.Group)))
		}},
		{"etcd is whole again", n.whole},
		{"health gates", n.gates},
	})
}

// replace adds a new machine and lets the old one go once the new one works. The
// group sees to both: whatever happens here, it never has one too many or too few.
func (n *nodeUpgrade) replace(ctx workflow.Context) error {
	in := activities.ReplaceInput{
		Ref: n.in.Ref, Group: n.in.Target.Group, Machine: n.in.Target.Node.MachineID, RequestID: workflow.GetInfo(ctx).WorkflowExecution.RunID,
	}
	if err := n.step(ctx, "ask for a new machine", func(ctx workflow.Context) error {
		out, err := call(ctx, &n.desk, n.short("replace "+n.name()), aUpgrades.ReplaceMember, in)
		n.by = out.By
		return err
	}); err != nil {
		return err
	}
	n.note = "a new machine was asked for; the group goes on by itself"
	limit := n.timing().Joined + orDefault(n.timing().Drain, activities.DefaultTiming().Drain)
	return n.steps(ctx, true, []nodeStep{
		{"wait until it has taken over", func(ctx workflow.Context) error {
			return n.patient(ctx, "replacement", func(ctx workflow.Context) error {
				return do(ctx, &n.desk, n.waiting("replacement of "+n.name(), limit), aUpgrades.WaitReplaced, in)
			})
		}},
		{"health gates", n.userGates},
	})
}

// nodeUpgrade is a running UpgradeNode.
type nodeUpgrade struct {
	desk
	in NodeUpgradeInput
	// note is how far the node is.
	note string
	held bool
	// by is the machine in its place.
	by string
	// lost says that the group has no such member any more.
	lost bool
	// lends says that the lease is given back while the node is parked.
	lends  bool
	leased bool
	// stopped is the error of a run that was cancelled. What is seen through does
	// not hear of that elsewhere; where it would wait for a person, it ends.
	stopped func() error
	log     []StepStatus
}

type nodeStep struct {
	name string
	do   func(workflow.Context) error
}

func (n *nodeUpgrade) steps(ctx workflow.Context, needed bool, all []nodeStep) error {
	for _, s := range all {
		if !needed {
			return nil
		}
		if err := n.step(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	return nil
}

// step does one thing, unless the work was cancelled before it.
func (n *nodeUpgrade) step(ctx workflow.Context, name string, f func(workflow.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.log = append(n.log, StepStatus{Name: name, State: StepDoing, Started: workflow.Now(ctx)})
	n.page(ctx)
	err := f(ctx)
	s := &n.log[len(n.log)-1]
	s.State, s.Ended = StepDone, workflow.Now(ctx)
	if err != nil {
		s.State, s.Detail = StepFailed, messageOf(err)
	}
	n.page(ctx)
	return failed(name, err)
}

func (n *nodeUpgrade) name() string { return n.in.Target.Node.Name }

func (n *nodeUpgrade) work() activities.NodeWorkInput {
	return activities.NodeWorkInput{Ref: n.in.Ref, Target: n.in.Target, Holder: cluster.NodeWorkID(n.in.Ref.Name, n.name())}
}

func (n *nodeUpgrade) controlPlane() bool { return n.in.Target.Role == cluster.RoleControlPlane }

func (n *nodeUpgrade) result(err error) (NodeUpgradeResult, error) {
	switch {
	case err == nil:
		return NodeUpgradeResult{Done: true, By: n.by}, nil
	case n.lost:
		return NodeUpgradeResult{Gone: true, Note: "the group does not have it any more"}, nil
	case temporal.IsCanceledError(err):
		return NodeUpgradeResult{Cancelled: true, Note: n.note}, nil
	}
	return NodeUpgradeResult{Failure: failureOf(err), Note: n.note}, nil
}

// page shows the steps on the page of the run.
func (n *nodeUpgrade) page(ctx workflow.Context) {
	var b strings.Builder
	b.WriteString(fmt.Sprintf("## %s on `%s`\n\n", n.in.Work, n.name()))
	if n.parked != "" {
		b.WriteString(fmt.Sprintf("**Parked:** %s — send the signal %s, or leave the node out by %s on the upgrade\n\n", cell(n.parked), SignalResume, SignalSkipNode))
	}
	b.WriteString("| Step | State | Took | Detail |\n|---|---|---|---|\n")
	for _, s := range n.log {
		b.WriteString(fmt.Sprintf("| %s | %s | %s | %s |\n", s.Name, stepMark(s.State), took(s.Started, s.Ended), cell(s.Detail)))
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

// before reports whether a version of Talos is older than a minor.
func before(version string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a < major || a == major && b < minor
}
