package snapshot

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// reading is one group at one moment, as Temporal told it. It is not changed
// after it was accepted.
type reading struct {
	id string
	// clock is when it began, in the Source's own order.
	clock  uint64
	runID  string
	length int64
	closed bool
	view   *view
	// asked says that the entity answered; otherwise parts are what the view was
	// made of.
	asked bool
	parts parts
	// past is what is known of the run's history; it may be nil.
	past *past
	// requests are ids that the entity has applied or will.
	requests map[string]bool
	// full says that the entity has more results than it shows.
	full bool
}

// resultsShown is the number of results that an entity shows, the last ones.
const resultsShown = 20

// contains reports whether a request is part of the reading. An answer contains
// all that was durable before it was asked for; whose result it does not show has
// not been applied, unless so many came after it that its result is not shown any
// more.
func (r *reading) contains(p *request) bool {
	return r.requests[p.req.RequestID] || r.full && p.acked && p.ackedAt < r.clock
}

// glance is what a reader has to know of an entry before it reads.
type glance struct {
	clock          uint64
	base           *reading
	silent, asking bool
	due            bool
	// waiting are durable requests that no reading contains yet, sent the same
	// with what they asked for.
	waiting   map[string]bool
	sent      []signal
	cancelled map[string]bool
}

func (s *Source) glance(id string) glance {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := glance{clock: s.tick(), waiting: map[string]bool{}}
	e := s.entries[id]
	if e == nil {
		return g
	}
	g.base, g.silent, g.asking = e.base, e.silent, e.asking
	g.due = s.cfg.now().Sub(e.asked) >= s.cfg.Requery
	g.cancelled = maps.Clone(e.cancelled)
	for _, p := range e.pending {
		if p.acked {
			g.waiting[p.req.RequestID] = true
			g.sent = append(g.sent, p.signal)
		}
	}
	return g
}

// read reads one group; nil without an error says that nothing has changed.
// asking ends when the time for answers of entities is over.
func (s *Source) read(ctx, asking context.Context, id string) (*reading, error) {
	if strings.HasSuffix(id, "/group/"+cluster.ControlPlaneGroup) {
		return nil, nil
	}
	g := s.glance(id)
	d, err := s.describe(ctx, id)
	if fault.Is(err, fault.NotFound) || err == nil && d.closed {
		return &reading{id: id, clock: g.clock, closed: true}, nil
	}
	if err != nil {
		return nil, err
	}
	if g.base != nil && g.base.runID == d.runID && g.base.length == d.length {
		s.count.unchanged.Add(1)
		if !g.base.asked && g.due {
			s.askLater(id)
		}
		return nil, nil
	}
	r := &reading{id: id, clock: g.clock, runID: d.runID, length: d.length}
	if g.silent || asking.Err() != nil {
		s.askLater(id)
	} else if s.ask(asking, r) {
		if g.base != nil {
			r.past = g.base.past
		}
		return r, nil
	}
	return r, s.recall(ctx, r, d, g)
}

// describe looks again when it meets an entity between two runs.
func (s *Source) describe(ctx context.Context, id string) (d description, err error) {
	for range 3 {
		d, err = s.back.describe(ctx, id)
		if err == nil || fault.Is(err, fault.NotFound) || ctx.Err() != nil {
			return d, err
		}
	}
	return d, err
}

// ask asks the entity itself and notes whether it answered.
func (s *Source) ask(ctx context.Context, r *reading) bool {
	s.count.queries.Add(1)
	status, err := s.back.query(ctx, r.id)
	if err == nil && (status.Cluster.Name == "" || status.Group == "") {
		err = errors.New("the answer names no group")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(r.id)
	e.asked, e.silent = s.cfg.now(), err != nil
	if err != nil {
		s.count.unanswered.Add(1)
		s.cfg.Log.Debug("a group does not answer", "group", r.id, "error", err)
		return false
	}
	r.answer(status, s.cfg.now())
	return true
}

// answer takes over what the entity said. What waits in its inbox counts: it was
// acknowledged, and no history that is still read has it, perhaps. now stands for
// when it was accepted, if that is not known.
func (r *reading) answer(status workflows.GroupStatus, now time.Time) {
	r.view, r.asked, r.requests = fromStatus(status), true, map[string]bool{}
	for _, q := range status.Requests {
		r.requests[q.RequestID] = true
	}
	cancelled := map[string]bool{}
	for _, q := range status.Inbox { // in the order in which the entity will apply them
		id := q.Request.RequestID
		if q.Op == workflows.SignalCancelRequest {
			cancelled[q.Request.Cancel] = true
		}
		if id == "" || !r.requests[id] && !cancelled[id] {
			at := q.Request.At
			if at.IsZero() {
				at = now
			}
			r.view.apply(signal{name: q.Op, at: at, req: q.Request})
		}
		if id != "" {
			r.requests[id] = true
		}
	}
	r.full = len(status.Requests) >= resultsShown
}

// patience is how long an entity that was silent may take to answer in the
// background: longer than a worker's replacement needs to notice.
const patience = 7 * time.Second

// askLater asks in the background and takes the answer over when it comes.
func (s *Source) askLater(id string) {
	s.inBackground(id, func(ctx context.Context) {
		g := s.glance(id)
		d, err := s.describe(ctx, id)
		if err != nil || d.closed {
			return // the next Refresh will say so
		}
		r := &reading{id: id, clock: g.clock, runID: d.runID, length: d.length}
		if s.ask(ctx, r) {
			s.accept([]*reading{r}, []string{id}, nil, time.Time{})
		}
	})
}

// inBackground does something about a group in the background, one thing at a
// time.
func (s *Source) inBackground(id string, f func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entry(id)
	if e.asking {
		return
	}
	e.asking = true
	s.background(func(ctx context.Context) {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			e.asking = false
		}()
		select {
		case s.askers <- struct{}{}:
			defer func() { <-s.askers }()
		case <-ctx.Done():
			return
		}
		ctx, stop := context.WithTimeout(ctx, patience)
		defer stop()
		f(ctx)
	})
}
