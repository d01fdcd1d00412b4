package store

import (
	"context"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// NewestStream returns the stream below a prefix that was completed last, and when,
// by the clock of the store. NotFound when there is none.
func (s *Store) NewestStream(ctx context.Context, prefix string) (Stream, time.Time, error) {
	folder, err := asFolder(prefix)
	if err != nil {
		return Stream{}, time.Time{}, err
	}
	entries, err := s.back.list(ctx, folder)
	if err != nil {
		return Stream{}, time.Time{}, err
	}
	var newest entry
	for _, e := range entries {
		if strings.Contains(strings.TrimPrefix(e.key, folder), ".parts/") {
			continue
		}
		if newest.key == "" || e.modified.After(newest.modified) {
			newest = e
		}
	}
	if newest.key == "" {
		return Stream{}, time.Time{}, fault.New(fault.NotFound, "find the newest below "+prefix, "there is none")
	}
	st, err := s.Stream(ctx, newest.key)
	return st, newest.modified, err
}
