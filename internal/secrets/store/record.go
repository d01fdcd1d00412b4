package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Revision counts the versions of a record from 1. Zero stands for "there is no
// record".
type Revision int64

// recordSchema is the newest structure of cluster.Record that is understood.
const recordSchema = 1

// keepVersions is how many versions of a record remain for people to look back.
const keepVersions = 20

// Summary is one line of the list of clusters.
type Summary struct {
	Ref       cluster.Ref
	Phase     cluster.Phase
	Revision  Revision
	UpdatedAt time.Time
	// Err says why this record cannot be read; Ref then has the name only.
	Err error
}

func recordPrefix(name string) string { return ClusterPrefix(name) + "record/" }

func recordKey(name string, rev Revision) string {
	return fmt.Sprintf("%s%012d", recordPrefix(name), rev)
}

// revisionOf is the opposite of recordKey, zero for other keys.
func revisionOf(key string) Revision {
	n, err := strconv.ParseInt(key[strings.LastIndexByte(key, '/')+1:], 10, 64)
	if err != nil || n < 1 {
		return 0
	}
	return Revision(n)
}

// Record reads the latest version of a cluster's record. NotFound is proof that
// no cluster of this name is recorded; the revision is then zero, which
// PutRecord takes for "create".
func (s *Store) Record(ctx context.Context, name string) (cluster.Record, Revision, error) {
	versions, err := s.versions(ctx, name)
	if err != nil {
		return cluster.Record{}, 0, err
	}
	return s.latest(ctx, name, versions)
}

func (s *Store) versions(ctx context.Context, name string) ([]entry, error) {
	folder, err := asFolder(recordPrefix(name))
	if err != nil {
		return nil, err
	}
	return s.back.list(ctx, folder)
}

// latest reads the newest of the listed versions.
func (s *Store) latest(ctx context.Context, name string, versions []entry) (cluster.Record, Revision, error) {
	var rev Revision
	for _, v := range versions {
		rev = max(rev, revisionOf(v.key))
	}
	if rev == 0 {
		return cluster.Record{}, 0, fault.New(fault.NotFound, "read the cluster record", "there is no cluster %q", name)
	}
	v, err := s.GetObject(ctx, recordKey(name, rev))
	if fault.Is(err, fault.NotFound) {
		// The list named it, so it went away since: deleted with its cluster,
		// or superseded while this process stood still. Absence is not proven.
		err = fault.New(fault.Unavailable, "read the cluster record", "%q changed while it was read", name)
	}
	if err != nil {
		return cluster.Record{}, 0, err
	}
	rec, err := decodeRecord(name, v)
	return rec, rev, err
}

func decodeRecord(name string, v secrets.Value) (cluster.Record, error) {
	const op = "read the cluster record"
	var rec cluster.Record
	// The decoder's own message may quote content, so it is not passed on.
	if err := json.Unmarshal(v.Reveal(), &rec); err != nil {
		return cluster.Record{}, fault.New(fault.Invalid, op, "the record of %q is not readable as one", name)
	}
	if rec.Schema > recordSchema {
		return cluster.Record{}, fault.New(fault.Invalid, op, "the record of %q has schema %d and this Ichor knows %d; use a newer Ichor", name, rec.Schema, recordSchema)
	}
	if rec.Ref.Name != name {
		return cluster.Record{}, fault.New(fault.Invalid, op, "the record of %q is of cluster %q", name, rec.Ref.Name)
	}
	return rec, nil
}

// PutRecord writes the next version of a record if expect is still the latest
// one, and returns its revision; expect is zero for a cluster that has no
// record. Conflict says that somebody else has written since: read again and
// decide anew. A record that is already the latest version, its UpdatedAt
// aside, is success without a new version, whatever expect says; so repeating
// after a lost reply is safe.
func (s *Store) PutRecord(ctx context.Context, rec cluster.Record, expect Revision) (Revision, error) {
	const op = "write the cluster record"
	if rec.Schema != recordSchema || rec.Ref.Name == "" || rec.Ref.UID == "" {
		return 0, fault.New(fault.Invalid, op, "it needs schema %d, a name and a uid", recordSchema)
	}
	versions, err := s.versions(ctx, rec.Ref.Name)
	if err != nil {
		return 0, err
	}
	have, rev, err := s.latest(ctx, rec.Ref.Name, versions)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return 0, err
	}
	if same, err := sameRecord(have, rec); err != nil || (same && rev > 0) {
		return rev, err
	}
	if rev != expect {
		return 0, fault.New(fault.Conflict, op, "%q is at revision %d, not %d", rec.Ref.Name, rev, expect)
	}
	body, err := json.Marshal(rec)
	if err != nil {
		return 0, fault.Wrap(fault.Invalid, op, err)
	}
	next := expect + 1
	switch err := s.CreateObject(ctx, recordKey(rec.Ref.Name, next), secrets.NewValue(body)); {
	case fault.Is(err, fault.Ambiguous):
		return 0, fault.Wrap(fault.Unavailable, op, err)
	case fault.Is(err, fault.Conflict):
		return s.lostRace(ctx, rec, expect)
	case err != nil:
		return 0, err
	}
	s.prune(ctx, versions, next)
	return next, nil
}

// lostRace looks once more: the winner may have been this very write, made by
// an earlier attempt whose reply was lost.
func (s *Store) lostRace(ctx context.Context, rec cluster.Record, expect Revision) (Revision, error) {
	have, rev, err := s.Record(ctx, rec.Ref.Name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return 0, err
	}
	if same, err := sameRecord(have, rec); err != nil || (same && rev > 0) {
		return rev, err
	}
	return 0, fault.New(fault.Conflict, "write the cluster record", "%q is at revision %d, no longer at %d", rec.Ref.Name, rev, expect)
}

// sameRecord compares everything but UpdatedAt, which differs between the
// attempts of one write.
func sameRecord(a, b cluster.Record) (bool, error) {
	b.UpdatedAt = a.UpdatedAt
	x, err := json.Marshal(a)
	if err != nil {
		return false, fault.Wrap(fault.Internal, "compare records", err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		return false, fault.Wrap(fault.Internal, "compare records", err)
	}
	return bytes.Equal(x, y), nil
}

// prune deletes old versions, oldest first. Young ones stay whatever their
// number: a writer that listed before twenty others wrote must still find the
// name of its next version taken. Versions that cannot be deleted now are
// deleted after a later write; the record itself is written and safe.
func (s *Store) prune(ctx context.Context, versions []entry, latest Revision) {
	limit := s.now().Add(-s.pruneAge)
	for _, v := range versions {
		if rev := revisionOf(v.key); rev > 0 && rev <= latest-keepVersions && v.modified.Before(limit) {
			if s.back.remove(ctx, v.key) != nil {
				return
			}
		}
	}
}

// Records lists every recorded cluster by name, deleted ones included. One that
// cannot be read is listed with its error, never left out.
func (s *Store) Records(ctx context.Context) ([]Summary, error) {
	entries, err := s.back.list(ctx, "clusters/")
	if err != nil {
		return nil, err
	}
	var out []Summary
	for i := 0; i < len(entries); i++ {
		parts := strings.Split(entries[i].key, "/")
		if len(parts) != 4 || parts[2] != "record" {
			continue
		}
		// Keys are sorted, so the versions of one cluster follow each other.
		name, from := parts[1], i
		for i+1 < len(entries) && strings.HasPrefix(entries[i+1].key, recordPrefix(name)) {
			i++
		}
		rec, rev, err := s.latest(ctx, name, entries[from:i+1])
		sum := Summary{Ref: rec.Ref, Phase: rec.Phase, Revision: rev, UpdatedAt: rec.UpdatedAt, Err: err}
		sum.Ref.Name = name
		out = append(out, sum)
	}
	return out, nil
}
