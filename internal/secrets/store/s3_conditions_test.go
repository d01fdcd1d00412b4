package store_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/s3"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Without a condition that the object store honours, two workers could both make
// the record of one cluster. Such a store is refused before it has overwritten
// anything.
func TestStoresWithoutConditionsAreRefused(t *testing.T) {
	for name, c := range map[string]s3.Conditions{"ignored": s3.Ignored, "refused": s3.Refused} {
		t.Run(name, func(t *testing.T) {
			o := serve(t, c)
			ctx := t.Context()
			_, err := store.Open(ctx, store.Options{URL: o.at("&prefix=ichor"), Key: key(1)})
			wantKind(t, err, fault.Invalid)
		})
		t.Run(name+" later", func(t *testing.T) {
			o := serve(t, s3.Honoured)
			ctx := t.Context()
			rec := cluster.Record{Schema: 1, Ref: cluster.Ref{Name: "demo", UID: "u1"}}
			_, err := o.open(t).PutRecord(ctx, rec, 0)
			wantKind(t, err, "")
			const first = "ichor/clusters/demo/record/000000000001"
			before, err := o.Body(ctx, bucket, first)
			if err != nil {
				t.Fatal(err)
			}
			o.SetConditions(c)
			s := o.open(t)
			wantKind(t, s.CreateObject(ctx, strings.TrimPrefix(first, "ichor/"), value("mine")), fault.Invalid)
			rec.Failure = "changed"
			_, err = s.PutRecord(ctx, rec, 1)
			wantKind(t, err, fault.Invalid)
			after, err := o.Body(ctx, bucket, first)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the record was written over, or %v", err)
			}
			// Reading needs no condition.
			if _, rev, err := s.Record(ctx, "demo"); err != nil || rev != 1 {
				t.Errorf("revision %d, %v", rev, err)
			}
		})
	}
}

func TestContendedCreationIsRepeated(t *testing.T) {
	o := serve(t, s3.Honoured)
	s := o.open(t)
	wantKind(t, s.CreateObject(t.Context(), "warm", value("up")), "")
	o.SetConditions(s3.Contended)
	wantKind(t, s.CreateObject(t.Context(), "a/x", value(canary)), "")
	wantKind(t, s.CreateObject(t.Context(), "a/x", value(canary)), fault.Conflict)
}

// Two processes create one key at once, again and again, while answers are lost:
// exactly one has made it, and everybody reads that one's object.
func TestOneCreatorWins(t *testing.T) {
	o := serve(t, s3.Honoured)
	stores := []*store.Store{o.open(t), o.open(t)}
	o.add(t, faults.Fault{Route: "PUT /**", Nth: 5, Count: 3, Effect: faults.CommitThenDrop})
	const callers = 4
	for round := range 10 {
		name := fmt.Sprint("race/", round)
		var all sync.WaitGroup
		errs := make([]error, callers)
		for i := range callers {
			all.Go(func() { errs[i] = stores[i%2].CreateObject(t.Context(), name, value(fmt.Sprint(i))) })
		}
		all.Wait()
		winner := ""
		for i, err := range errs {
			switch {
			case err == nil && winner == "":
				winner = fmt.Sprint(i)
			case err == nil:
				t.Errorf("round %d: %s and %d both made it", round, winner, i)
			default:
				wantKind(t, err, fault.Conflict)
			}
		}
		got, err := stores[0].GetObject(t.Context(), name)
		if err != nil || got.RevealString() != winner {
			t.Errorf("round %d: %q won, %q is kept, %v", round, winner, got.RevealString(), err)
		}
	}
}

// Two workers write one object at once; neither takes the other's for damage.
func TestWritersOfOneObject(t *testing.T) {
	o := serve(t, s3.Honoured)
	stores := []*store.Store{o.open(t), o.open(t)}
	var all sync.WaitGroup
	for _, s := range stores {
		all.Go(func() {
			for range 10 {
				if _, _, err := s.PutBody(t.Context(), "demo", value(canary)); err != nil && !fault.Is(err, fault.Unavailable) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	ref, sha, err := stores[0].PutBody(t.Context(), "demo", value(canary))
	wantKind(t, err, "")
	got, err := stores[1].GetBody(t.Context(), ref, sha)
	if err != nil || got.RevealString() != canary {
		t.Error(err)
	}
}
