package snapshot

import (
	"context"
	"maps"
	"slices"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// past is what was read of one run's history. It is never changed; a later
// reading goes on where it ends.
type past struct {
	runID string
	history
}

// parts are what a reading without the entity's answer is made of.
type parts struct {
	facts *workflows.GroupFacts
	memo  *workflows.GroupMemo
	input *workflows.GroupInput
	prev  *view
	// tail are signals that the memo does not contain, seen the ids of those
	// that it does, cancelled the ids that must have no effect.
	tail            []signal
	seen, cancelled map[string]bool
	// applied are the signals of the run that the memo contains.
	applied []signal
	// asked are the names of machines that were to be deleted when the memo was
	// written: no member that it counts is one of them.
	asked map[string]bool
	// bare is the view before the tail.
	bare *view
}

// recall makes a reading without the entity.
func (s *Source) recall(ctx context.Context, r *reading, d description, g glance) error {
	s.count.recalls.Add(1)
	if d.busy && g.base == nil {
		// A worker was killed in the middle, perhaps. Who knows what was
		// acknowledged is not misled by what the server holds back; who begins
		// would be, so the server's time limit of the task is waited for.
		return fault.New(fault.Unavailable, op, "a workflow task of %s is under way, and what came since is not to be read", r.id)
	}
	var before *past
	if g.base != nil {
		before, r.parts.prev = g.base.past, g.base.view
	}
	var err error
	if r.past, err = s.look(ctx, r, before); err != nil {
		return err
	}
	p := &r.parts
	p.input, p.seen, p.cancelled = r.past.input, map[string]bool{}, map[string]bool{}
	maps.Copy(p.cancelled, g.cancelled)
	var after int64
	if d.facts != nil && d.memo != nil {
		p.facts, p.memo = d.facts, d.memo
		switch d.memo.RunID {
		case r.runID, r.past.original:
			after = d.memo.EventID
		case r.past.previous:
			// The run before ended without a last memo: what came after its memo
			// is in its successor's state, but was not written down.
			older, err := s.back.history(ctx, r.id, d.memo.RunID, d.memo.EventID, 0)
			if err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			p.note(older.signals, 0)
		}
	}
	if p.memo == nil && p.input == nil {
		return fault.New(fault.Unavailable, op, "%s tells neither by a memo nor by its input what it is", r.id)
	}
	p.note(r.past.signals, after)
	p.noteAsked(r.past.signals, g.sent, after)
	p.applied = slices.DeleteFunc(slices.Clone(r.past.signals), func(s signal) bool { return s.event > after })
	r.requests = maps.Clone(p.seen)
	for _, sig := range p.tail {
		r.requests[sig.req.RequestID] = true
	}
	if err := s.searchOlder(ctx, r, g.waiting); err != nil {
		return err
	}
	r.compose(nil)
	return nil
}

// note sorts signals of one run into those that the memo contains and the tail.
func (p *parts) note(signals []signal, after int64) {
	for _, sig := range signals {
		switch id := sig.req.RequestID; {
		case sig.name == workflows.SignalCancelRequest && sig.req.Cancel != "":
			p.cancelled[sig.req.Cancel] = true
			if sig.event > after {
				p.tail = append(p.tail, sig)
			}
		case sig.event > after:
			p.tail = append(p.tail, sig)
		case id != "":
			p.seen[id] = true
		}
	}
}

// compose makes the view. machines are what the cloud listed of the group, nil if
// it was not asked.
func (r *reading) compose(machines []cloud.Machine) {
	p := r.parts
	if p.memo != nil {
		r.parts.bare = fromMemo(*p.facts, *p.memo, p.before(), machines, p.begun())
		r.parts.bare.nameMore(p)
	} else {
		r.parts.bare = fromInput(*p.input)
		r.parts.bare.name(machines)
	}
	r.view = r.with(nil)
}

// with is the group as it will be when more requests have been applied. Without
// an answer of the entity they will be applied together with the tail, and in the
// entity's order.
func (r *reading) with(more []signal) *view {
	if r.asked {
		v := r.view.clone()
		for _, s := range more {
			v.apply(s)
		}
		return v
	}
	v := r.parts.bare.clone()
	v.applyAll(slices.Concat(r.parts.tail, more), r.parts.seen, r.parts.cancelled)
	return v
}

// look reads a run's history, as far as it is not known yet.
func (s *Source) look(ctx context.Context, r *reading, known *past) (*past, error) {
	if known == nil || known.runID != r.runID {
		known = &past{runID: r.runID}
	}
	h, err := s.back.history(ctx, r.id, r.runID, known.last, r.length)
	if err != nil {
		return nil, err
	}
	next := &past{runID: r.runID, history: h}
	next.signals = append(known.signals[:len(known.signals):len(known.signals)], h.signals...)
	if known.last > 0 {
		next.previous, next.input, next.original = known.previous, known.input, known.original
	}
	return next, nil
}

// olderRuns is how many runs back a durable request is looked for: an entity
// continues as new rarely, and there is a reading every few seconds.
const olderRuns = 3

// searchOlder looks for durable requests that the current run's history does not
// have: then they are in an earlier one, whose entity applied them before it
// continued as new.
func (s *Source) searchOlder(ctx context.Context, r *reading, waiting map[string]bool) error {
	missing := 0
	for id := range waiting {
		if !r.requests[id] {
			missing++
		}
	}
	run := r.past.previous
	for n := 0; missing > 0 && run != "" && n < olderRuns; n++ {
		h, err := s.back.history(ctx, r.id, run, 0, 0)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, sig := range h.signals {
			if id := sig.req.RequestID; waiting[id] && !r.requests[id] {
				r.requests[id] = true
				missing--
			}
		}
		run = h.previous
	}
	return nil
}

// unnamed reports whether a reading has members that the cloud could name.
func (r *reading) unnamed() bool {
	if r.asked || r.view == nil {
		return false
	}
	for _, m := range r.view.members {
		if anonymous(m) || m.Counted() && made(m) && m.ProviderID == "" {
			return true
		}
	}
	return false
}
