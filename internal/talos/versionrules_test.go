package talos

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/plan"
)

// The expected ranges are those of machinery 1.14.1, read from its source.
func TestVersionRules(t *testing.T) {
	got := VersionRules([]string{"v1.13.5"})
	want := []plan.TalosRule{
		{Minor: "1.12", KubernetesFrom: "1.30.0", KubernetesBelow: "1.35.99", HostFrom: "1.10.0", HostBelow: "1.14.0"},
		{Minor: "1.13", KubernetesFrom: "1.31.0", KubernetesBelow: "1.36.99", HostFrom: "1.11.0", HostBelow: "1.15.0"},
		{Minor: "1.14", KubernetesFrom: "1.32.0", KubernetesBelow: "1.37.99", HostFrom: "1.12.0", HostBelow: "1.16.0"},
	}
	if diff := cmp.Diff(want, got.Talos); diff != "" {
		t.Error(diff)
	}
	if got.KubernetesMax != "1.37" {
		t.Errorf("highest Kubernetes: %s", got.KubernetesMax)
	}
	if n := len(got.KubernetesReleases); n == 0 || got.KubernetesReleases[n-1] != "v1.37.0" || got.KubernetesReleases[0] != "v1.19.0" {
		t.Errorf("Kubernetes releases: %v", got.KubernetesReleases)
	}
	if diff := cmp.Diff([]string{"v1.13.5"}, got.TalosReleases); diff != "" {
		t.Error(diff)
	}
	// What the rules say and what single questions say is the same.
	for _, rule := range got.Talos {
		for _, k := range []string{"1.29.9", "1.30.0", "1.31.4", "1.35.2", "1.36.3", "1.37.0", "1.38.0"} {
			ok, _ := got.SupportsKubernetes("v"+rule.Minor+".1", "v"+k)
			if (KubernetesFits("v"+rule.Minor+".1", "v"+k) == nil) != ok {
				t.Errorf("Talos %s with Kubernetes %s: the rules say %v", rule.Minor, k, ok)
			}
		}
		for _, from := range []string{"v1.9.0", "v1.10.0", "v1.11.6", "v1.12.8", "v1.13.5", "v1.14.1", "v1.15.0"} {
			ok, _ := got.UpgradeableFrom("v"+rule.Minor+".1", from)
			if (UpgradePathFits(from, "v"+rule.Minor+".1") == nil) != ok {
				t.Errorf("Talos %s from %s: the rules say %v", rule.Minor, from, ok)
			}
		}
	}
}
