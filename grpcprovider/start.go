package main

import (
	"context"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/grpcprovider/snapshot"
	"github.com/ichor-project/ichor/grpcprovider/standalone"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
)

// Pauses between attempts to begin, while Temporal or the store is away.
const (
	firstPause = time.Second
	lastPause  = 15 * time.Second
)

// patiently repeats f while what it needs is away. An error that will stay is
// returned at once.
func patiently(ctx context.Context, l *slog.Logger, what string, f func(context.Context) error) error {
	last := ""
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := f(ctx)
		if !fault.Is(err, fault.Unavailable, fault.RateLimited, fault.NotYet, fault.Ambiguous) {
			return err
		}
		if err.Error() != last { // not the same line over and over
			l.Warn("waiting to "+what, "error", err)
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// standaloneGroups reads the file of --config and makes sure that the entities
// of its groups run; nil without a file.
func standaloneGroups(ctx context.Context, c config, st *store.Store, t client.Client, how snapshot.Config, l *slog.Logger) (*standalone.Setup, error) {
	if c.File == "" {
		return nil, nil
	}
	var s standalone.Setup
	err := patiently(ctx, l, "store the user data of "+c.File, func(ctx context.Context) (err error) {
		s, err = standalone.Load(ctx, c.File, st)
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.Cluster != "" && c.Cluster != s.Cluster.Name {
		return nil, fault.New(fault.Invalid, "read "+c.File, "--cluster is %s, the file is of %s", c.Cluster, s.Cluster.Name)
	}
	err = patiently(ctx, l, "start the groups of "+c.File, func(ctx context.Context) error {
		return standalone.Start(ctx, t, s, standalone.StartOptions{TaskQueue: c.TaskQueue, Converter: how.Converter, Log: l})
	})
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// open reads all groups for the first time.
func open(ctx context.Context, how snapshot.Config, groups *standalone.Setup, l *slog.Logger) (source *snapshot.Source, err error) {
	err = patiently(ctx, l, "read the node groups", func(ctx context.Context) (err error) {
		source, err = snapshot.Open(ctx, how)
		return err
	})
	if err != nil || groups == nil {
		return source, err
	}
	// Temporal may not have indexed yet what was just started.
	for _, g := range groups.Groups {
		source.Know(groups.Cluster.Name, g.Group)
	}
	return source, patiently(ctx, l, "read the groups of the file", source.Refresh)
}
