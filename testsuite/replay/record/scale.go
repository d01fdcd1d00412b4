package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// scale brings a group through everything that scaling can ask of it: growth, a
// refusal of the cloud that is given up again, a pause, a drain, and a new run.
func (r *recorder) scale(ctx context.Context) error {
	c, err := r.spec("scale")
	if err != nil {
		return err
	}
	one := 1
	c.Spec.NodeGroups = c.Spec.NodeGroups[:1]
	ng := &c.Spec.NodeGroups[0]
	ng.Min, ng.Max, ng.Count = 0, 5, &one
	group := "scale/" + ng.Name
	id := cluster.GroupID("scale", ng.Name)
	signal := func(op string, req workflows.ScaleRequest) func(context.Context) error {
		return func(ctx context.Context) error { return r.temporal.SignalWorkflow(ctx, id, "", op, req) }
	}
	cli := func(args ...string) func(context.Context) error {
		return func(ctx context.Context) error { return r.ichor(ctx, codeOK, args...) }
	}
	failed := workflows.PlaceholderInstance("scale", ng.Name, "refused", 0)
	return all(ctx,
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c) },
		cli("scale", group, "--to", "3", "--wait"),
		func(ctx context.Context) error { return r.full(ctx, "-"+ng.Name+"-") },
		signal(workflows.SignalIncreaseSize, workflows.ScaleRequest{RequestID: "refused", Delta: 1, Origin: workflows.OriginAutoscaler}),
		func(ctx context.Context) error {
			return r.groupIs(ctx, id, func(s workflows.GroupStatus) bool { return phases(s)[workflows.MemberFailed] == 1 })
		},
		signal(workflows.SignalDeleteNodes, workflows.ScaleRequest{RequestID: "given-up", Nodes: []string{failed}, Origin: workflows.OriginAutoscaler}),
		r.ClearFaults,
		cli("pause", group, "--reason", "recording"),
		cli("resume", group),
		cli("scale", group, "--to", "1", "--wait"),
		func(ctx context.Context) error { return r.toNextRun(ctx, "group-continued", id) },
		cli("scale", group, "--to", "2", "--wait"),
		r.deleting("scale"),
		r.saving("group-scaled", id),
	)
}

func phases(s workflows.GroupStatus) map[workflows.MemberPhase]int {
	out := map[workflows.MemberPhase]int{}
	for _, m := range s.Members {
		out[m.Phase]++
	}
	return out
}

func (r *recorder) groupIs(ctx context.Context, id string, ok func(workflows.GroupStatus) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		var s workflows.GroupStatus
		v, err := r.temporal.QueryWorkflow(ctx, id, "", workflows.QueryGroup)
		if err == nil && v.Get(&s) == nil && ok(s) {
			return nil
		}
	}
	return fmt.Errorf("%s never came to the state that is to be recorded: %w", id, ctx.Err())
}

// toNextRun asks until the run that is there has continued as new, and keeps it.
func (r *recorder) toNextRun(ctx context.Context, file, id string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := r.temporal.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return err
	}
	run := d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	for {
		now, err := r.temporal.DescribeWorkflowExecution(ctx, id, "")
		if err != nil {
			return err
		}
		if now.GetWorkflowExecutionInfo().GetExecution().GetRunId() != run {
			r.keeps = append(r.keeps, kept{file, id, run})
			return nil
		}
		if err := r.temporal.SignalWorkflow(ctx, id, "", workflows.SignalResume, nil); err != nil {
			return err
		}
	}
}
