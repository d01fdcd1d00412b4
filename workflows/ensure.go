package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// try looks for a thing and, if create is set, makes it when there is none. It
// returns nil without error when a complete look found nothing.
type try[T any] func(ctx workflow.Context, create bool) (*T, error)

// ensure drives a create to a recorded answer. The cloud may have no idempotency
// of its own: what makes this safe is that every create is one attempt, that its
// evidence is part of workflow state, and that after an unknown outcome the next
// create needs proof of absence.
func ensure[T any](ctx workflow.Context, d *desk, ev *plan.Evidence, f try[T]) (*T, error) {
	backoff := d.timing().Backoff
	giveUp := workflow.Now(ctx).Add(refusedFor)
	again := dedupes[T](d.site.Capabilities)
	for bugs := 0; ; {
		found, err := prove(ctx, d, ev, f, again)
		if found != nil || err != nil {
			return found, err
		}
		// Nothing can be under way: create. The call itself is not cancelled
		// half-way, its answer is worth more than its time.
		before := *ev
		ev.Pending, ev.Since, ev.Empty = true, workflow.Now(ctx), nil
		calm, cancel := workflow.NewDisconnectedContext(ctx)
		made, err := f(calm, true)
		cancel()
		if err == nil && made != nil {
			*ev = plan.Evidence{}
			return made, nil
		}
		kind := kindOf(err)
		late := !workflow.Now(ctx).Before(giveUp)
		switch kind {
		case "", fault.Ambiguous, fault.Internal:
			// It may have been made, or may yet be: settle and look.
			ev.Since = workflow.Now(ctx)
			if kind == fault.Internal {
				bugs++
			}
			if late || bugs > internalTries {
				return nil, err
			}
			if again { // what is sent again at once meets what lost the last answer
				if err := workflow.Sleep(ctx, backoff); err != nil {
					return nil, err
				}
				backoff = min(2*backoff, 15*d.timing().Backoff)
			}
		default: // surely not made
			*ev = plan.Evidence{}
			if again && before.Pending {
				// By this one, that is: an earlier one that nobody answered for may
				// have been, and was only sent again.
				*ev = plan.Evidence{Pending: true, Since: before.Since}
			}
			if late || !kind.Retryable() {
				return nil, err
			}
			if err := workflow.Sleep(ctx, backoff); err != nil {
				return nil, err
			}
			backoff = min(2*backoff, 15*d.timing().Backoff)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// internalTries is how often a create is repeated that failed in a way nobody
// foresaw.
const internalTries = 2

// refusedFor bounds how long a create that is refused but might succeed later
// (rate limit, maintenance) is repeated.
const refusedFor = time.Hour

// prove looks until the thing is found or until nothing can be under way any
// more, which is the case at once when no create was ever sent. With again, one that
// was is no reason to look: the cloud takes it for the same when it is sent again.
func prove[T any](ctx workflow.Context, d *desk, ev *plan.Evidence, f try[T], again bool) (*T, error) {
	c := d.site.Capabilities
	for {
		action, wait := plan.NextCreate(*ev, workflow.Now(ctx), c.Settle, c.AbsenceWindow, again)
		switch action {
		case plan.Create:
			return nil, nil
		case plan.Wait:
			if err := workflow.Sleep(ctx, wait); err != nil {
				return nil, err
			}
		case plan.Look:
			found, err := f(ctx, false)
			if err != nil {
				return nil, err
			}
			if found != nil {
				*ev = plan.Evidence{}
				return found, nil
			}
			ev.Empty = append(ev.Empty, workflow.Now(ctx))
		}
	}
}

// dedupes reports whether the cloud itself sees to it that a create of this sort of
// thing, sent twice, makes one.
func dedupes[T any](c cloud.Capabilities) bool {
	mode := c.Idempotency
	if _, machine := any(*new(T)).(cloud.Machine); !machine && c.Resources != "" {
		mode = c.Resources
	}
	return mode == cloud.NativeToken
}

// find returns the thing if it exists, after everything under way has settled. It
// sends nothing, so what the cloud would do with a repetition does not help.
func find[T any](ctx workflow.Context, d *desk, ev *plan.Evidence, f try[T]) (*T, error) {
	if !ev.Pending {
		return f(ctx, false)
	}
	return prove(ctx, d, ev, f, false)
}
