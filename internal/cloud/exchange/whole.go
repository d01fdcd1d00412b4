package exchange

import (
	"context"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

const (
	// rereads is how often one read of a whole is repeated: an API that refuses a
	// read five times in a row, each time after the pause that it asked for, has
	// more trouble than one caller can wait out.
	rereads = 4
	// rereadPause is that after an answer which names none.
	rereadPause = time.Second
)

type wholeKey struct{}

// whole is a result that only all of its reads together give.
type whole struct {
	until time.Time // no read is repeated later; zero if there is no deadline
}

// Whole returns a context for reads that are of use only together, like a list
// of all that a cluster has. There a read that is RateLimited or Unavailable is
// repeated by Call, a few times and after the pause that the cloud asks for:
// the caller could only begin with the first of them again, and would meet the
// same throttling with more requests. A quarter of the time that the context
// leaves is kept for the other reads, and for telling what was wrong.
//
// Only reads are repeated, since they change nothing, and only for these kinds.
// A read that does not succeed ends with its last error.
func Whole(ctx context.Context) context.Context {
	if _, nested := ctx.Value(wholeKey{}).(whole); nested {
		return ctx
	}
	var w whole
	if deadline, ok := ctx.Deadline(); ok {
		w.until = deadline.Add(-time.Until(deadline) / 4)
	}
	return context.WithValue(ctx, wholeKey{}, w)
}

// again waits before a request is repeated, the nth time. It is false when the
// error is the outcome.
func again(ctx context.Context, r Request, n int, err error) bool {
	w, ok := ctx.Value(wholeKey{}).(whole)
	if !ok || r.Verb != Read || n > rereads || !fault.Is(err, fault.RateLimited, fault.Unavailable) {
		return false
	}
	pause := fault.RetryAfter(err)
	if pause <= 0 {
		pause = rereadPause
	}
	if pause > maxPause || !w.until.IsZero() && time.Until(w.until) < pause {
		return false
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
