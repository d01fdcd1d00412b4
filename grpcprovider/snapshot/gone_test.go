package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

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

// Machines that were asked to go before the entity fell silent are not among
// those that its memo counts, whoever is listed first.
func TestASilentEntityDoesNotBringBackWhatWasDeleted(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 4)
	w.lock(func() { e.advance(); e.advance() })
	s := w.start(t)
	remove := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			if err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "cloudscale://" + id, Name: "demo-worker-" + id}}); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	remove("m0000", "m0002")
	w.lock(func() { e.work(w.now); e.advance(); w.up = false })
	for range 3 {
		mustRefresh(t, s)
		want(t, s, "cloudscale://m0001 running", "cloudscale://m0003 running")
		remove("m0000", "m0002") // again, which changes nothing
		w.lock(func() { e.lengths[0]++ })
	}
	remove("m0001")
	want(t, s, "cloudscale://m0001 deleting", "cloudscale://m0003 running")
	if n := w.called("signal"); n != 3 {
		t.Errorf("%d signals were sent for three machines", n)
	}
	w.lock(func() { w.up = true; e.lengths[0]++ })
	for range 1000 { // it answers in the background first
		if mustRefresh(t, s); s.Numbers().Silent == 0 {
			break
		}
		w.lock(func() { w.now = w.now.Add(11 * time.Second) })
		time.Sleep(time.Millisecond)
	}
	want(t, s, "cloudscale://m0001 deleting", "cloudscale://m0003 running")
}

// One of four has left while nobody could say which: a request for any of them is
// made durable or refused, never taken for done.
func TestDoubtIsNoDeletion(t *testing.T) {
	for lost := range 4 {
		w := newWorld()
		e := w.add(worker, 0, 5, 4)
		w.lock(func() { e.advance(); e.advance() })
		s := w.start(t)
		w.lock(func() { e.lose(lost); e.advance(); w.up = false })
		for range 3 {
			mustRefresh(t, s)
			if g, _ := s.Group(group); g.Target != 3 {
				t.Errorf("target %d", g.Target)
			}
			w.lock(func() { e.lengths[0]++ })
		}
		for n := range 4 {
			id, before := fmt.Sprintf("m%04d", n), w.called("signal")
			err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "cloudscale://" + id, Name: "demo-worker-" + id}})
			if sent := w.called("signal") > before; sent != (err == nil) || err != nil && !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: sent %v, answered %v", id, sent, err)
			}
		}
	}
}

// What a run began with does not stand for what was deleted since.
func TestAProviderThatBeginsKnowsWhatWasDeletedInTheRun(t *testing.T) {
	member := func(id string) *workflows.Member {
		m := &workflows.Member{Instance: "ichor://demo/worker/start-" + id}
		m.ID, m.Name, m.ProviderID, m.Phase = id, "demo-worker-"+id, "cloudscale://"+id, workflows.MemberReady
		return m
	}
	in := &workflows.GroupInput{State: &workflows.GroupState{Members: []*workflows.Member{member("0"), member("1"), member("2")}}}
	remove := func(request string, event int64, node string) signal {
		return signal{name: workflows.SignalDeleteNodes, event: event, req: workflows.ScaleRequest{RequestID: request, Nodes: []string{node}}}
	}
	cancelled, foreign := remove("c", 5, "2"), remove("f", 6, "2")
	foreign.req.Cluster.UID = "another"
	late := remove("", 9, "2")
	p := parts{
		facts: &workflows.GroupFacts{Cluster: ref, Group: worker}, memo: &workflows.GroupMemo{Target: 2, Ready: 2, EventID: 8}, input: in,
		cancelled: map[string]bool{"c": true}, tail: []signal{late},
	}
	p.noteAsked([]signal{remove("a", 4, "ichor://demo/worker/start-0"), cancelled, foreign, late}, nil, 8)
	v := fromMemo(*p.facts, *p.memo, p.before(), nil, p.begun())
	var have []string
	for _, m := range v.members {
		have = append(have, m.ProviderID)
	}
	if diff := cmp.Diff([]string{"cloudscale://1", "cloudscale://2"}, have); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if !v.wasMember("cloudscale://0", "demo-worker-0") || len(in.State.Members) != 3 || len(in.State.Gone) != 0 {
		t.Errorf("gone %v; the input has %d members now", v.gone, len(in.State.Members))
	}
}

// Two ask for the same at once, as two leaders do, and one of them fails: the
// other's answer does not rest on it.
func TestASuccessIsNoneOfAnotherRequest(t *testing.T) {
	for _, fails := range []fate{refused, lost, swallows} {
		w := newWorld()
		e := w.add(worker, 1, 5, 2)
		w.lock(func() { e.advance(); e.advance() })
		s := w.start(t)
		nodes := []provider.NodeRef{{ProviderID: "cloudscale://m0000", Name: "demo-worker-m0000"}}
		sent, other := 0, errors.New("was not asked")
		w.lock(func() {
			w.fate = func(string, string) fate {
				if sent++; sent == 1 {
					return fails
				}
				return arrives
			}
			w.between = func(what string) {
				if what == "signal" && sent == 1 {
					other = s.DeleteNodes(t.Context(), group, nodes)
				}
			}
		})
		if err := s.DeleteNodes(t.Context(), group, nodes); err == nil {
			t.Errorf("%v: the first succeeded", fails)
		}
		w.lock(func() { w.between = nil })
		if other != nil {
			t.Errorf("%v: the other failed: %v", fails, other)
		}
		mustRefresh(t, s)
		want(t, s, "cloudscale://m0000 deleting", "cloudscale://m0001 running")
	}
}
