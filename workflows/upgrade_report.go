package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// finish ends a roll with its report; one that was cancelled says where it
// stands.
func (u *upgrade) finish(ctx workflow.Context, err error) (UpgradeResult, error) {
	r := UpgradeResult{
		Cluster: u.ref(), Plan: u.plan, From: u.state.From, To: versionsOf(u.resolved.Record.Frozen),
		Upgraded: len(u.state.Upgraded), Nodes: u.seen, Warnings: u.warnings,
		Manifests: u.diff, Bootstrap: u.bootstrap,
	}
	for _, id := range u.state.Skipped {
		r.Skipped = append(r.Skipped, u.nameOf(id))
	}
	u.progress.Failure = failureOf(err)
	switch {
	case workflow.IsContinueAsNewError(err):
		return r, err
	case err == nil && u.in.PlanOnly:
		if r.Message = planMessage(u.plan); len(u.plan.Refusals)+len(u.plan.Legs) == 0 && u.wouldChange() {
			r.Message = "nothing to do but for objects of Kubernetes"
		}
	case err == nil && len(u.state.Upgraded) == 0 && !u.state.Begun:
		r.Message = fmt.Sprintf("cluster %q runs that already; nothing was changed", u.ref().Name)
	case err == nil:
		r.Message = fmt.Sprintf("cluster %q: %s%s", u.ref().Name, u.upgradedText(), u.bootstrapText()+u.skippedText())
	case temporal.IsCanceledError(err):
		u.progress.Failure = &Failure{Message: u.report()}
		u.shown(ctx)
		return r, temporal.NewCanceledError(u.report())
	default:
		u.shown(ctx)
		if u.state.Begun {
			err = fail(kindOf(err), "%s; %s", messageOf(err), u.report())
		}
		return r, err
	}
	u.shown(ctx)
	return r, nil
}

func (u *upgrade) shown(ctx workflow.Context) {
	if u.progress.Cluster.UID != "" {
		u.phase(ctx, cluster.PhaseReady)
	}
	u.page(ctx)
}

func (u *upgrade) skippedText() string {
	if len(u.state.Skipped) == 0 {
		return ""
	}
	var names []string
	for _, id := range u.state.Skipped {
		names = append(names, u.nameOf(id))
	}
	return "; left out: " + strings.Join(names, ", ")
}

func (u *upgrade) upgradedText() string {
	if n := len(u.state.Upgraded); n != 1 {
		return fmt.Sprintf("%d nodes were upgraded", n)
	}
	return "1 node was upgraded"
}

func planMessage(p plan.UpgradePlan) string {
	if len(p.Refusals) > 0 {
		return "it cannot begin: " + refusals(p.Refusals)
	}
	if len(p.Legs) == 0 {
		return "nothing to do"
	}
	var out []string
	for _, l := range p.Legs {
		out = append(out, fmt.Sprintf("%s: %s", describeLeg(l.Leg), count(len(l.Nodes), "node")))
	}
	return strings.Join(out, "; ")
}

func (u *upgrade) nameOf(machine string) string {
	for _, n := range u.seen {
		if n.Machine == machine {
			return n.Name
		}
	}
	return machine
}

// report says what was and was not done.
func (u *upgrade) report() string {
	var pending, failed []string
	for _, n := range u.nodes {
		switch n.State {
		case plan.RollPending, plan.RollRunning:
			text := n.Name
			if n.Note != "" {
				text += " (" + n.Note + ")"
			}
			pending = append(pending, text)
		case plan.RollFailed:
			failed = append(failed, n.Name+": "+n.Note)
		case plan.RollDone, plan.RollSkipped:
		}
	}
	out := u.upgradedText()
	if len(failed) > 0 {
		out += "; failed: " + strings.Join(failed, "; ")
	}
	if len(pending) > 0 {
		out += "; not done: " + strings.Join(pending, ", ")
	}
	if left := u.unfinishedLegs(); len(left) > 0 {
		out += "; not finished: " + strings.Join(left, ", ")
	}
	return out + u.skippedText() + "; start it again to continue with what is left"
}

// unfinishedLegs are those of the plan that were not seen through to their end.
func (u *upgrade) unfinishedLegs() []string {
	var out []string
	for _, l := range u.plan.Legs[min(u.ended, len(u.plan.Legs)):] {
		out = append(out, describeLeg(l.Leg))
	}
	return out
}

// behindText names the nodes that the plan still has to change.
func (u *upgrade) behindText() string {
	var out []string
	for _, l := range u.plan.Legs {
		for _, n := range l.Nodes {
			out = append(out, n.Name)
		}
	}
	return strings.Join(out, ", ")
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func refusals(all []plan.Refusal) string {
	var out []string
	for _, r := range all {
		out = append(out, r.Field+": "+r.Reason)
	}
	return strings.Join(out, "; ")
}
