package main

import (
	"strings"
	"testing"
)

// The published demonstration, as `make demo-autoscale` runs it: the real
// autoscaler takes a group from nothing to its max and back to its min.
func TestDemoAutoscale(t *testing.T) {
	// The control plane, then all.
	onClouds(t, "autoscale", 1+7, judgeAutoscale)
}

func judgeAutoscale(t *testing.T, out string) {
	for _, want := range []string{
		"the group is at its max of 6; 42 pods run, 8 must wait",
		"the group is at its min of 0: no machine, no Node object is left of it",
		"increase-size          6 more, 6 in all",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if n := strings.Count(out, "  increase-size "); n != 1 {
		t.Errorf("%d increases for one need:\n%s", n, out)
	}
}
