package main

import (
	"context"
	"fmt"
	"strings"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// upgradeOf asks an upgrade how far it is; without a run id the latest run under
// the cluster's lock.
func upgradeOf(ctx context.Context, c client.Client, name, runID string) (workflows.UpgradeStatus, error) {
	var s workflows.UpgradeStatus
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	v, err := c.QueryWorkflow(ctx, cluster.LifecycleID(name), runID, workflows.QueryUpgrade)
	if err != nil {
		return s, temporalFault("ask the upgrade", err)
	}
	err = v.Get(&s)
	return s, err
}

// upgradeProgress is an upgrade in the form in which runs are shown.
func upgradeProgress(ctx context.Context, c client.Client, name string) (workflows.Progress, error) {
	p, err := progressOf(ctx, c, name, "")
	if err != nil {
		return p, err
	}
	s, err := upgradeOf(ctx, c, name, "")
	if err != nil {
		return p, err
	}
	return rollProgress(p, s, name), nil
}

// phaseOf shows the state of a node in a roll where machines show their phase.
func phaseOf(s plan.RollState) workflows.MemberPhase { return workflows.MemberPhase(s) }

// phaseParked is a node at work that waits for a person.
const phaseParked workflows.MemberPhase = "parked"

// rollProgress shows the nodes of the roll instead of the machines of the
// cluster, and counts them beside the step under way. Whatever waits for a person
// is shown as parked, with what to do.
func rollProgress(p workflows.Progress, s workflows.UpgradeStatus, name string) workflows.Progress {
	p.Nodes = rollRows(s.Nodes)
	for i := range p.Steps {
		if step := &p.Steps[i]; step.State == workflows.StepDoing && s.Leg > 0 {
			step.Detail = strings.Join(append(nonEmpty(step.Detail, rollCount(s.Nodes)), waitsText(s)...), "; ")
		}
	}
	if s.Parked != "" {
		p.Parked = s.Parked
	}
	if p.Parked == "" {
		p.Parked = strings.Join(wantsPerson(s, name), "; ")
	}
	return p
}

func nonEmpty(texts ...string) []string {
	var out []string
	for _, t := range texts {
		if t != "" {
			out = append(out, t)
		}
	}
	return out
}

// wantsPerson is what waits for a person though nothing is wrong.
func wantsPerson(s workflows.UpgradeStatus, name string) []string {
	var out []string
	if s.Asks != "" {
		out = append(out, fmt.Sprintf("asks for approval of %s; give it with: ichor approve %s", s.Asks, name))
	}
	if s.Paused {
		out = append(out, fmt.Sprintf("paused: nodes at work are finished, no other is begun; go on with: ichor resume %s", name))
	}
	return out
}

// waitsText is for what nothing is begun now.
func waitsText(s workflows.UpgradeStatus) []string {
	switch {
	case s.Waits == "" && s.Until.IsZero():
		return nil
	case s.Until.IsZero():
		return []string{s.Waits}
	}
	return []string{strings.TrimSpace(s.Waits + " until " + s.Until.UTC().Format("2006-01-02 15:04 UTC"))}
}

// rollRows are the nodes of a roll where machines are shown.
func rollRows(nodes []workflows.NodeRoll) []workflows.MemberStatus {
	var out []workflows.MemberStatus
	for _, n := range nodes {
		row := workflows.MemberStatus{ID: n.Machine, Name: n.Name, Group: n.Group, Role: n.Role, Phase: phaseOf(n.State), Note: n.Note}
		switch {
		case n.State == plan.RollRunning:
			row.Since = n.Began
			if n.Parked {
				row.Phase = phaseParked
			}
		case n.State != plan.RollPending:
			row.Since = n.Ended
		}
		out = append(out, row)
	}
	return out
}

// rollCount says how far a roll is; zeros are left out.
func rollCount(nodes []workflows.NodeRoll) string {
	if len(nodes) == 0 {
		return ""
	}
	n := map[workflows.MemberPhase]int{}
	for _, row := range rollRows(nodes) {
		n[row.Phase]++
	}
	text := fmt.Sprintf("%d of %d done", n[phaseOf(plan.RollDone)], len(nodes))
	for _, more := range []struct {
		phase workflows.MemberPhase
		what  string
	}{
		{phaseOf(plan.RollRunning), "at work"},
		{phaseParked, "parked"},
		{phaseOf(plan.RollFailed), "failed"},
		{phaseOf(plan.RollSkipped), "left out"},
	} {
		if c := n[more.phase]; c > 0 {
			text += fmt.Sprintf(", %d %s", c, more.what)
		}
	}
	return text
}

// lastUpgrade is the report of the last upgrade that has ended, which needs no
// worker. Runs that only planned, or found nothing to do, report nothing.
func lastUpgrade(ctx context.Context, c client.Client, name, latest string) string {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	runs := []string{latest}
	query := fmt.Sprintf("WorkflowId = '%s' AND WorkflowType = '%s' AND ExecutionStatus IN ('Completed', 'Failed', 'Canceled', 'Terminated')",
		cluster.LifecycleID(name), workflows.TypeRollingUpgrade)
	// Without visibility, the latest has to do.
	if r, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: 20}); err == nil {
		for _, e := range r.GetExecutions() {
			if id := e.GetExecution().GetRunId(); id != latest {
				runs = append(runs, id)
			}
		}
	}
	for _, run := range runs {
		var r workflows.UpgradeResult
		err := runFailure(c.GetWorkflow(ctx, cluster.LifecycleID(name), run).Get(ctx, &r))
		switch {
		case ctx.Err() != nil:
			return ""
		case err != nil:
			return err.Error()
		case r.Upgraded > 0:
			return r.Message
		}
	}
	return ""
}

// legText says what a leg changes.
func legText(l plan.Leg) string {
	switch l.Kind {
	case plan.LegTalos:
		switch {
		case l.From.Talos == l.To.Talos:
			return fmt.Sprintf("Talos %s with schematic %s", l.To.Talos, short(l.To.Schematic))
		case l.From.Schematic != l.To.Schematic && l.To.Schematic != "":
			return fmt.Sprintf("Talos %s to %s with schematic %s", l.From.Talos, l.To.Talos, short(l.To.Schematic))
		}
		return fmt.Sprintf("Talos %s to %s", l.From.Talos, l.To.Talos)
	case plan.LegKubernetes:
		return fmt.Sprintf("Kubernetes %s to %s", l.From.Kubernetes, l.To.Kubernetes)
	case plan.LegConfig:
		return "machine configs"
	}
	return string(l.Kind)
}

func versionsText(v plan.Versions) string {
	var out []string
	if v.Talos != "" {
		out = append(out, "Talos "+v.Talos)
	}
	if v.Schematic != "" {
		out = append(out, "schematic "+short(v.Schematic))
	}
	if v.Kubernetes != "" {
		out = append(out, "Kubernetes "+v.Kubernetes)
	}
	return strings.Join(out, ", ")
}

// short is the beginning of a digest, enough to tell a few apart.
func short(digest string) string { return digest[:min(len(digest), 12)] }
