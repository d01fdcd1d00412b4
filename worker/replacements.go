package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// groupReplacements asks the entities of groups to replace members.
type groupReplacements struct{ temporal client.Client }

// Replace implements activities.GroupReplacements. Each attempt is an update of its
// own: the server would answer a repeated id with its first answer, a refusal too.
// That a member is replaced once is the group's to see to.
func (g groupReplacements) Replace(ctx context.Context, in activities.ReplaceInput) (activities.ReplaceResult, error) {
	var out activities.ReplaceResult
	op := "ask for a replacement of " + in.Machine
	handle, err := g.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: cluster.GroupID(in.Ref.Name, in.Group), UpdateName: workflows.UpdateReplace,
		Args: []any{in}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, &out)
	}
	return out, updateFault(op, err)
}

// Progress implements activities.GroupReplacements.
func (g groupReplacements) Progress(ctx context.Context, in activities.ReplaceInput) (activities.ReplaceProgress, error) {
	const op = "ask how far a replacement is"
	var out activities.ReplaceProgress
	v, err := g.temporal.QueryWorkflow(ctx, cluster.GroupID(in.Ref.Name, in.Group), "", workflows.QueryGroup)
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return out, fault.New(fault.NotFound, op, "the group's entity does not run")
	}
	if err != nil {
		return out, temporalFault(op, err)
	}
	var s workflows.GroupStatus
	if err := v.Get(&s); err != nil {
		return out, fault.New(fault.Internal, op, "the group's answer cannot be read")
	}
	return replaced(s, in.Machine), nil
}

// replaced reads a replacement out of a group's status.
func replaced(s workflows.GroupStatus, machine string) activities.ReplaceProgress {
	find := func(f func(workflows.GroupMember) bool) *workflows.GroupMember {
		if i := slices.IndexFunc(s.Members, f); i >= 0 {
			return &s.Members[i]
		}
		return nil
	}
	old := find(func(m workflows.GroupMember) bool { return m.ID == machine })
	heir := find(func(m workflows.GroupMember) bool { return m.Surge && m.For == machine && !m.Leaving() })
	switch {
	case old == nil:
		return activities.ReplaceProgress{Done: true}
	case old.Leaving():
		return activities.ReplaceProgress{Note: fmt.Sprintf("%s is %s: %s", old.Name, old.Phase, old.Note)}
	case heir != nil:
		return activities.ReplaceProgress{Note: fmt.Sprintf("%s is %s: %s", heir.Name, heir.Phase, heir.Note)}
	case old.ReplaceFailed != "":
		return activities.ReplaceProgress{Failed: old.ReplaceFailed}
	}
	return activities.ReplaceProgress{Note: "the group has not begun"}
}
