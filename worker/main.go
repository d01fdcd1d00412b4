// Command ichor-worker runs Ichor's workflows and activities.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/telemetry"
	"github.com/ichor-project/ichor/workflows"
)

var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ichor-worker:", err)
		os.Exit(1)
	}
}

// run works until ctx ends, then lets activities finish for a while: one that is
// polling hands over to the next worker at once.
func run(ctx context.Context, args []string) (err error) {
	c, err := parseConfig(args, os.Getenv, os.Stderr)
	if err != nil {
		return err
	}
	seen, err := telemetry.New(ctx, telemetry.Options{
		Service: "ichor-worker", Version: version, MetricsListen: c.MetricsListen, OTLPEndpoint: c.OTLPEndpoint,
		LogFormat: c.LogFormat, LogLevel: c.LogLevel,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, seen.Shutdown(context.WithoutCancel(ctx))) }()
	var polling atomic.Bool
	seen.Readiness("polling", func(context.Context) error {
		if !polling.Load() {
			return errors.New("the worker does not poll yet")
		}
		return nil
	})
	st, err := store.Open(ctx, store.Options{URL: c.Store, Key: c.StoreKey})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	seen.Readiness("store", st.Ready)
	resolver := seen.Redact.Watch(newResolver(c, st))
	temporal, err := dial(ctx, c, resolver, seen)
	if err != nil {
		return err
	}
	defer temporal.Close()
	seen.Readiness("temporal", func(ctx context.Context) error {
		_, err := temporal.CheckHealth(ctx, &client.CheckHealthRequest{})
		return err
	})
	if err := whileUnavailable(ctx, firstRetry, seen.Logger(), func(ctx context.Context) error { return ensureSearchAttributes(ctx, temporal) }); err != nil {
		return err
	}
	w := worker.New(temporal, c.TaskQueue, worker.Options{
		MaxConcurrentActivityExecutionSize: c.Activities,
		WorkerStopTimeout:                  10 * time.Second,
		StickyScheduleToStartTimeout:       2 * time.Second, // bounds the pause after a lost worker
		Interceptors:                       []interceptor.WorkerInterceptor{&activities.Boundary{Observe: seen.ActivityDone}},
	})
	workflows.Register(w, newActivities(c, st, resolver, temporal, seen))
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	polling.Store(true)
	seen.Logger().Info("working", "version", version, "taskQueue", c.TaskQueue)
	<-ctx.Done()
	seen.Logger().Info("stopping")
	return nil
}

// dial connects to Temporal as the temporal CLI would, with payloads encrypted
// if keys are configured.
func dial(ctx context.Context, c config, resolver secrets.Resolver, seen *telemetry.Telemetry) (client.Client, error) {
	opts, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return nil, fmt.Errorf("settings of Temporal: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	opts.Identity = fmt.Sprintf("ichor-worker@%s/%d", host, os.Getpid())
	opts.Logger = log.NewStructuredLogger(seen.Logger())
	opts.MetricsHandler = seen.MetricsHandler()
	opts.Interceptors = seen.Interceptors()
	keys, err := codec.LoadKeys(ctx, resolver, references(c.CodecKeys))
	if err != nil {
		return nil, err
	}
	if err := codec.ClientOptions(&opts, keys); err != nil {
		return nil, err
	}
	// Connected at the first call: a worker that starts while Temporal is away
	// waits for it.
	t, err := client.NewLazyClient(opts)
	if err != nil {
		return nil, fmt.Errorf("connect to Temporal at %s: %w", opts.HostPort, err)
	}
	return t, nil
}

// references reads a comma-separated list.
func references(text string) []secrets.Ref {
	var out []secrets.Ref
	for _, r := range list(text) {
		out = append(out, secrets.Ref(r))
	}
	return out
}
