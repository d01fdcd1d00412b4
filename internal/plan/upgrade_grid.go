package plan

import (
	"fmt"
	"strings"
)

// grid holds every pair of a Talos and a Kubernetes on the way. Steps go to
// higher indices only; the first pair is what runs, the last what is wanted.
type grid struct {
	rules      VersionRules
	talos      []string
	kubernetes []string
}

type cell struct{ talos, kubernetes int }

// newGrid takes the latest known patches as the versions in between. The minor
// that runs has one too, since rules may ask for a patch before they let go on.
func newGrid(from, to Versions, rules VersionRules) grid {
	g := grid{rules: rules, talos: []string{from.Talos}, kubernetes: []string{from.Kubernetes}}
	if from.Talos != to.Talos {
		a, _ := parse(from.Talos)
		b, _ := parse(to.Talos)
		for m := a.minor; a.major == b.major && m < b.minor; m++ {
			v := latest(rules.TalosReleases, minorLine{a.major, m})
			if _, known := rules.rule(v); known && newer(v, from.Talos) {
				g.talos = append(g.talos, v)
			}
		}
		g.talos = append(g.talos, to.Talos)
	}
	if from.Kubernetes != to.Kubernetes {
		a, _ := parse(from.Kubernetes)
		b, _ := parse(to.Kubernetes)
		for m := a.minor + 1; m < b.minor; m++ {
			g.kubernetes = append(g.kubernetes, latest(rules.KubernetesReleases, minorLine{a.major, m}))
		}
		g.kubernetes = append(g.kubernetes, to.Kubernetes)
	}
	return g
}

func (g grid) runs(talos, kubernetes int) bool {
	ok, _ := g.rules.SupportsKubernetes(g.talos[talos], g.kubernetes[kubernetes])
	return ok
}

func (g grid) takes(from, to int) bool {
	ok, _ := g.rules.UpgradeableFrom(g.talos[to], g.talos[from])
	return ok
}

// next lists the steps from a pair: Talos before Kubernetes, the farthest first.
// A pair that is not supported may be left, never entered.
func (g grid) next(at cell) []cell {
	var out []cell
	for t := len(g.talos) - 1; t > at.talos; t-- {
		if g.takes(at.talos, t) && g.runs(t, at.kubernetes) {
			out = append(out, cell{t, at.kubernetes})
		}
	}
	if k := at.kubernetes + 1; k < len(g.kubernetes) && g.runs(at.talos, k) {
		out = append(out, cell{at.talos, k})
	}
	return out
}

func (g grid) last() cell { return cell{len(g.talos) - 1, len(g.kubernetes) - 1} }

// path has the fewest steps of Talos, each of which restarts every node; the
// number of Kubernetes' steps is given.
func (g grid) path() ([]cell, bool) {
	const never = 1 << 20
	steps := make([][]int, len(g.talos))
	best := make([][]cell, len(g.talos))
	for t := len(g.talos) - 1; t >= 0; t-- {
		steps[t], best[t] = make([]int, len(g.kubernetes)), make([]cell, len(g.kubernetes))
		for k := len(g.kubernetes) - 1; k >= 0; k-- {
			if (cell{t, k}) == g.last() {
				continue
			}
			steps[t][k] = never
			for _, n := range g.next(cell{t, k}) {
				if c := 1 + steps[n.talos][n.kubernetes]; c < steps[t][k] {
					steps[t][k], best[t][k] = c, n
				}
			}
		}
	}
	if steps[0][0] >= never {
		return nil, false
	}
	var out []cell
	for at := (cell{}); at != g.last(); {
		at = best[at.talos][at.kubernetes]
		out = append(out, at)
	}
	return out, true
}

// reason says why a step comes at its place.
func (g grid) reason(before []cell, step cell) string {
	at, last := cell{}, g.last()
	if len(before) > 0 {
		at = before[len(before)-1]
	}
	if step.talos == at.talos {
		var why []string
		if last.kubernetes > 1 {
			why = append(why, "Kubernetes goes one minor at a time")
		}
		if step.talos < last.talos && !g.runs(last.talos, at.kubernetes) {
			why = append(why, fmt.Sprintf("Talos %s does not run Kubernetes %s any more", g.talos[last.talos], g.kubernetes[at.kubernetes]))
		}
		return strings.Join(why, "; ")
	}
	if step.talos < last.talos {
		if !g.takes(at.talos, last.talos) {
			rule, _ := g.rules.rule(g.talos[last.talos])
			return fmt.Sprintf("Talos %s takes nodes from %s on, so %s goes through %s, the latest known patch of its minor", g.talos[last.talos], rule.HostFrom, g.talos[at.talos], g.talos[step.talos])
		}
		return fmt.Sprintf("Talos %s does not run Kubernetes %s, and %s does not run what it needs", g.talos[last.talos], g.kubernetes[at.kubernetes], g.talos[at.talos])
	}
	for k := at.kubernetes + 1; k <= last.kubernetes; k++ {
		if !g.runs(at.talos, k) {
			return fmt.Sprintf("Talos %s does not run Kubernetes %s yet", g.talos[at.talos], g.kubernetes[k])
		}
	}
	if step.kubernetes < last.kubernetes {
		return "Talos before Kubernetes, where both orders are supported"
	}
	return ""
}

// dead says why there is no path.
func (g grid) dead() Refusal {
	last := g.last()
	field := "talos"
	if last.kubernetes > 0 {
		field = "kubernetes"
	}
	if !g.runs(last.talos, last.kubernetes) {
		return Refusal{Field: field, Kind: RefusedUnsupported, Reason: fmt.Sprintf("Talos %s does not run Kubernetes %s, only %s", g.talos[last.talos], g.kubernetes[last.kubernetes], g.span(last.talos))}
	}
	if r, broken := g.brokenTalos(); broken {
		return r
	}
	at := g.farthest()
	var why []string
	for t := at.talos + 1; t <= last.talos; t++ {
		if !g.takes(at.talos, t) {
			rule, _ := g.rules.rule(g.talos[t])
			why = append(why, fmt.Sprintf("Talos %s takes nodes from %s on", g.talos[t], rule.HostFrom))
		} else if !g.runs(t, at.kubernetes) {
			why = append(why, fmt.Sprintf("Talos %s runs Kubernetes %s", g.talos[t], g.span(t)))
		}
	}
	if k := at.kubernetes + 1; k <= last.kubernetes && !g.runs(at.talos, k) {
		why = append(why, fmt.Sprintf("the next Kubernetes is %s, and Talos %s runs %s", g.kubernetes[k], g.talos[at.talos], g.span(at.talos)))
	}
	return Refusal{Field: field, Kind: RefusedUnsupported, Reason: fmt.Sprintf("no supported step leads on from Talos %s with Kubernetes %s: %s", g.talos[at.talos], g.kubernetes[at.kubernetes], strings.Join(why, "; "))}
}

// brokenTalos looks for a way of Talos alone, whatever Kubernetes runs.
func (g grid) brokenTalos() (Refusal, bool) {
	reached := make([]bool, len(g.talos))
	reached[0] = true
	far := 0
	for t := range g.talos {
		for from := range t {
			reached[t] = reached[t] || reached[from] && g.takes(from, t)
		}
		if reached[t] {
			far = t
		}
	}
	last := len(g.talos) - 1
	if reached[last] {
		return Refusal{}, false
	}
	rule, _ := g.rules.rule(g.talos[last])
	r := Refusal{Field: "talos", Kind: RefusedUnsupported, Reason: fmt.Sprintf("Talos %s takes nodes from %s on, and no allowed step leads there from %s", g.talos[last], rule.HostFrom, g.talos[far])}
	a, _ := parse(g.talos[far])
	b, _ := parse(g.talos[last])
	for m := a.minor + 1; m < b.minor; m++ {
		if line := (minorLine{a.major, m}); latest(g.rules.TalosReleases, line) == "" {
			r.Kind = RefusedUnknown
			r.Reason += fmt.Sprintf("; no release of %s is known here: upgrade to one that you choose first", line)
			break
		}
	}
	return r, true
}

// farthest is the pair nearest to the last that can be reached, by the number of
// steps' indices and then by Talos.
func (g grid) farthest() cell {
	seen := make([][]bool, len(g.talos))
	for t := range seen {
		seen[t] = make([]bool, len(g.kubernetes))
	}
	seen[0][0] = true
	best := cell{}
	for t := range g.talos {
		for k := range g.kubernetes {
			if !seen[t][k] {
				continue
			}
			if t+k >= best.talos+best.kubernetes {
				best = cell{t, k}
			}
			for _, n := range g.next(cell{t, k}) {
				seen[n.talos][n.kubernetes] = true
			}
		}
	}
	return best
}

// span is which Kubernetes a Talos runs, for people.
func (g grid) span(talos int) string {
	rule, _ := g.rules.rule(g.talos[talos])
	return "from " + shown(rule.KubernetesFrom) + " to below " + shown(rule.KubernetesBelow)
}
