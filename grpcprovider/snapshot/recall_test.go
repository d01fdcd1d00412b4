package snapshot

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

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
	if n := w.called("signal"); n != 1 {
		t.Errorf("%d signals were sent", n)
	}
}

// While a killed worker's workflow task has not run out, the server holds back
// what was signalled since: a provider that begins then would not know of it. One
// that goes on does, and is not disturbed.
func TestNoBeginningWhileSignalsAreHeldBack(t *testing.T) {
	w := newWorld()
	w.add(worker, 0, 5, 0)
	w.up = false
	s := w.start(t)
	if err := s.IncreaseSize(t.Context(), group, 1); err != nil {
		t.Fatal(err)
	}
	w.lock(func() { w.busy = true })
	mustRefresh(t, s)
	_, err := open(t.Context(), w.config(), w)
	wantKind(t, err, fault.Unavailable)
	w.lock(func() { w.busy = false })
	want(t, w.start(t), "ichor://demo/worker/r1-0 creating")
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
	asked := func() int { return w.called("query") }
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

// The heir of a place has not its predecessor's machine, whatever the memo leaves
// out.
func TestAnHeirHasNoMachineOfItsPredecessor(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 1)
	w.lock(e.advance)
	s := w.start(t)
	w.lock(func() {
		m := &e.members[0]
		m.ID, m.Name, m.CloudID, m.ProviderID = "m0009", "demo-worker-m0009", "", ""
		m.Phase, m.Failure = workflows.MemberFailed, &workflows.Failure{Kind: fault.Quota, Message: "limit"}
		e.lengths[0]++
		e.write()
		w.up = false
	})
	mustRefresh(t, s)
	want(t, s, "ichor://demo/worker/start-0 creating out-of-resources/quota")
	// Who gives the machine up gives its place up.
	if err := s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: "cloudscale://m0000"}}); err != nil {
		t.Fatal(err)
	}
	want(t, s, "ichor://demo/worker/start-0 deleting")
}

// A paused group refuses a new target; that it is resumed later changes nothing.
func TestAPausedGroupTakesNoTarget(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 1)
	w.lock(func() { e.paused = &workflows.PauseStatus{Reason: "maintenance"}; e.write(); w.up = false })
	three := 3
	for _, sig := range []signal{
		{name: workflows.SignalSetTarget, req: workflows.ScaleRequest{RequestID: "s", Target: &three}},
		{name: workflows.SignalResume, req: workflows.ScaleRequest{RequestID: "r"}},
	} {
		if err := w.signal(t.Context(), cluster.GroupID(demo, worker), sig.name, "", sig.req); err != nil {
			t.Fatal(err)
		}
	}
	s := w.start(t)
	want(t, s, "ichor://demo/worker/start-0 creating")
	if g, _ := s.Group(group); g.Paused != "" {
		t.Errorf("paused: %q", g.Paused)
	}
}

// A run that was reset repeats the events of the one that its memo was written
// by, with the same ids.
func TestAResetRunCountsNothingTwice(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 9, 0)
	send := func(id string) {
		t.Helper()
		req := workflows.ScaleRequest{RequestID: id, Delta: 1}
		if err := w.signal(t.Context(), cluster.GroupID(demo, worker), workflows.SignalIncreaseSize, "", req); err != nil {
			t.Fatal(err)
		}
	}
	send("a")
	w.lock(func() {
		e.work(w.now)
		e.advance()
		e.advance() // the memo counts it as ready
		e.renew()
		e.reset, e.signals[1], e.lengths[1], w.up = true, e.signals[0], e.lengths[0], false
	})
	send("b")
	want(t, w.start(t), "ichor://demo/worker/b-0 creating", "ichor://demo/worker/unnamed-0 running")
}

// A request whose id begins with that of another one is another one.
func TestACancellationIsOfOneRequest(t *testing.T) {
	w := newWorld()
	w.add(worker, 0, 9, 0)
	w.up = false
	for _, sig := range []signal{
		{name: workflows.SignalIncreaseSize, req: workflows.ScaleRequest{RequestID: "r4-1", Delta: 1}},
		{name: workflows.SignalIncreaseSize, req: workflows.ScaleRequest{RequestID: "r4-1-x", Delta: 1}},
		{name: workflows.SignalCancelRequest, req: workflows.ScaleRequest{RequestID: "cancel-r4", Cancel: "r4"}},
	} {
		if err := w.signal(t.Context(), cluster.GroupID(demo, worker), sig.name, "", sig.req); err != nil {
			t.Fatal(err)
		}
	}
	want(t, w.start(t), "ichor://demo/worker/r4-1-0 creating", "ichor://demo/worker/r4-1-x-0 creating")
	prefix := workflows.PlaceholderPrefix(demo, worker, "r4")
	for instance, is := range map[string]bool{
		prefix + "-0": true, prefix + "-12": true,
		prefix + "-1-0": false, prefix + "-": false, prefix: false, prefix + "--1": false, prefix + "-+1": false, "": false, "cloudscale://m1": false,
	} {
		if placeOf(instance, prefix) != is {
			t.Errorf("placeOf(%q) = %v", instance, !is)
		}
	}
}
