package plan

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func summary(p UpgradePlan) []string {
	var out []string
	for _, l := range p.Legs {
		var names []string
		for _, i := range l.Nodes {
			names = append(names, i.Name)
		}
		out = append(out, line(l.Leg)+": "+strings.Join(names, " "))
	}
	for _, r := range p.Refusals {
		out = append(out, "refused "+r.Field+" "+string(r.Kind))
	}
	if len(p.Unchanged) > 0 {
		out = append(out, "unchanged "+strings.Join(p.Unchanged, " "))
	}
	return out
}

func TestMakePlan(t *testing.T) {
	from, to := Versions{"v1.13.9", "s1", "v1.35.4"}, Versions{"v1.14.1", "s2", "v1.36.3"}
	moved := func(n UpgradeNode, v Versions) UpgradeNode {
		return with(n, func(n *UpgradeNode) {
			n.Talos, n.Schematic, n.Kubelet = v.Talos, v.Schematic, v.Kubernetes
			n.APIServer, n.ControllerManager, n.Scheduler = v.Kubernetes, v.Kubernetes, v.Kubernetes
		})
	}
	half := Versions{"v1.14.1", "s2", "v1.35.4"}
	for _, c := range []struct {
		name     string
		from, to Versions
		nodes    []UpgradeNode
		config   bool
		want     []string
	}{
		{
			name: "from the beginning", from: from, to: to,
			nodes: []UpgradeNode{worker("w", "w1"), plane("c2"), with(plane("c1"), func(n *UpgradeNode) { n.Leader = true }), moved(worker("w", "w0"), to)},
			want:  []string{"talos v1.14.1 v1.35.4 s2: c2 c1 w1", "kubernetes v1.14.1 v1.36.3 s2: c2 c1 w1", "unchanged w0"},
		},
		{
			name: "continues with what is left", from: from, to: to,
			nodes: []UpgradeNode{moved(plane("c1"), half), plane("c2"), worker("w", "w1")},
			want:  []string{"talos v1.14.1 v1.35.4 s2: c2 w1", "kubernetes v1.14.1 v1.36.3 s2: c1 c2 w1"},
		},
		{
			name: "an autoscaled node that was born old", from: to, to: to,
			nodes: []UpgradeNode{moved(plane("c1"), to), worker("w", "w1")},
			want:  []string{"talos v1.14.1 v1.35.4 s2: w1", "kubernetes v1.14.1 v1.36.3 s2: w1", "unchanged c1"},
		},
		{
			name: "what is reached", from: to, to: to,
			nodes: []UpgradeNode{moved(plane("c1"), to), moved(worker("w", "w1"), to)},
			want:  []string{"unchanged c1 w1"},
		},
		{
			name: "the nodes are there, the manifests are not", from: from, to: to, config: true,
			nodes: []UpgradeNode{moved(plane("c1"), to), with(moved(worker("w", "w1"), to), func(n *UpgradeNode) { n.WantSHA256 = "b" })},
			want:  []string{"kubernetes v1.14.1 v1.36.3 s2: ", "config v1.14.1 v1.36.3 s2: w1", "unchanged c1"},
		},
		{
			name: "configs that are there", from: to, to: to, config: true,
			nodes: []UpgradeNode{moved(plane("c1"), to)},
			want:  []string{"unchanged c1"},
		},
		{
			name: "only Kubernetes is asked for: schematics stay as they are", from: Versions{"v1.14.1", "s2", "v1.35.4"}, to: Versions{Kubernetes: "v1.36.3"},
			nodes: []UpgradeNode{moved(plane("c1"), half), moved(worker("w", "w1"), Versions{"v1.14.1", "s1", "v1.35.4"})},
			want:  []string{"kubernetes v1.14.1 v1.36.3 s2: c1 w1"},
		},
		{
			name: "no nodes yet", from: from, to: to,
			want: []string{"kubernetes v1.14.1 v1.36.3 s2: "},
		},
		{
			name: "nodes that are ahead, silent or unknown, all at once", from: from, to: to,
			nodes: []UpgradeNode{
				plane("c1"), moved(plane("c2"), Versions{"v1.15.0", "s1", "v1.37.0"}),
				with(worker("w", "w1"), func(n *UpgradeNode) { n.Problem = "no route" }),
				with(worker("w", "w2"), func(n *UpgradeNode) { n.Kubelet, n.Talos = "", "" }),
			},
			want: []string{
				"talos v1.14.1 v1.35.4 s2: c1 w1 w2", "kubernetes v1.14.1 v1.36.3 s2: c1 w1 w2",
				"refused c2 downgrade", "refused c2 downgrade",
				"refused w1 unknown", "refused w2 unknown", "refused w2 unknown", "unchanged c2",
			},
		},
		{
			name: "a downgrade of all is said once", from: to, to: from,
			nodes: []UpgradeNode{moved(worker("w", "w1"), to)},
			want:  []string{"refused talos downgrade", "refused kubernetes downgrade", "unchanged w1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := MakePlan(c.from, c.to, c.nodes, c.config, rulesNow(), UpgradeStrategy{})
			if diff := cmp.Diff(c.want, summary(got)); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// The JSON of a plan is read by others.
func TestUpgradePlanJSON(t *testing.T) {
	p := MakePlan(Versions{"v1.13.9", "s1", "v1.35.4"}, Versions{Talos: "v1.14.1"}, []UpgradeNode{plane("c1")}, false, rulesNow(), UpgradeStrategy{})
	p.Refusals = []Refusal{{Field: "w1", Reason: "no", Kind: RefusedUnknown}}
	got, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"legs":[{"kind":"talos","from":{"talos":"v1.13.9","schematic":"s1","kubernetes":"v1.35.4"},` +
		`"to":{"talos":"v1.14.1","schematic":"s1","kubernetes":"v1.35.4"},` +
		`"nodes":[{"machine":"c1","name":"c1","group":"cp","role":"controlplane","state":"pending","groupSize":1}],"rounds":1}],` +
		`"refusals":[{"field":"w1","reason":"no","kind":"unknown"}]}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Fatal(diff)
	}
}
