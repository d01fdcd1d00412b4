package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// release is a semantic version. Build metadata, and the flavours of kubelet
// images that Talos has ("-slim", "-fat"), are left out: they do not order.
type release struct {
	major, minor, patch int
	pre                 string
}

// minorLine is a minor of one major: what rules are about.
type minorLine struct{ major, minor int }

// parse reads "v1.14.1", "1.14.1-beta.0" and "1.14"; a patch that is left out is 0.
func parse(s string) (release, bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "+")
	core, pre, isPre := strings.Cut(s, "-")
	if pre == "slim" || pre == "fat" {
		pre, isPre = "", false
	}
	pre = strings.TrimSuffix(strings.TrimSuffix(pre, "-slim"), "-fat")
	parts := strings.Split(core, ".")
	if len(parts) < 2 || len(parts) > 3 || isPre && pre == "" {
		return release{}, false
	}
	var n [3]int
	for i, p := range parts {
		v, ok := number(p)
		if !ok {
			return release{}, false
		}
		n[i] = v
	}
	return release{major: n[0], minor: n[1], patch: n[2], pre: pre}, true
}

// number reads digits alone, without a sign; nine of them fit any int.
func number(s string) (int, bool) {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	v, err := strconv.Atoi(s)
	return v, err == nil
}

func (r release) String() string {
	s := fmt.Sprintf("v%d.%d.%d", r.major, r.minor, r.patch)
	if r.pre != "" {
		s += "-" + r.pre
	}
	return s
}

func (r release) line() minorLine { return minorLine{r.major, r.minor} }

// core compares without pre-releases, as the bounds of Talos' rules are meant:
// v1.14.0-beta.0 is a Talos 1.14.
func (r release) core(o release) int {
	return cmp.Or(cmp.Compare(r.major, o.major), cmp.Compare(r.minor, o.minor), cmp.Compare(r.patch, o.patch))
}

func (r release) compare(o release) int {
	if c := r.core(o); c != 0 {
		return c
	}
	switch {
	case r.pre == o.pre:
		return 0
	case r.pre == "":
		return 1
	case o.pre == "":
		return -1
	}
	return slices.CompareFunc(strings.Split(r.pre, "."), strings.Split(o.pre, "."), identifiers)
}

// identifiers orders parts of pre-releases: numbers by value and before words.
func identifiers(a, b string) int {
	x, xn := number(a)
	y, yn := number(b)
	switch {
	case xn && yn:
		return cmp.Compare(x, y)
	case xn:
		return -1
	case yn:
		return 1
	}
	return strings.Compare(a, b)
}

func (l minorLine) compare(o minorLine) int {
	return cmp.Or(cmp.Compare(l.major, o.major), cmp.Compare(l.minor, o.minor))
}

func (l minorLine) String() string { return strconv.Itoa(l.major) + "." + strconv.Itoa(l.minor) }

// CompareVersions orders two semantic versions, with or without "v"; false means
// that one of them is none.
func CompareVersions(a, b string) (int, bool) {
	x, okX := parse(a)
	y, okY := parse(b)
	if !okX || !okY {
		return 0, false
	}
	return x.compare(y), true
}

// older says that version is below want, or is not known: an unknown version is
// never taken for one that was reached.
func older(version, want string) bool {
	c, ok := CompareVersions(version, want)
	return !ok || c < 0
}

func newer(version, want string) bool {
	c, ok := CompareVersions(version, want)
	return ok && c > 0
}

// latest is the highest patch of a minor among released versions, without
// pre-releases; empty when there is none.
func latest(releases []string, line minorLine) string {
	best, found := "", release{}
	for _, s := range releases {
		r, ok := parse(s)
		if ok && r.line() == line && r.pre == "" && (best == "" || r.compare(found) > 0) {
			best, found = r.String(), r
		}
	}
	return best
}

// rule is what is known of a version's minor.
func (v VersionRules) rule(talos string) (TalosRule, bool) {
	r, ok := parse(talos)
	if !ok {
		return TalosRule{}, false
	}
	for _, known := range v.Talos {
		if m, ok := parse(known.Minor); ok && m.line() == r.line() {
			return known, true
		}
	}
	return TalosRule{}, false
}

// within says that from <= version < below, by cores; a bound that is left out
// does not bound.
func within(version, from, below string) bool {
	v, ok := parse(version)
	if !ok {
		return false
	}
	if b, ok := parse(from); ok && v.core(b) < 0 {
		return false
	}
	b, ok := parse(below)
	return !ok || v.core(b) < 0
}

// SupportsKubernetes says that a Talos runs a Kubernetes; known is false when
// the rules do not have the minor of this Talos.
func (v VersionRules) SupportsKubernetes(talos, kubernetes string) (supported, known bool) {
	rule, known := v.rule(talos)
	return known && within(kubernetes, rule.KubernetesFrom, rule.KubernetesBelow), known
}

// UpgradeableFrom says that the installer of a Talos takes a node that runs host;
// known is false when the rules do not have the minor of this Talos.
func (v VersionRules) UpgradeableFrom(talos, host string) (allowed, known bool) {
	rule, known := v.rule(talos)
	return known && within(host, rule.HostFrom, rule.HostBelow), known
}
