//go:build !race

package workflows

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"
)

// soakRun is what one run of the group was told, as its history has it.
type soakRun struct {
	id, previous string
	closed       bool
	told         []told
}

type told struct {
	event int64
	op    string
	req   ScaleRequest
	// update says that the group had obeyed before the event was written.
	update bool
}

// history reads all runs, oldest first; what has ended is read once.
func (s *soak) history(ctx context.Context) []*soakRun {
	s.t.Helper()
	known := map[string]*soakRun{}
	for _, r := range s.runs {
		if r.closed {
			known[r.id] = r
		}
	}
	d, err := s.c.DescribeWorkflowExecution(ctx, s.id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	s.runs = nil
	for id := d.GetWorkflowExecutionInfo().GetExecution().GetRunId(); id != ""; {
		r := known[id]
		if r == nil {
			r = s.readRun(ctx, id)
		}
		s.runs = append(s.runs, r)
		id = r.previous
	}
	slices.Reverse(s.runs)
	return s.runs
}

func (s *soak) readRun(ctx context.Context, id string) *soakRun {
	s.t.Helper()
	r := &soakRun{id: id}
	for it := s.c.GetWorkflowHistory(ctx, s.id, id, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		var payloads *common.Payloads
		m := told{event: e.GetEventId()}
		switch e.GetEventType() {
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			r.previous = e.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId()
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
			r.closed = true
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
			a := e.GetWorkflowExecutionSignaledEventAttributes()
			m.op, payloads = a.GetSignalName(), a.GetInput()
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
			a := e.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput()
			m.op, payloads, m.update = a.GetName(), a.GetArgs(), true
		}
		if payloads == nil || !slices.Contains(scaleOps, m.op) {
			continue
		}
		if err := converter.GetDefaultDataConverter().FromPayloads(payloads, &m.req); err != nil {
			s.t.Fatal(err)
		}
		r.told = append(r.told, m)
	}
	return r
}

// memo reads both fields without a worker.
func (s *soak) memo(ctx context.Context) (run string, facts GroupFacts, state GroupMemo) {
	s.t.Helper()
	d, err := s.c.DescribeWorkflowExecution(ctx, s.id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	info := d.GetWorkflowExecutionInfo()
	for name, out := range map[string]any{MemoFacts: &facts, MemoState: &state} {
		p := info.GetMemo().GetFields()[name]
		if p == nil {
			s.t.Fatalf("run %s, the %d., has no memo field %s", info.GetExecution().GetRunId(), chainLength(ctx, s.t, s.c, s.id), name)
		}
		if err := converter.GetDefaultDataConverter().FromPayload(p, out); err != nil {
			s.t.Fatal(err)
		}
	}
	return info.GetExecution().GetRunId(), facts, state
}

func (s *soak) inTask(ctx context.Context) bool {
	s.t.Helper()
	d, err := s.c.DescribeWorkflowExecution(ctx, s.id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return d.GetPendingWorkflowTask().GetState() == enums.PENDING_WORKFLOW_TASK_STATE_STARTED
}

// audit compares, while no worker runs and nobody asks, the memo with what was
// told before its last event, and the whole history with what was acknowledged.
// It returns how many signals the memo does not contain.
func (s *soak) audit(ctx context.Context) int {
	s.t.Helper()
	// Signals that arrive while a worker has a task are written into history when
	// that task has ended, if only by its timeout.
	for s.inTask(ctx) {
		time.Sleep(50 * time.Millisecond)
	}
	run, facts, memo := s.memo(ctx)
	if facts.Cluster != demoRef || facts.Max != 300 {
		s.t.Errorf("memo: %+v", facts)
	}
	var before, after []told
	runs := s.history(ctx)
	passed := memo.RunID == ""
	for i, r := range runs {
		last := i == len(runs)-1
		if last && r.id != run || memo.RunID == r.id && i < len(runs)-2 {
			s.t.Errorf("the memo is of run %s, the %d. of %d", memo.RunID, i+1, len(runs))
		}
		for _, m := range r.told {
			if m.update || !passed && (r.id != memo.RunID || m.event <= memo.EventID) {
				before = append(before, m)
			} else {
				after = append(after, m)
			}
		}
		passed = passed || r.id == memo.RunID
	}
	places, dead, seen := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, m := range before {
		obey(places, dead, seen, m.op, m.req)
	}
	if got := size(places); got != memo.Target {
		s.t.Errorf("the memo of run %s (now %s) up to event %d says %d, what was told until then makes %d; %d signals after it",
			memo.RunID, run, memo.EventID, memo.Target, got, len(after))
		for _, m := range runs[len(runs)-1].told {
			s.t.Logf("event %d: %s %s (update %t) delta %d nodes %v cancel %s", m.event, m.op, m.req.RequestID, m.update, m.req.Delta, m.req.Nodes, m.req.Cancel)
		}
		s.t.Logf("memo: %+v", memo)
	}
	order := func(m told) int { return slices.Index(scaleOps, m.op) }
	slices.SortStableFunc(after, func(a, b told) int { return cmp.Compare(order(a), order(b)) })
	for _, m := range after {
		obey(places, dead, seen, m.op, m.req)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, set := range []map[string]bool{places, s.places} {
		for p := range set {
			if places[p] != s.places[p] {
				s.t.Errorf("place %s: history makes it %t, what was acknowledged %t", p, places[p], s.places[p])
			}
		}
	}
	return len(after)
}

// settled waits until every place has its node.
func (s *soak) settled(ctx context.Context, want int) GroupStatus {
	s.t.Helper()
	for last := (GroupStatus{}); ; {
		var g GroupStatus
		v, err := s.c.QueryWorkflow(ctx, s.id, "", QueryGroup)
		if err == nil {
			err = v.Get(&g)
		}
		if err == nil {
			last = g
		}
		ready := 0
		for _, m := range g.Members {
			if m.Phase == MemberReady {
				ready++
			}
		}
		if err == nil && g.Target == want && ready == want && len(g.Members) == want {
			return g
		}
		if ctx.Err() != nil {
			s.t.Fatalf("the group never came to %d members: %v\n%s", want, err, s.explain(last))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// explain shows what keeps a group from going on.
func (s *soak) explain(g GroupStatus) string {
	var b strings.Builder
	b.WriteString(fmt.Sprintf("target %d\n", g.Target))
	for _, m := range g.Members {
		b.WriteString(fmt.Sprintf("  %s %s %s cloud %q: %s\n", m.Name, m.Instance, m.Phase, m.CloudID, m.Note))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 10*time.Second)
	defer cancel()
	if d, err := s.c.DescribeWorkflowExecution(ctx, s.id, ""); err == nil {
		b.WriteString(fmt.Sprintf("%d events\n", d.GetWorkflowExecutionInfo().GetHistoryLength()))
		for _, a := range d.GetPendingActivities() {
			b.WriteString(fmt.Sprintf("  pending: %s attempt %d: %s\n", a.GetActivityType().GetName(), a.GetAttempt(), a.GetLastFailure().GetMessage()))
		}
	}
	var stack string
	if v, err := s.c.QueryWorkflow(ctx, s.id, "", "__stack_trace"); err == nil && v.Get(&stack) == nil {
		b.WriteString(stack)
	}
	return b.String()
}
