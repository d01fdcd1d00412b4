package talos

import (
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
)

func TestKubernetesFits(t *testing.T) {
	for _, tc := range []struct {
		talos, kubernetes string
		ok                bool
	}{
		{"v1.13.5", "v1.36.3", true},
		{"v1.13.5", "v1.31.0", true},
		{"v1.13.5", "v1.37.0", false},
		{"v1.13.5", "v1.30.9", false},
		{"v1.14.1", "v1.37.0", true},
		{"v1.14.1", "v1.31.0", false},
		{"v1.99.0", "v1.36.3", false},
		{"nonsense", "v1.36.3", false},
		{"v1.13.5", "nonsense", false},
	} {
		err := KubernetesFits(tc.talos, tc.kubernetes)
		if (err == nil) != tc.ok || err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("Talos %s, Kubernetes %s: %v", tc.talos, tc.kubernetes, err)
		}
	}
}

func TestUpgradePathFits(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"v1.13.5", "v1.14.1", true},
		{"v1.13.5", "v1.13.9", true},
		{"v1.11.0", "v1.14.1", false},
		{"v1.13.5", "v1.99.0", false},
		{"x", "v1.14.1", false},
		{"v1.13.5", "x", false},
	} {
		if err := UpgradePathFits(tc.from, tc.to); (err == nil) != tc.ok || err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s to %s: %v", tc.from, tc.to, err)
		}
	}
}
