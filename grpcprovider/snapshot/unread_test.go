package snapshot

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

var errBroken = errors.New("its memo cannot be decoded")

// breakGroup makes a group unreadable, and nil repairs it.
func (w *world) breakGroup(name string, err error) {
	w.lock(func() { w.broken[cluster.GroupID(demo, name)] = err })
}

// three are groups a, b and c of two ready machines each.
func three() (w *world, a, b *entity) {
	w = newWorld()
	a, b = w.add("a", 0, 9, 2), w.add("b", 0, 9, 2)
	for _, e := range []*entity{a, b, w.add("c", 0, 9, 2)} {
		e.advance()
		e.advance()
	}
	return w, a, b
}

func read(s *Source, id string) bool {
	g, ok := s.Group(id)
	return ok && g.Unread == ""
}

// eventually waits for what a refresh makes happen in the background.
func eventually(t *testing.T, s *Source, what string, f func() bool) {
	t.Helper()
	for range 200 {
		if f() {
			return
		}
		mustRefresh(t, s)
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func TestOneGroupThatCannotBeRead(t *testing.T) {
	w, a, b := three()
	s := w.start(t)
	before, _ := s.Group("demo/a")
	w.breakGroup("a", errBroken)
	w.lock(func() { a.grow("person", 2, w.now); a.advance(); b.grow("person", 1, w.now); b.advance() })
	mustRefresh(t, s)

	g, ok := s.Group("demo/a")
	if !ok || g.Unread == "" || g.Target != 2 {
		t.Fatalf("a is %+v", g)
	}
	if diff := cmp.Diff(before.Instances, g.Instances); diff != "" {
		t.Errorf("instances of a group that was not read (-before +after):\n%s", diff)
	}
	ref := provider.NodeRef{Name: g.Instances[0].Name}
	if id, ok := s.GroupForNode(ref); !ok || id != "demo/a" {
		t.Errorf("a node of it is of %q", id)
	}
	for name, err := range map[string]error{
		"increase": s.IncreaseSize(t.Context(), "demo/a", 1), "decrease": s.DecreaseTargetSize(t.Context(), "demo/a", 1),
		"delete": s.DeleteNodes(t.Context(), "demo/a", []provider.NodeRef{ref}),
	} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s of a group that was not read: %v", name, err)
		}
	}
	if n := w.called("signal"); n != 0 {
		t.Errorf("%d signals were sent", n)
	}

	if g, _ := s.Group("demo/b"); g.Target != 3 || g.Unread != "" {
		t.Errorf("b, which can be read, has target %d, unread %q", g.Target, g.Unread)
	}
	if err := s.IncreaseSize(t.Context(), "demo/b", 1); err != nil {
		t.Error(err)
	}
	if n := s.Numbers(); n.Unread != 1 || n.LeftOut != 0 {
		t.Errorf("%d unread, %d left out", n.Unread, n.LeftOut)
	}

	w.breakGroup("a", nil)
	eventually(t, s, "a is read again", func() bool { return read(s, "demo/a") })
	if g, _ := s.Group("demo/a"); g.Target != 4 {
		t.Errorf("target %d after it was read again, want 4", g.Target)
	}
	if err := s.IncreaseSize(t.Context(), "demo/a", 1); err != nil {
		t.Error(err)
	}
}

// A group that comes back as it was is a group that was read.
func TestAnUnreadGroupThatHasNotChanged(t *testing.T) {
	w, _, _ := three()
	s := w.start(t)
	w.breakGroup("a", errBroken)
	mustRefresh(t, s)
	if read(s, "demo/a") {
		t.Fatal("a was read")
	}
	w.breakGroup("a", nil)
	eventually(t, s, "a is read again", func() bool { return read(s, "demo/a") })
}

// When most groups cannot be read it is Temporal that cannot; and if it stays with
// them, those that can are served.
func TestMostGroupsCannotBeRead(t *testing.T) {
	w, _, b := three()
	s := w.start(t)
	w.breakGroup("a", errBroken)
	w.breakGroup("c", errBroken)
	w.lock(func() { b.grow("person", 1, w.now); b.advance() })
	wantKind(t, s.Refresh(t.Context()), fault.Unavailable)
	if g, _ := s.Group("demo/b"); g.Target != 2 {
		t.Errorf("a refresh that failed has changed b to %d", g.Target)
	}
	mustRefresh(t, s)
	if g, _ := s.Group("demo/b"); g.Target != 3 || read(s, "demo/a") || read(s, "demo/c") {
		t.Errorf("b has target %d; a read %t, c read %t", g.Target, read(s, "demo/a"), read(s, "demo/c"))
	}
	w.breakGroup("b", errBroken)
	wantKind(t, s.Refresh(t.Context()), fault.Unavailable)
	for _, name := range []string{"a", "b", "c"} {
		w.breakGroup(name, nil)
	}
	eventually(t, s, "all are read again", func() bool { return read(s, "demo/a") && read(s, "demo/b") && read(s, "demo/c") })
}

// While Temporal as a whole is away no group is singled out.
func TestAnOutageSinglesNobodyOut(t *testing.T) {
	w, _, _ := three()
	s := w.start(t)
	w.lock(func() { w.down = errBroken })
	wantKind(t, s.Refresh(t.Context()), fault.Unavailable)
	w.lock(func() { w.down = nil })
	if n := s.Numbers(); n.Unread != 0 || !read(s, "demo/a") {
		t.Errorf("%d groups are unread after an outage", n.Unread)
	}
	mustRefresh(t, s)
}

// A provider that begins waits for every group, but not for ever.
func TestBeginningWithAGroupThatCannotBeRead(t *testing.T) {
	w, _, _ := three()
	w.breakGroup("a", errBroken)
	cfg := w.config()
	cfg.WholeUntil = w.now.Add(time.Minute)
	_, err := open(t.Context(), cfg, w)
	wantKind(t, err, fault.Unavailable)
	w.lock(func() { w.now = w.now.Add(time.Minute) })
	s := w.open(t, cfg)
	t.Cleanup(s.Close)
	if _, ok := s.Group("demo/a"); ok || len(s.Groups()) != 2 {
		t.Errorf("%d groups, a among them: %t", len(s.Groups()), ok)
	}
	if n := s.Numbers(); n.LeftOut != 1 || n.Unread != 0 {
		t.Errorf("%d left out, %d unread", n.LeftOut, n.Unread)
	}
	wantKind(t, s.IncreaseSize(t.Context(), "demo/a", 1), fault.NotFound)
	w.breakGroup("a", nil)
	eventually(t, s, "a is shown", func() bool { return read(s, "demo/a") })
}

// The list of groups may take as long as it likes: known groups go on, and a new
// one is shown once it is told of.
func TestTheIndexIsSlow(t *testing.T) {
	w, a, _ := three()
	cfg := w.config()
	cfg.DiscoverBudget = 10 * time.Millisecond
	s := w.open(t, cfg)
	t.Cleanup(s.Close)
	discovered := s.Numbers().Discovered
	free := make(chan struct{})
	w.lock(func() {
		w.between = func(what string) {
			if what == "groups" {
				<-free
			}
		}
		w.add("d", 0, 9, 1)
		a.grow("person", 1, w.now)
		a.advance()
		w.now = w.now.Add(time.Minute)
	})
	for range 3 {
		mustRefresh(t, s)
	}
	if g, _ := s.Group("demo/a"); g.Target != 3 {
		t.Errorf("target %d while the index hangs, want 3", g.Target)
	}
	if err := s.IncreaseSize(t.Context(), "demo/a", 1); err != nil {
		t.Error(err)
	}
	if n := s.Numbers(); !n.Discovered.Equal(discovered) || n.Undiscovered != 3 || w.called("groups") != 2 {
		t.Errorf("discovered %s, %d refreshes without, %d lists", n.Discovered, n.Undiscovered, w.called("groups"))
	}
	close(free)
	eventually(t, s, "the new group is shown", func() bool { return read(s, "demo/d") })
	if n := s.Numbers(); !n.Discovered.After(discovered) {
		t.Errorf("groups were last discovered at %s", n.Discovered)
	}
}

// Nothing is known without the index: then it is waited for, and its failure is
// one.
func TestTheFirstDiscoveryIsNeeded(t *testing.T) {
	w := newWorld()
	w.down = errBroken
	_, err := open(t.Context(), w.config(), w)
	wantKind(t, err, fault.Unavailable)
	cfg := w.config()
	cfg.RefreshBudget = 20 * time.Millisecond
	free := make(chan struct{})
	w.lock(func() { w.down, w.between = nil, func(string) { <-free } })
	done := make(chan error, 1)
	go func() { _, err := open(context.Background(), cfg, w); done <- err }()
	time.AfterFunc(100*time.Millisecond, func() { close(free) })
	wantKind(t, <-done, fault.Unavailable)
}

// A cancellation that cannot be made durable is a matter of its group alone.
func TestADebtStopsItsOwnGroup(t *testing.T) {
	w, _, b := three()
	s := w.start(t)
	w.lock(func() { w.fate = func(string, string) fate { return lost } })
	wantKind(t, s.IncreaseSize(t.Context(), "demo/a", 1), fault.Ambiguous)
	w.lock(func() { b.grow("person", 1, w.now); b.advance() })
	mustRefresh(t, s)
	if g, _ := s.Group("demo/a"); g.Target != 2 || g.Unread == "" {
		t.Errorf("a has target %d, unread %q", g.Target, g.Unread)
	}
	if g, _ := s.Group("demo/b"); g.Target != 3 {
		t.Errorf("b has target %d", g.Target)
	}
	w.lock(func() { w.fate = nil })
	eventually(t, s, "a is read again", func() bool { return read(s, "demo/a") })
	if n := s.Numbers(); n.Owed != 0 {
		t.Errorf("%d cancellations are owed", n.Owed)
	}
	if g, _ := s.Group("demo/a"); g.Target != 2 {
		t.Errorf("a has target %d", g.Target)
	}
}

// A group that hangs is not waited for once the others are read; when all are slow,
// all are.
func TestAGroupThatHangs(t *testing.T) {
	w, _, _ := three()
	cfg := w.config()
	cfg.ReadBudget = 50 * time.Millisecond
	s := w.open(t, cfg)
	t.Cleanup(s.Close)
	before := s.Numbers().Refreshed
	hung := make(chan struct{})
	w.lock(func() {
		w.now = w.now.Add(time.Minute)
		w.hangs = func(ctx context.Context, id string) {
			if id == cluster.GroupID(demo, "a") {
				select {
				case <-ctx.Done():
				case <-hung:
				}
			}
		}
	})
	mustRefresh(t, s)
	if read(s, "demo/a") || !read(s, "demo/b") || !s.Numbers().Refreshed.After(before) {
		t.Errorf("a was read: %t, b: %t", read(s, "demo/a"), read(s, "demo/b"))
	}
	close(hung)
	eventually(t, s, "a is read again", func() bool { return read(s, "demo/a") })

	w.lock(func() { w.hangs = func(context.Context, string) { time.Sleep(150 * time.Millisecond) } })
	mustRefresh(t, s)
	if n := s.Numbers(); n.Unread != 0 {
		t.Errorf("%d of the slow groups were not waited for", n.Unread)
	}
}
