package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

const (
	demo   = "demo"
	worker = "worker"
	group  = "demo/worker"
)

var ref = cluster.Ref{Name: demo, UID: "u1"}

// world is a server with one worker and any number of groups.
type world struct {
	mu       sync.Mutex
	entities map[string]*entity
	up       bool  // a worker runs
	busy     bool  // a killed worker had a workflow task
	down     error // the server does not answer
	hidden   map[string]bool
	broken   map[string]error // workflow ids that cannot be read
	// hangs delays the description of a group; nil for no delay.
	hangs func(ctx context.Context, id string)
	now   time.Time
	// fate decides what becomes of a signal; nil for success.
	fate func(name, requestID string) fate
	late []func() // signals that will still arrive
	// between runs after the server has made an answer and before it is read.
	between func(what string)
	calls   map[string]int
}

type fate int

const (
	arrives  fate = iota
	refused       // surely not there
	lost          // unknown to the sender, not there
	swallows      // unknown to the sender, there
	delayed       // unknown to the sender, there later
)

func newWorld() *world {
	return &world{
		entities: map[string]*entity{}, up: true, hidden: map[string]bool{}, broken: map[string]error{}, calls: map[string]int{},
		now: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC),
	}
}

func (w *world) add(name string, minimum, maximum, target int) *entity {
	e := &entity{
		facts: workflows.GroupFacts{
			Cluster: ref, Group: name, Role: cluster.RoleWorker, Min: minimum, Max: maximum, Provision: 14 * time.Minute,
			Cloud: cluster.Cloud{Provider: "cloudscale", Zone: "lpg1", Credentials: "env:TOKEN"},
		},
		lengths: []int64{3}, signals: [][]signal{nil}, applied: []int{0}, dead: map[string]bool{},
	}
	e.grow("start", target, w.now)
	e.write()
	w.entities[cluster.GroupID(demo, name)] = e
	return e
}

func (w *world) at(what string) {
	w.mu.Lock()
	w.calls[what]++
	f := w.between
	w.mu.Unlock()
	if f != nil {
		f(what)
	}
}

func (w *world) read() error {
	if w.down != nil {
		return readFault("server", w.down)
	}
	return nil
}

func (w *world) groups(context.Context, string) ([]string, error) {
	defer w.at("groups")
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := slices.Sorted(maps.Keys(w.entities))
	return slices.DeleteFunc(ids, func(id string) bool { return w.hidden[id] || w.entities[id].closed }), w.read()
}

func (w *world) describe(ctx context.Context, id string) (description, error) {
	defer w.at("describe")
	w.mu.Lock()
	if hangs := w.hangs; hangs != nil {
		w.mu.Unlock()
		hangs(ctx, id)
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return description{}, readFault(id, ctx.Err())
	}
	if err := cmp.Or(w.read(), w.broken[id]); err != nil {
		return description{}, readFault(id, err)
	}
	e := w.entities[id]
	if e == nil {
		return description{}, fault.New(fault.NotFound, op, "no such workflow")
	}
	d := description{runID: e.runID(), length: e.lengths[e.run], closed: e.closed, busy: w.busy}
	if !e.fresh {
		facts, memo := e.facts, *e.memo
		d.facts, d.memo = &facts, &memo
	}
	return d, nil
}

func (w *world) query(ctx context.Context, id string) (workflows.GroupStatus, error) {
	defer w.at("query")
	w.mu.Lock()
	up := w.up && w.down == nil
	if !up {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	e := w.entities[id]
	if !up || e == nil || e.closed {
		return workflows.GroupStatus{}, readFault(id, cmp.Or(ctx.Err(), context.Canceled))
	}
	e.work(w.now)
	return workflows.GroupStatus{
		GroupFacts: e.facts, Target: e.counted(), Generation: e.gen, Members: slices.Clone(e.members), Gone: slices.Clone(e.gone),
		Paused: e.paused, Ending: e.ending, Inbox: slices.Clone(e.inbox), Requests: slices.Clone(e.ring[max(0, len(e.ring)-20):]),
	}, nil
}

func (w *world) history(_ context.Context, id, runID string, after, _ int64) (history, error) {
	defer w.at("history")
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.read(); err != nil {
		return history{}, err
	}
	e := w.entities[id]
	for run := range e.lengths {
		if fmt.Sprintf("run-%d", run) != runID {
			continue
		}
		h := history{last: e.lengths[run]}
		for _, s := range e.signals[run] {
			if s.event > after {
				h.signals = append(h.signals, s)
			}
		}
		if after == 0 && run > 0 && e.reset {
			h.original = "run-0"
		}
		if after == 0 && run > 0 && !e.reset {
			h.previous = fmt.Sprintf("run-%d", run-1)
		}
		if after == 0 && run == 0 {
			h.input = &workflows.GroupInput{Cluster: ref, Group: e.facts.Group, Role: e.facts.Role, Cloud: e.facts.Cloud, Min: e.facts.Min, Max: e.facts.Max}
		}
		return h, nil
	}
	return history{}, fault.New(fault.NotFound, op, "no such run")
}

func (w *world) signal(_ context.Context, id, name, requestID string, arg any) error {
	w.mu.Lock()
	f := arrives
	if w.fate != nil {
		f = w.fate(name, requestID)
	}
	if w.down != nil {
		f = lost
	}
	arrive := func() {
		e := w.entities[id]
		e.lengths[e.run]++
		e.signals[e.run] = append(e.signals[e.run], signal{name: name, event: e.lengths[e.run], at: w.now, req: arg.(workflows.ScaleRequest)})
	}
	kind := fault.Unavailable
	switch e := w.entities[id]; {
	case e == nil || e.closed:
		f, kind = refused, fault.NotFound
	case f == arrives || f == swallows:
		arrive()
	case f == delayed:
		w.late = append(w.late, arrive)
	}
	w.mu.Unlock()
	w.at("signal")
	switch f {
	case arrives:
		return nil
	case refused:
		return fault.New(kind, "signal", "refused")
	}
	return fault.New(fault.Ambiguous, "signal", "no answer")
}

// called counts the calls of one kind; those in the background may still be under
// way.
func (w *world) called(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[what]
}

// lock runs f while nothing else touches the world.
func (w *world) lock(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) config() Config {
	n := 0
	return Config{
		QueryBudget: 20 * time.Millisecond, SignalBudget: time.Second, Cluster: demo,
		now: func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now },
		// Called with the Source's lock held, so one at a time.
		newID: func() string { n++; return fmt.Sprintf("r%d", n) },
	}
}

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func (w *world) open(t tb, cfg Config) *Source {
	t.Helper()
	s, err := open(context.Background(), cfg, w)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// start opens a source that ends with the test.
func (w *world) start(t *testing.T) *Source {
	t.Helper()
	s := w.open(t, w.config())
	t.Cleanup(s.Close)
	return s
}

// lines are the instances of a group for comparison: id, state and error code.
func lines(t tb, s *Source, id string) []string {
	t.Helper()
	g, ok := s.Group(id)
	if !ok {
		t.Fatalf("there is no group %s", id)
	}
	counted := 0
	var out []string
	for _, i := range g.Instances {
		if i.State != provider.Deleting {
			counted++
		}
		line := i.ID + " " + string(i.State)
		if i.Error != nil {
			line += " " + string(i.Error.Class) + "/" + i.Error.Code
		}
		out = append(out, line)
	}
	if counted != g.Target {
		t.Errorf("%s: target is %d, and there are %d instances that are not being deleted: %q", id, g.Target, counted, out)
	}
	if !slices.IsSorted(out) {
		t.Errorf("%s: instances are not sorted: %q", id, out)
	}
	return out
}
