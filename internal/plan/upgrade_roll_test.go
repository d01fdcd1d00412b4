package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cluster"
)

func plane(name string) UpgradeNode {
	return UpgradeNode{
		Machine: name, Name: name, Group: "cp", Role: cluster.RoleControlPlane, Talos: "v1.13.9", Schematic: "s1",
		APIServer: "v1.35.4", ControllerManager: "v1.35.4", Scheduler: "v1.35.4", Kubelet: "v1.35.4", ConfigSHA256: "a", WantSHA256: "a",
	}
}

func worker(group, name string) UpgradeNode {
	return UpgradeNode{
		Machine: name, Name: name, Group: group, Role: cluster.RoleWorker, Talos: "v1.13.9", Schematic: "s1",
		Kubelet: "v1.35.4", ConfigSHA256: "a", WantSHA256: "a",
	}
}

func with(n UpgradeNode, change func(*UpgradeNode)) UpgradeNode {
	change(&n)
	return n
}

func TestBehind(t *testing.T) {
	talos := Leg{Kind: LegTalos, To: Versions{"v1.14.1", "s2", "v1.35.4"}}
	same := Leg{Kind: LegTalos, To: Versions{"v1.13.9", "s2", "v1.35.4"}}
	plain := Leg{Kind: LegTalos, To: Versions{Talos: "v1.13.9"}}
	kubernetes := Leg{Kind: LegKubernetes, To: Versions{"v1.13.9", "s1", "v1.36.3"}}
	config := Leg{Kind: LegConfig}
	for _, c := range []struct {
		name string
		node UpgradeNode
		leg  Leg
		want bool
	}{
		{"older Talos", worker("w", "w1"), talos, true},
		{"same Talos, other schematic", worker("w", "w1"), same, true},
		{"same Talos, any schematic", worker("w", "w1"), plain, false},
		{"newer Talos is left alone, whatever its schematic", with(worker("w", "w1"), func(n *UpgradeNode) { n.Talos = "v1.14.2" }), talos, false},
		{"reached", with(worker("w", "w1"), func(n *UpgradeNode) { n.Talos, n.Schematic = "v1.14.1", "s2" }), talos, false},
		{"a silent rollback is behind", with(worker("w", "w1"), func(n *UpgradeNode) { n.Schematic = "s2" }), talos, true},
		{"unknown Talos", with(worker("w", "w1"), func(n *UpgradeNode) { n.Talos = "" }), talos, true},
		{"a node that does not answer", with(worker("w", "w1"), func(n *UpgradeNode) {
			n.Talos, n.Schematic, n.Problem = "v1.14.1", "s2", "no route"
		}), talos, true},
		{"older kubelet", worker("w", "w1"), kubernetes, true},
		{"kubelet reached", with(worker("w", "w1"), func(n *UpgradeNode) { n.Kubelet = "v1.36.3" }), kubernetes, false},
		{"kubelet of another flavour reached", with(worker("w", "w1"), func(n *UpgradeNode) { n.Kubelet = "v1.36.3-slim" }), kubernetes, false},
		{"a control plane of which the scheduler is older", with(plane("c1"), func(n *UpgradeNode) {
			n.APIServer, n.ControllerManager, n.Kubelet = "v1.36.3", "v1.36.3", "v1.36.3"
		}), kubernetes, true},
		{"a control plane that is there", with(plane("c1"), func(n *UpgradeNode) {
			n.APIServer, n.ControllerManager, n.Scheduler, n.Kubelet = "v1.36.3", "v1.36.3", "v1.36.3", "v1.36.3"
		}), kubernetes, false},
		{"same config", worker("w", "w1"), config, false},
		{"other config", with(worker("w", "w1"), func(n *UpgradeNode) { n.WantSHA256 = "b" }), config, true},
		{"unknown config", with(worker("w", "w1"), func(n *UpgradeNode) { n.ConfigSHA256 = "" }), config, true},
		{"no kind", worker("w", "w1"), Leg{}, false},
	} {
		if got := Behind(c.node, c.leg); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if BehindComponent(worker("w", "w1"), ComponentAPIServer, "v1.36.3") {
		t.Error("a worker is said to lack an API server")
	}
	if !BehindComponent(plane("c1"), ComponentAPIServer, "v1.36.3") || BehindComponent(plane("c1"), ComponentAPIServer, "v1.35.4") {
		t.Error("an API server is taken for another version")
	}
}

func TestLowest(t *testing.T) {
	nodes := []UpgradeNode{
		with(plane("c1"), func(n *UpgradeNode) { n.Talos, n.Schematic = "1.14.1", "s2" }),
		with(plane("c2"), func(n *UpgradeNode) { n.ControllerManager = "v1.34.10-slim" }),
		with(worker("w", "w1"), func(n *UpgradeNode) { n.Talos, n.Problem = "v1.2.0", "no route" }),
		with(worker("w", "w2"), func(n *UpgradeNode) { n.Schematic, n.Kubelet = "s2", "" }),
	}
	if diff := cmp.Diff(Versions{"v1.13.9", "s1", "v1.34.10"}, Lowest(nodes, "s2")); diff != "" {
		t.Error(diff)
	}
	if got := Lowest(nodes[2:3], "s2"); got != (Versions{}) {
		t.Errorf("a node that does not answer tells %v", got)
	}
}

func TestRollOrder(t *testing.T) {
	nodes := []UpgradeNode{
		with(plane("c1"), func(n *UpgradeNode) { n.Leader = true }), plane("c2"), plane("c3"),
		worker("b", "w1"), worker("a", "w3"), worker("a", "w2"),
		with(worker("a", "w0"), func(n *UpgradeNode) { n.Talos = "v1.14.1" }),
	}
	leg := Leg{Kind: LegTalos, To: Versions{Talos: "v1.14.1"}}
	want := []string{"c2 3", "c3 3", "c1 3", "w2 3", "w3 3", "w1 1"}
	rapid.Check(t, func(t *rapid.T) {
		var got []string
		for _, i := range RollOrder(leg, rapid.Permutation(nodes).Draw(t, "nodes"), UpgradeStrategy{Canary: true}) {
			if i.State != RollPending {
				t.Fatalf("%s is %s", i.Name, i.State)
			}
			got = append(got, fmt.Sprintf("%s %d", i.Name, i.GroupSize))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestCanaryIsWhole(t *testing.T) {
	leg := Leg{Kind: LegTalos, To: Versions{Talos: "v1.14.1"}}
	whole := func(n *UpgradeNode) { n.Ready, n.NodeReady = true, true }
	nodes := []UpgradeNode{
		with(plane("c1"), whole), worker("a", "w1"), with(worker("a", "w2"), func(n *UpgradeNode) { whole(n); n.Cordoned = true }),
		with(worker("a", "w3"), func(n *UpgradeNode) { whole(n); n.Problem = "no route" }),
		with(worker("b", "w4"), whole), with(worker("b", "w5"), whole), worker("b", "w6"),
	}
	for _, c := range []struct {
		canary bool
		nodes  []UpgradeNode
		want   string
	}{
		{true, nodes, "c1 w4 w1 w2 w3 w5 w6"},
		{false, nodes, "c1 w1 w2 w3 w4 w5 w6"},
		{true, nodes[:4], "c1 w1 w2 w3"},
		{true, nodes[:1], "c1"},
		{true, nodes[4:], "w4 w5 w6"},
	} {
		var got []string
		for _, i := range RollOrder(leg, c.nodes, UpgradeStrategy{Canary: c.canary}) {
			got = append(got, i.Name)
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
			t.Error(diff)
		}
	}
}

func TestMaxUnavailable(t *testing.T) {
	s := UpgradeStrategy{MaxUnavailable: "10%", Groups: []GroupStrategy{{Group: "a", MaxUnavailable: "4"}, {Group: "b"}}}
	for _, c := range []struct {
		value, group string
		size, want   int
	}{
		{"", "c", 50, 1},
		{"3", "c", 50, 3},
		{"10%", "c", 50, 5},
		{"10%", "c", 59, 5},
		{"10%", "c", 9, 1},
		{"100%", "c", 7, 7},
		{"0", "c", 7, 1},
		{"many", "c", 7, 1},
		{"-3", "c", 7, 1},
		{"10%", "a", 50, 4},
		{"10%", "b", 50, 5},
	} {
		s.MaxUnavailable = c.value
		if got := MaxUnavailable(s, c.group, c.size); got != c.want {
			t.Errorf("%q of %d nodes of %s: %d, want %d", c.value, c.size, c.group, got, c.want)
		}
	}
}

// roster writes items as "name:group:state", control planes as "name::state".
func roster(s string) []RollItem {
	states := map[string]RollState{"p": RollPending, "r": RollRunning, "d": RollDone, "f": RollFailed, "s": RollSkipped}
	var out []RollItem
	for f := range strings.FieldsSeq(s) {
		p := strings.Split(f, ":")
		i := RollItem{Machine: p[0], Name: p[0], Group: p[1], Role: cluster.RoleWorker, State: states[p[2]]}
		if p[1] == "" {
			i.Group, i.Role = "cp", cluster.RoleControlPlane
		}
		if i.State == RollDone {
			i.Ended = noon
		}
		out = append(out, i)
	}
	return out
}

// noon is a Wednesday.
var noon = time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC)

func TestNextNodes(t *testing.T) {
	night := []Window{{Start: "22:00", Length: cluster.Duration(4 * time.Hour)}}
	for _, c := range []struct {
		name  string
		items string
		s     UpgradeStrategy
		want  string // start, "done", "stop reason", "wait 12:30", or nothing
	}{
		{"nothing to do", "", UpgradeStrategy{}, "done"},
		{"all done or skipped", "c1::d w1:a:s w2:a:d", UpgradeStrategy{}, "done"},
		{"the first control plane alone", "c1::p c2::p w1:a:p", UpgradeStrategy{MaxUnavailable: "3"}, "c1"},
		{"no second control plane", "c1::r c2::p w1:a:p", UpgradeStrategy{MaxUnavailable: "3"}, ""},
		{"no worker with the last control plane", "c1::d c2::r w1:a:p", UpgradeStrategy{MaxUnavailable: "3"}, ""},
		{"workers after skipped control planes", "c1::d c2::s w1:a:p w2:a:p", UpgradeStrategy{}, "w1"},
		{"a control plane that failed ends the roll", "c1::f c2::p w1:a:p", UpgradeStrategy{FailureBudget: 9}, "stop control plane c1 failed"},
		{"a control plane waits for workers at work", "c1::p w1:a:r", UpgradeStrategy{}, ""},
		{"a sliding window", "w1:a:d w2:a:r w3:a:r w4:a:p w5:a:p", UpgradeStrategy{MaxUnavailable: "3"}, "w4"},
		{"a full window", "w1:a:r w2:a:r w3:a:p", UpgradeStrategy{MaxUnavailable: "2"}, ""},
		{"a percentage of the group", "w1:a:p w2:a:p w3:a:p w4:a:p w5:a:p", UpgradeStrategy{MaxUnavailable: "50%"}, "w1 w2"},
		{"a group after the other", "w1:a:d w2:a:r w3:b:p", UpgradeStrategy{MaxUnavailable: "2"}, ""},
		{"the next group", "w1:a:d w2:a:d w3:b:p", UpgradeStrategy{MaxUnavailable: "2"}, "w3"},
		{"the next group after failures within the budget", "w1:a:f w2:a:d w3:b:p", UpgradeStrategy{FailureBudget: 1}, "w3"},
		{"a failure without a budget", "w1:a:f w2:a:r w3:a:p", UpgradeStrategy{MaxUnavailable: "3"}, "stop w1 failed, which is more"},
		{"a failed node stays unavailable", "w1:a:f w2:a:r w3:a:p", UpgradeStrategy{MaxUnavailable: "2", FailureBudget: 1}, ""},
		{"failed nodes take the whole budget of a group", "w1:a:f w2:a:d w3:a:p", UpgradeStrategy{FailureBudget: 1}, "stop w1 failed, so group a has no node more to spare"},
		{"only failures are left", "w1:a:f w2:a:d", UpgradeStrategy{FailureBudget: 1}, "stop w1 failed"},
		{"the last node is waited for", "w1:a:d w2:a:r", UpgradeStrategy{MaxUnavailable: "3"}, ""},
		{"the canary alone", "w1:a:p w2:a:p", UpgradeStrategy{MaxUnavailable: "2", Canary: true}, "w1"},
		{"the canary at work", "w1:a:r w2:a:p", UpgradeStrategy{MaxUnavailable: "2", Canary: true}, ""},
		{"the canary soaks", "w1:a:d w2:a:p", UpgradeStrategy{Canary: true, Soak: cluster.Duration(30 * time.Minute)}, "wait 12:30"},
		{"the canary has soaked", "w1:a:d w2:a:p", UpgradeStrategy{Canary: true}, "w2"},
		{"the canary was all", "w1:a:d", UpgradeStrategy{Canary: true, Soak: cluster.Duration(30 * time.Minute)}, "done"},
		{"the canary failed", "w1:a:f w2:a:p", UpgradeStrategy{MaxUnavailable: "2", Canary: true, FailureBudget: 5}, "stop canary w1 failed"},
		{"the canary waits for a node at work", "w1:a:p w2:a:r", UpgradeStrategy{MaxUnavailable: "2", Canary: true}, ""},
		{"no canary when all are skipped", "w1:a:s c1::p", UpgradeStrategy{Canary: true}, "c1"},
		{"another canary for one that is skipped", "w1:a:s w2:a:p w3:a:p", UpgradeStrategy{MaxUnavailable: "2", Canary: true}, "w2"},
		{"no window", "c1::p", UpgradeStrategy{Windows: night}, "wait 22:00"},
		{"no window for what runs", "c1::r c2::p", UpgradeStrategy{Windows: night}, ""},
		{"an open window", "c1::p", UpgradeStrategy{Windows: []Window{{Start: "11:00", Length: cluster.Duration(2 * time.Hour)}}}, "c1"},
		{"no window ever", "c1::p", UpgradeStrategy{Windows: []Window{{Start: "x"}}}, "stop no maintenance window ever opens"},
		{"a soak that ends outside the window", "w1:a:d w2:a:p", UpgradeStrategy{Canary: true, Soak: cluster.Duration(30 * time.Minute), Windows: night}, "wait 22:00"},
		{"a stop needs no window", "c1::f", UpgradeStrategy{Windows: night}, "stop control plane"},
	} {
		d := NextNodes(roster(c.items), c.s, noon)
		got := strings.Join(d.Start, " ")
		switch {
		case d.Done:
			got = "done"
		case d.Stop != "":
			got = "stop " + d.Stop
		case !d.Wait.IsZero():
			got = "wait " + d.Wait.Format("15:04")
			if d.Reason == "" {
				t.Errorf("%s: waits without a reason", c.name)
			}
		}
		if strings.HasPrefix(c.want, "stop") && strings.HasPrefix(got, c.want) {
			continue
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if got == "" && d.Reason == "" {
			t.Errorf("%s: begins nothing without a reason", c.name)
		}
	}
}

func TestMergeRoll(t *testing.T) {
	leg := Leg{Kind: LegTalos, To: Versions{Talos: "v1.14.1"}}
	items := roster("c1::d w1:a:d w2:a:p w3:a:r w4:a:f w5:b:p w6:b:p")
	new := func(n UpgradeNode) UpgradeNode { return with(n, func(n *UpgradeNode) { n.Talos = "v1.14.1" }) }
	nodes := []UpgradeNode{
		new(plane("c1")), plane("c0"), new(worker("a", "w1")), worker("a", "w2"), worker("b", "w5"),
		worker("a", "w0"), new(worker("a", "w9")), worker("0", "w00"), new(worker("b", "w6")),
	}
	var got []string
	rapid.Check(t, func(t *rapid.T) {
		got = nil
		for _, i := range MergeRoll(items, leg, rapid.Permutation(nodes).Draw(t, "nodes"), UpgradeStrategy{}) {
			got = append(got, fmt.Sprintf("%s %s %d", i.Name, i.State, i.GroupSize))
		}
		want := []string{
			"c1 done 2", "c0 pending 2",
			"w1 done 4", "w2 pending 4", "w3 running 4", "w4 skipped 4", "w0 pending 4",
			"w5 pending 2", "w6 done 2", "w00 pending 1",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
	if items[4].State != RollFailed {
		t.Error("the argument was changed")
	}
}
