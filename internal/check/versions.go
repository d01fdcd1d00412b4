package check

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/compatibility"

	"github.com/ichor-project/ichor/internal/cluster"
)

// oldestTalos is the oldest minor of Talos v1 whose config documents Ichor
// writes and tests; the newest is the newest that the compiled-in rules know.
const oldestTalos = 13

// searchTalos and searchKubernetes bound the search for the minors that the
// rules know; they are far beyond both.
const (
	searchTalos      = 40
	searchKubernetes = 99
)

// span is a range of minors of one major version, both ends included.
type span struct{ low, high uint64 }

func (s span) String() string {
	if s.low == s.high {
		return fmt.Sprintf("v1.%d", s.low)
	}
	return fmt.Sprintf("v1.%d to v1.%d", s.low, s.high)
}

// kubernetesOf maps each minor of Talos that is known to the minors of
// Kubernetes that run on it. The rules are machinery's own; they are asked minor
// by minor because they are not exported as data.
var kubernetesOf = sync.OnceValue(func() map[uint64]span {
	out := map[uint64]span{}
	for talos := uint64(oldestTalos); talos <= searchTalos; talos++ {
		var s span
		for k := uint64(1); k <= searchKubernetes; k++ {
			if compatible(fmt.Sprintf("v1.%d.0", talos), fmt.Sprintf("v1.%d.0", k)) {
				if s.low == 0 {
					s.low = k
				}
				s.high = k
			}
		}
		if s.high > 0 {
			out[talos] = s
		}
	}
	return out
})

// knownTalos is the range of Talos minors that this Ichor knows.
func knownTalos() span {
	s := span{low: oldestTalos, high: oldestTalos}
	for talos := range kubernetesOf() {
		s.high = max(s.high, talos)
	}
	return s
}

// compatible asks machinery; versions that it does not know are not compatible.
func compatible(talos, kubernetes string) bool {
	t, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: talos})
	if err != nil {
		return false
	}
	k, err := compatibility.ParseKubernetesVersion(strings.TrimPrefix(kubernetes, "v"))
	if err != nil {
		return false
	}
	return k.SupportedWith(t) == nil
}

// parse reads a complete version with leading v and says why it cannot.
func parse(s, example string) (semver.Version, string) {
	rest, ok := strings.CutPrefix(s, "v")
	v, err := semver.Parse(rest)
	switch {
	case !ok && err == nil:
		return v, "needs a leading v: v" + v.String()
	case err != nil:
		return v, "must be a complete version such as " + example
	case len(v.Build) > 0:
		return v, "must not have build metadata"
	}
	return v, ""
}

var contractForm = regexp.MustCompile(`^v(\d+)\.(\d+)$`)

// versions checks Talos, the contract and Kubernetes against each other.
func versions(s cluster.Spec, p *cluster.Problems) {
	known := knownTalos()
	talos, talosOK := talosVersion(s.Talos.Version, known, p)
	if s.Talos.Contract != "" {
		contract(s.Talos.Contract, talos, talosOK, known, p)
	}
	if s.Kubernetes.Version == "" {
		return // reported as missing
	}
	k, why := parse(s.Kubernetes.Version, "v1.36.3")
	switch {
	case why != "":
		p.Add("spec.kubernetes.version", "%s", why)
	case k.Major != 1:
		p.Add("spec.kubernetes.version", "is not a version of Kubernetes: the major version is 1")
	case talosOK && !compatible(s.Talos.Version, s.Kubernetes.Version):
		p.Add("spec.kubernetes.version", "Talos v%d.%d runs Kubernetes %s%s", talos.Major, talos.Minor, kubernetesOf()[talos.Minor], elsewhere(k.Minor))
	}
}

func talosVersion(version string, known span, p *cluster.Problems) (semver.Version, bool) {
	const field = "spec.talos.version"
	if version == "" {
		return semver.Version{}, false // reported as missing
	}
	v, why := parse(version, "v1.13.5")
	switch {
	case why != "":
		p.Add(field, "%s", why)
	case v.Major != 1 || v.Minor > known.high:
		p.Add(field, "is newer than this Ichor, which knows Talos %s; whether it would work is unknown, so use a newer Ichor", known)
	case v.Minor < known.low:
		p.Add(field, "is too old: Ichor supports Talos %s", known)
	default:
		return v, true
	}
	return v, false
}

func contract(text string, talos semver.Version, talosOK bool, known span, p *cluster.Problems) {
	const field = "spec.talos.contract"
	m := contractForm.FindStringSubmatch(text)
	if m == nil {
		p.Add(field, "must have the form v1.13")
		return
	}
	// The pattern matched digits; what overflows is not known either.
	major, _ := strconv.ParseUint(m[1], 10, 32)
	minor, _ := strconv.ParseUint(m[2], 10, 32)
	switch {
	case major != 1 || minor < known.low || minor > known.high:
		p.Add(field, "is not a contract that this Ichor can write; it writes %s", known)
	case talosOK && minor > talos.Minor:
		p.Add(field, "is newer than Talos v%d.%d, which could not read such a config", talos.Major, talos.Minor)
	}
}

// elsewhere names the known minors of Talos that run a minor of Kubernetes.
func elsewhere(kubernetes uint64) string {
	var minors []string
	for talos := uint64(oldestTalos); talos <= searchTalos; talos++ {
		if s, ok := kubernetesOf()[talos]; ok && s.low <= kubernetes && kubernetes <= s.high {
			minors = append(minors, fmt.Sprintf("v1.%d", talos))
		}
	}
	if len(minors) == 0 {
		return ""
	}
	return fmt.Sprintf("; Kubernetes v1.%d runs on Talos %s", kubernetes, strings.Join(minors, " and "))
}
