package plan

import (
	"fmt"
	"slices"
	"strings"
)

// UpgradePlan is what an upgrade would do, for people and programs.
type UpgradePlan struct {
	Legs []LegPlan `json:"legs,omitempty"`
	// Refusals are why it is not begun, all of them; legs are shown as far as
	// they are known.
	Refusals []Refusal `json:"refusals,omitempty"`
	// Unchanged are the names of nodes that no leg touches, sorted.
	Unchanged []string `json:"unchanged,omitempty"`
}

// LegPlan is a leg and the nodes that need it, in order.
type LegPlan struct {
	Leg
	Nodes []RollItem `json:"nodes,omitempty"`
	// Rounds is how many nodes at least follow one after another: the length of
	// the leg in units of the time that one node takes.
	Rounds int `json:"rounds"`
}

// MakePlan plans an upgrade of nodes as they were last seen; from is what the
// record says about nodes that do not. When the state that it leads to is
// reached, its plan is empty. Steps that no node needs are left out, save the
// last of Kubernetes while the record is behind: beside the nodes there are
// manifests.
func MakePlan(from, to Versions, nodes []UpgradeNode, configChanged bool, rules VersionRules, s UpgradeStrategy) UpgradePlan {
	at := lowestOf(from, to, nodes)
	to = filled(at, to)
	legs, refusals := PlanLegs(at, to, configChanged, rules)
	if len(refusals) == 0 {
		legs = withManifests(legs, from.Kubernetes, to)
	}
	p := UpgradePlan{Refusals: slices.Concat(refusals, nodeRefusals(nodes, at, to))}
	touched := make([]bool, len(nodes))
	for i, leg := range legs {
		items := RollOrder(leg, nodes, s)
		manifests := leg.Kind == LegKubernetes && leg.To.Kubernetes == to.Kubernetes
		if len(items) == 0 && !manifests {
			continue
		}
		for j, n := range nodes {
			touched[j] = touched[j] || Behind(n, legs[i])
		}
		p.Legs = append(p.Legs, LegPlan{Leg: leg, Nodes: items, Rounds: Rounds(items, s)})
	}
	for j, n := range nodes {
		if !touched[j] {
			p.Unchanged = append(p.Unchanged, n.Name)
		}
	}
	slices.Sort(p.Unchanged)
	return p
}

// lowestOf trusts nodes before the record.
func lowestOf(from, to Versions, nodes []UpgradeNode) Versions {
	seen := Lowest(nodes, to.Schematic)
	if seen.Talos != "" {
		from.Talos = seen.Talos
	}
	if seen.Talos != "" && to.Schematic != "" {
		from.Schematic = seen.Schematic
	}
	if seen.Kubernetes != "" {
		from.Kubernetes = seen.Kubernetes
	}
	return from
}

// withManifests adds the leg of an upgrade of Kubernetes that reached all nodes
// but not the record, before configs.
func withManifests(legs []Leg, record string, to Versions) []Leg {
	if !newer(to.Kubernetes, record) || slices.ContainsFunc(legs, func(l Leg) bool { return l.Kind == LegKubernetes }) {
		return legs
	}
	before := to
	before.Kubernetes = record
	at := len(legs)
	if at > 0 && legs[at-1].Kind == LegConfig {
		at--
	}
	return slices.Insert(legs, at, Leg{
		Kind: LegKubernetes, From: before, To: to,
		Reason: "the nodes run it, and the bootstrap manifests are not known to",
	})
}

// nodeRefusals are about single nodes, in the order of the roll. Where all of
// them are ahead, at is too, and PlanLegs has said so once.
func nodeRefusals(nodes []UpgradeNode, at, to Versions) []Refusal {
	sorted := slices.Clone(nodes)
	slices.SortFunc(sorted, inOrder)
	var out []Refusal
	add := func(n UpgradeNode, kind RefusalKind, format string, args ...any) {
		out = append(out, Refusal{Field: n.Name, Kind: kind, Reason: fmt.Sprintf(format, args...)})
	}
	for _, n := range sorted {
		if n.Problem != "" {
			add(n, RefusedUnknown, "nothing is known of it: %s", n.Problem)
			continue
		}
		if _, ok := parse(n.Talos); !ok && to.Talos != "" {
			add(n, RefusedUnknown, "it is not known which Talos it runs (%q)", n.Talos)
		}
		if newer(n.Talos, to.Talos) && !newer(at.Talos, to.Talos) {
			add(n, RefusedDowngrade, "it runs Talos %s and %s is older: %s", n.Talos, to.Talos, NeverDowngraded)
		}
		var unknown, ahead []string
		for _, name := range Components(n.Role) {
			v := n.component(name)
			if _, ok := parse(v); !ok && to.Kubernetes != "" {
				unknown = append(unknown, name)
			}
			if newer(v, to.Kubernetes) && !newer(at.Kubernetes, to.Kubernetes) {
				ahead = append(ahead, name+" "+v)
			}
		}
		if len(unknown) > 0 {
			add(n, RefusedUnknown, "it is not known which version it runs of %s", strings.Join(unknown, ", "))
		}
		if len(ahead) > 0 {
			add(n, RefusedDowngrade, "it runs %s and %s is older: never downgraded", strings.Join(ahead, ", "), to.Kubernetes)
		}
	}
	return out
}

// Rounds is how many nodes of a roll at least follow one after another, when
// none fails: control planes and the canary alone, workers as many at once as
// their groups may.
func Rounds(items []RollItem, s UpgradeStrategy) int {
	planes, workers := byRole(items)
	n := len(planes)
	for i, group := range groups(workers) {
		left := len(group)
		limit := MaxUnavailable(s, group[0].Group, max(group[0].GroupSize, left))
		if i == 0 && s.Canary {
			n, left = n+1, left-1
		}
		n += (left + limit - 1) / limit
	}
	return n
}
