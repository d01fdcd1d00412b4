package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Refresh implements provider.Source: it is the health gate. Either all groups
// were read, or it fails with Unavailable and nothing changes.
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
	if err := s.sendOwed(ctx); err != nil {
		s.count.failed.Add(1)
		return err
	}
	lists := s.lists.start(s.views(), s.cfg.ListEvery)
	readings, err := s.readAll(ctx)
	if err != nil {
		s.count.failed.Add(1)
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
	s.accept(readings, began)
	return nil
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

// readAll reads every group: those that are indexed, and those known before. It
// returns a reading for each that changed.
func (s *Source) readAll(ctx context.Context) ([]*reading, error) {
	// Known groups are read while the index is asked for further ones.
	listed := make(chan error, 1)
	var ids []string
	go func() {
		var err error
		ids, err = s.back.groups(ctx, s.cfg.Cluster)
		listed <- err
	}()
	known := s.known()
	readings, err := s.readEach(ctx, known)
	if e := <-listed; e != nil || err != nil {
		return nil, errors.Join(err, e)
	}
	fresh := slices.DeleteFunc(ids, func(id string) bool {
		_, found := slices.BinarySearch(known, id)
		return found || !strings.HasPrefix(id, cluster.GroupID(s.cfg.Cluster, "")) && s.cfg.Cluster != ""
	})
	slices.Sort(fresh)
	more, err := s.readEach(ctx, slices.Compact(fresh))
	return append(readings, more...), err
}

func (s *Source) known() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.entries))
	for id := range s.entries {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// readEach reads groups side by side.
func (s *Source) readEach(ctx context.Context, ids []string) ([]*reading, error) {
	asking, stop := context.WithTimeout(ctx, s.cfg.QueryBudget)
	defer stop()
	out, errs := make([]*reading, len(ids)), make([]error, len(ids))
	each(len(ids), s.cfg.Concurrency, func(i int) { out[i], errs[i] = s.read(ctx, asking, ids[i]) })
	out = slices.DeleteFunc(out, func(r *reading) bool { return r == nil })
	return out, errors.Join(errs...)
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
// not see, is left out. began is zero when it is not a whole refresh.
func (s *Source) accept(readings []*reading, began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed, gone []*entry
	for _, r := range readings {
		e := s.entries[r.id]
		switch {
		case r.closed && (e == nil || e.base != nil && e.base.clock > r.clock):
		case r.closed:
			delete(s.entries, r.id)
			gone = append(gone, e)
		default:
			if e = s.entry(r.id); s.take(e, r) {
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
