package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
)

// lateAfter is how many missed refreshes make the provider not ready. An outage
// of seconds must not take it out of its Service, where the autoscaler would find
// nobody at all.
const lateAfter = 4

// freshness refreshes the snapshot while no autoscaler does, so that readiness
// says something also before the first one comes, and tells how old it is.
type freshness struct {
	every  time.Duration
	log    *slog.Logger
	health *health.Server

	mu     sync.Mutex
	source provider.Source // nil until all groups were read once
	last   error
}

func newFreshness(every time.Duration, l *slog.Logger) *freshness {
	f := &freshness{every: every, log: l, health: health.NewServer()}
	f.announce(false)
	return f
}

func (f *freshness) announce(ready bool) {
	s := healthpb.HealthCheckResponse_NOT_SERVING
	if ready {
		s = healthpb.HealthCheckResponse_SERVING
	}
	for _, service := range []string{"", pb.CloudProvider_ServiceDesc.ServiceName} {
		f.health.SetServingStatus(service, s)
	}
}

// check says whether the state was read lately.
func (f *freshness) check(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.source == nil {
		return fmt.Errorf("the node groups were not read yet%s", because(f.last))
	}
	if age := time.Since(f.source.Stats().Refreshed); age > lateAfter*f.every {
		return fmt.Errorf("the node groups were last read %s ago%s", age.Round(time.Second), because(f.last))
	}
	return nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// watch takes a source that was read, and keeps it fresh until ctx ends.
func (f *freshness) watch(ctx context.Context, source provider.Source) {
	f.mu.Lock()
	f.source = source
	f.mu.Unlock()
	f.announce(true)
	go func() {
		tick := time.NewTicker(f.every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				f.refresh(ctx)
			}
		}
	}()
}

// refresh reads the state if nobody else did, and tells health.
func (f *freshness) refresh(ctx context.Context) {
	if time.Since(f.source.Stats().Refreshed) < f.every {
		f.note(nil)
	} else if err := f.source.Refresh(ctx); ctx.Err() == nil {
		f.note(err)
	}
	f.announce(f.check(ctx) == nil)
}

// note logs when refreshing begins to fail, and when it works again.
func (f *freshness) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && f.last == nil:
		f.log.Error("the node groups cannot be read; what was read before is still served", "error", err)
	case err == nil && f.last != nil:
		f.log.Info("the node groups can be read again")
	}
	f.last = err
}
