package main

import (
	"context"
	"maps"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// usage is what an operation cost in Temporal.
type usage struct {
	runs   int // of workflows
	events int
	bytes  int64
	// actions by what they are for; heartbeats come from the worker's metrics.
	actions map[string]int
}

func (u usage) total() int {
	sum := 0
	for _, n := range u.actions {
		sum += n
	}
	return sum
}

// minus is what happened since an earlier account of the same namespace.
func (u usage) minus(o usage) usage {
	out := usage{runs: u.runs - o.runs, events: u.events - o.events, bytes: u.bytes - o.bytes, actions: maps.Clone(u.actions)}
	for k, n := range o.actions {
		out.actions[k] -= n
	}
	return out
}

// account reads every history of the namespace.
func account(ctx context.Context, c client.Client) (usage, error) {
	return accountBetween(ctx, c, time.Time{}, time.Now().AddDate(1, 0, 0))
}

// accountBetween counts only what happened between two moments.
func accountBetween(ctx context.Context, c client.Client, from, to time.Time) (usage, error) {
	u := usage{actions: map[string]int{}}
	var token []byte
	for {
		page, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{NextPageToken: token})
		if err != nil {
			return u, err
		}
		for _, e := range page.GetExecutions() {
			u.runs++
			x := e.GetExecution()
			events := c.GetWorkflowHistory(ctx, x.GetWorkflowId(), x.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
			for events.HasNext() {
				ev, err := events.Next()
				if err != nil {
					return u, err
				}
				if at := ev.GetEventTime().AsTime(); at.Before(from) || at.After(to) {
					continue
				}
				u.events++
				u.bytes += int64(ev.Size())
				u.count(ev)
			}
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			return u, nil
		}
	}
}

// count adds the actions of one event by the rules of Temporal Cloud
// (docs.temporal.io/cloud/actions): a start of a workflow of any kind, every
// attempt of an activity, a timer, a signal, an update, an upsert of search
// attributes or memo.
func (u usage) count(e *historypb.HistoryEvent) {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		u.actions["workflow starts"]++
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED:
		u.actions["activity attempts"] += int(e.GetActivityTaskStartedEventAttributes().GetAttempt())
	case enumspb.EVENT_TYPE_TIMER_STARTED:
		u.actions["timers"]++
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		u.actions["signals"]++
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
		u.actions["updates"]++
	case enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
		u.actions["upserts"]++
	}
}

// kinds are the names of all kinds of actions in some accounts, sorted.
func kinds(all ...usage) []string {
	seen := map[string]bool{}
	for _, u := range all {
		for k := range u.actions {
			seen[k] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
