package snapshot

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// A machine that was deleted stays one of the group, for requests that are
// repeated, when the entity tells nothing of it and when it is silent.
func TestDeletedMachinesAreRememberedWithoutTheEntity(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 3)
	s := w.start(t)
	w.lock(func() { e.advance(); e.advance() })
	mustRefresh(t, s)
	nodes := []provider.NodeRef{{ProviderID: "cloudscale://m0000", Name: "demo-worker-m0000"}}
	again := func(when string) {
		t.Helper()
		if err := s.DeleteNodes(t.Context(), group, nodes); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if id, ok := s.GroupForNode(nodes[0]); !ok || id != group {
			t.Errorf("%s: the node's group is %q, %v", when, id, ok)
		}
	}
	again("the first time")
	mustRefresh(t, s)
	w.lock(e.advance)
	for i := range 6 {
		w.lock(func() { w.up = i%2 == 0; e.gone = nil; e.lengths[0]++ })
		mustRefresh(t, s)
		again(fmt.Sprintf("reading %d, worker %v", i, i%2 == 0))
		if g, _ := s.Group(group); g.Target != 2 {
			t.Errorf("reading %d: target is %d, want 2", i, g.Target)
		}
	}
	if n := w.called("signal"); n != 1 {
		t.Errorf("%d signals were sent for one machine", n)
	}
	wantKind(t, s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "cloudscale://foreign", Name: "foreign"}}), fault.Invalid)
}

func TestWhatWasAMember(t *testing.T) {
	v := &view{
		gone: []workflows.GoneInstance{
			{ID: "m1", Name: "demo-m1", Instance: "ichor://demo/worker/r-0", ProviderID: "p://1", Aliases: []string{"p://0"}},
			{ID: "m2", Name: "demo-m2"}, // its provider ID was never seen
		},
		members: []workflows.GroupMember{{MemberStatus: workflows.MemberStatus{ID: "m3", ProviderID: "p://3", Phase: workflows.MemberReady}, Aliases: []string{"p://2"}}},
	}
	for _, c := range []struct {
		id, name string
		want     bool
	}{
		{"p://1", "demo-m1", true},
		{"p://0", "", true},
		{"", "demo-m1", true},
		{"ichor://demo/worker/r-0", "ichor://demo/worker/r-0", true},
		{"p://9", "demo-m1", false},
		{"p://9", "demo-m2", true},
		{"p://2", "whatever", true},
		{"p://9", "demo-m9", false},
		{"", "", false},
	} {
		if got := v.wasMember(c.id, c.name); got != c.want {
			t.Errorf("wasMember(%q, %q) = %v", c.id, c.name, got)
		}
	}
}

func TestJoinedForgetsTheOldest(t *testing.T) {
	some := func(from, to int) (out []workflows.GoneInstance) {
		for n := from; n < to; n++ {
			out = append(out, workflows.GoneInstance{ID: fmt.Sprint(n)})
		}
		return out
	}
	old := some(0, keptGone)
	before := slices.Clone(old)
	if diff := cmp.Diff(some(5, keptGone+5), joined(old, some(3, keptGone+5))); diff != "" {
		t.Errorf("joined (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, old); diff != "" {
		t.Errorf("the old list was changed (-want +got):\n%s", diff)
	}
}

// Once the node of a replacement works, whoever names its predecessor means the
// predecessor: it may be there still, or its Node may.
func TestAWorkingReplacementIsNotItsPredecessor(t *testing.T) {
	for _, c := range []struct {
		phase workflows.MemberPhase
		want  string
	}{
		{workflows.MemberBooting, "cloudscale://m0009 deleting"},
		{workflows.MemberJoined, "cloudscale://m0009 running"},
		{workflows.MemberReady, "cloudscale://m0009 running"},
	} {
		t.Run(string(c.phase), func(t *testing.T) {
			w := newWorld()
			e := w.add(worker, 0, 5, 1)
			w.lock(func() {
				e.advance()
				m := &e.members[0]
				m.ID, m.Name, m.CloudID, m.ProviderID, m.Phase = "m0009", "demo-worker-m0009", "c9", "cloudscale://m0009", c.phase
				m.Aliases = []string{"cloudscale://m0000"}
			})
			s := w.start(t)
			for range 2 {
				if err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "cloudscale://m0000", Name: "demo-worker-m0000"}}); err != nil {
					t.Fatal(err)
				}
				want(t, s, c.want)
			}
		})
	}
}
