package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
)

func record(name, endpoint string) cluster.Record {
	return cluster.Record{
		Schema: 1, Ref: cluster.Ref{Name: name, UID: "u-" + name}, Phase: cluster.PhaseCreating,
		Endpoint: endpoint, CreatedAt: time.Unix(1, 0).UTC(), UpdatedAt: time.Unix(2, 0).UTC(),
	}
}

func TestRecordCompareAndSwap(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		_, rev, err := s.Record(ctx, "demo")
		wantKind(t, err, fault.NotFound)
		if rev != 0 {
			t.Fatalf("revision %d of nothing", rev)
		}
		first := record("demo", "a")
		rev, err = s.PutRecord(ctx, first, 0)
		wantKind(t, err, "")
		got, again, err := s.Record(ctx, "demo")
		wantKind(t, err, "")
		if diff := cmp.Diff(first, got); diff != "" || again != rev {
			t.Fatalf("revision %d, want %d %s", again, rev, diff)
		}

		// The reply of the write was lost: the caller repeats it later.
		retry := first
		retry.UpdatedAt = time.Unix(99, 0).UTC()
		same, err := s.PutRecord(ctx, retry, 0)
		wantKind(t, err, "")
		if same != rev {
			t.Fatalf("the repetition wrote revision %d", same)
		}

		// Somebody else writes in between.
		_, err = s.PutRecord(ctx, record("demo", "b"), rev)
		wantKind(t, err, "")
		_, err = s.PutRecord(ctx, record("demo", "c"), rev)
		wantKind(t, err, fault.Conflict)
		_, err = s.PutRecord(ctx, record("demo", "c"), 0)
		wantKind(t, err, fault.Conflict)
		_, err = s.PutRecord(ctx, record("demo", "c"), 7)
		wantKind(t, err, fault.Conflict)

		_, err = s.PutRecord(ctx, cluster.Record{Schema: 1}, 0)
		wantKind(t, err, fault.Invalid)
		_, err = s.PutRecord(ctx, record("../demo", "x"), 0)
		wantKind(t, err, fault.Invalid)
	})
}

func TestRecordsOfTheFuture(t *testing.T) {
	s := mustOpen(t, store.Options{URL: "mem://", Key: key(1)})
	for body, want := range map[string]fault.Kind{
		`{"schema":2,"ref":{"name":"demo"}}`:                              fault.Invalid,
		`{"schema":1,"ref":{"name":"other"}}`:                             fault.Invalid,
		`not JSON ` + canary:                                              fault.Invalid,
		`{"schema":"` + canary + `"}`:                                     fault.Invalid,
		`{"schema":1,"ref":{"name":"demo"},"field of a later version":1}`: "",
	} {
		if _, err := s.PutObject(t.Context(), "clusters/demo/record/000000000001", value(body)); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.Record(t.Context(), "demo")
		wantKind(t, err, want)
	}
}

// Each writer counts up by compare and swap; no increment may be lost, and the
// winners of each revision are one.
func TestRecordConcurrentWriters(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		const writers, each = 8, 8
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for done := 0; done < each; {
					rec, rev, err := s.Record(t.Context(), "demo")
					if fault.Is(err, fault.NotFound) {
						rec, err = record("demo", ""), nil
					}
					if err != nil {
						t.Error(err)
						return
					}
					rec.Entities = append(rec.Entities, fmt.Sprintf("%d/%d", w, done))
					_, err = s.PutRecord(t.Context(), rec, rev)
					switch {
					case err == nil:
						done++
					case !fault.Is(err, fault.Conflict):
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		rec, rev, err := s.Record(t.Context(), "demo")
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, e := range rec.Entities {
			seen[e] = true
		}
		if len(seen) != writers*each || len(rec.Entities) != writers*each || rev != writers*each {
			t.Errorf("%d entries (%d different) at revision %d, want %d of each", len(rec.Entities), len(seen), rev, writers*each)
		}
	})
}

func TestRecords(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		for _, name := range []string{"b", "a", "b2"} {
			if _, err := s.PutRecord(ctx, record(name, "x"), 0); err != nil {
				t.Fatal(err)
			}
			if _, err := s.PutObject(ctx, store.BundleKey(cluster.Ref{Name: name, UID: "u"}), value("pki")); err != nil {
				t.Fatal(err)
			}
		}
		gone := record("b", "x")
		gone.Phase = cluster.PhaseDeleted
		if _, err := s.PutRecord(ctx, gone, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := s.PutObject(ctx, "clusters/broken/record/000000000003", value("no record")); err != nil {
			t.Fatal(err)
		}
		list, err := s.Records(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, sum := range list {
			got = append(got, fmt.Sprintf("%s %s %s %d %s", sum.Ref.Name, sum.Ref.UID, sum.Phase, sum.Revision, fault.KindOf(sum.Err)))
		}
		want := []string{"a u-a creating 1 ", "b u-b deleted 2 ", "b2 u-b2 creating 1 ", "broken   3 Invalid"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// The store against a model: any sequence of writes with right and wrong
// expectations, repetitions and deletions.
func TestRecordModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, err := store.Open(t.Context(), store.Options{URL: "mem://", Key: key(1)})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				rt.Error(err)
			}
		}()
		var rev store.Revision
		var latest string
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				content := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "content")
				expect := rev + store.Revision(rapid.IntRange(-2, 2).Draw(rt, "offset"))
				got, err := s.PutRecord(t.Context(), record("demo", content), expect)
				switch {
				case rev > 0 && content == latest:
					if err != nil || got != rev {
						rt.Fatalf("repetition: revision %d, %v", got, err)
					}
				case expect == rev:
					if err != nil || got != rev+1 {
						rt.Fatalf("revision %d, %v; want %d", got, err, rev+1)
					}
					rev, latest = got, content
				default:
					if !fault.Is(err, fault.Conflict) {
						rt.Fatalf("expected %d at %d: %v", expect, rev, err)
					}
				}
			},
			"delete": func(rt *rapid.T) {
				if err := s.DeletePrefix(t.Context(), store.ClusterPrefix("demo")); err != nil {
					rt.Fatal(err)
				}
				rev, latest = 0, ""
			},
			"": func(rt *rapid.T) {
				rec, got, err := s.Record(t.Context(), "demo")
				if rev == 0 {
					if !fault.Is(err, fault.NotFound) {
						rt.Fatal(err)
					}
					return
				}
				if err != nil || got != rev || rec.Endpoint != latest {
					rt.Fatalf("revision %d %q, want %d %q: %v", got, rec.Endpoint, rev, latest, err)
				}
			},
		})
	})
}
