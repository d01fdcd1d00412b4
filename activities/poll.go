package activities

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/ichor-project/ichor/internal/fault"
)

// Observation is what a poll saw last; it is the heartbeat's detail and the
// text of the error when the wait ends without success.
type Observation struct {
	Saw       string `json:"saw"`
	LastError string `json:"lastError,omitempty"`
}

// look is one poll: done, what was seen, error. A retryable error is noted and
// polling goes on; any other ends it.
type look func(ctx context.Context) (done bool, saw string, err error)

// poll looks until done, every so often, with a heartbeat each time. It ends
// when the attempt's time is nearly over, so that the error says what was missing
// instead of "timeout": with Unavailable if nothing answered at last, else with
// NotYet. It ends with Unavailable, too, when the worker is told to stop, so that
// another one goes on at once.
func poll(ctx context.Context, op string, every time.Duration, f look) error {
	stop := activity.GetWorkerStopChannel(ctx)
	beat := activity.GetInfo(ctx).HeartbeatTimeout
	if every <= 0 {
		every = time.Second
	}
	until, bounded := ctx.Deadline()
	// The end of the attempt is kept for saying what was missing.
	reserve := min(time.Until(until)/10, 5*time.Second)
	var last Observation
	var before error // of the look before
	begun := time.Now()
	for looks := 0; ; looks++ {
		done, saw, err := once(ctx, f, bounded, until.Add(-reserve))
		if looks > 0 && bounded && fault.Is(err, fault.Unavailable, fault.NotYet) && !time.Now().Before(until.Add(-reserve)) {
			saw, err = "", before // the end of the attempt cut this look off: it says nothing
		}
		before = err
		if saw != "" {
			last.Saw = saw
		}
		last.LastError = ""
		if err != nil {
			if !fault.KindOf(err).Retryable() {
				return err
			}
			last.LastError = err.Error()
		}
		if done && err == nil {
			return nil
		}
		// The attempt's start counts as a beat, so a short wait needs none.
		if beat <= 0 || time.Since(begun) > beat/3 {
			activity.RecordHeartbeat(ctx, last)
		}
		pause := max(every, fault.RetryAfter(err))
		if beat > 0 {
			pause = min(pause, beat/2)
		}
		if bounded && time.Until(until) < pause+reserve {
			kind := fault.NotYet
			if fault.Is(err, fault.Unavailable) {
				kind = fault.Unavailable
			}
			return fault.New(kind, op, "still waiting: %s", last)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-stop:
			t.Stop()
			return fault.New(fault.Unavailable, op, "the worker is stopping; last seen: %s", last)
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// once looks within what is left of the attempt.
func once(ctx context.Context, f look, bounded bool, until time.Time) (bool, string, error) {
	if !bounded {
		return f(ctx)
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return f(ctx)
}

func (o Observation) String() string {
	switch {
	case o.LastError == "":
		return o.Saw
	case o.Saw == "":
		return o.LastError
	}
	return fmt.Sprintf("%s (last error: %s)", o.Saw, o.LastError)
}

// alive heartbeats in the background while one long call runs and returns the
// function that ends it.
func alive(ctx context.Context, step string) (stop func()) {
	_, stop = telling(ctx, step)
	return stop
}
