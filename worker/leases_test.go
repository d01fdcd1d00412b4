package main

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// leaseServer answers updates as a server does.
type leaseServer struct {
	client.Client
	asked  []client.UpdateWorkflowOptions
	refuse error // instead of accepting
	answer error // of the handler
}

func (s *leaseServer) UpdateWorkflow(_ context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	s.asked = append(s.asked, o)
	return leaseHandle{err: s.answer}, s.refuse
}

type leaseHandle struct {
	client.WorkflowUpdateHandle
	err error
}

func (h leaseHandle) Get(_ context.Context, out any) error {
	if h.err == nil {
		*out.(*activities.LeaseResult) = activities.LeaseResult{Held: true}
	}
	return h.err
}

func TestLeases(t *testing.T) {
	app := func(kind string) error {
		return temporal.NewNonRetryableApplicationError("somebody works on it", kind, nil)
	}
	in := activities.LeaseInput{Ref: cluster.Ref{Name: "demo", UID: "u1"}, Group: "worker", Machine: "w1", Holder: "h", RequestID: "r1"}
	for _, tc := range []struct {
		name           string
		refuse, answer error
		want           fault.Kind
	}{
		{name: "held"},
		{name: "somebody else's", answer: app(string(fault.Conflict)), want: fault.Conflict},
		{name: "no such member", answer: app(string(fault.NotFound)), want: fault.NotFound},
		{name: "refused by the validator", refuse: app(string(fault.Invalid)), want: fault.Invalid},
		{name: "refused otherwise", answer: app("wrapError"), want: fault.Conflict},
		{name: "no entity", refuse: serviceerror.NewNotFound("workflow not found"), want: fault.NotFound},
		{name: "server away", refuse: serviceerror.NewUnavailable("refused"), want: fault.Unavailable},
		{name: "too late", refuse: context.DeadlineExceeded, want: fault.Unavailable},
		{name: "unknown", answer: errors.New("what"), want: fault.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &leaseServer{refuse: tc.refuse, answer: tc.answer}
			out, err := groupLeases{s}.Lease(t.Context(), in)
			if fault.KindOf(err) != tc.want || out.Held != (tc.want == "") {
				t.Fatalf("got %+v, %v; want kind %q", out, err, tc.want)
			}
			want := []client.UpdateWorkflowOptions{{
				UpdateID: "r1", WorkflowID: "cluster/demo/group/worker", UpdateName: "lease", Args: []any{in}, WaitForStage: client.WorkflowUpdateStageCompleted,
			}}
			if diff := cmp.Diff(want, s.asked, cmpopts.IgnoreUnexported(client.UpdateWorkflowOptions{})); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}
