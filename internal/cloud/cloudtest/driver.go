package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// errKilled stands for a worker that died before it could report.
var errKilled = errors.New("killed")

// drive brings a create to an end as the workflows do: one request per attempt,
// evidence that survives, and a second request only after proof of absence,
// unless the cloud itself sees to it that there is one. try is one attempt.
func drive[T any](ctx context.Context, c cloud.Capabilities, try func(ctx context.Context, create bool) (*T, error)) (*T, error) {
	var ev plan.Evidence
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		action, wait := plan.NextCreate(ev, time.Now(), c.Settle, c.AbsenceWindow, dedupes[T](c))
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

// dedupes reports whether the cloud deduplicates creates of a T.
func dedupes[T any](c cloud.Capabilities) bool {
	mode := c.Idempotency
	if _, machine := any(*new(T)).(cloud.Machine); !machine && c.Resources != "" {
		mode = c.Resources
	}
	return mode == cloud.NativeToken
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

// ensureMachine is one attempt at a machine. Where the cloud deduplicates, a
// create may find that what it made is gone: as the workflows do, the next one is
// another attempt.
func ensureMachine(p cloud.Provider, w Cloud, spec cloud.MachineSpec) func(context.Context, bool) (*cloud.Machine, error) {
	return func(ctx context.Context, create bool) (*cloud.Machine, error) {
		look, err := p.EnsureMachine(ctx, cloud.EnsureMachineRequest{Spec: spec, UserData: w.UserData(), Create: create})
		if create && fault.Is(err, fault.NotFound) && p.Capabilities().Idempotency == cloud.NativeToken {
			spec.Attempt++
			err = fault.New(fault.NotYet, "create", "attempt %d is next: %v", spec.Attempt, err)
		}
		return look.Machine, err
	}
}

// create makes a machine on a healthy cloud. That something which the machine
// stands on is not visible yet is part of being healthy.
func create(t *testing.T, w Cloud, spec cloud.MachineSpec) cloud.Machine {
	t.Helper()
	try := ensureMachine(w.Open(t), w, spec)
	var m *cloud.Machine
	until(t, "EnsureMachine on a healthy cloud", func() (bool, error) {
		var err error
		m, err = try(t.Context(), true)
		if err != nil && !fault.Is(err, fault.NotYet) {
			t.Fatalf("EnsureMachine on a healthy cloud: %v", err)
		}
		return m != nil, err
	})
	return *m
}

// attach lets a machine use the infrastructure that was made for it.
func attach(spec cloud.MachineSpec, have []cloud.Resource) cloud.MachineSpec {
	spec.Subnets, spec.Params = nil, nil
	for _, r := range have {
		if r.Kind == cloud.KindSubnet && (r.Zone == "" || r.Zone == spec.Zone) {
			spec.Subnets = append(spec.Subnets, r.ID)
		}
		spec.Params = append(spec.Params, r.Machine...)
	}
	slices.SortFunc(spec.Params, func(a, b cluster.Tag) int { return strings.Compare(a.Key, b.Key) })
	return spec
}

// listed waits until the owner's list shows as many machines: lists may lag. What
// it shows then is returned.
func listed(t *testing.T, w Cloud, o cloud.Owner, want int) []cloud.Machine {
	t.Helper()
	var ms []cloud.Machine
	until(t, fmt.Sprintf("the list of %s shows %d machines", o.Cluster.UID, want), func() (bool, error) {
		var err error
		ms, err = w.Open(t).ListMachines(t.Context(), o)
		return len(ms) == want, err
	})
	return ms
}

// wantAbsent waits until the provider knows that a machine is gone. Before there
// is proof it says NotYet, and never that there is none.
func wantAbsent(t *testing.T, p cloud.Provider, ref cloud.MachineRef) {
	t.Helper()
	until(t, "proof that the machine is gone", func() (bool, error) {
		m, err := p.GetMachine(t.Context(), ref)
		switch {
		case err == nil:
			t.Fatalf("a machine that is gone was read: %+v", m)
		case fault.Is(err, fault.NotFound):
			return true, nil
		case !fault.Is(err, fault.NotYet):
			t.Fatalf("GetMachine of what is gone: %v of kind %q", err, fault.KindOf(err))
		}
		return false, err
	})
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
