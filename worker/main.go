// Command ichor-worker runs Ichor's workflows and activities.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/secrets/store"
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
func run(ctx context.Context, args []string) error {
	c, err := parseConfig(args, os.Getenv, os.Stderr)
	if err != nil {
		return err
	}
	logger := newLogger(c)
	st, err := store.Open(ctx, store.Options{URL: c.Store, Key: c.StoreKey})
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }() // nothing is buffered
	temporal, err := dial(ctx, c, logger)
	if err != nil {
		return err
	}
	defer temporal.Close()
	if err := ensureSearchAttributes(ctx, temporal); err != nil {
		return err
	}
	w := worker.New(temporal, c.TaskQueue, worker.Options{
		MaxConcurrentActivityExecutionSize: c.Activities,
		WorkerStopTimeout:                  10 * time.Second,
		StickyScheduleToStartTimeout:       2 * time.Second, // bounds the pause after a lost worker
		Interceptors:                       []interceptor.WorkerInterceptor{&activities.Boundary{}},
	})
	workflows.Register(w, newActivities(c, st, logger))
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	health, err := serveHealth(ctx, c.MetricsListen)
	if err != nil {
		return err
	}
	defer health()
	logger.Info("working", "version", version, "taskQueue", c.TaskQueue)
	<-ctx.Done()
	logger.Info("stopping")
	return nil
}

func dial(ctx context.Context, c config, logger *slog.Logger) (client.Client, error) {
	opts, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return nil, fmt.Errorf("Temporal settings: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	opts.Identity = fmt.Sprintf("ichor-worker@%s/%d", host, os.Getpid())
	opts.Logger = log.NewStructuredLogger(logger)
	t, err := client.DialContext(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("Temporal at %s: %w", opts.HostPort, err)
	}
	return t, nil
}

func newLogger(c config) *slog.Logger {
	var level slog.Level
	if level.UnmarshalText([]byte(c.LogLevel)) != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}
