package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// Steps of RollingUpgrade; one for each leg follows.
const (
	stepResolve   = "resolve the change"
	stepLook      = "look at every node"
	stepPlan      = "plan"
	stepPreflight = "pre-flight"
)

// RollingUpgrade brings a cluster to other versions, extensions or configs, node
// by node. It runs under cluster.LifecycleID, the lock of the cluster. Whatever
// goes wrong parks it with a true report; who starts it again continues with what
// is left.
func RollingUpgrade(ctx workflow.Context, in UpgradeInput) (UpgradeResult, error) {
	u, err := newUpgrade(ctx, in)
	if err != nil {
		return UpgradeResult{}, err
	}
	err = u.runbook(ctx)
	return u.finish(ctx, err)
}

// runbook is what happens, in this order, until nothing is left to do. Once
// something was changed, what goes wrong waits for a person instead of ending the
// run, and everything is looked at again afterwards.
func (u *upgrade) runbook(ctx workflow.Context) error {
	for {
		left, err := u.round(ctx)
		switch {
		case err != nil && u.state.Begun && ctx.Err() == nil && kindOf(err) != "" && !workflow.IsContinueAsNewError(err):
			if err := u.parkRoll(ctx, messageOf(err)); err != nil {
				return err
			}
			u.state.Rounds = 1
		case err != nil || !left:
			return err
		}
	}
}

// round is one pass over the cluster. It reports whether another one has to look
// for what joined meanwhile.
func (u *upgrade) round(ctx workflow.Context) (bool, error) {
	u.nodes = nil // what came of the last roll is looked at anew
	for _, ph := range []phase{{stepResolve, u.resolve}, {stepLook, u.look}, {stepPlan, u.makePlan}, {stepPreflight, u.preflight}, {stepCompare, u.compare}} {
		if ph.name == stepResolve && u.resolved.SpecDigest != "" {
			continue // what is wanted was decided when the run began
		}
		if err := u.step(ctx, ph.name, ph.do); err != nil {
			return false, err
		}
	}
	if u.in.PlanOnly {
		return false, nil
	}
	if len(u.plan.Legs) == 0 && !u.uncommitted() {
		return false, u.lastSync(ctx)
	}
	if u.state.Rounds >= mostRounds {
		return false, fail(fault.Conflict, "after %d rounds still behind: %s", mostRounds, u.behindText())
	}
	u.state.Rounds++
	for i := range u.plan.Legs {
		u.leg = i
		leg := u.plan.Legs[i].Leg
		u.stepName = legStep(u.state.Rounds, i, leg)
		if err := u.step(ctx, u.stepName, func(ctx workflow.Context) error { return u.doLeg(ctx, leg) }); err != nil {
			return false, err
		}
		u.ended = i + 1
	}
	if len(u.plan.Legs) == 0 {
		return false, u.step(ctx, "record the change", u.commitOnly)
	}
	return true, nil
}

// mostRounds bounds the passes over the cluster: the first does the work, the
// second what joined meanwhile. With nodes that are behind after that, a person
// decides.
const mostRounds = 4

func legStep(round, i int, leg plan.Leg) string {
	s := fmt.Sprintf("leg %d: %s", i+1, describeLeg(leg))
	if round > 1 {
		s += fmt.Sprintf(" (round %d)", round)
	}
	return s
}

func describeLeg(leg plan.Leg) string {
	switch leg.Kind {
	case plan.LegTalos:
		if leg.From.Talos == leg.To.Talos {
			return "Talos " + leg.To.Talos + " with other extensions"
		}
		return "Talos " + leg.From.Talos + " to " + leg.To.Talos
	case plan.LegKubernetes:
		return "Kubernetes " + leg.From.Kubernetes + " to " + leg.To.Kubernetes
	case plan.LegConfig:
		return "machine configs"
	}
	return string(leg.Kind)
}

// upgrade is a running RollingUpgrade.
type upgrade struct {
	lifecycle
	in       UpgradeInput
	state    UpgradeState
	resolved activities.ResolveUpgradeResult
	seen     []plan.UpgradeNode
	// final is what every node is to become in the end.
	final    activities.FreezeLegResult
	plan     plan.UpgradePlan
	leg      int // index into plan.Legs
	ended    int // how many of them are
	doing    NodeWork
	stepName string // of the leg under way
	warnings []plan.Refusal
	// diff is what manifests would change, bootstrap what was done to the objects
	// that Talos renders; inSync says that this is done for the nodes as they are.
	diff      *activities.DiffUpgradeManifestsResult
	bootstrap activities.SyncBootstrapResult
	inSync    bool

	// nodes are those of the roll under way; waits, until and asks say what it
	// waits for.
	nodes []*rolling
	waits string
	asks  string
	until time.Time
	// approved says that somebody approved what is asked.
	approved bool
	dirty    bool
	// stopped says that the run was cancelled.
	stopped func() bool
}

func newUpgrade(ctx workflow.Context, in UpgradeInput) (*upgrade, error) {
	if in.problem != "" {
		return nil, fail(fault.Invalid, "the input is not an upgrade: %s", in.problem)
	}
	if in.Cluster == "" {
		return nil, fail(fault.Invalid, "cluster: is required, the name of the cluster")
	}
	if err := checkID(ctx, cluster.LifecycleID(in.Cluster), TypeRollingUpgrade); err != nil {
		return nil, err
	}
	u := &upgrade{in: in, stopped: func() bool { return ctx.Err() != nil }}
	if in.State != nil {
		u.state = *in.State
	}
	u.in.State = nil
	steps := []string{stepResolve, stepLook, stepPlan, stepPreflight}
	if err := u.begin(ctx, TypeRollingUpgrade, cluster.Ref{Name: in.Cluster}, cluster.PhaseUpgrading, steps); err != nil {
		return nil, err
	}
	u.show = u.page
	return u, u.handlers(ctx)
}

// resolve asks what the change means; everything that is wrong with it is one
// error.
func (u *upgrade) resolve(ctx workflow.Context) error {
	out, err := call(ctx, &u.desk, u.settled("resolve versions and check the change"), aUpgrades.ResolveUpgrade,
		activities.ResolveUpgradeInput{Name: u.in.Cluster, Change: u.in.UpgradeChange, Strategy: u.in.Strategy})
	if err != nil {
		return err
	}
	u.resolved, u.progress.Cluster, u.progress.Endpoint = out, out.Record.Ref, out.Record.Endpoint
	u.spec = out.Record.Spec
	u.site, u.parks = Site{Account: out.Account, Capabilities: out.Capabilities, Timing: out.Timing}, true
	u.phase(ctx, cluster.PhaseUpgrading)
	return nil
}

// settled is for what stays as it is, however often one asks: a record in another
// state than it should be.
func (u *upgrade) settled(summary string) workflow.ActivityOptions {
	opts := u.short(summary)
	opts.RetryPolicy.NonRetryableErrorTypes = []string{string(fault.Conflict)}
	return opts
}

// look asks the groups for their members and the members for what they run.
func (u *upgrade) look(ctx workflow.Context) error {
	if err := u.askGroups(ctx, u.resolved.Record.Entities); err != nil {
		return err
	}
	var err error
	if u.final, err = u.freezeLeg(ctx, plan.Leg{Kind: plan.LegConfig, To: versionsOf(u.resolved.Frozen)}); err != nil {
		return err
	}
	for {
		if u.seen, err = u.observe(ctx, &u.final); err != nil {
			return err
		}
		silent := u.silent()
		if silent == "" || !u.state.Begun {
			break
		}
		// The work is done; whether all of it held cannot be told of these.
		if err := u.parkRoll(ctx, "no answer from "+silent); err != nil {
			return err
		}
	}
	if u.state.From == (plan.Versions{}) {
		u.state.From = versionsOf(u.resolved.Record.Frozen)
	}
	u.at(ctx, stepLook, "%s", count(len(u.seen), "node"))
	return nil
}

// silent names the nodes that did not answer.
func (u *upgrade) silent() string {
	var out []string
	for _, n := range u.seen {
		if n.Problem != "" && !slices.Contains(u.state.Skipped, n.Machine) {
			out = append(out, n.Name+" ("+n.Problem+")")
		}
	}
	return strings.Join(out, ", ")
}

// targets are the machines that exist and have joined, sorted by name within
// their groups.
func (u *upgrade) targets(which func(MemberStatus) bool) []activities.UpgradeTarget {
	var out []activities.UpgradeTarget
	for _, name := range u.groupNames() {
		for _, m := range u.groups[name].members {
			if !m.Surge && (m.Phase == MemberReady || m.Phase == MemberJoined) && (which == nil || which(m)) {
				out = append(out, targetOf(m))
			}
		}
	}
	return out
}

func (u *upgrade) controlPlanes() []activities.UpgradeTarget {
	return u.targets(func(m MemberStatus) bool { return m.Role == cluster.RoleControlPlane })
}

func (u *upgrade) target(machine string) (activities.UpgradeTarget, bool) {
	for _, t := range u.targets(nil) {
		if t.Node.MachineID == machine {
			return t, true
		}
	}
	return activities.UpgradeTarget{}, false
}

func (u *upgrade) observe(ctx workflow.Context, leg *activities.FreezeLegResult) ([]plan.UpgradeNode, error) {
	out, err := call(ctx, &u.desk, u.waiting("look at every node", u.timing().Joined), aUpgrades.ObserveNodes,
		activities.ObserveNodesInput{Ref: u.ref(), Nodes: u.targets(nil), Leg: leg})
	return out.Nodes, err
}

// makePlan decides what has to be done; what cannot be done refuses the whole.
func (u *upgrade) makePlan(ctx workflow.Context) error {
	to := versionsOf(u.resolved.Frozen)
	u.ended = 0
	u.plan = plan.MakePlan(versionsOf(u.resolved.Record.Frozen), to, u.seen, u.resolved.ConfigChanged || u.drifted(to), u.resolved.Rules, u.in.Strategy)
	for i := range u.plan.Legs {
		u.plan.Legs[i].Nodes = slices.DeleteFunc(u.plan.Legs[i].Nodes, func(n plan.RollItem) bool { return slices.Contains(u.state.Skipped, n.Machine) })
	}
	u.plan.Legs = slices.DeleteFunc(u.plan.Legs, func(l plan.LegPlan) bool { return u.state.Rounds > 0 && len(l.Nodes) == 0 })
	// What is said of single nodes is told together with all that the pre-flight
	// finds.
	if len(u.plan.Refusals) > 0 && !u.in.PlanOnly && len(u.plan.Legs) == 0 {
		return fail(fault.Unsafe, "%s", refusals(u.plan.Refusals))
	}
	u.at(ctx, stepPlan, "%s", count(len(u.plan.Legs), "leg"))
	return nil
}

// drifted reports whether nodes that run the wanted versions have another config
// than they should.
func (u *upgrade) drifted(to plan.Versions) bool {
	return u.state.Rounds == 0 && slices.ContainsFunc(u.seen, func(n plan.UpgradeNode) bool {
		return n.Problem == "" && n.Talos == to.Talos && n.Kubelet == to.Kubernetes && n.ConfigSHA256 != n.WantSHA256
	})
}

// preflight looks at everything that could go wrong before anything changes. In
// whatever follows the first change it was passed already.
func (u *upgrade) preflight(ctx workflow.Context) error {
	if len(u.plan.Legs) == 0 || u.state.Begun {
		return nil
	}
	var legs []plan.Leg
	for _, l := range u.plan.Legs {
		legs = append(legs, l.Leg)
	}
	out, err := call(ctx, &u.desk, u.waiting("check that nothing stands in the way", u.timing().Joined), aUpgrades.CheckUpgrade,
		activities.CheckUpgradeInput{Ref: u.ref(), Nodes: u.targets(nil), Legs: legs, Last: u.final, Strategy: u.in.Strategy, Groups: u.groupProblems()})
	if err != nil {
		return err
	}
	u.warnings = out.Warnings
	known := u.plan.Refusals
	for _, p := range out.Problems {
		if !slices.ContainsFunc(known, func(r plan.Refusal) bool { return r.Field == p.Field && r.Kind == plan.RefusedUnknown }) {
			u.plan.Refusals = append(u.plan.Refusals, p)
		}
	}
	if all := u.plan.Refusals; len(all) > 0 && !u.in.PlanOnly {
		return fail(fault.Unsafe, "%s, nothing was changed: %s", count(len(all), "problem"), refusals(all))
	}
	u.at(ctx, stepPreflight, "%s", count(len(out.Warnings), "warning"))
	return nil
}

// groupProblems are groups that could not take part: an upgrade leases their
// members, and tells them what to make new ones of.
func (u *upgrade) groupProblems() []plan.Refusal {
	var out []plan.Refusal
	for _, name := range u.groupNames() {
		v := u.groups[name]
		add := func(format string, args ...any) {
			out = append(out, plan.Refusal{Field: name, Reason: fmt.Sprintf(format, args...)})
		}
		switch {
		case v.failure != nil:
			add("the group fails: %s (%s); mend that, or lower its target", v.failure.Message, v.failure.Kind)
		case v.parked != "":
			add("the group waits for a person: %s", v.parked)
		case v.paused != "":
			add("the group is paused (%s); resume it first: ichor resume %s/%s", v.paused, u.ref().Name, name)
		}
	}
	return out
}

func versionsOf(f cluster.Frozen) plan.Versions {
	return plan.Versions{Talos: f.TalosVersion, Schematic: f.Schematic, Kubernetes: f.KubernetesVersion}
}
