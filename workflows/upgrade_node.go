package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// UpgradeNode does one kind of work on one node, under a lease on the group that
// owns it: nobody else deletes, replaces or drains it meanwhile. It ends with a
// report, never with a node that is left cordoned or leased. Cancelled before the
// reboot it leaves the node as it was; after it, it sees the node through.
func UpgradeNode(ctx workflow.Context, in NodeUpgradeInput) (NodeUpgradeResult, error) {
	if err := checkID(ctx, cluster.NodeWorkID(in.Ref.Name, in.Target.Node.Name), TypeUpgradeNode); err != nil {
		return NodeUpgradeResult{}, err
	}
	n := &nodeUpgrade{in: in, note: "nothing was changed"}
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
	frozen := n.in.Leg.Frozen
	want := versionsOf(frozen)
	booted := n.in.Seen.Talos == want.Talos && n.in.Seen.Schematic == want.Schematic
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
		{"wait for the node", func(ctx workflow.Context) error { return n.booted(ctx, !out.Staged, versionsOf(n.in.Leg.Frozen)) }},
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
		_, err := call(ctx, &n.desk, n.short("replace "+n.name()), aUpgrades.ReplaceMember, in)
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
	// doing is the step under way, note how far the node is.
	doing string
	note  string
	held  bool
	// lost says that the group has no such member any more.
	lost bool
	// lends says that the lease is given back while the node is parked.
	lends  bool
	leased bool
	log    []StepStatus
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
	n.doing = name
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

// lease takes or returns the node's lease. Each attempt has a request id of its
// own, which counts once.
func (n *nodeUpgrade) lease(ctx workflow.Context, release bool) error {
	info := workflow.GetInfo(ctx)
	_, err := call(ctx, &n.desk, n.short("lease of "+n.name()), aUpgrades.LeaseMember, activities.LeaseInput{
		Ref: n.in.Ref, Group: n.in.Target.Group, Machine: n.in.Target.Node.MachineID, Holder: info.WorkflowExecution.ID,
		Release: release, RequestID: fmt.Sprintf("%s-%t", info.WorkflowExecution.RunID, release), Reason: "upgrade: " + string(n.in.Work),
	})
	n.leased = err == nil && !release
	n.lost = kindOf(err) == fault.NotFound && !release
	return err
}

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

// patient does what may have to wait for a person: when its time is over it
// parks, says why, and tries again when told.
func (n *nodeUpgrade) patient(ctx workflow.Context, what string, f func(workflow.Context) error) error {
	for {
		err := f(ctx)
		if kind := kindOf(err); kind != fault.NotYet && kind != fault.Ambiguous && kind != fault.Unavailable || ctx.Err() != nil {
			return err
		}
		seen := n.resumed
		n.parked = what + ": " + messageOf(err)
		n.tell(ctx, n.parked)
		werr := n.parkedUntil(ctx, func() bool { return n.resumed > seen })
		n.parked = ""
		n.tell(ctx, "")
		if werr != nil {
			return werr
		}
	}
}

// parkedUntil waits, renewing the lease, for as long as nobody decides.
func (n *nodeUpgrade) parkedUntil(ctx workflow.Context, decided func() bool) error {
	if n.lends {
		if err := n.lease(ctx, true); err != nil {
			return err
		}
		if err := workflow.Await(ctx, decided); err != nil {
			return err
		}
		return n.lease(ctx, false)
	}
	for renewals := 1; ; renewals++ {
		ok, err := workflow.AwaitWithTimeout(ctx, leaseTime/2, decided)
		if ok || err != nil {
			return err
		}
		info := workflow.GetInfo(ctx)
		if _, err := call(ctx, &n.desk, n.short("renew the lease of "+n.name()), aUpgrades.LeaseMember, activities.LeaseInput{
			Ref: n.in.Ref, Group: n.in.Target.Group, Machine: n.in.Target.Node.MachineID, Holder: info.WorkflowExecution.ID,
			RequestID: fmt.Sprintf("%s-%d", info.WorkflowExecution.RunID, renewals), Reason: "upgrade: parked",
		}); err != nil {
			return err
		}
	}
}

// tell lets the roll know that the node parks or goes on.
func (n *nodeUpgrade) tell(ctx workflow.Context, parked string) {
	n.page(ctx)
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	// A roll that has ended need not know.
	_ = workflow.SignalExternalWorkflow(calm, n.in.Roll, "", SignalNode,
		NodeReport{Machine: n.in.Target.Node.MachineID, Parked: parked != "", Note: parked}).Get(calm, nil)
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
func (n *nodeUpgrade) gates(ctx workflow.Context) error {
	return n.patient(ctx, "health gates", func(ctx workflow.Context) error {
		return do(ctx, &n.desk, n.waiting("health gates", n.timing().Joined), aUpgrades.WaitGates,
			activities.GatesInput{Ref: n.in.Ref, Gates: n.in.Strategy.Gates, Stable: n.stable(), Node: n.name()})
	})
}

// userGates are the user's own checks, where the node itself is gone.
func (n *nodeUpgrade) userGates(ctx workflow.Context) error {
	return n.patient(ctx, "health gates", func(ctx workflow.Context) error {
		return do(ctx, &n.desk, n.waiting("health gates", n.timing().Joined), aUpgrades.WaitGates,
			activities.GatesInput{Ref: n.in.Ref, Gates: n.in.Strategy.Gates, Stable: n.stable()})
	})
}

// giveBack uncordons the node and returns its lease, whatever happened.
func (n *nodeUpgrade) giveBack(ctx workflow.Context) {
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if n.held {
		err := do(calm, &n.desk, n.waiting("release "+n.name(), n.timing().Bootstrap), aUpgrades.ReleaseNode, n.work())
		if err != nil {
			n.note += "; it is still held: " + messageOf(err)
		}
	}
	if n.leased {
		if err := n.lease(calm, true); err != nil {
			n.note += "; its lease runs out by itself: " + messageOf(err)
		}
	}
}

func (n *nodeUpgrade) result(err error) (NodeUpgradeResult, error) {
	switch {
	case err == nil:
		return NodeUpgradeResult{Done: true}, nil
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
