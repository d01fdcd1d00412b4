package snapshot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/workflows"
)

// script is one life of a group with a provider: everything that can happen, in
// any order, also in the middle of each other.
type script struct {
	t  *rapid.T
	w  *world
	e  *entity
	mu sync.Mutex
	// dice decide inside of calls, which run on goroutines of the Source.
	dice *rand.Rand
	s    *Source
	// accepted counts machines of requests that were answered OK, by the prefix
	// of their ids; refused are requests that were answered with an error.
	accepted map[string]int
	refused  map[string]bool
	removed  map[string]bool // ids that an accepted request removed, or an update
	decrease bool            // accepted ones, which choose by themselves
	n        int
	depth    int
}

func (x *script) roll(n int) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.dice.IntN(n)
}

func (x *script) next() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n++
	return fmt.Sprintf("q%d", x.n)
}

// increase asks for machines and notes what the answer was.
func (x *script) increase() {
	id, delta := x.next(), 1+x.roll(3)
	err := x.s.IncreaseSize(provider.WithRequestID(x.t.Context(), id), group, delta)
	x.mu.Lock()
	if err == nil {
		x.accepted[id] = delta
	} else {
		x.refused[id] = true
	}
	x.mu.Unlock()
	if err == nil {
		x.visible(id, delta)
	}
}

// visible checks that what was accepted is there in the very next read, unless a
// later request took it away.
func (x *script) visible(id string, delta int) {
	g, _ := x.s.Group(group)
	seen := map[string]bool{}
	for _, i := range g.Instances {
		seen[i.ID] = true
		for _, a := range i.Aliases {
			seen[a] = true
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for n := range delta {
		if p := workflows.PlaceholderInstance(demo, worker, id, n); !seen[p] && !x.removed[p] && !x.decrease {
			x.t.Errorf("%s was accepted and is not shown", p)
		}
	}
}

func (x *script) remove() {
	g, _ := x.s.Group(group)
	if len(g.Instances) == 0 {
		return
	}
	i := g.Instances[x.roll(len(g.Instances))]
	if x.s.DeleteNodes(provider.WithRequestID(x.t.Context(), x.next()), group, []provider.NodeRef{{ProviderID: i.ID}}) != nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range append(i.Aliases, i.ID) {
		x.removed[id] = true
	}
}

// drained asks for the deletion of a Node, which the autoscaler knows from
// Kubernetes, whatever the Source shows.
func (x *script) drained() {
	var nodes []workflows.GroupMember
	x.w.lock(func() {
		for _, m := range x.e.members {
			if m.Phase == workflows.MemberReady {
				nodes = append(nodes, m)
			}
		}
	})
	if len(nodes) == 0 {
		return
	}
	m := nodes[x.roll(len(nodes))]
	if x.s.DeleteNodes(provider.WithRequestID(x.t.Context(), x.next()), group, []provider.NodeRef{{ProviderID: m.ProviderID, Name: m.Name}}) != nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.removed[m.ProviderID], x.removed[m.Instance] = true, true
}

// lose lets a person delete a machine by an update, of which history has no
// signal.
func (x *script) lose() {
	x.w.lock(func() {
		i := slices.IndexFunc(x.e.members, func(m workflows.GroupMember) bool { return m.Phase == workflows.MemberReady })
		if !x.w.up || i < 0 {
			return
		}
		x.mu.Lock()
		x.removed[x.e.members[i].ProviderID], x.removed[x.e.members[i].Instance] = true, true
		x.mu.Unlock()
		x.e.work(x.w.now)
		x.e.lose(i)
	})
}

func (x *script) giveUp() {
	x.mu.Lock()
	x.decrease = true // before it has an effect
	x.mu.Unlock()
	// Refused when there is nothing to give up.
	_ = x.s.DecreaseTargetSize(provider.WithRequestID(x.t.Context(), x.next()), group, 1+x.roll(2))
}

// meanwhile runs inside of a call of the Source to the server.
func (x *script) meanwhile(what string) {
	x.mu.Lock()
	busy := x.depth > 1 || x.dice.IntN(3) > 0
	if !busy {
		x.depth++
	}
	x.mu.Unlock()
	if busy {
		return
	}
	defer func() { x.mu.Lock(); x.depth--; x.mu.Unlock() }()
	switch x.roll(7) {
	case 0, 1:
		x.increase()
	case 2:
		x.remove()
	case 3:
		x.worker()
	case 4:
		x.arrive()
	case 5:
		if what == "signal" {
			_ = x.s.Refresh(x.t.Context()) // may meet a cancellation that is refused
		}
	case 6:
		x.drained()
	}
}

func (x *script) worker() {
	x.w.lock(func() {
		if x.w.up {
			x.e.work(x.w.now)
			x.e.advance()
		}
	})
}

func (x *script) arrive() {
	x.w.lock(func() {
		for _, f := range x.w.late {
			f()
		}
		x.w.late = nil
	})
}

func (x *script) consistent() {
	g, ok := x.s.Group(group)
	if !ok {
		x.t.Fatalf("the group is not shown any more")
	}
	counted := 0
	for n, i := range g.Instances {
		if i.State != provider.Deleting {
			counted++
		}
		if n > 0 && g.Instances[n-1].ID >= i.ID {
			x.t.Fatalf("instances are not sorted, or one is twice: %q, %q", g.Instances[n-1].ID, i.ID)
		}
		if id, ok := x.s.GroupForNode(provider.NodeRef{ProviderID: i.ID}); !ok || id != group {
			x.t.Errorf("%s is listed and its group is %q", i.ID, id)
		}
	}
	if counted != g.Target {
		x.t.Fatalf("target is %d with %d instances", g.Target, counted)
	}
}

// settled checks, with a worker and a Refresh, that the group is what the answers
// promised.
func (x *script) settled() {
	x.arrive()
	x.w.lock(func() { x.w.between, x.w.fate, x.w.up = nil, nil, true; x.e.lengths[x.e.run]++ })
	x.answered(x.s)
	again := x.w.open(x.t, x.w.config())
	defer again.Close()
	x.answered(again)
	x.answered(x.s)
	x.w.lock(func() {
		if n := len(x.s.Groups()); n != 1 {
			x.t.Errorf("%d groups", n)
		}
		if x.e.counted() > x.e.facts.Max {
			x.t.Errorf("%d machines exceed max of %d", x.e.counted(), x.e.facts.Max)
		}
		made := map[string]int{}
		for _, m := range x.e.members {
			if cut := strings.LastIndexAny(m.Instance, "/"); cut >= 0 {
				cause, _, _ := strings.Cut(m.Instance[cut+1:], "-")
				made[cause]++
				if x.refused[cause] && m.Counted() {
					x.t.Errorf("%s was answered with an error and counts", m.Instance)
				}
				if m.Counted() && (x.removed[m.Instance] || x.removed[m.ProviderID]) {
					x.t.Errorf("the deletion of %s (%s) was accepted, and it counts", m.Instance, m.ProviderID)
				}
			}
		}
		for _, g := range x.e.gone {
			cut := strings.LastIndexAny(g.Instance, "/")
			cause, _, _ := strings.Cut(g.Instance[cut+1:], "-")
			made[cause]++
		}
		for id, n := range x.accepted {
			if made[id] != n {
				x.t.Errorf("request %s was accepted for %d machines and counted %d", id, n, made[id])
			}
		}
	})
	if a, b := lines(x.t, x.s, group), lines(x.t, again, group); !slices.Equal(a, b) {
		x.t.Errorf("a provider that starts now shows something else:\n%q\n%q", a, b)
	}
	if n := x.s.Numbers(); n.Unconfirmed != 0 || n.Owed != 0 {
		x.t.Errorf("left over: %+v", n)
	}
}

// answered refreshes until the entity has answered, which it may first do in the
// background.
func (x *script) answered(s *Source) {
	for deadline := time.Now().Add(time.Minute); ; {
		if err := s.Refresh(x.t.Context()); err != nil {
			x.t.Fatalf("refresh: %v", err)
		}
		if s.Numbers().Silent == 0 {
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("the entity does not answer")
		}
		x.w.lock(func() { x.w.now = x.w.now.Add(11 * time.Second) })
		time.Sleep(time.Millisecond)
	}
}

// TestNoRequestIsLostOrDoubled: whatever happens in between, and in the middle.
func TestNoRequestIsLostOrDoubled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		x := &script{
			t: t, w: w, e: w.add(worker, 0, 20, rapid.IntRange(0, 3).Draw(t, "members")),
			dice: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "dice"), 0)), accepted: map[string]int{}, refused: map[string]bool{}, removed: map[string]bool{},
		}
		cfg := w.config()
		cfg.QueryBudget = 2_000_000
		x.s = w.open(t, cfg)
		defer func() { x.s.Close() }()
		w.lock(func() {
			w.between = x.meanwhile
			w.fate = func(string, string) fate {
				if x.roll(5) > 0 {
					return arrives
				}
				return fate(x.roll(5))
			}
		})
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{
			"increase", "increase", "remove", "drained", "lose", "decrease", "refresh", "refresh", "worker", "worker down", "worker up", "late", "renew", "restart",
		}), 1, 25).Draw(t, "steps")
		for _, step := range steps {
			switch step {
			case "increase":
				x.increase()
			case "remove":
				x.remove()
			case "drained":
				x.drained()
			case "lose":
				x.lose()
			case "decrease":
				x.giveUp()
			case "refresh":
				// Fails when a cancellation cannot be sent; the next one does it.
				_ = x.s.Refresh(t.Context())
			case "worker":
				x.worker()
			case "worker down", "worker up":
				w.lock(func() { w.up = step == "worker up" })
			case "late":
				x.arrive()
			case "renew":
				w.lock(func() {
					if w.up {
						x.e.work(w.now)
						x.e.write()
						x.e.renew()
					}
				})
			case "restart":
				x.restart()
			}
			x.consistent()
		}
		x.settled()
	})
}

// restart replaces the provider, which shows the same afterwards. What it owes
// is made durable first; a provider that is killed in the moment between such an
// answer and its cancellation is the one case that cannot be kept.
func (x *script) restart() {
	x.w.lock(func() { x.w.between, x.w.fate = nil, nil })
	x.s.Close()
	before, _ := x.s.Group(group)
	x.s = x.w.open(x.t, x.w.config())
	after, ok := x.s.Group(group)
	if !ok {
		x.t.Fatalf("the group is lost by a restart")
	}
	unseen := len(x.e.signals[x.e.run]) > x.e.applied[x.e.run]
	// A decrease chooses among what it finds: with a deletion of the same moment
	// it may be the same machine, or another one.
	if !x.w.up && unseen && !x.decrease && before.Generation == after.Generation && before.Target != after.Target {
		x.t.Errorf("target was %d before a restart and is %d", before.Target, after.Target)
	}
}
