package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// follow reads the histories of everything that happened since a moment.
func (s *system) follow(ctx context.Context, r *roll, since time.Time) error {
	r.spent = map[string]usage{}
	var token []byte
	for {
		page, err := s.temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{NextPageToken: token})
		if err != nil {
			return err
		}
		for _, e := range page.GetExecutions() {
			kind := e.GetType().GetName()
			events, err := s.events(ctx, e.GetExecution())
			if err != nil {
				return err
			}
			events = slices.DeleteFunc(events, func(ev *historypb.HistoryEvent) bool { return ev.GetEventTime().AsTime().Before(since) })
			if len(events) == 0 {
				continue
			}
			r.spent[kind] = r.spent[kind].with(events)
			if kind != workflows.TypeUpgradeNode {
				continue
			}
			n, worker, err := readNode(events)
			if err != nil {
				return fmt.Errorf("%s: %w", e.GetExecution().GetWorkflowId(), err)
			}
			if worker {
				r.nodes = append(r.nodes, n)
			}
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			slices.SortFunc(r.nodes, func(a, b rolled) int { return a.began.Compare(b.began) })
			return nil
		}
	}
}

// with adds the events of one run.
func (u usage) with(events []*historypb.HistoryEvent) usage {
	if u.actions == nil {
		u.actions = map[string]int{}
	}
	u.runs++
	for _, ev := range events {
		u.events++
		u.bytes += int64(ev.Size())
		u.count(ev)
	}
	return u
}

func (s *system) events(ctx context.Context, x *commonpb.WorkflowExecution) (out []*historypb.HistoryEvent, err error) {
	events := s.temporal.GetWorkflowHistory(ctx, x.GetWorkflowId(), x.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		ev, err := events.Next()
		if err != nil {
			return nil, err
		}
		out = append(out, ev)
	}
	return out, nil
}

// readNode reads the history of an UpgradeNode, from its start to its end. The
// time of an activity is from its start to its end, so that the way through
// Temporal is not part of it.
func readNode(events []*historypb.HistoryEvent) (n rolled, worker bool, err error) {
	var in struct {
		Target struct {
			Node struct{ Name string } `json:"node"`
			Role cluster.Role          `json:"role"`
		} `json:"target"`
	}
	first := events[0].GetWorkflowExecutionStartedEventAttributes()
	if err := converter.GetDefaultDataConverter().FromPayloads(first.GetInput(), &in); err != nil {
		return n, false, err
	}
	n = rolled{
		name: in.Target.Node.Name, began: events[0].GetEventTime().AsTime(), ended: events[len(events)-1].GetEventTime().AsTime(),
		waits: map[string]time.Duration{},
	}
	if last := events[len(events)-1].GetEventType(); last != enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED {
		return n, false, fmt.Errorf("its history ends with %s", last)
	}
	names, starts := map[int64]string{}, map[int64]time.Time{}
	for _, ev := range events {
		switch ev.GetEventType() {
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			names[ev.GetEventId()] = ev.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName()
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			starts[ev.GetActivityTaskStartedEventAttributes().GetScheduledEventId()] = ev.GetEventTime().AsTime()
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			id := ev.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()
			if slices.Contains(machineWaits, names[id]) {
				n.waits[names[id]] += ev.GetEventTime().AsTime().Sub(starts[id])
			}
		}
	}
	return n, in.Target.Role == cluster.RoleWorker, nil
}
