package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// backend is what the snapshot asks of Temporal.
type backend interface {
	// groups lists the workflow ids of running groups, as far as they are
	// indexed. An id may be there twice, and a group may have ended.
	groups(ctx context.Context, cluster string) ([]string, error)
	// describe is exact. NotFound means that there never was such a group, or
	// none that is still remembered.
	describe(ctx context.Context, id string) (description, error)
	// query is exact but needs a worker.
	query(ctx context.Context, id string) (workflows.GroupStatus, error)
	// history reads the signals of one run after an event, and how the run began
	// if after is 0. length is how many events there are, if that is known.
	history(ctx context.Context, id, runID string, after, length int64) (history, error)
	// signal makes a request durable. An error is Ambiguous unless it is certain
	// that the request did not arrive.
	signal(ctx context.Context, id, name, requestID string, arg any) error
}

// description is what the server itself knows of a group.
type description struct {
	runID  string
	length int64
	closed bool
	// busy says that a worker has a workflow task of it: signals that come
	// meanwhile are durable, but in history only when that task has ended.
	busy bool
	// facts and memo are nil for an entity that has not written them yet.
	facts *workflows.GroupFacts
	memo  *workflows.GroupMemo
}

// history is a part of one run.
type history struct {
	signals []signal // oldest first
	last    int64    // id of the last event
	// previous is the run before this one, input what this one began with; only
	// if the part reaches the beginning.
	previous string
	input    *workflows.GroupInput
	// original is the run whose events a reset run repeats, with the same ids;
	// of any other run it is the run itself. Known like previous.
	original string
}

// temporal is the real backend.
type temporal struct {
	client    client.Client
	namespace string
	converter converter.DataConverter
	identity  string
	members   members
}

// op names reads in errors.
const op = "read node groups from Temporal"

// readFault gives an error of a read its kind: whatever the reason, the state is
// not known.
func readFault(what string, err error) error {
	return fault.New(fault.Unavailable, op, "%s: %v", what, err)
}

// indexed is how long the server may take to index a run: hundreds of times what
// it takes. A run that ended by continuing as new less than that ago stands for
// its successor.
const indexed = 2 * time.Minute

func (t *temporal) groups(ctx context.Context, cluster string) ([]string, error) {
	query := fmt.Sprintf("%s = 'group' AND WorkflowType = '%s' AND (ExecutionStatus = 'Running' OR ExecutionStatus = 'ContinuedAsNew' AND CloseTime > '%s')",
		workflows.AttrKind.GetName(), workflows.TypeScaleNodeGroup, time.Now().Add(-indexed).UTC().Format(time.RFC3339))
	if cluster != "" {
		query += fmt.Sprintf(" AND %s = '%s'", workflows.AttrCluster.GetName(), strings.ReplaceAll(cluster, "'", "''"))
	}
	var ids []string
	for token := []byte(nil); ; {
		page, err := t.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: t.namespace, PageSize: 1000, NextPageToken: token, Query: query,
		})
		var invalid *serviceerror.InvalidArgument
		if errors.As(err, &invalid) && token == nil {
			// No worker has made the search attributes known yet: nothing is
			// indexed by them.
			return nil, nil
		}
		if err != nil {
			return nil, readFault("list groups", err)
		}
		for _, e := range page.GetExecutions() {
			ids = append(ids, e.GetExecution().GetWorkflowId())
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			return ids, nil
		}
	}
}

func (t *temporal) describe(ctx context.Context, id string) (description, error) {
	answer, err := t.client.DescribeWorkflowExecution(ctx, id, "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		t.members.forget(id)
		return description{}, fault.New(fault.NotFound, op, "%s: %v", id, err)
	}
	if err != nil {
		return description{}, readFault(id, err)
	}
	info := answer.GetWorkflowExecutionInfo()
	d := description{runID: info.GetExecution().GetRunId(), length: info.GetHistoryLength()}
	d.busy = answer.GetPendingWorkflowTask().GetState() == enumspb.PENDING_WORKFLOW_TASK_STATE_STARTED
	switch info.GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED:
	case enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW, enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED:
		return d, readFault(id, errors.New("it changes to a new run"))
	default:
		d.closed = true
		t.members.forget(id)
		return d, nil
	}
	fields := info.GetMemo().GetFields()
	if d.facts, err = field[workflows.GroupFacts](t, fields, workflows.MemoFacts); err != nil {
		return d, readFault(id, err)
	}
	if d.memo, err = field[workflows.GroupMemo](t, fields, workflows.MemoState); err != nil {
		return d, readFault(id, err)
	}
	return d, nil
}

// field decodes a memo field; nil if there is none.
func field[T any](t *temporal, fields map[string]*commonpb.Payload, name string) (*T, error) {
	p, ok := fields[name]
	if !ok || len(p.GetData()) == 0 {
		return nil, nil
	}
	out := new(T)
	if err := t.converter.FromPayload(p, out); err != nil {
		return nil, fmt.Errorf("memo field %s: %w", name, err)
	}
	return out, nil
}

func (t *temporal) query(ctx context.Context, id string) (workflows.GroupStatus, error) {
	var a answer
	value, err := t.client.QueryWorkflow(ctx, id, "", workflows.QueryGroup)
	if err == nil {
		err = value.Get(&a)
	}
	if err == nil {
		a.GroupStatus.Members, err = t.members.decode(id, a.Members)
	}
	if err != nil {
		return workflows.GroupStatus{}, readFault(id, err)
	}
	return a.GroupStatus, nil
}

// historyPage is the number of events that are read at once, at most; the server
// warns of more than 256. margin are those that may have come since somebody
// looked how many there are.
const historyPage, margin = 250, 10

// pageOf is the size of pages in which the events after one are read. The server
// takes as long for a page as it has events, whether they are new or not.
func pageOf(after, length int64) int32 {
	if length <= after {
		length = after + historyPage
	}
	return int32(min(length-after+margin, historyPage))
}

func (t *temporal) history(ctx context.Context, id, runID string, after, length int64) (history, error) {
	h := history{last: after}
	for token := []byte(nil); ; {
		page, err := t.client.WorkflowService().GetWorkflowExecutionHistoryReverse(ctx, &workflowservice.GetWorkflowExecutionHistoryReverseRequest{
			Namespace: t.namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: runID},
			MaximumPageSize: pageOf(after, length), NextPageToken: token,
		})
		var missing *serviceerror.NotFound
		if errors.As(err, &missing) {
			return h, fault.New(fault.NotFound, op, "%s: history of run %s: %v", id, runID, err)
		}
		if err != nil {
			return h, readFault(id+": history", err)
		}
		for _, e := range page.GetHistory().GetEvents() {
			if e.GetEventId() <= after {
				return h.ordered(), nil
			}
			h.last = max(h.last, e.GetEventId())
			t.take(&h, e)
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			return h.ordered(), nil
		}
	}
}

func (h history) ordered() history {
	for i, j := 0, len(h.signals)-1; i < j; i, j = i+1, j-1 {
		h.signals[i], h.signals[j] = h.signals[j], h.signals[i]
	}
	return h
}

// take notes what one event says. What cannot be decoded is left out, as the
// entity leaves it out.
func (t *temporal) take(h *history, e *historypb.HistoryEvent) {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		a := e.GetWorkflowExecutionSignaledEventAttributes()
		if rank[a.GetSignalName()] == 0 {
			return
		}
		s := signal{name: a.GetSignalName(), event: e.GetEventId(), at: e.GetEventTime().AsTime()}
		if p := a.GetInput().GetPayloads(); len(p) > 0 && t.converter.FromPayload(p[0], &s.req) != nil {
			return
		}
		h.signals = append(h.signals, s)
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		a := e.GetWorkflowExecutionStartedEventAttributes()
		h.previous, h.original = a.GetContinuedExecutionRunId(), a.GetOriginalExecutionRunId()
		var in workflows.GroupInput
		if p := a.GetInput().GetPayloads(); len(p) > 0 && t.converter.FromPayload(p[0], &in) == nil {
			h.input = &in
		}
	default: // the rest is how the entity works, not what was asked of it
	}
}

// attempt bounds one try to send a signal: some hundred times what it takes, so
// that a dead connection leaves time for another try.
const attempt = time.Second

func (t *temporal) signal(ctx context.Context, id, name, requestID string, arg any) error {
	payloads, err := t.converter.ToPayloads(arg)
	if err != nil {
		return fault.Wrap(fault.Internal, "encode signal "+name, err)
	}
	req := &workflowservice.SignalWorkflowExecutionRequest{
		Namespace: t.namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id},
		SignalName: name, Input: payloads, Identity: t.identity, RequestId: requestID,
	}
	for sure := true; ; {
		try, cancel := context.WithTimeout(ctx, attempt)
		_, err := t.client.WorkflowService().SignalWorkflowExecution(try, req)
		cancel()
		kind := signalKind(err)
		switch {
		case err == nil:
			return nil
		case kind != fault.Ambiguous && kind != fault.Unavailable:
			if !sure && kind != fault.NotFound {
				kind = fault.Ambiguous // an earlier try may have arrived, and counts if the run is there
			}
			return fault.New(kind, "signal "+name+" to "+id, "%v", err)
		}
		sure = sure && kind == fault.Unavailable
		select {
		case <-ctx.Done():
			if sure {
				return fault.New(fault.Unavailable, "signal "+name+" to "+id, "%v", err)
			}
			return fault.New(fault.Ambiguous, "signal "+name+" to "+id, "%v", err)
		case <-time.After(20 * time.Millisecond): // gentle on a server that comes back
		}
	}
}

// signalKind says what an error of one try tells of its effect. The server
// answers these before it writes anything; of all others it is not known.
func signalKind(err error) fault.Kind {
	var (
		missing   *serviceerror.NotFound
		invalid   *serviceerror.InvalidArgument
		namespace *serviceerror.NamespaceNotFound
		denied    *serviceerror.PermissionDenied
		busy      *serviceerror.ResourceExhausted
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &missing):
		return fault.NotFound
	case errors.As(err, &invalid):
		return fault.Invalid
	case errors.As(err, &denied):
		return fault.Unauthorized
	case errors.As(err, &busy), errors.As(err, &namespace):
		return fault.Unavailable
	}
	return fault.Ambiguous
}
