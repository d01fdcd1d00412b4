package talos

import (
	"fmt"

	"github.com/siderolabs/go-kubernetes/kubernetes/upgrade"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/compatibility"

	"github.com/ichor-project/ichor/internal/plan"
)

// The tables are asked version by version, because they are not public as data:
// for each minor of Talos from firstMinor on that machinery knows. Minors and
// patches of all versions stay below these bounds for years.
const (
	firstMinor = 12
	mostMinors = 64
	mostPatch  = 128
)

// VersionRules makes the rules about versions from machinery's tables and from the
// Kubernetes upgrade paths that Talos' makers publish, for the Talos minors that
// machinery knows, 1.12 at least. talosReleases is what Factory.Releases returned.
// KubernetesReleases are the first releases of each minor up to the highest known
// one: they exist wherever the minor does.
func VersionRules(talosReleases []string) plan.VersionRules {
	rules := plan.VersionRules{TalosReleases: talosReleases}
	for minor := firstMinor; minor < mostMinors; minor++ {
		if rule, ok := ruleOf(minor); ok {
			rules.Talos = append(rules.Talos, rule)
		}
	}
	for minor := range mostMinors {
		version := fmt.Sprintf("1.%d.0", minor)
		if path, err := upgrade.NewPath(version, version); err == nil && path.IsSupported() {
			rules.KubernetesReleases = append(rules.KubernetesReleases, "v"+version)
			rules.KubernetesMax = fmt.Sprintf("1.%d", minor)
		}
	}
	return rules
}

// ruleOf asks the tables about one minor.
func ruleOf(minor int) (plan.TalosRule, bool) {
	target, err := talosVersionOf(minor, 0)
	if err != nil {
		return plan.TalosRule{}, false
	}
	rule := plan.TalosRule{Minor: fmt.Sprintf("1.%d", minor)}
	rule.KubernetesFrom, rule.KubernetesBelow = bounds(func(m, p int) bool {
		v, err := compatibility.ParseKubernetesVersion(fmt.Sprintf("1.%d.%d", m, p))
		return err == nil && v.SupportedWith(target) == nil
	})
	rule.HostFrom, rule.HostBelow = bounds(func(m, p int) bool {
		host, err := talosVersionOf(m, p)
		return err == nil && target.UpgradeableFrom(host) == nil
	})
	return rule, rule.KubernetesFrom != "" && rule.HostFrom != ""
}

func talosVersionOf(minor, patch int) (*compatibility.TalosVersion, error) {
	return compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: fmt.Sprintf("v1.%d.%d", minor, patch)})
}

// bounds returns the first version that holds and the one after the last. A range
// that ends with the patches of a minor ends before the next minor.
func bounds(holds func(minor, patch int) bool) (from, below string) {
	for minor := range mostMinors {
		for patch := range mostPatch {
			if !holds(minor, patch) {
				continue
			}
			if from == "" {
				from = fmt.Sprintf("1.%d.%d", minor, patch)
			}
			below = fmt.Sprintf("1.%d.%d", minor, patch+1)
			if patch == mostPatch-1 {
				below = fmt.Sprintf("1.%d.0", minor+1)
			}
		}
	}
	return from, below
}
