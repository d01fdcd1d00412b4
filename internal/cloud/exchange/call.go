package exchange

import (
	"context"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// Request is one call.
type Request struct {
	// Op is what it is in words: "create server demo-1".
	Op string
	// Action is the API's own name of it, where it throttles by action.
	Action string
	Verb   Verb
	// SendBy is until when it may be sent (zero: always); see Caller.SendBy.
	SendBy time.Time
}

// Classifier gives an error of an SDK its kind. ex tells what the error cannot:
// the status, and whether anything may have been sent. It is not called for
// success, and what it returns holds no secrets.
type Classifier func(r Request, err error, ex *Exchange) error

// Caller makes the calls of one account. It is safe for concurrent use.
type Caller struct {
	Gate  *Gate
	Waits cloud.Waits
	// ReadTimeout and ChangeTimeout bound a call; creates have Waits.CreateTimeout.
	ReadTimeout, ChangeTimeout time.Duration
	Classify                   Classifier
	// Ready, if there is one, says what keeps a request from being sent; it has
	// the time of the call.
	Ready func(ctx context.Context, op string) error

	now func() time.Time // nil means time.Now
}

// SendBy is until when a create that is begun now may be sent. It is by the wall
// clock, so that a process that was stopped for a while counts it.
func (c *Caller) SendBy() time.Time { return c.clock().Round(0).Add(c.Waits.PostWindow) }

// Call runs f, which makes one HTTP exchange with the context that it is given,
// and gives its error a kind. What was surely not sent is RateLimited,
// Unavailable, or what Ready said. It calls f once, except for reads of a Whole.
func (c *Caller) Call(ctx context.Context, r Request, f func(context.Context) error) error {
	for n := 1; ; n++ {
		if err := c.once(ctx, r, f); err == nil || !again(ctx, r, n, err) {
			return err
		}
	}
}

func (c *Caller) once(ctx context.Context, r Request, f func(context.Context) error) error {
	if err := c.Gate.wait(ctx, r.Op, r.Action); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout(r.Verb))
	defer cancel()
	if c.Ready != nil {
		if err := c.Ready(ctx, r.Op); err != nil {
			return err
		}
	}
	if !r.SendBy.IsZero() && c.clock().Round(0).After(r.SendBy) {
		return fault.New(fault.Unavailable, r.Op, "not sent: this attempt is too old, somebody else may have taken over")
	}
	ex := &Exchange{}
	err := f(with(ctx, ex))
	if err != nil {
		err = c.Classify(r, err, ex)
	}
	c.Gate.note(r.Action, err)
	return err
}

func (c *Caller) timeout(v Verb) time.Duration {
	switch v {
	case Create:
		return c.Waits.CreateTimeout
	case Change, Remove:
		return c.ChangeTimeout
	case Read:
	}
	return c.ReadTimeout
}

func (c *Caller) clock() time.Time {
	if c.now == nil {
		return time.Now()
	}
	return c.now()
}
