package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// Steps of RollbackNode.
const (
	stepOtherSlot = "boot the other slot"
	stepRuns      = "look what it runs"
)

// RollbackNode boots the other slot of one node, which holds what it ran before its
// last upgrade, with the gates of an upgrade. It runs under cluster.LifecycleID,
// the lock of the cluster. The record stays as it is: the next upgrade brings the
// node forward again.
func RollbackNode(ctx workflow.Context, in RollbackInput) (RollbackResult, error) {
	b := &rollback{in: in}
	if err := b.take(ctx, TypeRollbackNode, in.Cluster, in.Node, in.problem, []string{stepOpen, stepFindNode, stepOtherSlot, stepRuns}); err != nil {
		return RollbackResult{}, err
	}
	b.handleNode(ctx)
	for _, ph := range []phase{{stepOpen, b.open}, {stepFindNode, b.look}, {stepOtherSlot, b.work}, {stepRuns, b.runs}} {
		if err := b.step(ctx, ph.name, ph.do); err != nil {
			return b.result, b.over(ctx, err)
		}
	}
	b.result.Message = fmt.Sprintf("node %s runs %s again, before it was %s; ichor upgrade %s brings it forward to what the record says",
		b.result.Node, systemOf(b.result.Runs), systemOf(b.result.From), in.Cluster)
	return b.result, b.over(ctx, nil)
}

// rollback is a running RollbackNode.
type rollback struct {
	repair
	in     RollbackInput
	target activities.UpgradeTarget
	result RollbackResult
}

func (b *rollback) look(ctx workflow.Context) error {
	if err := b.askGroups(ctx, b.record.Entities); err != nil {
		return err
	}
	m, ok := b.find(b.in.Node)
	switch {
	case !ok:
		return fail(fault.NotFound, "cluster %q has no node %q", b.in.Cluster, b.in.Node)
	case m.Address == "" || (GroupMember{MemberStatus: m}).Leaving() || m.Surge:
		return fail(fault.Conflict, "%s is %s; only a node that has joined is rolled back", m.Name, m.Phase)
	}
	b.target = targetOf(m)
	b.result.Cluster, b.result.Node = b.ref(), m.Name
	var err error
	b.result.From, err = b.observe(ctx)
	b.at(ctx, stepFindNode, "%s runs %s", m.Name, systemOf(b.result.From))
	return err
}

// observe reads what the node runs. One that does not answer cannot be told to boot
// anything.
func (b *rollback) observe(ctx workflow.Context) (plan.UpgradeNode, error) {
	frozen := b.frozen()
	out, err := call(ctx, &b.desk, b.waiting("look at "+b.target.Node.Name, b.timing().Joined), aUpgrades.ObserveNodes,
		activities.ObserveNodesInput{Ref: b.ref(), Nodes: []activities.UpgradeTarget{b.target}, Leg: &frozen})
	switch {
	case err != nil:
		return plan.UpgradeNode{}, err
	case len(out.Nodes) != 1 || out.Nodes[0].Problem != "":
		return plan.UpgradeNode{}, fail(fault.Unavailable, "%s does not answer, so it cannot be told to boot its other slot: %s; ichor replace %s %s puts a new machine in its place",
			b.target.Node.Name, problemOf(out.Nodes), b.in.Cluster, b.target.Node.Name)
	}
	return out.Nodes[0], nil
}

// work has the node worked on under its own lock.
func (b *rollback) work(ctx workflow.Context) error {
	b.working = cluster.NodeWorkID(b.ref().Name, b.target.Node.Name)
	out, err := b.runNode(ctx, b.working, NodeUpgradeInput{
		Ref: b.ref(), Target: b.target, Work: WorkRollback, Leg: b.frozen(), Seen: b.result.From, ControlPlanes: b.controlPlanes(),
		Strategy: b.in.Strategy, Site: b.site, Roll: workflow.GetInfo(ctx).WorkflowExecution.ID,
	})
	b.working, b.parked = "", ""
	switch {
	case err != nil:
		return err
	case out.Cancelled:
		return temporal.NewCanceledError(b.target.Node.Name + ": " + out.Note)
	case out.Failure != nil:
		return fail(out.Failure.Kind, "%s; %s", out.Failure.Message, out.Note)
	}
	return nil
}

func (b *rollback) runs(ctx workflow.Context) (err error) {
	b.result.Runs, err = b.observe(ctx)
	return err
}

// systemOf is what a node runs, for people.
func systemOf(n plan.UpgradeNode) string {
	if n.Schematic == "" {
		return "Talos " + n.Talos
	}
	return fmt.Sprintf("Talos %s with schematic %.12s", n.Talos, runsSchematic(n))
}

// runsSchematic is what a node really runs.
func runsSchematic(n plan.UpgradeNode) string {
	if n.Variant != "" {
		return n.Variant
	}
	return n.Schematic
}

// rollback boots the node's other slot. A boot is told apart by its id, so that a
// repetition does not boot the first slot again.
func (n *nodeUpgrade) rollback(ctx workflow.Context) error {
	if err := n.steps(ctx, true, []nodeStep{
		{"etcd lets it go", n.gate},
		{"hand over leadership", n.forfeit},
		{"drain", n.drain},
		{"etcd still lets it go", n.gate},
	}); err != nil {
		return err
	}
	// From here on the node is on its way: it is seen through.
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	before := n.in.Seen
	err := n.step(calm, "boot the other slot", func(ctx workflow.Context) error {
		return do(ctx, &n.desk, n.waiting("roll back "+n.name(), n.timing().Joined), aUpgrades.RollbackNode,
			activities.RebootInput{NodeWorkInput: n.work(), BootID: before.BootID})
	})
	if err != nil {
		if kindOf(err) != fault.Unsafe { // which refuses before anything
			n.note = "whether it boots the other slot is not known"
		}
		return err
	}
	n.note = "it was told to boot its other slot"
	return n.steps(calm, true, []nodeStep{
		{"wait for the node", func(ctx workflow.Context) error { return n.rolledBack(ctx, before) }},
		{"etcd is whole again", n.whole},
		{"health gates", n.gates},
	})
}

// rolledBack waits until the node runs something else than before. That it stays so
// is the gates' to see.
func (n *nodeUpgrade) rolledBack(ctx workflow.Context, before plan.UpgradeNode) error {
	runs, err := call(ctx, &n.desk, n.waiting("wait for "+n.name(), n.timing().Joined), aUpgrades.WaitBooted,
		activities.WaitBootedInput{NodeWorkInput: n.work(), BootID: before.BootID})
	if err == nil && runs.Talos == before.Talos && runsSchematic(runs) == runsSchematic(before) {
		return fail(fault.Unsafe, "%s booted anew and runs %s as before: its other slot holds the same, or did not come up", n.name(), systemOf(runs))
	}
	return err
}
