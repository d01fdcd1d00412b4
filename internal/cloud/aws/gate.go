package aws

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ichor-project/ichor/internal/fault"
)

// maxPause bounds how long one answer can silence an account.
const maxPause = time.Minute

// gate is the rate limit of an account in one region, shared by all calls of a
// Provider. The cloud throttles each sort of action by a bucket of its own, so
// only the action that was throttled is held back.
type gate struct {
	limiter *rate.Limiter
	now     func() time.Time

	mu    sync.Mutex
	until map[string]time.Time // by action
}

func (g *gate) wait(ctx context.Context, r request) error {
	g.mu.Lock()
	left := g.until[r.action].Sub(g.now())
	g.mu.Unlock()
	if left > 0 {
		return &fault.Error{
			Kind: fault.RateLimited, Op: r.op, RetryAfter: left,
			Message: "not sent: the cloud asked this account to slow down with " + r.action,
		}
	}
	if err := g.limiter.Wait(ctx); err != nil {
		return &fault.Error{Kind: fault.Unavailable, Op: r.op, Message: "not sent: the account's own rate limit left no time", Err: err}
	}
	return nil
}

// note learns from an answer.
func (g *gate) note(action string, err error) {
	if !fault.Is(err, fault.RateLimited) {
		return
	}
	until := g.now().Add(min(fault.RetryAfter(err), maxPause))
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until == nil {
		g.until = map[string]time.Time{}
	}
	if until.After(g.until[action]) {
		g.until[action] = until
	}
}
