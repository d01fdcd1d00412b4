package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
)

// SweepInput is the frozen argument of a cluster's schedule.
type SweepInput struct {
	Cluster  cluster.Ref              `json:"cluster"`
	Settings activities.SweepSettings `json:"settings"`
}

// SweepResult is what one sweep found; the next sweep reads it.
type SweepResult struct {
	Unclaimed []string `json:"unclaimed,omitempty"`
	// Orphans names the machines; Deleted says whether they were removed.
	Orphans []string `json:"orphans,omitempty"`
	Deleted bool     `json:"deleted,omitempty"`
	Seen    int      `json:"seen"`
	Skipped string   `json:"skipped,omitempty"`
}

// SweepOrphans looks for machines of a cluster that none of its groups claims:
// what a terminated workflow or a lost database leaves behind. A machine is an
// orphan only when two sweeps in a row found it unclaimed and it is old; without
// SweepDelete the sweep only tells.
func SweepOrphans(ctx workflow.Context, in SweepInput) (SweepResult, error) {
	if err := checkScheduledID(ctx, cluster.SweepID(in.Cluster.Name), TypeSweepOrphans); err != nil {
		return SweepResult{}, err
	}
	d := &desk{}
	var before SweepResult
	if workflow.HasLastCompletionResult(ctx) {
		if err := workflow.GetLastCompletionResult(ctx, &before); err != nil {
			return SweepResult{}, err
		}
	}
	found, err := call(ctx, d, d.short("compare machines with what groups claim"), aSweeps.FindOrphans,
		activities.FindOrphansInput{Ref: in.Cluster, Age: in.Settings.Age, Suspects: before.Unclaimed})
	if err != nil {
		return SweepResult{}, err
	}
	out := SweepResult{Unclaimed: found.Unclaimed, Seen: found.Seen, Skipped: found.Skipped}
	for _, m := range found.Orphans {
		out.Orphans = append(out.Orphans, fmt.Sprintf("%s (%s)", m.Name, m.Ref.Cloud))
	}
	if len(found.Orphans) == 0 {
		return out, nil
	}
	workflow.GetLogger(ctx).Warn("machines that nobody claims", "cluster", in.Cluster.Name, "machines", out.Orphans)
	if in.Settings.Mode != activities.SweepDelete {
		return out, nil
	}
	rec, err := call(ctx, d, d.short("read the record"), aRecords.GetRecord, activities.GetRecordInput{Name: in.Cluster.Name})
	if err != nil {
		return out, err
	}
	for _, m := range found.Orphans {
		err := do(ctx, d, d.waiting("delete orphan "+m.Name, d.timing().Delete), aCloud.DeleteMachine,
			activities.DeleteMachineInput{Cloud: rec.Spec.Cloud, Ref: m.Ref})
		if err != nil {
			return out, err
		}
	}
	out.Deleted = true
	return out, nil
}
