package plan

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cluster"
)

// strategies draws strategies that can be carried out.
func strategies() *rapid.Generator[UpgradeStrategy] {
	amounts := rapid.SampledFrom([]string{"", "1", "2", "3", "10%", "50%", "100%"})
	return rapid.Custom(func(t *rapid.T) UpgradeStrategy {
		s := UpgradeStrategy{
			MaxUnavailable: amounts.Draw(t, "max"), Canary: rapid.Bool().Draw(t, "canary"),
			FailureBudget: rapid.IntRange(0, 3).Draw(t, "budget"),
		}
		if rapid.Bool().Draw(t, "override") {
			s.Groups = []GroupStrategy{{Group: "g1", MaxUnavailable: amounts.Draw(t, "max of g1")}}
		}
		if s.Canary {
			s.Soak = cluster.Duration(rapid.IntRange(0, 600).Draw(t, "soak")) * cluster.Duration(time.Minute)
		}
		s.Windows = windows().Draw(t, "windows")
		return s
	})
}

// A roll over any fleet with any failures, skips and times respects its strategy
// in every state, and ends: done, or stopped with nothing at work.
func TestRollSimulated(t *testing.T) {
	leg := Leg{Kind: LegTalos, To: Versions{Talos: "v1.14.1", Schematic: "s1"}}
	ends := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		nodes := fleets(Versions{"v1.13.9", "s1", "v1.35.4"}, Versions{"v1.14.1", "s1", "v1.35.4"}).Draw(t, "nodes")
		s := strategies().Draw(t, "strategy")
		items := RollOrder(leg, nodes, s)
		now := noon.Add(time.Duration(rapid.IntRange(0, 7*24*60).Draw(t, "now")) * time.Minute)
		atWork := func(keep func(RollItem) bool) int {
			return len(slices.DeleteFunc(slices.Clone(items), func(i RollItem) bool { return i.State != RollRunning || !keep(i) }))
		}
		any := func(RollItem) bool { return true }
		failures := rapid.SampledFrom([]int{0, 5, 30}).Draw(t, "failures in a hundred")
		for step := 0; ; step++ {
			if step > 20*len(items)+20 {
				t.Fatal("does not end")
			}
			d := NextNodes(items, s, now)
			if d.Done {
				if slices.ContainsFunc(items, func(i RollItem) bool { return i.State != RollDone && i.State != RollSkipped }) {
					t.Fatal("done with nodes left")
				}
				ends["done"]++
				return
			}
			if len(d.Start) > 0 && (d.Stop != "" || !open(s.Windows, now)) {
				t.Fatalf("begins %v at %v in spite of %q", d.Start, now, d.Stop)
			}
			for _, m := range d.Start {
				i := slices.IndexFunc(items, func(i RollItem) bool { return i.Machine == m })
				if items[i].State != RollPending {
					t.Fatalf("begins %s, which is %s", m, items[i].State)
				}
				if items[i].Role == cluster.RoleWorker && slices.ContainsFunc(items, func(o RollItem) bool {
					return o.Role == cluster.RoleControlPlane && o.State != RollDone && o.State != RollSkipped
				}) {
					t.Fatalf("begins %s before the control planes", m)
				}
				if s.Canary && items[i].Role == cluster.RoleWorker {
					first := slices.IndexFunc(items, func(o RollItem) bool { return o.Role == cluster.RoleWorker && o.State != RollSkipped })
					if first != i && (items[first].State != RollDone || now.Before(items[first].Ended.Add(time.Duration(s.Soak)))) {
						t.Fatalf("begins %s before the canary is proven", m)
					}
				}
				items[i].State = RollRunning
			}
			if n := atWork(func(i RollItem) bool { return i.Role == cluster.RoleControlPlane }); n > 1 || n == 1 && atWork(any) > 1 {
				t.Fatal("a control plane is not alone at work")
			}
			for _, group := range groups(items) {
				if group[0].Role == cluster.RoleControlPlane {
					continue
				}
				size := 0
				for _, n := range nodes {
					if n.Group == group[0].Group {
						size++
					}
				}
				out := count(group, RollRunning) + count(group, RollFailed)
				if most := budgetOf(s, group[0].Group, size); out > most {
					t.Fatalf("%d of %d nodes of %s are out, %d may be", out, size, group[0].Group, most)
				}
			}
			if len(d.Start) > 0 && count(items, RollFailed) > s.FailureBudget {
				t.Fatal("begins nodes beyond the failure budget")
			}
			running := atWork(any)
			switch {
			case running > 0:
				which := rapid.IntRange(0, running-1).Draw(t, "which ends")
				for i := range items {
					if items[i].State != RollRunning {
						continue
					}
					if which == 0 {
						now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
						items[i].State, items[i].Ended = RollDone, now
						if rapid.IntRange(0, 99).Draw(t, "fails") < failures {
							items[i].State = RollFailed
						}
						break
					}
					which--
				}
			case d.Stop != "":
				if count(items, RollFailed) == 0 {
					t.Fatalf("stops without a failure: %s", d.Stop)
				}
				if rapid.Bool().Draw(t, "gives up") {
					ends["stopped"]++
					return
				}
				// The operator skips what failed, and it goes on.
				for i := range items {
					if items[i].State == RollFailed {
						items[i].State = RollSkipped
					}
				}
			case !d.Wait.IsZero():
				if !d.Wait.After(now) {
					t.Fatalf("waits at %v for %v", now, d.Wait)
				}
				now = d.Wait
			default:
				t.Fatalf("nothing begins, nothing runs, nothing is waited for: %+v", d)
			}
			if i := rapid.IntRange(0, 8*len(items)+8).Draw(t, "skip"); i < len(items) && items[i].State == RollPending {
				items[i].State = RollSkipped
			}
		}
	})
	if ends["done"] == 0 || ends["stopped"] == 0 {
		t.Fatalf("rolls ended in one way only: %v", ends)
	}
}

// budgetOf computes a budget without the code under test.
func budgetOf(s UpgradeStrategy, group string, size int) int {
	value := s.MaxUnavailable
	for _, g := range s.Groups {
		if g.Group == group && g.MaxUnavailable != "" {
			value = g.MaxUnavailable
		}
	}
	return map[string]int{
		"": 1, "1": 1, "2": 2, "3": 3, "10%": max(1, size/10), "50%": max(1, size/2), "100%": size,
	}[value]
}

// Rounds is what a roll takes in which every node takes the same time.
func TestRounds(t *testing.T) {
	leg := Leg{Kind: LegTalos, To: Versions{Talos: "v1.14.1", Schematic: "s1"}}
	rapid.Check(t, func(t *rapid.T) {
		nodes := fleets(Versions{"v1.13.9", "s1", "v1.35.4"}, Versions{"v1.14.1", "s1", "v1.35.4"}).Draw(t, "nodes")
		s := strategies().Draw(t, "strategy")
		s.Windows, s.Soak = nil, 0
		items := RollOrder(leg, nodes, s)
		want, got := Rounds(items, s), 0
		for now := noon; ; now = now.Add(time.Minute) {
			d := NextNodes(items, s, now)
			if d.Done {
				break
			}
			if got++; got > len(items) {
				t.Fatal("does not end")
			}
			for i := range items {
				if slices.Contains(d.Start, items[i].Machine) {
					items[i].State, items[i].Ended = RollDone, now
				}
			}
		}
		if got != want {
			t.Fatalf("took %d rounds, %d were told", got, want)
		}
	})
}
