package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// rolling is a node of the roll under way.
type rolling struct {
	NodeRoll
	seen plan.UpgradeNode
	// stop cancels its workflow; it ends on a safe point.
	stop workflow.CancelFunc
	// skip says that a person wants it left out.
	skip bool
}

// roll does one kind of work on every node that is behind, as fast as the
// strategy allows. What joins meanwhile is looked for afterwards, so that nothing
// is left behind.
func (u *upgrade) roll(ctx workflow.Context, leg plan.Leg, frozen activities.FreezeLegResult, work NodeWork) error {
	for pass := 0; pass < mostPasses; pass++ {
		if err := u.askGroups(ctx, u.resolved.Record.Entities); err != nil {
			return err
		}
		seen, err := u.observe(ctx, &frozen)
		if err != nil {
			return err
		}
		u.nodes, u.doing = u.behind(leg, work, seen), work
		if len(u.nodes) == 0 {
			return nil
		}
		u.at(ctx, u.stepName, "%s on %s", work, count(len(u.nodes), "node"))
		if err := u.rollNodes(ctx, frozen, work); err != nil {
			return err
		}
	}
	return nil
}

// mostPasses bounds how often one roll looks for nodes that joined meanwhile.
const mostPasses = 5

// behind are the nodes that still need the work, in their order.
func (u *upgrade) behind(leg plan.Leg, work NodeWork, seen []plan.UpgradeNode) []*rolling {
	need := slices.DeleteFunc(slices.Clone(seen), func(n plan.UpgradeNode) bool {
		return slices.Contains(u.state.Skipped, n.Machine) || !needs(n, leg, work)
	})
	var out []*rolling
	for _, item := range plan.RollOrder(leg, need, u.in.Strategy) {
		i := slices.IndexFunc(need, func(n plan.UpgradeNode) bool { return n.Machine == item.Machine })
		out = append(out, &rolling{NodeRoll: NodeRoll{RollItem: item}, seen: need[i]})
	}
	return out
}

// needs reports whether a node is behind in what the work changes.
func needs(n plan.UpgradeNode, leg plan.Leg, work NodeWork) bool {
	switch work {
	case WorkAPIServer, WorkControllerManager, WorkScheduler:
		return n.Role == cluster.RoleControlPlane && plan.BehindComponent(n, string(work), leg.To.Kubernetes)
	case WorkKubelet:
		return plan.BehindComponent(n, string(work), leg.To.Kubernetes)
	case WorkTalos, WorkConfig:
		return plan.Behind(n, leg)
	}
	return false
}

// rollNodes works on the nodes until all are done or left out.
func (u *upgrade) rollNodes(ctx workflow.Context, frozen activities.FreezeLegResult, work NodeWork) error {
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	for {
		u.dirty = false // what happens from here on is looked at in the next round
		d := plan.NextNodes(u.items(), u.in.Strategy, workflow.Now(ctx))
		running := u.running()
		switch {
		case ctx.Err() != nil && running == 0:
			return ctx.Err()
		case ctx.Err() != nil:
			// Nodes at work come to their next safe point by themselves.
		case d.Done && running == 0 && !u.state.Paused:
			u.idle(ctx, "", time.Time{})
			return nil
		case d.Stop != "" && running == 0:
			if err := u.parkRoll(ctx, d.Stop); err != nil {
				return err
			}
			continue
		case u.exhausted(ctx) && running == 0:
			return u.continueAsNew(ctx)
		case !u.state.Paused && !u.exhausted(ctx):
			if err := u.beginNodes(ctx, d.Start, frozen, work); err != nil {
				return err
			}
		}
		u.idle(ctx, d.Reason, d.Wait)
		if err := u.sleepUntil(ctx, calm, d.Wait); err != nil {
			return err
		}
	}
}

// sleepUntil waits for something to happen, or for a moment to come.
func (u *upgrade) sleepUntil(ctx, calm workflow.Context, at time.Time) error {
	happened := func() bool { return u.dirty || ctx.Err() != nil }
	if ctx.Err() != nil {
		// Cancelled: only the end of what runs matters.
		running := u.running()
		return workflow.Await(calm, func() bool { return running == 0 || u.running() < running })
	}
	if left := at.Sub(workflow.Now(ctx)); !at.IsZero() && left > 0 {
		_, err := workflow.AwaitWithTimeout(ctx, left, happened)
		return ignoreCancel(err)
	}
	return ignoreCancel(workflow.Await(ctx, happened))
}

// ignoreCancel lets the loop see a cancellation itself, since nodes at work are
// waited for.
func ignoreCancel(err error) error {
	if temporal.IsCanceledError(err) || errors.Is(err, workflow.ErrCanceled) {
		return nil
	}
	return err
}

// beginNodes starts work on nodes, one workflow each.
func (u *upgrade) beginNodes(ctx workflow.Context, ids []string, frozen activities.FreezeLegResult, work NodeWork) error {
	for _, id := range ids {
		n := u.rolling(id)
		if what := string(work) + asksFor(n.Name); u.in.Strategy.Approve == plan.ApproveNode && !slices.Contains(u.state.Approved, what) {
			// While nobody answers, windows close and other nodes fail: what may be
			// begun is decided anew.
			running := u.running()
			err := u.ask(ctx, what, func() bool { return n.State != plan.RollPending || u.running() < running })
			u.dirty = true
			return ignoreCancel(err)
		}
		t, ok := u.target(id)
		if !ok {
			n.State, n.Note = plan.RollSkipped, "it is gone"
			u.dirty = true
			continue
		}
		does := work
		if u.surges(n.Group) && (work == WorkTalos || work == WorkConfig) {
			does = WorkReplace
		}
		u.start(ctx, n, NodeUpgradeInput{
			Ref: u.ref(), Target: t, Work: does, Leg: frozen, Seen: n.seen, ControlPlanes: u.controlPlanes(),
			Strategy: u.in.Strategy, Components: halfway(n.seen, work), Site: u.site, Roll: cluster.LifecycleID(u.ref().Name),
		})
	}
	return nil
}

// surges reports whether the nodes of a group are replaced instead of changed.
func (u *upgrade) surges(group string) bool {
	return slices.ContainsFunc(u.in.Strategy.Groups, func(g plan.GroupStrategy) bool { return g.Group == group && g.Surge > 0 })
}

// halfway are the versions that a control plane keeps while one component after
// the other is upgraded.
func halfway(n plan.UpgradeNode, work NodeWork) activities.Components {
	c := activities.Components{}
	if n.Role != cluster.RoleControlPlane {
		return c
	}
	switch work {
	case WorkAPIServer:
		return activities.Components{ControllerManager: n.ControllerManager, Scheduler: n.Scheduler, Proxy: n.Kubelet, Kubelet: n.Kubelet}
	case WorkControllerManager:
		return activities.Components{Scheduler: n.Scheduler, Proxy: n.Kubelet, Kubelet: n.Kubelet}
	case WorkScheduler:
		return activities.Components{Proxy: n.Kubelet, Kubelet: n.Kubelet}
	case WorkTalos, WorkKubelet, WorkConfig, WorkReplace, WorkRollback:
	}
	return c
}

func (u *upgrade) start(ctx workflow.Context, n *rolling, in NodeUpgradeInput) {
	nodeCtx, stop := workflow.WithCancel(ctx)
	n.State, n.Began, n.Note, n.Parked, n.stop = plan.RollRunning, workflow.Now(ctx), "", false, stop
	n.Workflow = cluster.NodeWorkID(u.ref().Name, n.Name)
	u.page(ctx)
	workflow.GoNamed(nodeCtx, "node "+n.Name, func(ctx workflow.Context) {
		out, err := u.runNode(ctx, n.Workflow, in)
		calm, cancel := workflow.NewDisconnectedContext(ctx)
		defer cancel()
		n.Ended, n.Parked, n.stop = workflow.Now(calm), false, nil
		switch {
		case err != nil && temporal.IsCanceledError(err), err == nil && out.Cancelled:
			n.State, n.Note = plan.RollPending, out.Note
			if n.skip {
				n.State = plan.RollSkipped
			}
		case err != nil:
			n.State, n.Note = plan.RollFailed, messageOf(err)
		case out.Gone:
			n.State, n.Note = plan.RollSkipped, out.Note
		case out.Failure != nil:
			n.State, n.Note = plan.RollFailed, fmt.Sprintf("%s (%s)", out.Failure.Message, out.Failure.Kind)
		default:
			n.State, n.Note = plan.RollDone, out.Note
			u.upgraded(n, out.By)
		}
		u.dirty = true
		u.page(calm)
	})
}

// upgraded counts a node once, whatever was done to it and to the machine that took
// its place.
func (u *upgrade) upgraded(n *rolling, by string) {
	if !slices.Contains(u.state.Upgraded, n.Machine) && !slices.Contains(u.state.Replaced, n.Name) {
		u.state.Upgraded = append(u.state.Upgraded, n.Machine)
	}
	if by != "" && !slices.Contains(u.state.Replaced, by) {
		u.state.Replaced = append(u.state.Replaced, by)
	}
}

// parkRoll waits for a person: to resume, which tries failed nodes again, to skip
// them, or to cancel.
func (u *upgrade) parkRoll(ctx workflow.Context, why string) error {
	seen := u.resumed
	u.parked = why + u.failedNodes() + " — send the signal " + SignalResume + " to try again, " + SignalSkipNode + " to leave a node out, or cancel"
	u.page(ctx)
	failed := func(n *rolling) bool { return n.State == plan.RollFailed }
	some, left := slices.ContainsFunc(u.nodes, failed), len(u.state.Skipped)
	err := workflow.Await(ctx, func() bool {
		// Leaving out the last of them ends it, too.
		return u.resumed > seen || len(u.state.Skipped) > left && (!some || !slices.ContainsFunc(u.nodes, failed))
	})
	u.parked = ""
	if err == nil && u.resumed > seen {
		for _, n := range u.nodes {
			if n.State == plan.RollFailed {
				n.State = plan.RollPending
			}
		}
	}
	u.page(ctx)
	return err
}

func (u *upgrade) failedNodes() string {
	var out []string
	for _, n := range u.nodes {
		if n.State == plan.RollFailed {
			out = append(out, n.Name+": "+n.Note)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, "; ") + ")"
}

// changeLongRolls is the version gate of rolls that stay in one run beyond the
// length at which Temporal proposes another.
const changeLongRolls = "long-rolls"

// A new run begins only when no node is at work, and looks at every node first:
// the window runs empty and is filled anew, which costs more than a long history
// does. 16 events and some 18 KB a node let about 700 nodes fit; Temporal itself
// ends runs at 51,200 events or 50 MB (limit.historyCount.error and
// limit.historySize.error).
const (
	longRoll      = 12_000
	longRollBytes = 12 << 20
)

// exhausted reports whether history is so long that a new run shall go on.
func (u *upgrade) exhausted(ctx workflow.Context) bool {
	limit, info := u.timing().HistoryLimit, workflow.GetInfo(ctx)
	if limit > 0 && info.GetCurrentHistoryLength() > 10*limit {
		return true
	}
	if !info.GetContinueAsNewSuggested() {
		return false
	}
	if workflow.GetVersion(ctx, changeLongRolls, workflow.DefaultVersion, 1) < 1 {
		return true
	}
	return info.GetCurrentHistoryLength() > longRoll || info.GetCurrentHistorySize() > longRollBytes
}

// continueAsNew goes on in a new run, which looks at every node again. No node is
// at work.
func (u *upgrade) continueAsNew(ctx workflow.Context) error {
	in := u.in
	u.drain(ctx)
	in.State = &u.state
	in.State.Rounds = 0
	return workflow.NewContinueAsNewError(ctx, RollingUpgrade, in)
}

func (u *upgrade) items() []plan.RollItem {
	var out []plan.RollItem
	for _, n := range u.nodes {
		out = append(out, n.RollItem)
	}
	return out
}

func (u *upgrade) running() int {
	count := 0
	for _, n := range u.nodes {
		if n.State == plan.RollRunning {
			count++
		}
	}
	return count
}

// rolling finds a node of the roll by machine id or name.
func (u *upgrade) rolling(name string) *rolling {
	i := slices.IndexFunc(u.nodes, func(n *rolling) bool { return n.Machine == name || n.Name == name })
	if i < 0 {
		return nil
	}
	return u.nodes[i]
}
