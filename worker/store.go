package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
)

// storeAdapter gives activities what they ask of a store.
type storeAdapter struct{ *store.Store }

func (s storeAdapter) Record(ctx context.Context, name string) (cluster.Record, int64, error) {
	rec, rev, err := s.Store.Record(ctx, name)
	return rec, int64(rev), err
}

func (s storeAdapter) PutRecord(ctx context.Context, rec cluster.Record, expect int64) (int64, error) {
	rev, err := s.Store.PutRecord(ctx, rec, store.Revision(expect))
	return int64(rev), err
}

func (s storeAdapter) EnsureBundle(ctx context.Context, ref cluster.Ref, create func() (secrets.Value, error)) (string, error) {
	key, _, err := s.Store.EnsureBundle(ctx, ref, create)
	return key, err
}

// EnsureObject keeps the first body that was stored under a name; who comes
// later gets that one.
func (s storeAdapter) EnsureObject(ctx context.Context, ref cluster.Ref, name string, body secrets.Value) (key, sum string, err error) {
	key = store.InstancePrefix(ref) + name
	err = s.CreateObject(ctx, key, body)
	if err != nil && !fault.Is(err, fault.Conflict) {
		if fault.Is(err, fault.Ambiguous) { // repeating reads whatever has won
			err = fault.Wrap(fault.Unavailable, "keep "+name, err)
		}
		return key, "", err
	}
	kept, err := s.GetObject(ctx, key)
	if err != nil {
		return key, "", err
	}
	digest := sha256.Sum256(kept.Reveal())
	return key, hex.EncodeToString(digest[:]), nil
}

func (s storeAdapter) Object(ctx context.Context, key string) (secrets.Value, error) {
	return s.GetObject(ctx, key)
}

func (s storeAdapter) Body(ctx context.Context, ref, sum string) (secrets.Value, error) {
	return s.GetBody(ctx, ref, sum)
}

// Forget deletes the bundle and configs of this uid, and the bodies that its
// specs referred to. A later cluster of the name publishes its own.
func (s storeAdapter) Forget(ctx context.Context, rec cluster.Record) error {
	for _, key := range append(bodyRefs(rec.Spec), rec.Documents...) {
		if err := s.DeleteObject(ctx, key); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return s.DeletePrefix(ctx, store.InstancePrefix(rec.Ref))
}

// Probe tries the folder of the cluster.
func (s storeAdapter) Probe(ctx context.Context, ref cluster.Ref) error {
	return s.Store.Probe(ctx, store.InstancePrefix(ref))
}

func (s storeAdapter) EnsureStream(ctx context.Context, ref cluster.Ref, name string, write func(io.Writer) error) (activities.StoredStream, error) {
	kept, err := s.Store.EnsureStream(ctx, store.InstancePrefix(ref)+name, write)
	return activities.StoredStream(kept), err
}

func (s storeAdapter) ReadStream(ctx context.Context, stream activities.StoredStream, w io.Writer) error {
	return s.Store.ReadStream(ctx, store.Stream(stream), w)
}

func bodyRefs(spec cluster.Spec) []string {
	var out []string
	add := func(sources ...cluster.Source) {
		for _, src := range sources {
			if src.Ref != "" {
				out = append(out, src.Ref)
			}
		}
	}
	add(spec.Talos.Patches...)
	add(spec.ControlPlane.Patches...)
	for _, g := range spec.NodeGroups {
		add(g.Patches...)
	}
	for _, m := range spec.Manifests {
		add(m.Source)
	}
	return out
}
