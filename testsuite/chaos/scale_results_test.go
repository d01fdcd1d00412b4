package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/workflows"
)

// record is what Temporal keeps of a group: every request that was made durable
// and every result that the group remembered from one run to the next.
type record struct {
	runs int
	// asked are requests by id, as signals and as updates that the group took.
	asked map[string][]asked
	// results are the first and the last version of each: a cancellation changes
	// the result of what it cancels.
	results map[string]*result
}

type asked struct {
	op     string
	req    workflows.ScaleRequest
	update bool
}

type result struct{ first, last workflows.ScaleResult }

// readRecord makes the group continue as new, so that all it remembers is
// written down, and reads all its runs.
func readRecord(ctx context.Context, r *rig.Rig, group string) (*record, error) {
	id := cluster.GroupID(rig.Cluster, group)
	first, err := currentRun(ctx, r, id)
	if err != nil {
		return nil, err
	}
	now := first
	for now == first {
		for range 5 {
			if err := r.Temporal.SignalWorkflow(ctx, id, "", workflows.SignalAsk, nil); err != nil {
				return nil, err
			}
		}
		if now, err = currentRun(ctx, r, id); err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	rec := &record{asked: map[string][]asked{}, results: map[string]*result{}}
	var inputs []workflows.GroupInput
	for run := now; run != ""; {
		in, previous, err := rec.read(ctx, r, id, run)
		if err != nil {
			return nil, err
		}
		inputs, run = append(inputs, in), previous
		rec.runs++
	}
	slices.Reverse(inputs)
	for _, in := range inputs {
		if in.State == nil {
			continue
		}
		for _, res := range in.State.Requests {
			if known := rec.results[res.RequestID]; known != nil {
				known.last = res
			} else {
				rec.results[res.RequestID] = &result{res, res}
			}
		}
	}
	return rec, nil
}

func currentRun(ctx context.Context, r *rig.Rig, id string) (string, error) {
	d, err := r.Temporal.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return "", err
	}
	return d.GetWorkflowExecutionInfo().GetExecution().GetRunId(), nil
}

func (rec *record) read(ctx context.Context, r *rig.Rig, id, run string) (in workflows.GroupInput, previous string, err error) {
	decode := converter.GetDefaultDataConverter().FromPayloads
	for it := r.Temporal.GetWorkflowHistory(ctx, id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			return in, "", err
		}
		var a asked
		var payloads *common.Payloads
		switch e.GetEventType() {
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			s := e.GetWorkflowExecutionStartedEventAttributes()
			previous = s.GetContinuedExecutionRunId()
			if err := decode(s.GetInput(), &in); err != nil {
				return in, "", err
			}
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
			s := e.GetWorkflowExecutionSignaledEventAttributes()
			a.op, payloads = s.GetSignalName(), s.GetInput()
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
			u := e.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput()
			a.op, payloads, a.update = u.GetName(), u.GetArgs(), true
		default: // how the group works, not what it was asked
		}
		if payloads == nil || a.op == workflows.SignalAsk {
			continue
		}
		if err := decode(payloads, &a.req); err != nil {
			return in, "", fmt.Errorf("%s: %w", a.op, err)
		}
		rec.asked[a.req.RequestID] = append(rec.asked[a.req.RequestID], a)
	}
	return in, previous, nil
}

var (
	deleted   = regexp.MustCompile(`^(\d+) deleted,`)
	givenUp   = regexp.MustCompile(`^(\d+) of \d+ given up`)
	cancelled = regexp.MustCompile(`^(\d+) machines of `)
)

// chain replays all results in their order: each says what the target was after
// it, which must be the target before it and what it did. It returns the target
// at the end.
func (rec *record) chain() (target int, err error) {
	all := make([]*result, 0, len(rec.results))
	for _, r := range rec.results {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *result) int {
		return cmp.Or(cmp.Compare(a.first.Generation, b.first.Generation), a.first.At.Compare(b.first.At))
	})
	var errs []error
	for _, r := range all {
		before, res := target, r.first
		req := workflows.ScaleRequest{}
		if list := rec.asked[res.RequestID]; len(list) > 0 {
			req = list[0].req
		}
		switch {
		case !res.Accepted && res.Message != "cancelled": // it had no effect
		case res.Op == workflows.SignalIncreaseSize:
			target += req.Delta
		case res.Op == workflows.SignalSetTarget && req.Target != nil:
			target = *req.Target
		default:
			for _, pattern := range []*regexp.Regexp{deleted, givenUp, cancelled} {
				if m := pattern.FindStringSubmatch(res.Message); m != nil {
					n, err := strconv.Atoi(m[1])
					errs = append(errs, err)
					target -= n
				}
			}
		}
		if res.Target != target {
			errs = append(errs, fmt.Errorf("the target was %d, then %s made it %d: %+v", before, res.Op, res.Target, res))
			target = res.Target
		}
	}
	return target, errors.Join(errs...)
}

// people checks the answers to people: what was accepted counted once, what was
// refused never.
func (rec *record) people(calls []*call) error {
	var errs []error
	for _, c := range calls {
		r := rec.results[c.id]
		switch {
		case !c.answered:
			errs = append(errs, fmt.Errorf("never answered: %s", c))
		case c.err == nil && (r == nil || !r.first.Accepted):
			errs = append(errs, fmt.Errorf("accepted, but the group has %+v: %s", r, c))
		case c.err != nil && r != nil && r.first.Accepted:
			errs = append(errs, fmt.Errorf("refused, but the group has %+v: %s", r, c))
		}
	}
	return errors.Join(errs...)
}

// tally is what became of an autoscaler's calls.
type tally struct {
	accepted, refused, broken int
	// undone were answered with an error, durable, and cancelled; late were
	// obeyed before their cancellation; unknown had no answer and count.
	undone, late, unknown int
}

// autoscaler checks the answers to one autoscaler, whose calls were one at a
// time: the request of each is the one that the provider took during it.
func (rec *record) autoscaler(calls []*call, t *tally) error {
	var errs []error
	wrong := func(c *call, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", fmt.Sprintf(format, args...), c))
	}
	mine := map[*call][]string{}
	taken := map[string]bool{}
	for id, list := range rec.asked {
		a := list[0]
		if a.op == workflows.SignalCancelRequest || a.update || a.req.At.IsZero() {
			continue
		}
		for _, c := range calls {
			if !a.req.At.Before(c.began) && !a.req.At.After(c.ended) {
				mine[c] = append(mine[c], id)
				taken[id] = true
			}
		}
	}
	for _, c := range calls {
		ids := mine[c]
		if len(ids) > 1 {
			wrong(c, "one call became %v", ids)
			continue
		}
		var r *result
		if len(ids) == 1 {
			if r = rec.results[ids[0]]; r == nil {
				wrong(c, "request %s is durable and was never obeyed", ids[0])
				continue
			}
			if a := rec.asked[ids[0]][0]; a.op != c.op {
				wrong(c, "became %s %+v", a.op, a.req)
			}
		}
		effect := r != nil && r.last.Accepted
		switch {
		case c.err == nil && (r == nil && c.op != workflows.SignalDeleteNodes || r != nil && !effect && r.last.Op == workflows.SignalIncreaseSize):
			// Nodes that are on their way out already need no request.
			wrong(c, "accepted, but the group has %+v", r)
		case c.err == nil:
			t.accepted++
		case !c.answered:
			t.broken++
			if effect {
				t.unknown++
			}
		case r == nil:
			t.refused++
		case !effect:
			t.undone++
		case c.op == workflows.SignalIncreaseSize:
			wrong(c, "answered with an error, but the group has %+v", r)
		case !c.reported.IsZero() && r.last.At.After(c.reported):
			wrong(c, "answered with an error, and took effect after the group was reported again at %s: %+v", c.reported.Format(time.StampMilli), r)
		default:
			t.late++
		}
	}
	for id, list := range rec.asked {
		if a := list[0]; !a.req.At.IsZero() && !taken[id] {
			errs = append(errs, fmt.Errorf("nobody asked for %s %+v", a.op, a.req))
		}
	}
	return errors.Join(errs...)
}

// once checks that no result was written twice for one id.
func (rec *record) once() error {
	var errs []error
	for id, r := range rec.results {
		if r.first != r.last && r.last.Message != "cancelled" {
			errs = append(errs, fmt.Errorf("%s was obeyed twice: %+v, then %+v", id, r.first, r.last))
		}
	}
	return errors.Join(errs...)
}
