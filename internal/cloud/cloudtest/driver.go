package cloudtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// errKilled stands for a worker that died before it could report.
var errKilled = errors.New("killed")

// drive brings a create to an end as the workflows do: one request per attempt,
// evidence that survives, and a second request only after proof of absence. try
// is one attempt.
func drive[T any](ctx context.Context, c cloud.Capabilities, try func(ctx context.Context, create bool) (*T, error)) (*T, error) {
	var ev plan.Evidence
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		action, wait := plan.NextCreate(ev, time.Now(), c.Settle, c.AbsenceWindow, c.Idempotency == cloud.NativeToken)
		switch action {
		case plan.Wait:
			rest(ctx, wait)
		case plan.Look:
			began := time.Now()
			found, err := try(ctx, false)
			switch {
			case err != nil && !passes(err):
				return nil, err
			case err != nil:
				rest(ctx, max(c.Poll, fault.RetryAfter(err)))
			case found != nil:
				return found, nil
			default:
				ev.Empty = append(ev.Empty, began)
			}
		case plan.Create:
			ev = plan.Evidence{Pending: true, Since: time.Now()}
			made, err := try(ctx, true)
			switch {
			case err == nil && made != nil:
				return made, nil
			case err == nil, errors.Is(err, errKilled), fault.Is(err, fault.Ambiguous, fault.Internal):
				ev.Since = time.Now()
			case passes(err): // surely not made
				ev = plan.Evidence{}
				rest(ctx, max(c.Poll, fault.RetryAfter(err)))
			default:
				return nil, err
			}
		}
	}
}

// passes reports whether an error is one that may go away: what workflows retry,
// and what the faults of the suite end.
func passes(err error) bool {
	return errors.Is(err, errKilled) || fault.KindOf(err).Retryable() ||
		fault.Is(err, fault.Quota, fault.Capacity, fault.Unauthorized, fault.Ambiguous)
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func ensureMachine(p cloud.Provider, w Cloud, spec cloud.MachineSpec) func(context.Context, bool) (*cloud.Machine, error) {
	return func(ctx context.Context, create bool) (*cloud.Machine, error) {
		look, err := p.EnsureMachine(ctx, cloud.EnsureMachineRequest{Spec: spec, UserData: w.UserData(), Create: create})
		return look.Machine, err
	}
}

// create makes a machine on a healthy cloud.
func create(t *testing.T, w Cloud, spec cloud.MachineSpec) cloud.Machine {
	t.Helper()
	m, err := ensureMachine(w.Open(t), w, spec)(t.Context(), true)
	if err != nil || m == nil {
		t.Fatalf("EnsureMachine on a healthy cloud = %v, %v", m, err)
	}
	return *m
}

// until calls f until it says done; it fails the test after too long or on an
// error that cannot pass.
func until(t *testing.T, what string, f func() (bool, error)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		done, err := f()
		if done && err == nil {
			return
		}
		if err != nil && !passes(err) {
			t.Fatalf("%s: %v (%s)", what, err, fault.KindOf(err))
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not done after %s, last error %v", what, patience, err)
		}
		rest(t.Context(), max(10*time.Millisecond, fault.RetryAfter(err)))
	}
}

func remove(t *testing.T, p cloud.Provider, ref cloud.MachineRef) {
	t.Helper()
	until(t, "DeleteMachine "+ref.ID, func() (bool, error) { return p.DeleteMachine(t.Context(), ref) })
}

// wantBooks waits until the cloud's books say this; things take time to go.
func wantBooks(t *testing.T, w Cloud, uid, kind string, want int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		have := w.Books(uid)
		if have[kind] == want {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the cloud has %d of %s of %s, want %d; all: %v", have[kind], kind, uid, want, have)
			return
		}
		rest(t.Context(), 10*time.Millisecond)
	}
}

func wantKind(t *testing.T, err error, want ...fault.Kind) {
	t.Helper()
	if !fault.Is(err, want...) {
		t.Fatalf("got error %v of kind %q, want %v", err, fault.KindOf(err), want)
	}
}

// settings are shorthand for the provider's own.
func settings(t *testing.T, w Cloud) cloud.Capabilities {
	t.Helper()
	return w.Open(t).Capabilities()
}
