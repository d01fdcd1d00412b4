package exchange

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ichor-project/ichor/internal/fault"
)

// maxPause bounds how long one answer can silence an account: longer than any
// throttling seen, short enough that a wrong header does no harm.
const maxPause = time.Minute

// Gate is the rate limit of an account, shared by all of its calls. Once the API
// asked for a pause, calls are refused here without bothering it again. APIs
// that throttle each sort of action by itself are asked with the action's name,
// and only that one is held back; for others the name is empty. The zero value
// is not ready to use.
type Gate struct {
	limiter *rate.Limiter
	now     func() time.Time

	mu    sync.Mutex
	until map[string]time.Time // by action
}

// NewGate lets perSecond calls a second pass, in bursts of twice as many.
func NewGate(perSecond float64) *Gate {
	return &Gate{limiter: rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond))), now: time.Now, until: map[string]time.Time{}}
}

// wait returns when a call may be sent. Errors are RateLimited during a pause,
// and Unavailable when the context leaves no time to wait.
func (g *Gate) wait(ctx context.Context, op, action string) error {
	g.mu.Lock()
	left := g.until[action].Sub(g.now())
	g.mu.Unlock()
	if left > 0 {
		f := fault.New(fault.RateLimited, op, "not sent: the cloud asked this account to slow down")
		if f.RetryAfter = left; action != "" {
			f.Message += " with " + action
		}
		return f
	}
	if err := g.limiter.Wait(ctx); err != nil {
		return &fault.Error{Kind: fault.Unavailable, Op: op, Message: "not sent: the account's own rate limit left no time", Err: err}
	}
	return nil
}

// note learns from an answer.
func (g *Gate) note(action string, err error) {
	if !fault.Is(err, fault.RateLimited) {
		return
	}
	until := g.now().Add(min(fault.RetryAfter(err), maxPause))
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.until[action]) {
		g.until[action] = until
	}
}
