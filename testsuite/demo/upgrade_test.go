package main

import (
	"regexp"
	"strings"
	"testing"
)

// The published demonstration, as `make demo-upgrade` runs it: Talos with other
// extensions and a minor of Kubernetes, node by node, under a disruption budget
// that the cluster's API shows to be kept, while the real autoscaler adds a node.
// The demonstration judges itself; the test sees to it that it did.
func TestDemoUpgrade(t *testing.T) {
	onClouds(t, "upgrade", 6, judgeUpgrade)
}

func judgeUpgrade(t *testing.T, out string) {
	if i := strings.Index(out, "Nodes before and after"); i >= 0 {
		t.Log(out[i:])
	}
	for _, want := range []string{
		"leg 1: Talos v1.13.9 to v1.14.1", "leg 2: Kubernetes v1.35.2 to v1.36.3",
		"is cordoned; the deployment is scaled from 6 to 10 pods",
		"made for the autoscaler: born with Talos (v1.14.1)",
		"born with Talos (v1.14.1), not rebooted since;",
		"pods at least, budget 5",
		"at most 1 of 3 workers away at once",
		"quorum lost 0 times, 2 of 3 voters healthy at least, at most 1 control plane away at once",
		"Talos v1.14.1 and Kubernetes v1.36.3 on ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	// The pods lack room for one or two, and two nodes are room for all; when it
	// looks decides whether the autoscaler asks for both at once.
	if asked := regexp.MustCompile(`increase-size +([12]) more, [45] in all`).FindAllString(out, -1); len(asked) < 1 || len(asked) > 2 {
		t.Errorf("the autoscaler asked %d times, want once or twice: %q", len(asked), asked)
	}
}
