package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// fail lets every place without a machine fail.
func (e *entity) fail() {
	for i := range e.members {
		if m := &e.members[i]; m.Phase == workflows.MemberWanted {
			m.Phase, m.Failure = workflows.MemberFailed, &workflows.Failure{Kind: fault.Quota, Message: "no servers left"}
		}
	}
	e.lengths[e.run]++
	e.write()
}

func idsShown(t *testing.T, s *Source) []string {
	t.Helper()
	var out []string
	for _, l := range lines(t, s, group) {
		id, _, _ := strings.Cut(l, " ")
		out = append(out, id)
	}
	return out
}

// many is a group in which a hundred places failed: more than a memo names.
func many(t *testing.T) (*world, *entity, *Source) {
	t.Helper()
	w := newWorld()
	e := w.add(worker, 0, 200, 0)
	s := w.start(t)
	if err := s.IncreaseSize(t.Context(), group, 100); err != nil {
		t.Fatal(err)
	}
	w.lock(func() { e.work(w.now); e.fail() })
	mustRefresh(t, s)
	if e.memo.More != 100-workflows.MemoInstances {
		t.Fatalf("the memo counts %d more", e.memo.More)
	}
	return w, e, s
}

// After a restart without a worker every place has the id that it had, and can be
// given up by it.
func TestMorePlacesThanAMemoNamesKeepTheirIDs(t *testing.T) {
	w, _, s := many(t)
	want := idsShown(t, s)
	w.lock(func() { w.up = false })
	again := w.start(t)
	if got := idsShown(t, again); !slices.Equal(want, got) {
		t.Fatalf("ids after a restart: %q, before: %q", got, want)
	}
	if n := again.Numbers().Unnamed; n != 0 {
		t.Errorf("%d are unnamed", n)
	}
	var nodes []provider.NodeRef
	for _, id := range want {
		nodes = append(nodes, provider.NodeRef{ProviderID: id, Name: id})
	}
	if err := again.DeleteNodes(provider.WithRequestID(t.Context(), "later"), group, nodes); err != nil {
		t.Fatal(err)
	}
	if g, _ := again.Group(group); g.Target != 0 {
		t.Errorf("target %d after all places were given up", g.Target)
	}
}

// A provider that goes on also knows why they failed.
func TestMorePlacesThanAMemoNamesStayFailed(t *testing.T) {
	w, e, s := many(t)
	want := lines(t, s, group)
	w.lock(func() { w.up = false; e.lengths[0]++ })
	mustRefresh(t, s)
	if s.Numbers().Silent != 1 {
		t.Fatal("the entity answered")
	}
	if got := lines(t, s, group); !slices.Equal(want, got) {
		t.Errorf("without a worker: %q, before: %q", got, want)
	}
}

// Places that were given up before the restart are not there again.
func TestPlacesThatWereGivenUpStayAway(t *testing.T) {
	w, e, s := many(t)
	gone := []provider.NodeRef{{ProviderID: "ichor://demo/worker/r1-70"}, {ProviderID: "ichor://demo/worker/r1-3"}}
	if err := s.DeleteNodes(t.Context(), group, gone); err != nil {
		t.Fatal(err)
	}
	w.lock(func() { e.work(w.now); e.write() })
	mustRefresh(t, s)
	want := idsShown(t, s)
	w.lock(func() { w.up = false })
	if got := idsShown(t, w.start(t)); !slices.Equal(want, got) || len(got) != 98 {
		t.Errorf("%d ids after a restart: %q, before: %q", len(got), got, want)
	}
}

// Where some of the places may be ready machines by now, the ids are still those of
// the group, but nothing is asked of a machine that may be another one.
func TestPlacesThatMayBeReadyAreNotDeleted(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 200, 0)
	s := w.start(t)
	if err := s.IncreaseSize(t.Context(), group, 2); err != nil {
		t.Fatal(err)
	}
	w.lock(func() { e.work(w.now); e.advance(); e.advance() }) // r1 is ready
	mustRefresh(t, s)
	if err := s.IncreaseSize(t.Context(), group, 100); err != nil {
		t.Fatal(err)
	}
	w.lock(func() { e.work(w.now); e.fail(); w.up = false })
	for _, listed := range []bool{false, true} {
		t.Run(fmt.Sprintf("listed %t", listed), func(t *testing.T) {
			cfg := w.config()
			if listed {
				cfg.Cloud = func(context.Context, cluster.Cloud, []cluster.Ref) ([]cloud.Machine, error) {
					return []cloud.Machine{machine("m0000"), machine("m0001")}, nil
				}
			}
			again := w.open(t, cfg)
			t.Cleanup(again.Close)
			ids := idsShown(t, again)
			for n := range 100 {
				if id := fmt.Sprintf("ichor://demo/worker/r2-%d", n); !slices.Contains(ids, id) {
					t.Errorf("%s is not there", id)
				}
			}
			want := 102
			if listed {
				want-- // given up below, the first time
			}
			if g, _ := again.Group(group); g.Target != want {
				t.Errorf("target %d", g.Target)
			}
			wantKind(t, again.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "ichor://demo/worker/r2-99"}}), fault.Unavailable)
			ctx, named := provider.WithRequestID(t.Context(), fmt.Sprintf("listed-%t", listed)), "ichor://demo/worker/r2-1"
			if listed {
				named = "ichor://demo/worker/r2-2"
			}
			if err := again.DeleteNodes(ctx, group, []provider.NodeRef{{ProviderID: named}}); err != nil {
				t.Errorf("a place that the memo names: %v", err)
			}
		})
	}
}

func machine(id string) cloud.Machine {
	return cloud.Machine{
		Ref:  cloud.MachineRef{Owner: cloud.Owner{Cluster: ref, Group: worker}, ID: id, Cloud: "c-" + id},
		Name: "demo-worker-" + id, ProviderID: "cloudscale://" + id, State: cloud.MachineRunning,
	}
}
