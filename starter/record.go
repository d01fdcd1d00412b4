package main

import (
	"context"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
)

// record reads a cluster's record; NotFound is said in the words of the command.
func record(ctx context.Context, st *store.Store, name string) (cluster.Record, error) {
	if err := validName(name); err != nil {
		return cluster.Record{}, err
	}
	rec, _, err := st.Record(ctx, name)
	if fault.Is(err, fault.NotFound) {
		return rec, fault.New(fault.NotFound, "find cluster "+name, "this store has no such cluster; ichor list shows those it has")
	}
	return rec, err
}

// openRecord opens the store and reads a cluster's record, as record does. The
// caller closes the store.
func (a *app) openRecord(ctx context.Context, name string) (*store.Store, cluster.Record, error) {
	st, err := a.openStore(ctx)
	if err != nil {
		return nil, cluster.Record{}, err
	}
	rec, err := record(ctx, st, name)
	if err != nil {
		_ = st.Close() // nothing is buffered
		return nil, cluster.Record{}, err
	}
	return st, rec, nil
}

// dialRecord reads a cluster's record, as record does, and connects to Temporal.
// The caller closes the client.
func (a *app) dialRecord(ctx context.Context, name string) (client.Client, cluster.Record, error) {
	st, rec, err := a.openRecord(ctx, name)
	if err != nil {
		return nil, rec, err
	}
	_ = st.Close() // nothing is buffered
	t, err := a.dial(ctx)
	return t, rec, err
}
