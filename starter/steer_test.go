package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// flakyUpgrade answers updates with one error after the other, then with success.
type flakyUpgrade struct {
	client.Client
	errs []error
	sent []string
	// run and status are what runs under the lock.
	run    string
	status enumspb.WorkflowExecutionStatus
}

type upgradeHandle struct{ client.WorkflowUpdateHandle }

func (upgradeHandle) Get(_ context.Context, v any) error {
	*v.(*workflows.UpgradeAnswer) = workflows.UpgradeAnswer{Message: "done"}
	return nil
}

func (f *flakyUpgrade) UpdateWorkflow(_ context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	f.sent = append(f.sent, strings.TrimSpace(o.UpdateName+" "+o.UpdateID+" "+o.WorkflowID+" "+o.RunID))
	if len(f.errs) == 0 {
		return upgradeHandle{}, nil
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func (f *flakyUpgrade) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
		Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: f.run}, Status: f.status, StartTime: timestamppb.Now(),
		Type: &commonpb.WorkflowType{Name: workflows.TypeRollingUpgrade},
	}}, nil
}

func TestRequestsToUpgradesAreRepeatedUntilAnswered(t *testing.T) {
	gone := serviceerror.NewNotFound("workflow execution already completed")
	running, completed := enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	once := "pause r1 cluster/demo/lifecycle"
	for _, tc := range []struct {
		name   string
		errs   []error
		op     string
		run    string
		status enumspb.WorkflowExecutionStatus
		want   []string
		code   int
		says   string
	}{
		{"lost on the way", []error{serviceerror.NewUnavailable("refused"), serviceerror.NewWorkflowNotReady("busy")}, workflows.SignalPause, "", running, []string{once, once, once}, exitOK, ""},
		{"between two runs", []error{gone}, workflows.SignalPause, "", running, []string{once, once}, exitOK, ""},
		{"ended by a new run after it was accepted", []error{temporal.NewApplicationError("closed", closedMeanwhile)}, workflows.SignalPause, "", running, []string{once, once}, exitOK, ""},
		{"over", []error{gone}, workflows.SignalPause, "", completed, []string{once}, exitNotFound, "the upgrade has ended"},
		{"an approval is for what was asked", []error{gone}, workflows.SignalApprove, "earlier", running, []string{"approve r1 cluster/demo/lifecycle earlier"}, exitConflict, "went on in a new run"},
		{"refused", []error{temporal.NewApplicationError("nothing waits", string(fault.Conflict))}, workflows.SignalPause, "", running, []string{once}, exitConflict, "demo: pause: nothing waits (Conflict)"},
		{"not allowed", []error{serviceerror.NewPermissionDenied("no", "")}, workflows.SignalPause, "", running, []string{once}, exitUnavailable, "no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &flakyUpgrade{errs: tc.errs, run: "now", status: tc.status}
			a := &app{out: io.Discard, err: io.Discard}
			res, err := a.tell(t.Context(), f, "demo", tc.run, tc.op, workflows.UpgradeRequest{RequestID: "r1"}, time.Minute)
			if exitCode(err) != tc.code {
				t.Fatalf("exit code %d, want %d (%v)", exitCode(err), tc.code, err)
			}
			if err == nil && res.Message != "done" {
				t.Errorf("answer %+v", res)
			}
			if err != nil {
				wantText(t, err.Error(), tc.says)
			}
			if diff := cmp.Diff(tc.want, f.sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoAnswerFromAnUpgrade(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	var said strings.Builder
	a := &app{out: io.Discard, err: &said}
	_, err := a.tell(ctx, mute{interrupt: interrupt}, "demo", "", workflows.SignalPause, workflows.UpgradeRequest{RequestID: "r1"}, time.Minute)
	if exitCode(err) != exitInterrupted {
		t.Errorf("exit code %d (%v)", exitCode(err), err)
	}
	wantText(t, said.String(), "Request r1 may still be obeyed", "ichor status demo")

	_, err = a.tell(t.Context(), mute{interrupt: func() {}}, "demo", "", workflows.SignalPause, workflows.UpgradeRequest{RequestID: "r1"}, time.Millisecond)
	if exitCode(err) != exitUnanswered {
		t.Errorf("exit code %d (%v)", exitCode(err), err)
	}
	wantText(t, err.Error(), "cluster demo: no answer within 1ms", "Temporal does not answer (gone)", "--request-id r1")
}
