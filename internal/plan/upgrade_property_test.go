package plan

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// triple reads a release without the code under test.
func triple(t *rapid.T, s string) [3]int {
	var v [3]int
	if s[0] != 'v' {
		s = "v" + s
	}
	if _, err := fmt.Sscanf(s, "v%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return v
}

func ruleOf(t *rapid.T, rules VersionRules, talos string) *TalosRule {
	v := triple(t, talos)
	for i, r := range rules.Talos {
		if r.Minor == fmt.Sprintf("%d.%d", v[0], v[1]) {
			return &rules.Talos[i]
		}
	}
	return nil
}

func between(t *rapid.T, version, from, below string) bool {
	v, a, b := triple(t, version), triple(t, from), triple(t, below)
	return slices.Compare(v[:], a[:]) >= 0 && slices.Compare(v[:], b[:]) < 0
}

func runs(t *rapid.T, rules VersionRules, talos, kubernetes string) bool {
	r := ruleOf(t, rules, talos)
	return r != nil && between(t, kubernetes, r.KubernetesFrom, r.KubernetesBelow)
}

func takes(t *rapid.T, rules VersionRules, talos, host string) bool {
	r := ruleOf(t, rules, talos)
	return r != nil && between(t, host, r.HostFrom, r.HostBelow)
}

// worlds draws rules that are like the real ones, or stranger: narrow and
// shifted ranges, patches in bounds, minors and releases that nobody knows.
func worlds() *rapid.Generator[VersionRules] {
	return rapid.Custom(func(t *rapid.T) VersionRules {
		var v VersionRules
		shift := rapid.IntRange(18, 20).Draw(t, "shift")
		for m := 8; m <= 14; m++ {
			if rapid.IntRange(0, 19).Draw(t, "rule") < 19 {
				from := m + shift + rapid.IntRange(-1, 2).Draw(t, "from")
				host := m - rapid.IntRange(1, 3).Draw(t, "skip")
				v.Talos = append(v.Talos, TalosRule{
					Minor:          fmt.Sprintf("1.%d", m),
					KubernetesFrom: fmt.Sprintf("1.%d.%d", from, rapid.SampledFrom([]int{0, 0, 0, 2}).Draw(t, "patch")), KubernetesBelow: fmt.Sprintf("1.%d.99", from+rapid.IntRange(1, 5).Draw(t, "width")),
					HostFrom: fmt.Sprintf("1.%d.%d", host, rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "patch")), HostBelow: fmt.Sprintf("1.%d.0", m+2),
				})
			}
			for range (11 - rapid.IntRange(0, 9).Draw(t, "releases")) / 3 {
				v.TalosReleases = append(v.TalosReleases, fmt.Sprintf("v1.%d.%d", m, rapid.IntRange(0, 11).Draw(t, "patch")))
			}
		}
		for m := 26; m <= 40; m++ {
			for range (9 - rapid.IntRange(0, 8).Draw(t, "releases")) / 2 {
				v.KubernetesReleases = append(v.KubernetesReleases, fmt.Sprintf("v1.%d.%d", m, rapid.IntRange(0, 11).Draw(t, "patch")))
			}
		}
		if rapid.Bool().Draw(t, "bounded") {
			v.KubernetesMax = fmt.Sprintf("1.%d", rapid.IntRange(30, 40).Draw(t, "max"))
		}
		return v
	})
}

func schematics() *rapid.Generator[string] { return rapid.SampledFrom([]string{"s1", "s2"}) }

func states() *rapid.Generator[Versions] {
	return rapid.Custom(func(t *rapid.T) Versions {
		m := rapid.IntRange(8, 14).Draw(t, "minor")
		return Versions{
			Talos:      fmt.Sprintf("v1.%d.%d", m, rapid.IntRange(0, 12).Draw(t, "patch")),
			Kubernetes: fmt.Sprintf("v1.%d.%d", m+rapid.IntRange(18, 22).Draw(t, "kubernetes"), rapid.IntRange(0, 12).Draw(t, "patch")),
			Schematic:  schematics().Draw(t, "schematic"),
		}
	})
}

// wanted draws what may be asked for in a state: mostly something newer.
func wanted(from Versions) *rapid.Generator[Versions] {
	return rapid.Custom(func(t *rapid.T) Versions {
		// Small numbers are drawn more often, so what is of interest comes first.
		higher := func(version, label string) string {
			v := triple(t, version)
			if n := rapid.SampledFrom([]int{1, 0, 2, 3, 4, 5, -1}).Draw(t, label); n != 0 {
				return fmt.Sprintf("v1.%d.%d", min(v[1]+n, 40), rapid.IntRange(0, 12).Draw(t, "patch"))
			}
			return version
		}
		return Versions{
			Talos: higher(from.Talos, "talos"), Kubernetes: higher(from.Kubernetes, "kubernetes"),
			Schematic: schematics().Draw(t, "schematic"),
		}
	})
}

// leastTalosSteps searches all orders without the code under test; -1 when there
// is none.
func leastTalosSteps(t *rapid.T, from, to Versions, rules VersionRules) int {
	best := func(releases []string, major, minor int) string {
		found := ""
		for _, r := range releases {
			if v := triple(t, r); v[0] == major && v[1] == minor {
				if w := [3]int{}; found == "" || func() bool { w = triple(t, found); return slices.Compare(v[:], w[:]) > 0 }() {
					found = r
				}
			}
		}
		return found
	}
	a, b := triple(t, from.Talos), triple(t, to.Talos)
	var between []string
	for m := a[1]; m < b[1]; m++ {
		if v := best(rules.TalosReleases, 1, m); v != "" && ruleOf(t, rules, v) != nil {
			between = append(between, v)
		}
	}
	var search func(at Versions) int
	known := map[Versions]int{}
	search = func(at Versions) int {
		if at.Talos == to.Talos && at.Kubernetes == to.Kubernetes {
			return 0
		}
		if n, ok := known[at]; ok {
			return n
		}
		least := -1
		try := func(next Versions, cost int) {
			if !runs(t, rules, next.Talos, next.Kubernetes) {
				return
			}
			if n := search(next); n >= 0 && (least < 0 || n+cost < least) {
				least = n + cost
			}
		}
		v, k, end := triple(t, at.Talos), triple(t, at.Kubernetes), triple(t, to.Kubernetes)
		for _, next := range append(slices.Clone(between), to.Talos) {
			if w := triple(t, next); slices.Compare(w[:], v[:]) > 0 && takes(t, rules, next, at.Talos) {
				try(Versions{Talos: next, Kubernetes: at.Kubernetes}, 1)
			}
		}
		switch {
		case at.Kubernetes == to.Kubernetes:
		case end[1]-k[1] <= 1:
			try(Versions{Talos: at.Talos, Kubernetes: to.Kubernetes}, 0)
		default:
			if next := best(rules.KubernetesReleases, 1, k[1]+1); next != "" {
				try(Versions{Talos: at.Talos, Kubernetes: next}, 0)
			}
		}
		known[at] = least
		return least
	}
	return search(Versions{Talos: from.Talos, Kubernetes: from.Kubernetes})
}

// Every plan leads from what runs to what is wanted by steps of which each is
// allowed and ends in a supported pair; it takes no more restarts than needed,
// and there is a plan whenever there is a way.
func TestPlanLegsSupported(t *testing.T) {
	planned := 0
	rapid.Check(t, func(t *rapid.T) {
		rules := worlds().Draw(t, "rules")
		for range 20 {
			if checkLegs(t, rules) {
				planned++
			}
		}
	})
	if planned == 0 {
		t.Fatal("no plan was made at all")
	}
}

// checkLegs tells whether there was a plan that changes a version.
func checkLegs(t *rapid.T, rules VersionRules) bool {
	from := states().Draw(t, "from")
	to := wanted(from).Draw(t, "to")
	config := rapid.Bool().Draw(t, "config")
	legs, refusals := PlanLegs(from, to, config, rules)
	if again, refused := PlanLegs(from, to, config, rules); !cmp.Equal(legs, again) || !cmp.Equal(refusals, refused) {
		t.Fatal("the same question has two answers")
	}
	a, b := triple(t, from.Talos), triple(t, to.Talos)
	c, d := triple(t, from.Kubernetes), triple(t, to.Kubernetes)
	backwards := slices.Compare(a[:], b[:]) > 0 || slices.Compare(c[:], d[:]) > 0
	if len(refusals) > 0 {
		if len(legs) > 0 {
			t.Fatal("legs in spite of refusals")
		}
		for _, r := range refusals {
			if r.Reason == "" || r.Kind == "" || r.Field != "talos" && r.Field != "kubernetes" {
				t.Fatalf("refused without a reason: %+v", r)
			}
		}
		unknown := slices.ContainsFunc(refusals, func(r Refusal) bool { return r.Kind == RefusedUnknown })
		if !backwards && !unknown && leastTalosSteps(t, from, to, rules) >= 0 {
			t.Fatalf("refused although there is a way: %v", refusals)
		}
		return false
	}
	if backwards {
		t.Fatalf("goes back: %v", lines(legs))
	}
	at, talosLegs, schematics := from, 0, 0
	for i, l := range legs {
		if l.From != at {
			t.Fatalf("leg %d begins at %v, not %v", i, l.From, at)
		}
		v, k, w, n := triple(t, at.Talos), triple(t, at.Kubernetes), triple(t, l.To.Talos), triple(t, l.To.Kubernetes)
		if at.Schematic != l.To.Schematic {
			schematics++
		}
		switch l.Kind {
		case LegTalos:
			if v != w {
				talosLegs++
				if slices.Compare(w[:], v[:]) < 0 || !takes(t, rules, l.To.Talos, at.Talos) {
					t.Fatalf("%s does not take %s", l.To.Talos, at.Talos)
				}
			} else if at.Schematic == l.To.Schematic {
				t.Fatalf("leg %d changes nothing", i)
			}
			if k != n {
				t.Fatalf("leg %d changes two things", i)
			}
		case LegKubernetes:
			if v != w || at.Schematic != l.To.Schematic {
				t.Fatalf("leg %d changes two things", i)
			}
			if slices.Compare(n[:], k[:]) <= 0 || n[0] != k[0] || n[1] > k[1]+1 {
				t.Fatalf("from %s to %s in one step", at.Kubernetes, l.To.Kubernetes)
			}
		case LegConfig:
			if i != len(legs)-1 || l.To != at {
				t.Fatal("configs are not the last, or change versions")
			}
		}
		if (v != w || k != n) && !runs(t, rules, l.To.Talos, l.To.Kubernetes) {
			t.Fatalf("leg %d ends at Talos %s with Kubernetes %s, which is not supported", i, l.To.Talos, l.To.Kubernetes)
		}
		at = l.To
	}
	if at != to {
		t.Fatalf("ends at %v instead of %v", at, to)
	}
	if schematics > 1 {
		t.Fatal("the schematic changes more than once")
	}
	if legs, refusals := PlanLegs(to, to, false, rules); len(legs)+len(refusals) > 0 {
		t.Fatalf("what is reached needs %v, %v", legs, refusals)
	}
	if from.Talos == to.Talos && from.Kubernetes == to.Kubernetes {
		return false
	}
	if least := leastTalosSteps(t, from, to, rules); talosLegs != least {
		t.Fatalf("%d steps of Talos where %d do", talosLegs, least)
	}
	return true
}
