package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/testsuite/stack"
)

// The published demonstration, as `make demo-autoscale` runs it: the real
// autoscaler takes a group from nothing to its max and back to its min.
func TestDemoAutoscale(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	demo := filepath.Join(root, "bin", "ichor-demo")
	cmd := exec.CommandContext(t.Context(), demo, "autoscale", "--dir", dir, "--speed", "40")
	cmd.Dir = root
	t.Cleanup(func() {
		down := exec.Command(demo, "down", "--dir", dir)
		down.Dir = root
		if out, err := down.CombinedOutput(); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		logs, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
		for _, l := range logs {
			if b, err := os.ReadFile(l); err == nil {
				t.Logf("--- %s\n%s", filepath.Base(l), b[max(0, len(b)-4000):])
			}
		}
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"the group is at its max of 6; 42 pods run, 8 must wait",
		"the group is at its min of 0: no machine, no Node object is left of it",
		"increase-size          6 more, 6 in all",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "  increase-size "); n != 1 {
		t.Errorf("%d increases for one need:\n%s", n, out)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the demo left its folder behind: %v", err)
	}
}
