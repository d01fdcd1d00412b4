package plan

import "testing"

func TestCompareVersions(t *testing.T) {
	// Each is older than the one after it; pre-releases as in semver.org, 11.
	ordered := []string{
		"0.9.0", "v1.9.11", "v1.10.0-alpha", "v1.10.0-alpha.1", "v1.10.0-alpha.beta", "v1.10.0-beta.2", "v1.10.0-beta.11", "v1.10.0-rc.1",
		"1.10", "v1.10.1", "v1.10.10", "2.0.0",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			got, ok := CompareVersions(a, b)
			if want := yesLast(i > j, j > i); !ok || got != want {
				t.Errorf("%s and %s: %d, %v", a, b, got, ok)
			}
		}
	}
	for _, same := range [][2]string{
		{"v1.36.3", "1.36.3"},
		{"v1.36.3-slim", "v1.36.3"},
		{"v1.36.3-fat", "v1.36.3-slim"},
		{"v1.37.0-rc.1-slim", "v1.37.0-rc.1"},
		{"v1.36.3+k3s1", "v1.36.3"},
		{"1.36", "1.36.0"},
	} {
		if got, ok := CompareVersions(same[0], same[1]); !ok || got != 0 {
			t.Errorf("%s and %s: %d, %v", same[0], same[1], got, ok)
		}
	}
	for _, bad := range []string{"", "v", "latest", "1", "1.2.3.4", "1.x.0", "1.-2.0", "1.2.3-", "v1..3", "1.99999999999.0", "+"} {
		if _, ok := CompareVersions(bad, "1.36.3"); ok {
			t.Errorf("%q is taken for a version", bad)
		}
	}
}

func TestVersionRules(t *testing.T) {
	rules := rulesNow()
	for _, c := range []struct {
		talos, other                               string
		supported, known, allowed, allowedFromKnow bool
	}{
		{"v1.14.1", "v1.32.0", true, true, false, true},
		{"v1.14.1", "v1.31.13", false, true, false, true},
		{"v1.14.0-beta.0", "v1.37.0-rc.1", true, true, false, true},
		{"v1.14.1", "v1.38.0", false, true, false, true},
		{"v1.14.1", "v1.12.0", false, true, true, true},
		{"v1.14.1", "v1.11.9", false, true, false, true},
		{"v1.15.0", "v1.14.1", false, false, false, false},
		{"latest", "v1.14.1", false, false, false, false},
		{"v1.14.1", "latest", false, true, false, true},
	} {
		if supported, known := rules.SupportsKubernetes(c.talos, c.other); supported != c.supported || known != c.known {
			t.Errorf("Talos %s, Kubernetes %s: %v, %v", c.talos, c.other, supported, known)
		}
		if allowed, known := rules.UpgradeableFrom(c.talos, c.other); allowed != c.allowed || known != c.allowedFromKnow {
			t.Errorf("Talos %s from %s: %v, %v", c.talos, c.other, allowed, known)
		}
	}
	open := VersionRules{Talos: []TalosRule{{Minor: "1.14"}}}
	if supported, known := open.SupportsKubernetes("v1.14.0", "v1.2.3"); !supported || !known {
		t.Error("a bound that is left out bounds")
	}
}
