package cloudscale

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ichor-project/ichor/internal/fault"
)

// maxPause bounds how long one answer can silence the account: longer than any
// throttling seen, short enough that a wrong header does no harm.
const maxPause = time.Minute

// gate is the account's rate limit, shared by all calls of a Provider. Once the
// API asked for a pause, calls are refused here without bothering it again.
type gate struct {
	limiter *rate.Limiter
	now     func() time.Time

	mu    sync.Mutex
	until time.Time
}

func (g *gate) wait(ctx context.Context, op string) error {
	g.mu.Lock()
	left := g.until.Sub(g.now())
	g.mu.Unlock()
	if left > 0 {
		return &fault.Error{
			Kind: fault.RateLimited, Op: op, RetryAfter: left,
			Message: "not sent: the cloud asked this account to slow down",
		}
	}
	if err := g.limiter.Wait(ctx); err != nil {
		return &fault.Error{Kind: fault.Unavailable, Op: op, Message: "not sent: the account's own rate limit left no time", Err: err}
	}
	return nil
}

// note learns from an answer.
func (g *gate) note(err error) {
	if !fault.Is(err, fault.RateLimited) {
		return
	}
	until := g.now().Add(min(fault.RetryAfter(err), maxPause))
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.until) {
		g.until = until
	}
}
