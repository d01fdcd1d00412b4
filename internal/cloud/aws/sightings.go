package aws

import (
	"maps"
	"sync"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// sightings knows when "there is no such thing" is proof. The cloud says so, too,
// of things that it made a moment ago. It is proof of things that are known to
// be older than window, of things whose deletion the cloud has confirmed, and
// when nothing else has been seen for window. What a process forgets by ending
// only makes it wait again.
type sightings struct {
	window time.Duration
	now    func() time.Time

	mu   sync.Mutex
	born map[string]time.Time // at the latest
	gone map[string]time.Time // the cloud confirmed
	lost map[string]lost
}

// lost is a thing that has not been found, from the first to the last look.
type lost struct{ first, last time.Time }

func newSightings(window time.Duration, now func() time.Time) *sightings {
	return &sightings{window: window, now: now, born: map[string]time.Time{}, gone: map[string]time.Time{}, lost: map[string]lost{}}
}

// keep is how many entries are kept before the old ones are dropped.
const keep = 20000

// Saw notes that a thing exists and, if that is known, since when.
func (s *sightings) Saw(id string, since time.Time) {
	now := s.now()
	if since.IsZero() || since.After(now) {
		since = now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lost, id) // gone stays: a reader may lag
	if old, ok := s.born[id]; !ok || since.Before(old) {
		s.born[id] = since
	}
	for _, m := range []map[string]time.Time{s.born, s.gone} {
		if len(m) > keep {
			maps.DeleteFunc(m, func(_ string, at time.Time) bool { return now.Sub(at) > 2*s.window })
		}
	}
	if len(s.lost) > keep {
		maps.DeleteFunc(s.lost, func(_ string, l lost) bool { return now.Sub(l.last) > s.window })
	}
}

// Making notes that a thing may exist from now on: looks from before say nothing.
func (s *sightings) Making(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lost, id)
	delete(s.gone, id)
}

// Deleted notes that the cloud confirmed that a thing is gone.
func (s *sightings) Deleted(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[id] = s.now()
}

// Absent judges that a thing was not found: NotFound when that is proof, and
// otherwise NotYet.
func (s *sightings) Absent(op, id string) error {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.lost[id]
	if !ok || now.Sub(l.last) > s.window { // looks that are further apart leave a gap
		l.first = now
	}
	l.last = now
	s.lost[id] = l
	born, known := s.born[id]
	_, gone := s.gone[id]
	if gone || known && now.Sub(born) >= s.window || now.Sub(l.first) >= s.window {
		return fault.New(fault.NotFound, op, "%s does not exist", id)
	}
	return &fault.Error{
		Kind: fault.NotYet, Op: op,
		Message: id + " is not visible; that proves nothing before it has been so for " + s.window.String(),
	}
}
