package exchange

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// throttled is what an answer without a word about when to come back is made of.
func throttled(after time.Duration) error {
	return &fault.Error{Kind: fault.RateLimited, Op: "x", RetryAfter: after}
}

// refused is a caller whose first calls fail, and how often it has called. Its
// time is that of the bubble that it is made in.
func refused(errs ...error) (c *Caller, f func(context.Context) error, calls *int) {
	calls = new(int)
	c = &Caller{
		Gate: NewGate(1000), Waits: cloud.Waits{CreateTimeout: time.Minute, PostWindow: time.Minute}, ReadTimeout: time.Minute, ChangeTimeout: time.Minute,
		Classify: func(_ Request, err error, _ *Exchange) error { return err },
	}
	return c, func(context.Context) error {
		if *calls++; *calls <= len(errs) {
			return errs[*calls-1]
		}
		return nil
	}, calls
}

func repeated(err error, n int) (out []error) {
	for range n {
		out = append(out, err)
	}
	return out
}

// Reads of a whole are repeated, for two kinds of failure only, and nothing else
// ever is.
func TestWhole(t *testing.T) {
	down := fault.New(fault.Unavailable, "x", "try again")
	for _, tc := range []struct {
		name    string
		request Request
		plain   bool          // not in a whole
		time    time.Duration // that the caller has; 0 means any
		errs    []error
		want    fault.Kind
		calls   int
		took    time.Duration
	}{
		{"throttled", Request{}, false, time.Minute, repeated(throttled(2*time.Second), 3), "", 4, 6 * time.Second},
		{"throttled, no deadline", Request{}, false, 0, repeated(throttled(2*time.Second), rereads), "", rereads + 1, 8 * time.Second},
		{"throttled without a word", Request{}, false, time.Minute, repeated(throttled(0), 1), "", 2, rereadPause},
		{"down", Request{}, false, time.Minute, []error{down, throttled(3 * time.Second), down}, "", 4, 2*rereadPause + 3*time.Second},
		{"for ever", Request{}, false, 0, repeated(throttled(time.Second), 100), fault.RateLimited, rereads + 1, rereads * time.Second},
		{"down for ever", Request{}, false, 0, repeated(down, 100), fault.Unavailable, rereads + 1, rereads * rereadPause},
		{"no time left", Request{}, false, 4 * time.Second, repeated(throttled(2*time.Second), 100), fault.RateLimited, 2, 2 * time.Second},
		{"no such pause", Request{}, false, 0, repeated(throttled(time.Hour), 1), fault.RateLimited, 1, 0},
		{"not in a whole", Request{}, true, 0, repeated(throttled(time.Second), 1), fault.RateLimited, 1, 0},
		{"create", Request{Verb: Create}, false, 0, repeated(throttled(time.Second), 1), fault.RateLimited, 1, 0},
		{"change", Request{Verb: Change}, false, 0, repeated(down, 1), fault.Unavailable, 1, 0},
		{"remove", Request{Verb: Remove}, false, 0, repeated(down, 1), fault.Unavailable, 1, 0},
		{"absent", Request{}, false, 0, repeated(fault.New(fault.NotFound, "x", "gone"), 1), fault.NotFound, 1, 0},
		{"forbidden", Request{}, false, 0, repeated(fault.New(fault.Unauthorized, "x", "no"), 1), fault.Unauthorized, 1, 0},
		{"then absent", Request{}, false, 0, []error{down, fault.New(fault.NotFound, "x", "gone")}, fault.NotFound, 2, rereadPause},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tc.time > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.time)
					defer cancel()
				}
				if !tc.plain {
					ctx = Whole(Whole(ctx))
				}
				c, f, calls := refused(tc.errs...)
				tc.request.Op, tc.request.Action = "x", "Describe"
				began := time.Now()
				err := c.Call(ctx, tc.request, f)
				if took := time.Since(began); fault.KindOf(err) != tc.want || *calls != tc.calls || took != tc.took {
					t.Errorf("%v of kind %q after %d calls in %s; want %q, %d, %s", err, fault.KindOf(err), *calls, took, tc.want, tc.calls, tc.took)
				}
			})
		})
	}
}

// Whoever is told to stop during a pause stops, with what the cloud said last.
func TestWholeIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		c, f, calls := refused(repeated(throttled(2*time.Second), 2)...)
		if err := c.Call(Whole(ctx), Request{Op: "x"}, f); !fault.Is(err, fault.RateLimited) || *calls != 1 {
			t.Errorf("%v after %d calls", err, *calls)
		}
	})
}
