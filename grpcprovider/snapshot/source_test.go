package snapshot

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

func want(t *testing.T, s *Source, expected ...string) {
	t.Helper()
	if diff := cmp.Diff(expected, lines(t, s, group)); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
}

func mustRefresh(t *testing.T, s *Source) {
	t.Helper()
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if fault.KindOf(err) != kind {
		t.Errorf("got %q (%v), want kind %q", fault.KindOf(err), err, kind)
	}
}

func TestAcceptedMachinesAreShownAtOnceAndStay(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 0)
	s := w.start(t)
	if err := s.IncreaseSize(t.Context(), group, 2); err != nil {
		t.Fatal(err)
	}
	want(t, s, "ichor://demo/worker/r1-0 creating", "ichor://demo/worker/r1-1 creating")
	mustRefresh(t, s)
	want(t, s, "ichor://demo/worker/r1-0 creating", "ichor://demo/worker/r1-1 creating")
	if n := s.Numbers(); n.Unconfirmed != 0 {
		t.Errorf("%d requests are unconfirmed after a reading that has them", n.Unconfirmed)
	}
	w.lock(e.advance)
	mustRefresh(t, s)
	want(t, s, "cloudscale://m0000 creating", "cloudscale://m0001 creating")
	w.lock(e.advance)
	mustRefresh(t, s)
	want(t, s, "cloudscale://m0000 running", "cloudscale://m0001 running")
	for _, ref := range []provider.NodeRef{
		{ProviderID: "cloudscale://m0000"},
		{ProviderID: "ichor://demo/worker/r1-0"},
		{Name: "ichor://demo/worker/r1-0", ProviderID: "ichor://demo/worker/r1-0"},
		{Name: "demo-worker-m0000"},
		{Name: "demo-worker-m0000", ProviderID: "cloudscale://m0000"},
	} {
		if id, ok := s.GroupForNode(ref); !ok || id != group {
			t.Errorf("the group of %+v is %q, %v", ref, id, ok)
		}
	}
	for _, ref := range []provider.NodeRef{
		{Name: "demo-worker-m0000", ProviderID: "cloudscale://other"},
		{Name: "demo-cp-x"},
		{},
		{ProviderID: "m0000"},
		{Name: "m0000"},
	} {
		if id, ok := s.GroupForNode(ref); ok {
			t.Errorf("the group of %+v is %q", ref, id)
		}
	}
}

func TestRequestsAreCheckedAgainstWhatIsOnItsWay(t *testing.T) {
	w := newWorld()
	w.add(worker, 0, 5, 0)
	s := w.start(t)
	wantKind(t, s.IncreaseSize(t.Context(), group, 0), fault.Invalid)
	wantKind(t, s.IncreaseSize(t.Context(), group, -1), fault.Invalid)
	wantKind(t, s.IncreaseSize(t.Context(), group, 6), fault.Invalid)
	wantKind(t, s.IncreaseSize(t.Context(), "demo/other", 1), fault.NotFound)
	wantKind(t, s.DecreaseTargetSize(t.Context(), group, 0), fault.Invalid)

	// Both requests are checked before either is durable.
	var second error
	w.lock(func() {
		w.between = func(what string) {
			if what == "signal" {
				w.lock(func() { w.between = nil })
				second = s.IncreaseSize(t.Context(), group, 3)
			}
		}
	})
	if err := s.IncreaseSize(t.Context(), group, 3); err != nil {
		t.Errorf("the first request: %v", err)
	}
	wantKind(t, second, fault.Invalid)
	if g, _ := s.Group(group); g.Target != 3 {
		t.Errorf("target is %d, want 3", g.Target)
	}
}

func TestDeleteNodes(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 1, 5, 3)
	s := w.start(t)
	w.lock(func() { e.advance(); e.advance() })
	mustRefresh(t, s)
	node := func(n string) provider.NodeRef {
		return provider.NodeRef{ProviderID: "cloudscale://" + n, Name: "demo-worker-" + n}
	}
	before := lines(t, s, group)
	wantKind(t, s.DeleteNodes(t.Context(), group, []provider.NodeRef{node("m0000"), {ProviderID: "cloudscale://foreign"}}), fault.Invalid)
	if diff := cmp.Diff(before, lines(t, s, group)); diff != "" {
		t.Errorf("a batch with a foreign node changed something (-want +got):\n%s", diff)
	}
	wantKind(t, s.DeleteNodes(t.Context(), group, []provider.NodeRef{node("m0000"), node("m0001"), node("m0002")}), fault.Invalid)
	for range 3 {
		if err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{node("m0000"), {Name: "demo-worker-m0000"}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.called("signal"); n != 1 {
		t.Errorf("%d signals were sent for one machine", n)
	}
	want(t, s, "cloudscale://m0000 deleting", "cloudscale://m0001 running", "cloudscale://m0002 running")
	mustRefresh(t, s)
	w.lock(e.advance)
	mustRefresh(t, s)
	want(t, s, "cloudscale://m0001 running", "cloudscale://m0002 running")
	if err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{node("m0000")}); err != nil {
		t.Errorf("delete what is gone: %v", err)
	}
	if id, ok := s.GroupForNode(node("m0000")); !ok || id != group {
		t.Errorf("the group of a node that was just deleted is %q, %v", id, ok)
	}
	if n := w.called("signal"); n != 1 {
		t.Errorf("%d signals were sent, the last for a machine that is gone", n)
	}
}

func TestFailedMachinesMayGoBelowMin(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 2, 5, 2)
	s := w.start(t)
	w.lock(func() {
		e.members[0].Phase, e.members[0].Failure = workflows.MemberFailed, &workflows.Failure{Kind: fault.Quota, Message: "limit of 2 servers"}
		e.lengths[0]++
		e.write()
	})
	mustRefresh(t, s)
	want(t, s, "ichor://demo/worker/start-0 creating out-of-resources/quota", "ichor://demo/worker/start-1 creating")
	fake := provider.NodeRef{ProviderID: "ichor://demo/worker/start-0", Name: "ichor://demo/worker/start-0"}
	if err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{fake}); err != nil {
		t.Fatal(err)
	}
	if g, _ := s.Group(group); g.Target != 1 {
		t.Errorf("target is %d, want 1", g.Target)
	}
}

func TestDecreaseGivesUpOnlyWhatDoesNotExist(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 9, 2)
	s := w.start(t)
	w.lock(func() { e.advance() })
	mustRefresh(t, s)
	wantKind(t, s.DecreaseTargetSize(t.Context(), group, 1), fault.Conflict)
	if err := s.IncreaseSize(t.Context(), group, 3); err != nil {
		t.Fatal(err)
	}
	if err := s.DecreaseTargetSize(t.Context(), group, 5); err != nil {
		t.Fatal(err)
	}
	want(t, s, "cloudscale://m0000 creating", "cloudscale://m0001 creating")
	mustRefresh(t, s)
	want(t, s, "cloudscale://m0000 creating", "cloudscale://m0001 creating")
}

func TestPausedAndEndingGroupsRefuse(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 9, 2)
	s := w.start(t)
	w.lock(func() { e.paused = &workflows.PauseStatus{Reason: "maintenance"}; e.lengths[0]++ })
	mustRefresh(t, s)
	for name, err := range map[string]error{
		"increase": s.IncreaseSize(t.Context(), group, 1), "decrease": s.DecreaseTargetSize(t.Context(), group, 1),
		"delete": s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "ichor://demo/worker/start-0"}}),
	} {
		if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "maintenance") {
			t.Errorf("%s of a paused group: %v", name, err)
		}
	}
	w.lock(func() { e.paused, e.ending = nil, true; e.lengths[0]++ })
	mustRefresh(t, s)
	wantKind(t, s.IncreaseSize(t.Context(), group, 1), fault.Conflict)
}

func TestTemporalUnreadableChangesNothing(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 2)
	s := w.start(t)
	before := lines(t, s, group)
	w.lock(func() { w.down = errors.New("connection refused"); e.advance() })
	wantKind(t, s.Refresh(t.Context()), fault.Unavailable)
	wantKind(t, s.IncreaseSize(t.Context(), group, 1), fault.Ambiguous)
	if diff := cmp.Diff(before, lines(t, s, group)); diff != "" {
		t.Errorf("something changed (-want +got):\n%s", diff)
	}
	if _, err := open(context.Background(), w.config(), w); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("opened without Temporal: %v", err)
	}
	w.lock(func() { w.down = nil })
	mustRefresh(t, s)
	want(t, s, "cloudscale://m0000 creating", "cloudscale://m0001 creating")
}

func TestGroupsComeAndGo(t *testing.T) {
	w := newWorld()
	w.add(worker, 0, 5, 1)
	s := w.start(t)
	w.lock(func() {
		w.add("late", 0, 5, 1)
		w.add("fixed", 0, 0, 1)
		w.entities[cluster.GroupID(demo, "cp")] = w.add("control", 0, 5, 3)
		w.hidden[cluster.GroupID(demo, worker)] = true // from the index only
		w.hidden[cluster.GroupID(demo, "late")] = true
		w.hidden[cluster.GroupID(demo, "control")] = true
	})
	names := func() []string {
		var out []string
		for _, g := range s.Groups() {
			out = append(out, g.ID)
		}
		return out
	}
	mustRefresh(t, s)
	if diff := cmp.Diff([]string{group}, names()); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	s.Know(demo, "late")
	mustRefresh(t, s)
	if diff := cmp.Diff([]string{"demo/late", group}, names()); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	w.lock(func() { w.entities[cluster.GroupID(demo, worker)].closed = true })
	mustRefresh(t, s)
	if diff := cmp.Diff([]string{"demo/late"}, names()); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if id, ok := s.GroupForNode(provider.NodeRef{ProviderID: "ichor://demo/worker/start-0"}); ok {
		t.Errorf("a node of a group that has ended is of %q", id)
	}
}

func TestUnknownFateIsCancelledBeforeTheNextReading(t *testing.T) {
	for name, f := range map[string]fate{"not there": lost, "there": swallows, "there later": delayed} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.add(worker, 0, 5, 0)
			s := w.start(t)
			w.lock(func() {
				w.fate = func(name, _ string) fate {
					if name == workflows.SignalCancelRequest {
						return lost
					}
					return f
				}
			})
			wantKind(t, s.IncreaseSize(t.Context(), group, 3), fault.Ambiguous)
			want(t, s)
			wantKind(t, s.Refresh(t.Context()), fault.Unavailable)
			w.lock(func() { w.fate = nil })
			mustRefresh(t, s)
			want(t, s)
			w.lock(func() {
				for _, arrive := range w.late {
					arrive()
				}
			})
			mustRefresh(t, s)
			want(t, s)
		})
	}
}

func TestCallerThatLeftHasAskedNothing(t *testing.T) {
	w := newWorld()
	w.add(worker, 0, 5, 0)
	s := w.start(t)
	ctx, leave := context.WithCancel(t.Context())
	w.lock(func() {
		w.between = func(what string) {
			if what == "signal" {
				leave()
			}
		}
	})
	wantKind(t, s.IncreaseSize(ctx, group, 3), fault.Ambiguous)
	mustRefresh(t, s)
	want(t, s)
}

func TestARefreshThatBeganEarlierErasesNothing(t *testing.T) {
	for _, up := range []bool{true, false} {
		w := newWorld()
		w.add(worker, 0, 9, 1)
		w.up = up
		s := w.start(t)
		var once sync.Once
		w.lock(func() {
			w.entities[cluster.GroupID(demo, worker)].lengths[0]++
			w.between = func(what string) {
				if what == "query" || what == "history" {
					once.Do(func() {
						if err := s.IncreaseSize(t.Context(), group, 2); err != nil {
							t.Error(err)
						}
					})
				}
			}
		})
		mustRefresh(t, s)
		if g, _ := s.Group(group); g.Target != 3 {
			t.Errorf("worker %v: target is %d after a refresh that began before the request, want 3", up, g.Target)
		}
		mustRefresh(t, s)
		if g, _ := s.Group(group); g.Target != 3 {
			t.Errorf("worker %v: target is %d, want 3", up, g.Target)
		}
	}
}

// A machine that is replaced leaves its names to its heir: they are one place,
// counted once, and whoever names the old machine means the new one.
func TestAReplacementTakesTheNamesOfItsPredecessor(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 1)
	s := w.start(t)
	w.lock(func() {
		e.advance()
		heir := e.members[0]
		heir.ID, heir.Name, heir.ProviderID, heir.CloudID, heir.Phase = "m0009", "demo-worker-m0009", "", "", workflows.MemberWanted
		heir.Aliases = []string{"cloudscale://m0000"}
		e.members[0].Phase, e.members[0].Instance = workflows.MemberDeleting, ""
		unseen := e.members[0]
		unseen.ID, unseen.Name, unseen.ProviderID, unseen.CloudID = "m0008", "demo-worker-m0008", "", ""
		e.members = append([]workflows.GroupMember{heir, unseen}, e.members...)
		e.lengths[0]++
	})
	mustRefresh(t, s)
	want(t, s, "cloudscale://m0000 deleting", "ichor://demo/worker/start-0 creating")
	if err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "cloudscale://m0000"}}); err != nil {
		t.Fatal(err)
	}
	want(t, s, "cloudscale://m0000 deleting", "ichor://demo/worker/start-0 deleting")
}

// A burst of requests pushes results out of what an entity shows.
func TestABurstOfRequestsIsConfirmed(t *testing.T) {
	w := newWorld()
	w.add(worker, 0, 90, 40)
	s := w.start(t)
	for i := range 30 {
		var err error
		switch {
		case i%10 == 0:
			err = s.IncreaseSize(t.Context(), group, 1)
		case i == 5:
			err = s.DecreaseTargetSize(t.Context(), group, 1)
		default:
			err = s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: workflows.PlaceholderInstance(demo, worker, "start", i)}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mustRefresh(t, s)
	if g, _ := s.Group(group); g.Target != 40+3-1-26 {
		t.Errorf("target is %d", g.Target)
	}
	if n := s.Numbers(); n.Unconfirmed != 0 {
		t.Errorf("%d requests are unconfirmed", n.Unconfirmed)
	}
}
