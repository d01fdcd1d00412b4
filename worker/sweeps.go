package main

import (
	"context"
	"errors"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// schedules keeps one Temporal Schedule per cluster.
type schedules struct {
	temporal client.Client
	queue    string
}

func (s schedules) EnsureSchedule(ctx context.Context, ref cluster.Ref, settings activities.SweepSettings) error {
	_, err := s.temporal.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID:   cluster.SweepID(ref.Name),
		Spec: client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: settings.Every}}},
		Action: &client.ScheduleWorkflowAction{
			ID: cluster.SweepID(ref.Name), Workflow: workflows.TypeSweepOrphans, TaskQueue: s.queue,
			Args: []any{workflows.SweepInput{Cluster: ref, Settings: settings}},
		},
		Note: "looks for machines of cluster " + ref.Name + " that no group claims",
	})
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return nil
	}
	return temporalFault("schedule sweeps", err)
}

func (s schedules) DeleteSchedule(ctx context.Context, ref cluster.Ref) error {
	err := s.temporal.ScheduleClient().GetHandle(ctx, cluster.SweepID(ref.Name)).Delete(ctx)
	var absent *serviceerror.NotFound
	if errors.As(err, &absent) {
		return nil
	}
	return temporalFault("end sweeps", err)
}

// owners asks the running groups what they claim.
type owners struct{ temporal client.Client }

func (o owners) Claims(ctx context.Context, entities []string) ([]string, error) {
	var out []string
	for _, id := range entities {
		// Queries are answered for terminated runs, too.
		run, _, err := runs(o).Holder(ctx, id)
		if err != nil {
			return nil, err
		}
		if run == "" {
			continue
		}
		v, err := o.temporal.QueryWorkflow(ctx, id, "", workflows.QueryGroup)
		if err != nil {
			return nil, temporalFault("ask "+id+" for its machines", err)
		}
		var s workflows.GroupStatus
		if err := v.Get(&s); err != nil {
			return nil, temporalFault("ask "+id+" for its machines", err)
		}
		for _, m := range s.Members {
			out = append(out, m.CloudID)
		}
	}
	return out, nil
}

// runs looks at workflow runs.
type runs struct{ temporal client.Client }

func (r runs) Holder(ctx context.Context, id string) (runID, kind string, err error) {
	d, err := r.temporal.DescribeWorkflowExecution(ctx, id, "")
	var absent *serviceerror.NotFound
	if errors.As(err, &absent) {
		return "", "", nil
	}
	if err != nil {
		return "", "", temporalFault("look at "+id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return "", "", nil
	}
	return info.GetExecution().GetRunId(), info.GetType().GetName(), nil
}

func temporalFault(op string, err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Unavailable, op, err)
}
