package plan

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cluster"
)

// fleets draws nodes in mixed states at or between two states.
func fleets(from, to Versions) *rapid.Generator[[]UpgradeNode] {
	return rapid.Custom(func(t *rapid.T) []UpgradeNode {
		pick := func(a, b, label string) string { return rapid.SampledFrom([]string{a, b}).Draw(t, label) }
		var out []UpgradeNode
		add := func(group string, role cluster.Role, n int) {
			for i := range n {
				u := UpgradeNode{
					Machine: fmt.Sprintf("m-%s-%d", group, i), Name: fmt.Sprintf("demo-%s-%d", group, i), Group: group, Role: role,
					Talos: pick(from.Talos, to.Talos, "talos"), Schematic: pick(from.Schematic, to.Schematic, "schematic"),
					Kubelet:      pick(from.Kubernetes, to.Kubernetes, "kubelet"),
					ConfigSHA256: pick("a", "b", "have"), WantSHA256: "b", Ready: true, NodeReady: true,
				}
				if role == cluster.RoleControlPlane {
					u.APIServer = pick(from.Kubernetes, to.Kubernetes, "apiserver")
					u.ControllerManager = pick(from.Kubernetes, to.Kubernetes, "controller-manager")
					u.Scheduler = pick(from.Kubernetes, to.Kubernetes, "scheduler")
				}
				out = append(out, u)
			}
		}
		add("cp", cluster.RoleControlPlane, rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "planes"))
		if rapid.Bool().Draw(t, "led") {
			out[rapid.IntRange(0, len(out)-1).Draw(t, "leader")].Leader = true
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "groups") {
			add(fmt.Sprintf("g%d", i), cluster.RoleWorker, rapid.IntRange(1, 6).Draw(t, "size"))
		}
		return out
	})
}

// reach is what a leg makes of a node that needs it.
func reach(n UpgradeNode, l Leg) UpgradeNode {
	if !Behind(n, l) {
		return n
	}
	switch l.Kind {
	case LegTalos:
		n.Talos, n.Schematic = l.To.Talos, l.To.Schematic
	case LegKubernetes:
		n.Kubelet = l.To.Kubernetes
		if n.Role == cluster.RoleControlPlane {
			n.APIServer, n.ControllerManager, n.Scheduler = l.To.Kubernetes, l.To.Kubernetes, l.To.Kubernetes
		}
	case LegConfig:
		n.ConfigSHA256 = n.WantSHA256
	}
	return n
}

// The plan does not depend on the order of the nodes; carrying it out, wholly or
// up to any node, leads to a state from where the plan is what is left; and what
// is reached needs nothing. No node ever runs a pair that is not supported
// unless it did before.
func TestMakePlanCarriedOut(t *testing.T) {
	real := 0
	rapid.Check(t, func(t *rapid.T) {
		rules := rulesNow()
		from := Versions{
			Talos:     rapid.SampledFrom([]string{"v1.11.2", "v1.12.7", "v1.13.0", "v1.13.9", "v1.14.1"}).Draw(t, "talos"),
			Schematic: "s1", Kubernetes: rapid.SampledFrom([]string{"v1.31.1", "v1.32.0", "v1.33.1", "v1.34.2"}).Draw(t, "kubernetes"),
		}
		to := Versions{
			Talos:      rapid.SampledFrom([]string{"v1.13.9", "v1.14.1"}).Draw(t, "to talos"),
			Schematic:  rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "to schematic"),
			Kubernetes: rapid.SampledFrom([]string{"v1.34.2", "v1.35.4", "v1.36.3"}).Draw(t, "to kubernetes"),
		}
		nodes := fleets(from, to).Draw(t, "nodes")
		config := rapid.Bool().Draw(t, "config")
		s := UpgradeStrategy{MaxUnavailable: rapid.SampledFrom([]string{"", "2", "50%"}).Draw(t, "max"), Canary: rapid.Bool().Draw(t, "canary")}
		p := MakePlan(from, to, nodes, config, rules, s)
		if diff := cmp.Diff(p, MakePlan(from, to, rapid.Permutation(nodes).Draw(t, "shuffled"), config, rules, s)); diff != "" {
			t.Fatalf("order matters: %s", diff)
		}
		if len(p.Refusals) > 0 {
			return
		}
		real++
		names := map[string]bool{}
		for _, name := range p.Unchanged {
			names[name] = true
		}
		stopAt := rapid.IntRange(0, 40).Draw(t, "stop")
		steps := 0
		left := slices.Clone(nodes)
		var resumed *UpgradePlan
		for i, l := range p.Legs {
			for _, item := range l.Nodes {
				if names[item.Name] {
					t.Fatalf("%s is called unchanged and is in leg %d", item.Name, i)
				}
				if steps == stopAt {
					r := MakePlan(from, to, left, config, rules, s)
					resumed = &r
				}
				steps++
				at := slices.IndexFunc(left, func(n UpgradeNode) bool { return n.Machine == item.Machine })
				before := left[at]
				left[at] = reach(before, l.Leg)
				if runs(t, rules, before.Talos, before.Kubelet) && !runs(t, rules, left[at].Talos, left[at].Kubelet) {
					t.Fatalf("leg %d leaves %s with Talos %s and Kubernetes %s", i, item.Name, left[at].Talos, left[at].Kubelet)
				}
			}
			if rest := RollOrder(l.Leg, left, s); len(rest) > 0 {
				t.Fatalf("leg %d leaves %v behind", i, rest)
			}
		}
		if rest := MakePlan(to, to, left, config, rules, s); len(rest.Legs)+len(rest.Refusals) > 0 || len(rest.Unchanged) != len(nodes) {
			t.Fatalf("what is reached needs %+v", rest)
		}
		if resumed == nil {
			return
		}
		if len(resumed.Refusals) > 0 {
			t.Fatalf("half-way it is refused: %v", resumed.Refusals)
		}
		for _, l := range resumed.Legs {
			for _, item := range l.Nodes {
				if !slices.ContainsFunc(p.Legs, func(o LegPlan) bool {
					return o.Kind == l.Kind && o.To == l.To && slices.ContainsFunc(o.Nodes, func(i RollItem) bool { return i.Machine == item.Machine })
				}) {
					t.Fatalf("half-way %s needs %s, which it did not before", item.Name, line(l.Leg))
				}
			}
		}
	})
	if real == 0 {
		t.Fatal("every plan was refused")
	}
}
