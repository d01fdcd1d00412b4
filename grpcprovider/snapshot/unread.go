package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// One group that cannot be read must not stop the autoscaler for all others, and
// must not be taken for one of which all is known either. It stays as it was last
// read, and nothing may be changed in it: its requests are refused, and its bounds
// are shown as its target, so that the autoscaler neither asks for machines nor
// drains nodes that it could not delete then. It is read again in the background.
//
// That holds while most groups can be read. Otherwise it is Temporal that cannot,
// and Refresh fails as a whole.

// failures are why groups could not be read, by workflow id.
type failures map[string]error

func (f failures) join() error {
	var errs []error
	for _, id := range sortedKeys(f) {
		errs = append(errs, f[id])
	}
	return errors.Join(errs...)
}

// verdict says whether a refresh in which some groups failed and others did not
// is one. The first of all may leave none out while there is still hope: what the
// autoscaler knew of before would be gone for it.
func (s *Source) verdict(read int, failed failures) error {
	switch {
	case len(failed) == 0:
		return nil
	case read == 0, read < len(failed):
		return failed.join()
	case s.cfg.now().Before(s.cfg.WholeUntil) && !s.readBefore():
		return failed.join()
	}
	return nil
}

func (s *Source) readBefore() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.refreshed.IsZero()
}

// mark notes which groups could be read and which could not, and returns the
// entries that look different by that. mu is held.
func (s *Source) mark(read []string, failed failures) (changed []*entry) {
	for _, id := range read {
		if e := s.entries[id]; e != nil && e.unread != nil {
			s.cfg.Log.Info("the group can be read again", "group", groupOf(e), "after", s.cfg.now().Sub(e.unreadSince).Round(time.Second))
			e.unread, e.unreadSince = nil, time.Time{}
			changed = append(changed, e)
		}
	}
	for _, id := range sortedKeys(failed) {
		e := s.entry(id)
		if e.unread == nil {
			e.unreadSince = s.cfg.now()
			s.cfg.Log.Error("a group cannot be read; it stays as it was last seen, and nothing is changed in it",
				"group", groupOf(e), "seen", e.base != nil, "error", failed[id])
			changed = append(changed, e)
		}
		e.unread = failed[id]
	}
	return changed
}

// readable are the groups that a refresh waits for: those that could be read the
// last time, or all if there are none. The others are read in the background.
func (s *Source) readable() (ids []string) {
	s.mu.Lock()
	var later []string
	for id, e := range s.entries {
		if e.unread == nil {
			ids = append(ids, id)
		} else {
			later = append(later, id)
		}
	}
	s.mu.Unlock()
	if len(ids) == 0 {
		ids, later = later, nil
	}
	slices.Sort(ids)
	for _, id := range later {
		s.readLater(id)
	}
	return ids
}

// readLater reads a group in the background.
func (s *Source) readLater(id string) {
	s.inBackground(id, func(ctx context.Context) {
		asking, stop := context.WithTimeout(ctx, s.cfg.QueryBudget)
		defer stop()
		if err := s.sendOwed(ctx)[id]; err != nil {
			return // it stays unread, for the reason that it has
		}
		r, err := s.read(ctx, asking, id)
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if e := s.entries[id]; e != nil && e.unread != nil {
				e.unread = err
			}
			return
		}
		var readings []*reading
		if r != nil {
			readings = append(readings, r)
		}
		s.accept(readings, []string{id}, nil, time.Time{})
	})
}

// discovery is one question for the groups that are indexed. Its answer is only
// needed to find new ones: those that are known are read by themselves.
type discovery struct {
	done chan struct{}
	err  error
}

// discover asks for groups in the background, unless it is being asked.
func (s *Source) discover() *discovery {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.discovery != nil {
		return s.discovery
	}
	d := &discovery{done: make(chan struct{})}
	s.discovery = d
	s.background(func(ctx context.Context) {
		ctx, stop := context.WithTimeout(ctx, listPatience)
		defer stop()
		ids, err := s.back.groups(ctx, s.cfg.Cluster)
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.err = err; err == nil {
			s.discovered = s.cfg.now()
			s.indexed = slices.DeleteFunc(ids, func(id string) bool {
				return s.cfg.Cluster != "" && !strings.HasPrefix(id, cluster.GroupID(s.cfg.Cluster, ""))
			})
			slices.Sort(s.indexed)
			s.indexed = slices.Compact(s.indexed)
		}
		s.discovery = nil
		close(d.done)
	})
	return d
}

// found waits for a discovery: as long as ctx lasts while nothing is known without
// it, else only until stop. It returns the groups that no entry is of, also those of
// an earlier answer that came too late.
func (s *Source) found(ctx, stop context.Context, d *discovery) ([]string, error) {
	s.mu.Lock()
	needed := s.discovered.IsZero() || len(s.entries) == 0
	s.mu.Unlock()
	if needed {
		stop = ctx
	}
	select {
	case <-d.done:
	case <-stop.Done():
		if needed {
			return nil, fault.New(fault.Unavailable, op, "list groups: %v", stop.Err())
		}
		s.count.undiscovered.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.err != nil { // nil while it is under way
		s.count.undiscovered.Add(1)
		if needed {
			return nil, d.err
		}
		s.cfg.Log.Debug("groups cannot be listed; those that are known are read", "error", d.err)
	}
	ids := s.indexed
	s.indexed = nil
	return slices.DeleteFunc(ids, func(id string) bool { return s.entries[id] != nil }), nil
}
