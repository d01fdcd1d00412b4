package snapshot

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// Refresh implements provider.Source: it is the health gate. If Temporal cannot be
// read, it fails with Unavailable and nothing changes; one group that cannot be
// read among others that can is left as it was.
func (s *Source) Refresh(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, s.cfg.RefreshBudget)
	defer stop()
	select {
	case s.refreshing <- struct{}{}:
	case <-ctx.Done():
		return fault.New(fault.Unavailable, op, "an earlier refresh has not ended: %v", ctx.Err())
	}
	defer func() { <-s.refreshing }()

	began := s.cfg.now()
	lists := s.lists.start(s.views(), s.cfg.ListEvery)
	readings, read, failed, err := s.readAll(ctx)
	if err == nil {
		err = s.verdict(len(read), failed)
	}
	if err != nil {
		s.count.failed.Add(1)
		if len(read) > 0 {
			// Those that fail are not waited for again, so that they cannot stop
			// what can be read for ever.
			s.note(failed)
		}
		return fault.New(fault.Unavailable, op, "%v", err)
	}
	// Groups that were just found are listed for the first time, and those with
	// members that only the cloud can name sooner than others.
	var fresh, unnamed []*view
	for _, r := range readings {
		if r.view == nil || !scales(r.view) {
			continue
		}
		if fresh = append(fresh, r.view); r.unnamed() {
			unnamed = append(unnamed, r.view)
		}
	}
	lists = append(lists, s.lists.start(unnamed, s.cfg.ListEvery/sooner)...)
	lists = append(lists, s.lists.start(fresh, s.cfg.ListEvery)...)
	s.lists.name(ctx, lists, readings)
	s.accept(readings, read, failed, began)
	return nil
}

// note marks groups that failed in a refresh that failed as a whole.
func (s *Source) note(failed failures) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publish(s.mark(nil, failed), nil)
}

// sooner is how many times as often an account is listed while members need it.
const sooner = 10

// views are the groups as last read.
func (s *Source) views() []*view {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*view
	for _, e := range s.entries {
		if e.base != nil && scales(e.base.view) {
			out = append(out, e.base.view)
		}
	}
	return out
}

// readAll reads every group: those that are known, and those that are indexed. It
// returns a reading for each that changed, which ones could be read, and why others
// could not. An error says that it is not known which groups there are.
func (s *Source) readAll(ctx context.Context) (readings []*reading, read []string, failed failures, err error) {
	// Known groups are read while the index is asked for further ones.
	listed := s.discover()
	patient, stop := context.WithTimeout(ctx, s.cfg.DiscoverBudget)
	defer stop()
	failed = failures{}
	owed := s.payFirst(ctx)
	readings, read = s.readKnown(ctx, owed, failed)
	fresh, err := s.found(ctx, patient, listed)
	if err != nil {
		maps.Copy(failed, owed)
		return nil, read, failed, errors.Join(failed.join(), err)
	}
	more, also := s.readEach(ctx, fresh, nil, failed, new(atomic.Int64))
	return append(readings, more...), append(read, also...), failed, nil
}

// payFirst makes owed cancellations durable, and does not wait long for those that
// cannot be.
func (s *Source) payFirst(ctx context.Context) failures {
	ctx, stop := context.WithTimeout(ctx, s.cfg.ReadBudget)
	defer stop()
	return s.sendOwed(ctx)
}

// readKnown reads the groups that are known. Once most of them are read, the others
// have until ReadBudget is over; if most are slow it is Temporal that is, and they
// are all waited for. So they are by the first refresh, which should leave none out.
func (s *Source) readKnown(ctx context.Context, owed, failed failures) ([]*reading, []string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ids := s.readable()
	var done atomic.Int64
	if s.readBefore() {
		over := time.AfterFunc(s.cfg.ReadBudget, func() {
			tick := time.NewTicker(s.cfg.ReadBudget / 20)
			defer tick.Stop()
			for 2*done.Load() < int64(len(ids)) {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
			cancel()
		})
		defer over.Stop()
	}
	return s.readEach(ctx, ids, owed, failed, &done)
}

// readEach reads groups side by side, except those that must not be read yet.
func (s *Source) readEach(ctx context.Context, ids []string, not, failed failures, done *atomic.Int64) (out []*reading, read []string) {
	asking, stop := context.WithTimeout(ctx, s.cfg.QueryBudget)
	defer stop()
	all, errs := make([]*reading, len(ids)), make([]error, len(ids))
	each(len(ids), s.cfg.Concurrency, func(i int) {
		if errs[i] = not[ids[i]]; errs[i] == nil {
			all[i], errs[i] = s.read(ctx, asking, ids[i])
		}
		if errs[i] == nil {
			done.Add(1)
		}
	})
	for i, id := range ids {
		if errs[i] != nil {
			failed[id] = errs[i]
			continue
		}
		read = append(read, id)
		if all[i] != nil {
			out = append(out, all[i])
		}
	}
	return out, read
}

// each calls f for 0 … n-1, at most k at once.
func each(n, k int, f func(int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, k) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// accept takes readings over and shows what they changed. A reading that is older
// than the one before it, or that may show a request whose cancellation it did
// not see, is left out. read are all groups that could be read, also those without
// a change, failed those that could not. began is zero when it is not a whole
// refresh.
func (s *Source) accept(readings []*reading, read []string, failed failures, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.mark(read, failed)
	var gone []*entry
	for _, r := range readings {
		e := s.entries[r.id]
		switch {
		case r.closed && (e == nil || e.base != nil && e.base.clock > r.clock):
		case r.closed:
			delete(s.entries, r.id)
			changed = slices.DeleteFunc(changed, func(c *entry) bool { return c == e })
			gone = append(gone, e)
		default:
			if e = s.entry(r.id); s.take(e, r) && !slices.Contains(changed, e) {
				changed = append(changed, e)
			}
		}
	}
	if !began.IsZero() {
		s.refreshed = began
	}
	s.publish(changed, gone)
}

// take makes a reading the base of an entry.
func (s *Source) take(e *entry, r *reading) bool {
	if len(e.owed) > 0 || r.clock < e.notBefore || e.base != nil && e.base.clock > r.clock {
		s.count.discarded.Add(1)
		return false
	}
	before := e.acked
	e.base = r
	for _, p := range e.pending {
		p.confirmed = r.contains(p)
	}
	e.pending = slices.DeleteFunc(e.pending, func(p *request) bool { return p.confirmed })
	e.rebuild()
	e.leave(before)
	return true
}

// rebuild lays the pending requests over the reading.
func (e *entry) rebuild() {
	if e.base == nil {
		e.all, e.acked = nil, nil
		return
	}
	var all, acked []signal
	for _, p := range e.pending {
		all = append(all, p.signal)
		if p.acked {
			acked = append(acked, p.signal)
		}
	}
	e.all, e.acked = e.base.with(all), e.base.with(acked)
	e.showLeft()
}
