package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/internal/fault"
)

// source is as old as it is told, and refreshes or fails.
type source struct {
	provider.Source
	mu        sync.Mutex
	refreshed time.Time
	err       error
	calls     int
}

func (s *source) Stats() provider.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return provider.Stats{Refreshed: s.refreshed}
}

func (s *source) Refresh(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err == nil {
		s.refreshed = time.Now()
	}
	return s.err
}

func (s *source) Groups() []*provider.Group { return nil }

func serving(t *testing.T, f *freshness) bool {
	t.Helper()
	var all []healthpb.HealthCheckResponse_ServingStatus
	for _, name := range []string{"", pb.CloudProvider_ServiceDesc.ServiceName} {
		r, err := f.health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r.GetStatus())
	}
	if all[0] != all[1] {
		t.Errorf("the server is %s, the service %s", all[0], all[1])
	}
	return all[0] == healthpb.HealthCheckResponse_SERVING
}

func TestReadinessFollowsTheState(t *testing.T) {
	var out strings.Builder
	f := newFreshness(time.Hour, slog.New(slog.NewTextHandler(&out, nil)))
	if err := f.check(t.Context()); err == nil || serving(t, f) {
		t.Error("ready before anything was read")
	}
	s := &source{refreshed: time.Now()}
	f.watch(t.Context(), s)
	if err := f.check(t.Context()); err != nil || !serving(t, f) {
		t.Errorf("not ready after all was read: %v", err)
	}

	// Somebody else has refreshed lately: nothing to do.
	f.refresh(t.Context())
	if s.calls != 0 {
		t.Error("fresh state was read again")
	}
	// Nobody has, and it fails: still ready for a while, and told once.
	s.refreshed, s.err = time.Now().Add(-2*time.Hour), errors.New("Temporal is away")
	f.refresh(t.Context())
	f.refresh(t.Context())
	if err := f.check(t.Context()); err != nil || !serving(t, f) {
		t.Errorf("not ready after a short outage: %v", err)
	}
	if n := strings.Count(out.String(), "cannot be read"); n != 1 || s.calls != 2 {
		t.Errorf("%d lines after %d attempts:\n%s", n, s.calls, out.String())
	}
	// A long outage.
	s.refreshed = time.Now().Add(-5 * time.Hour)
	f.refresh(t.Context())
	if err := f.check(t.Context()); err == nil || !strings.Contains(err.Error(), "Temporal is away") || serving(t, f) {
		t.Errorf("ready after a long outage, or without the reason: %v", err)
	}
	s.err = nil
	f.refresh(t.Context())
	if err := f.check(t.Context()); err != nil || !serving(t, f) || !strings.Contains(out.String(), "can be read again") {
		t.Errorf("not ready again: %v\n%s", err, out.String())
	}
}

func TestPatience(t *testing.T) {
	away, wrong := fault.New(fault.Unavailable, "", "away"), fault.New(fault.Conflict, "", "another input")
	var out strings.Builder
	l := slog.New(slog.NewTextHandler(&out, nil))
	if err := patiently(t.Context(), l, "begin", func(context.Context) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("an error that will stay: %v", err)
	}
	calls := 0
	if err := patiently(t.Context(), l, "begin", func(context.Context) error {
		if calls++; calls == 1 {
			return away
		}
		return nil
	}); err != nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if !strings.Contains(out.String(), "waiting to begin") {
		t.Errorf("the log does not say what is waited for:\n%s", out.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := patiently(ctx, l, "begin", func(context.Context) error { cancel(); return away }); !errors.Is(err, context.Canceled) {
		t.Errorf("after it was told to stop: %v", err)
	}
}
