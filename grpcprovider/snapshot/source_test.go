package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cloud"
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
		{ProviderID: "cloudscale://m0000"}, {ProviderID: "ichor://demo/worker/r1-0"}, {Name: "ichor://demo/worker/r1-0", ProviderID: "ichor://demo/worker/r1-0"},
		{Name: "demo-worker-m0000"}, {Name: "demo-worker-m0000", ProviderID: "cloudscale://m0000"},
	} {
		if id, ok := s.GroupForNode(ref); !ok || id != group {
			t.Errorf("the group of %+v is %q, %v", ref, id, ok)
		}
	}
	for _, ref := range []provider.NodeRef{
		{Name: "demo-worker-m0000", ProviderID: "cloudscale://other"}, {Name: "demo-cp-x"}, {}, {ProviderID: "m0000"}, {Name: "m0000"},
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
	var inside sync.WaitGroup
	inside.Add(1)
	var once sync.Once
	var second error
	w.lock(func() {
		w.between = func(what string) {
			if what == "signal" {
				once.Do(func() { second = s.IncreaseSize(t.Context(), group, 3); inside.Done() })
			}
		}
	})
	if err := s.IncreaseSize(t.Context(), group, 3); err != nil {
		t.Errorf("the first request: %v", err)
	}
	inside.Wait()
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
	if w.calls["signal"] != 1 {
		t.Errorf("%d signals were sent for one machine", w.calls["signal"])
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
	if w.calls["signal"] != 1 {
		t.Errorf("%d signals were sent, the last for a machine that is gone", w.calls["signal"])
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

// The case that the provider exists for: no worker, an accepted request, and the
// provider is killed.
func TestAcceptedWithoutWorkerSurvivesARestart(t *testing.T) {
	w := newWorld()
	w.add(worker, 0, 5, 0)
	w.up = false
	s := w.start(t)
	if err := s.IncreaseSize(t.Context(), group, 3); err != nil {
		t.Fatal(err)
	}
	accepted := []string{"ichor://demo/worker/r1-0 creating", "ichor://demo/worker/r1-1 creating", "ichor://demo/worker/r1-2 creating"}
	want(t, s, accepted...)
	again := w.start(t)
	want(t, again, accepted...)
	wantKind(t, again.IncreaseSize(t.Context(), group, 3), fault.Invalid)
	mustRefresh(t, s)
	want(t, s, accepted...)
	if n := s.Numbers(); n.Unconfirmed != 0 {
		t.Errorf("%d requests stay unconfirmed though history has them", n.Unconfirmed)
	}
	if w.calls["signal"] != 1 {
		t.Errorf("%d signals were sent", w.calls["signal"])
	}
}

// A request that was durable before its entity continued as new is in no history
// that the new run has.
func TestARequestOfAnEarlierRunIsConfirmed(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 0)
	s := w.start(t)
	if err := s.IncreaseSize(t.Context(), group, 3); err != nil {
		t.Fatal(err)
	}
	w.lock(func() { e.work(w.now); e.renew(); e.renew(); w.up = false })
	mustRefresh(t, s)
	want(t, s, "ichor://demo/worker/r1-0 creating", "ichor://demo/worker/r1-1 creating", "ichor://demo/worker/r1-2 creating")
	if n := s.Numbers(); n.Unconfirmed != 0 {
		t.Errorf("%d requests are unconfirmed", n.Unconfirmed)
	}
}

// Cancellations and repetitions hold for whoever reads the history, in any order.
func TestHistoryIsReadAsTheEntityWillReadIt(t *testing.T) {
	increase := func(id string) signal {
		return signal{name: workflows.SignalIncreaseSize, req: workflows.ScaleRequest{RequestID: id, Delta: 1}}
	}
	cancel := signal{name: workflows.SignalCancelRequest, req: workflows.ScaleRequest{RequestID: "cancel-x", Cancel: "x"}}
	pause := signal{name: workflows.SignalPause, req: workflows.ScaleRequest{Reason: "maintenance"}}
	remove := signal{name: workflows.SignalDeleteNodes, req: workflows.ScaleRequest{RequestID: "d", Nodes: []string{"ichor://demo/worker/y-0", "foreign"}}}
	three := 3
	set := signal{name: workflows.SignalSetTarget, req: workflows.ScaleRequest{RequestID: "s", Target: &three}}
	far := 99
	beyond := signal{name: workflows.SignalSetTarget, req: workflows.ScaleRequest{RequestID: "t", Target: &far}}
	foreign := increase("x")
	foreign.req.Cluster.UID = "another"
	for _, c := range []struct {
		name string
		// before are signals that the entity has seen, after those that it has not.
		before, after []signal
		want          []string
	}{
		{name: "nothing"},
		{name: "cancelled", after: []signal{increase("x"), cancel}},
		{name: "cancelled first", after: []signal{cancel, increase("x")}},
		{name: "cancelled before, arrives late", before: []signal{cancel}, after: []signal{increase("x")}},
		{name: "cancelled after it was seen", before: []signal{increase("x")}, after: []signal{cancel}, want: []string{"ichor://demo/worker/x-0 deleting"}},
		{name: "repeated", after: []signal{increase("y"), increase("y")}, want: []string{"ichor://demo/worker/y-0 creating"}},
		{name: "repeated after it was seen", before: []signal{increase("y")}, after: []signal{increase("y")}, want: []string{"ichor://demo/worker/y-0 creating"}},
		{name: "deleted before it is wanted", after: []signal{remove, increase("y")}, want: []string{"ichor://demo/worker/y-0 deleting"}},
		{name: "for another cluster", after: []signal{foreign}},
		{name: "set by a person", before: []signal{increase("y")}, after: []signal{set, pause}, want: []string{
			"ichor://demo/worker/s-0 creating", "ichor://demo/worker/s-1 creating", "ichor://demo/worker/y-0 creating",
		}},
		{name: "set out of bounds", after: []signal{beyond}},
		{name: "beyond max", after: []signal{
			increase("a"), increase("b"), increase("c"), increase("d"), increase("e"), increase("f"),
		}, want: []string{
			"ichor://demo/worker/a-0 creating", "ichor://demo/worker/b-0 creating", "ichor://demo/worker/c-0 creating",
			"ichor://demo/worker/d-0 creating", "ichor://demo/worker/e-0 creating", "ichor://demo/worker/f-0 creating other/beyond-max",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			e := w.add(worker, 0, 5, 0)
			send := func(signals []signal) {
				for _, s := range signals {
					if err := w.signal(t.Context(), cluster.GroupID(demo, worker), s.name, "", s.req); err != nil {
						t.Fatal(err)
					}
				}
			}
			send(c.before)
			w.lock(func() { e.work(w.now); w.up = false })
			send(c.after)
			s := w.start(t)
			want(t, s, c.want...)
		})
	}
}

func TestNoWorkerDoesNotSlowRefreshesDown(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 0)
	w.up = false
	s := w.start(t)
	asked := func() int { w.mu.Lock(); defer w.mu.Unlock(); return w.calls["query"] }
	if asked() != 1 {
		t.Fatalf("%d questions at start", asked())
	}
	for range 5 {
		mustRefresh(t, s)
	}
	if asked() != 1 {
		t.Errorf("an entity that has not changed was asked %d times", asked())
	}
	w.lock(func() { e.lengths[0]++ })
	mustRefresh(t, s) // in the background this time, so it does not wait
	if n := s.Numbers(); n.Silent != 1 || n.Recalls != 2 {
		t.Errorf("numbers: %+v", n)
	}
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

func TestLateMachinesThatNobodyWorksOnFail(t *testing.T) {
	w := newWorld()
	w.add(worker, 0, 5, 1)
	w.up = false
	s := w.start(t)
	w.lock(func() { w.now = w.now.Add(14 * time.Minute) })
	mustRefresh(t, s)
	want(t, s, "ichor://demo/worker/start-0 creating")
	w.lock(func() { w.now = w.now.Add(45 * time.Second) })
	mustRefresh(t, s)
	want(t, s, "ichor://demo/worker/start-0 creating other/not-joined")
}

func TestTheCloudNamesReadyMembers(t *testing.T) {
	machine := func(id string) cloud.Machine {
		return cloud.Machine{
			Ref:  cloud.MachineRef{Owner: cloud.Owner{Cluster: ref, Group: worker}, ID: id, Cloud: "c-" + id},
			Name: "demo-worker-" + id, ProviderID: "cloudscale://" + id, State: cloud.MachineRunning,
		}
	}
	w := newWorld()
	e := w.add(worker, 0, 5, 2)
	w.lock(func() { e.advance(); e.advance() })
	w.up = false
	cfg := w.config()
	gate, answers := make(chan struct{}), make(chan struct{})
	cfg.Cloud = func(context.Context, cluster.Cloud, []cluster.Ref) ([]cloud.Machine, error) {
		<-gate
		defer close(answers)
		return []cloud.Machine{machine("m0000"), machine("m0001")}, nil
	}
	cfg.ListBudget = time.Millisecond
	s := w.open(t, cfg)
	t.Cleanup(s.Close)
	// The cloud hangs: two members are there, whichever they are.
	want(t, s, "ichor://demo/worker/unnamed-0 running", "ichor://demo/worker/unnamed-1 running")
	wantKind(t, s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "ichor://demo/worker/unnamed-0"}}), fault.Unavailable)
	close(gate)
	<-answers
	named := []string{"cloudscale://m0000 running", "cloudscale://m0001 running"}
	for deadline := time.After(5 * time.Second); !slices.Equal(named, lines(t, s, group)); {
		select {
		case <-deadline:
			t.Fatalf("still %q", lines(t, s, group))
		case <-time.After(time.Millisecond):
		}
	}
	if err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "cloudscale://m0000"}}); err != nil {
		t.Error(err)
	}
	// A list never removes, nor adds beyond what the entity knows.
	mustRefresh(t, s)
	want(t, s, "cloudscale://m0000 deleting", "cloudscale://m0001 running")
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

// Without worker and cloud, ready members are anonymous; a request of the tail is
// not one of them, however often it is read.
func TestRequestsAreNotTakenForUnnamedMembers(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 2)
	w.lock(func() { e.advance(); e.advance() })
	w.up = false
	s := w.start(t)
	if err := s.IncreaseSize(t.Context(), group, 1); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		mustRefresh(t, s)
		want(t, s, "ichor://demo/worker/r1-0 creating", "ichor://demo/worker/unnamed-0 running", "ichor://demo/worker/unnamed-1 running")
		w.lock(func() { e.lengths[0]++ })
	}
}
