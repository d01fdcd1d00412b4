package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// flaky answers updates with one error after the other, then with success.
type flaky struct {
	client.Client
	errs []error
	ids  []string
}

type answeredHandle struct{ client.WorkflowUpdateHandle }

func (answeredHandle) Get(_ context.Context, v any) error {
	*v.(*workflows.ScaleResult) = workflows.ScaleResult{Accepted: true, Target: 7}
	return nil
}

func (f *flaky) UpdateWorkflow(_ context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	f.ids = append(f.ids, o.UpdateID+" "+o.UpdateName+" "+o.WorkflowID)
	if len(f.errs) == 0 {
		return answeredHandle{}, nil
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func (f *flaky) DescribeWorkflow(context.Context, string, string) (*client.WorkflowExecutionDescription, error) {
	d := &client.WorkflowExecutionDescription{}
	d.Status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	return d, nil
}

func TestEveryAttemptHasTheSameID(t *testing.T) {
	for _, err := range []error{
		serviceerror.NewWorkflowNotReady("Unable to perform workflow execution update due to unexpected workflow task failure."),
		serviceerror.NewUnavailable("connection refused"),
		serviceerror.NewDeadlineExceeded("too late"),
		serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT, "too many updates"),
		serviceerror.NewNotFound("workflow execution already completed"),
		client.NewWorkflowUpdateServiceTimeoutOrCanceledError(context.DeadlineExceeded),
		temporal.NewApplicationError("Workflow Update failed because the Workflow completed before the Update completed.", closedMeanwhile),
	} {
		f := &flaky{errs: []error{err}}
		a := &app{out: io.Discard, err: io.Discard}
		res, got := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalSetTarget, workflows.ScaleRequest{RequestID: "r1"}, time.Minute)
		if got != nil || res.Target != 7 {
			t.Errorf("after %v: %+v, %v", err, res, got)
		}
		once := "r1 set-target cluster/demo/group/worker"
		if diff := cmp.Diff([]string{once, once}, f.ids); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", err, diff)
		}
	}
	f := &flaky{errs: []error{serviceerror.NewPermissionDenied("no", "")}}
	a := &app{out: io.Discard, err: io.Discard}
	if _, err := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalSetTarget, workflows.ScaleRequest{RequestID: "r1"}, time.Minute); exitCode(err) != exitUnavailable || len(f.ids) != 1 {
		t.Errorf("not allowed: %v after %d attempts", err, len(f.ids))
	}
}

func (f *flaky) SignalWorkflow(_ context.Context, id, _, name string, arg any) error {
	f.ids = append(f.ids, name+" "+arg.(workflows.ScaleRequest).RequestID+" "+id)
	return nil
}

// TestRunsOfOlderCode asks a run that cannot answer yet to continue as one that
// can, once.
func TestRunsOfOlderCode(t *testing.T) {
	old := temporal.NewApplicationError("this run of the group began before it could answer", string(fault.Conflict))
	f := &flaky{errs: []error{old}}
	a := &app{out: io.Discard, err: io.Discard}
	if _, err := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Minute); err != nil {
		t.Error(err)
	}
	asked := "r1 pause cluster/demo/group/worker"
	if diff := cmp.Diff([]string{asked, "cancel-request r1.handover cluster/demo/group/worker", asked}, f.ids); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	f = &flaky{errs: []error{old, old, old}}
	if _, err := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Minute); err != nil || len(f.ids) != 5 {
		t.Errorf("it took a while: %v after %q", err, f.ids)
	}
	f = &flaky{errs: []error{old}}
	if _, err := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Millisecond); exitCode(err) != exitConflict {
		t.Errorf("it took too long: %v", err)
	}
}

// mute never answers; it interrupts whoever asks.
type mute struct {
	client.Client
	interrupt func()
}

func (m mute) UpdateWorkflow(ctx context.Context, _ client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	m.interrupt()
	<-ctx.Done()
	return nil, client.NewWorkflowUpdateServiceTimeoutOrCanceledError(ctx.Err())
}

func (mute) DescribeTaskQueue(context.Context, string, enumspb.TaskQueueType) (*workflowservice.DescribeTaskQueueResponse, error) {
	return nil, serviceerror.NewUnavailable("gone")
}

func TestInterruptedWhileAsking(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	var said strings.Builder
	a := &app{out: io.Discard, err: &said}
	_, err := a.request(ctx, mute{interrupt: interrupt}, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Minute)
	if exitCode(err) != exitInterrupted {
		t.Errorf("exit code %d (%v)", exitCode(err), err)
	}
	wantText(t, said.String(), "Request r1 may still be applied", "--request-id r1")

	_, err = a.request(t.Context(), mute{interrupt: func() {}}, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Millisecond)
	if exitCode(err) != exitUnanswered {
		t.Errorf("exit code %d (%v)", exitCode(err), err)
	}
	wantText(t, err.Error(), "Temporal does not answer (gone)", "request r1 may still be applied")
}
