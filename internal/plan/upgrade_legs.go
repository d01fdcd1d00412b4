package plan

import (
	"fmt"
	"slices"
)

// NeverDowngraded is why a newer version is left alone.
const NeverDowngraded = "never downgraded automatically; ichor rollback NODE boots the other slot of a node"

// PlanLegs orders the steps from what a cluster runs to what it shall run, so
// that the pair of Talos and Kubernetes is supported after each: Kubernetes one
// minor at a time, Talos in as few steps as its rules allow, Talos before
// Kubernetes where both orders are supported, configs last. A field of to that is
// empty stays as it is. A change of the schematic is part of the last Talos leg.
//
// Refusals have the fields "talos" and "kubernetes" and come all at once; with
// any of them there are no legs. Without a difference there are neither. For
// nodes in different states, from is Lowest.
func PlanLegs(from, to Versions, configChanged bool, rules VersionRules) ([]Leg, []Refusal) {
	to = filled(from, to)
	refusals := slices.Concat(talosRefusals(from, to, rules), kubernetesRefusals(from, to, rules))
	if len(refusals) > 0 {
		return nil, refusals
	}
	var legs []Leg
	at := from
	if from.Talos != to.Talos || from.Kubernetes != to.Kubernetes {
		g := newGrid(from, to, rules)
		path, ok := g.path()
		if !ok {
			return nil, []Refusal{g.dead()}
		}
		for i, step := range path {
			next := Versions{Talos: g.talos[step.talos], Schematic: at.Schematic, Kubernetes: g.kubernetes[step.kubernetes]}
			kind := LegKubernetes
			if next.Talos != at.Talos {
				kind = LegTalos
				if next.Talos == to.Talos {
					next.Schematic = to.Schematic
				}
			}
			legs = append(legs, Leg{Kind: kind, From: at, To: next, Reason: g.reason(path[:i], step)})
			at = next
		}
	}
	if at.Schematic != to.Schematic {
		legs = schematicFirst(legs, from, to)
	}
	if configChanged {
		legs = append(legs, Leg{Kind: LegConfig, From: to, To: to, Reason: "configs are changed last, by nodes that run what they were written for"})
	}
	return legs, nil
}

// schematicFirst puts a leg to the same Talos before all others: it changes
// nothing about what is supported.
func schematicFirst(legs []Leg, from, to Versions) []Leg {
	next := from
	next.Schematic = to.Schematic
	for i := range legs {
		legs[i].From.Schematic, legs[i].To.Schematic = to.Schematic, to.Schematic
	}
	return slices.Insert(legs, 0, Leg{
		Kind: LegTalos, From: from, To: next,
		Reason: "another schematic of the same version is installed as an upgrade is",
	})
}

// filled takes what to does not name, or names in another way, from from.
func filled(from, to Versions) Versions {
	if c, ok := CompareVersions(from.Talos, to.Talos); to.Talos == "" || ok && c == 0 {
		to.Talos = from.Talos
	}
	if c, ok := CompareVersions(from.Kubernetes, to.Kubernetes); to.Kubernetes == "" || ok && c == 0 {
		to.Kubernetes = from.Kubernetes
	}
	if to.Schematic == "" {
		to.Schematic = from.Schematic
	}
	return to
}

func talosRefusals(from, to Versions, rules VersionRules) []Refusal {
	refuse := func(kind RefusalKind, format string, args ...any) []Refusal {
		return []Refusal{{Field: "talos", Kind: kind, Reason: fmt.Sprintf(format, args...)}}
	}
	if from.Talos == to.Talos {
		if _, known := rules.rule(to.Talos); !known && from.Kubernetes != to.Kubernetes {
			return refuse(RefusedUnknown, "Talos %s is unknown here, so which Kubernetes it runs is not known; use a release of Ichor that knows it", shown(to.Talos))
		}
		return nil
	}
	a, okFrom := parse(from.Talos)
	b, okTo := parse(to.Talos)
	switch {
	case !okTo:
		return refuse(RefusedInvalid, "%q is not a version; write it as v1.14.1", to.Talos)
	case !okFrom:
		return refuse(RefusedUnknown, "it is not known which Talos runs (%q)", from.Talos)
	case b.compare(a) < 0:
		return refuse(RefusedDowngrade, "Talos %s runs and %s is older: %s", from.Talos, to.Talos, NeverDowngraded)
	}
	var out []Refusal
	for _, v := range []string{from.Talos, to.Talos} {
		if _, known := rules.rule(v); !known {
			out = append(out, refuse(RefusedUnknown, "Talos %s is unknown here, which does not mean that it would not work; use a release of Ichor that knows it", v)...)
		}
	}
	return out
}

func kubernetesRefusals(from, to Versions, rules VersionRules) []Refusal {
	refuse := func(kind RefusalKind, format string, args ...any) []Refusal {
		return []Refusal{{Field: "kubernetes", Kind: kind, Reason: fmt.Sprintf(format, args...)}}
	}
	if from.Kubernetes == to.Kubernetes {
		if _, ok := parse(to.Kubernetes); !ok && from.Talos != to.Talos {
			return refuse(RefusedUnknown, "it is not known which Kubernetes runs (%q), so whether another Talos runs it is not either", to.Kubernetes)
		}
		return nil
	}
	a, okFrom := parse(from.Kubernetes)
	b, okTo := parse(to.Kubernetes)
	highest, bounded := parse(rules.KubernetesMax)
	switch {
	case !okTo:
		return refuse(RefusedInvalid, "%q is not a version; write it as v1.36.3", to.Kubernetes)
	case !okFrom:
		return refuse(RefusedUnknown, "it is not known which Kubernetes runs (%q)", from.Kubernetes)
	case b.compare(a) < 0:
		return refuse(RefusedDowngrade, "Kubernetes %s runs and %s is older: never downgraded, since objects are stored as the newer one writes them; go on to a newer patch, or restore a snapshot of etcd", from.Kubernetes, to.Kubernetes)
	case a.major != b.major || bounded && b.line().compare(highest.line()) > 0:
		return refuse(RefusedUnknown, "no path to Kubernetes %s is known here, which ends at %s; use a release of Ichor that knows it", b.line(), shown(rules.KubernetesMax))
	}
	var out []Refusal
	for m := a.minor + 1; m < b.minor; m++ {
		if line := (minorLine{a.major, m}); latest(rules.KubernetesReleases, line) == "" {
			out = append(out, refuse(RefusedUnknown, "Kubernetes goes one minor at a time, and no release of %s is known here; upgrade to a patch of %s that you choose first", line, line)...)
		}
	}
	return out
}

func shown(version string) string {
	if version == "" {
		return "(none)"
	}
	return version
}
