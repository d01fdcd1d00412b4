package main

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	enumspb "go.temporal.io/api/enums/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/workflows"
)

// renewing rejects the first questions as a run does that has just ended.
type renewing struct {
	client.Client
	ends []enumspb.WorkflowExecutionStatus
}

func (r *renewing) QueryWorkflowWithOptions(context.Context, *client.QueryWorkflowWithOptionsRequest) (*client.QueryWorkflowWithOptionsResponse, error) {
	if len(r.ends) == 0 {
		return nil, serviceerror.NewUnavailable("the next run was asked")
	}
	end := r.ends[0]
	r.ends = r.ends[1:]
	return &client.QueryWorkflowWithOptionsResponse{QueryRejected: &querypb.QueryRejected{Status: end}}, nil
}

func TestRunsThatEndWhileAsked(t *testing.T) {
	again := enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
	var next *serviceerror.Unavailable
	if _, err := groupOf(t.Context(), &renewing{ends: []enumspb.WorkflowExecutionStatus{again, again}}, "x"); !errors.As(err, &next) {
		t.Errorf("after continue-as-new the next run is to be asked: %v", err)
	}
	if _, err := groupOf(t.Context(), &renewing{ends: []enumspb.WorkflowExecutionStatus{enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED}}, "x"); !ended(err) {
		t.Errorf("a group that has ended is absent: %v", err)
	}
}

func TestMemosAreCounted(t *testing.T) {
	m := groupMemo{workflows.GroupMemo{
		Ready: 3, Wanted: []workflows.InstanceRange{{From: 2, To: 4}, {From: 0, To: 0}},
		Others: []workflows.MemoInstance{{Phase: workflows.MemberBooting}, {Phase: workflows.MemberFailed}, {Phase: workflows.MemberDraining}, {Phase: workflows.MemberGone}},
	}}
	if diff := cmp.Diff(counts{Ready: 3, Creating: 5, Failed: 1, Deleting: 1}, m.counts()); diff != "" {
		t.Error(diff)
	}
}
