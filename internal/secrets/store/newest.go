package store

import (
	"context"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// NewestStream returns the stream below a prefix that was completed last, and when,
// by the clock of the store. Of those that were completed in the same second,
// which is as fine as object stores tell, the clocks of their writers decide.
// NotFound when there is none.
func (s *Store) NewestStream(ctx context.Context, prefix string) (Stream, time.Time, error) {
	folder, err := asFolder(prefix)
	if err != nil {
		return Stream{}, time.Time{}, err
	}
	entries, err := s.back.list(ctx, folder)
	if err != nil {
		return Stream{}, time.Time{}, err
	}
	var last []entry // all of one second
	for _, e := range entries {
		if strings.Contains(strings.TrimPrefix(e.key, folder), ".parts/") {
			continue
		}
		if len(last) > 0 {
			have, this := last[0].modified.Truncate(time.Second), e.modified.Truncate(time.Second)
			if this.Before(have) {
				continue
			}
			if this.After(have) {
				last = nil
			}
		}
		last = append(last, e)
	}
	if len(last) == 0 {
		return Stream{}, time.Time{}, fault.New(fault.NotFound, "find the newest below "+prefix, "there is none")
	}
	return s.lastOf(ctx, last)
}

// lastOf reads streams of one second and returns the one that was written last.
func (s *Store) lastOf(ctx context.Context, entries []entry) (Stream, time.Time, error) {
	var newest Stream
	var written, modified time.Time
	for _, e := range entries {
		head, err := s.streamHead(ctx, e.key)
		if err != nil {
			return Stream{}, time.Time{}, err
		}
		if newest.Key == "" || head.At.After(written) {
			newest, written, modified = Stream{Key: e.key, SHA256: head.SHA256, Bytes: head.Bytes}, head.At, e.modified
		}
	}
	return newest, modified, nil
}
