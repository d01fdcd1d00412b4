package snapshot

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// stub answers signals with errors, in order, and lists two runs of one group.
type stub struct {
	client.Client
	service service
	query   string
}

type service struct {
	workflowservice.WorkflowServiceClient
	answers []error
	tries   int
}

func (s *stub) WorkflowService() workflowservice.WorkflowServiceClient { return &s.service }

func (s *service) SignalWorkflowExecution(context.Context, *workflowservice.SignalWorkflowExecutionRequest, ...grpc.CallOption) (*workflowservice.SignalWorkflowExecutionResponse, error) {
	err := s.answers[s.tries]
	s.tries++
	return &workflowservice.SignalWorkflowExecutionResponse{}, err
}

func (s *stub) ListWorkflow(_ context.Context, r *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	s.query = r.GetQuery()
	e := &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: "cluster/demo/group/worker"}}
	return &workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflowpb.WorkflowExecutionInfo{e, e}}, nil
}

// What a try may have done is not made certain by how a later one fails.
func TestAnErrorAfterAnUncertainTryIsUncertain(t *testing.T) {
	reset, busy := errors.New("connection reset"), serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, "busy")
	denied, invalid := serviceerror.NewPermissionDenied("denied", ""), serviceerror.NewInvalidArgument("too large")
	missing := serviceerror.NewNotFound("no such workflow")
	for _, c := range []struct {
		name    string
		answers []error
		want    fault.Kind
	}{
		{"accepted", []error{nil}, ""},
		{"accepted later", []error{reset, busy, nil}, ""},
		{"denied", []error{denied}, fault.Unauthorized},
		{"denied after a refusal", []error{busy, denied}, fault.Unauthorized},
		{"denied after no answer", []error{reset, denied}, fault.Ambiguous},
		{"invalid after no answer", []error{busy, reset, busy, invalid}, fault.Ambiguous},
		// A run that has ended obeys nobody.
		{"no such run after no answer", []error{reset, missing}, fault.NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &stub{service: service{answers: c.answers}}
			back := &temporal{client: s, converter: converter.GetDefaultDataConverter()}
			wantKind(t, back.signal(t.Context(), "id", workflows.SignalIncreaseSize, "r1", workflows.ScaleRequest{Delta: 1}), c.want)
			if s.service.tries != len(c.answers) {
				t.Errorf("%d tries, want %d", s.service.tries, len(c.answers))
			}
		})
	}
}

// A run that just continued as new stands for one that is not indexed yet.
func TestGroupsBetweenTwoRunsAreListed(t *testing.T) {
	s := &stub{}
	ids, err := (&temporal{client: s}).groups(t.Context(), "it's")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"cluster/demo/group/worker", "cluster/demo/group/worker"}, ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	_, rest, ok := strings.Cut(s.query, "(ExecutionStatus = 'Running' OR ExecutionStatus = 'ContinuedAsNew' AND CloseTime > '")
	since, rest, closed := strings.Cut(rest, "') AND ")
	at, err := time.Parse(time.RFC3339, since)
	if !ok || !closed || err != nil || at.After(time.Now()) || !strings.HasSuffix(rest, "= 'it''s'") {
		t.Errorf("query %q: %v", s.query, err)
	}
}

func TestTheBeginningOfAHistory(t *testing.T) {
	h := history{}
	(&temporal{converter: converter.GetDefaultDataConverter()}).take(&h, &historypb.HistoryEvent{
		EventId: 1, EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
		Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{
			ContinuedExecutionRunId: "before", OriginalExecutionRunId: "first",
		}},
	})
	if h.previous != "before" || h.original != "first" || h.input != nil {
		t.Errorf("history %+v", h)
	}
}
