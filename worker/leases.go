package main

import (
	"context"
	"errors"
	"slices"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// groupLeases asks the entities of groups.
type groupLeases struct{ temporal client.Client }

// Lease implements activities.GroupLeases. The update's id is the request's: the
// server answers a repetition with the first answer.
func (g groupLeases) Lease(ctx context.Context, in activities.LeaseInput) (activities.LeaseResult, error) {
	var out activities.LeaseResult
	op := "ask for the lease of " + in.Machine
	handle, err := g.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		UpdateID: in.RequestID, WorkflowID: cluster.GroupID(in.Ref.Name, in.Group), UpdateName: workflows.UpdateLease,
		Args: []any{in}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, &out)
	}
	return out, updateFault(op, err)
}

// updateFault tells what a workflow refused from what never reached it.
func updateFault(op string, err error) error {
	if err == nil {
		return nil
	}
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		kind := fault.Kind(app.Type())
		if !slices.Contains(fault.Kinds(), kind) {
			kind = fault.Conflict
		}
		return fault.New(kind, op, "%s", app.Message())
	}
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return fault.New(fault.NotFound, op, "the group's entity does not run")
	}
	return temporalFault(op, err)
}
