package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ichor-project/ichor/testsuite/stack"
)

// show runs a demonstration to its end and returns what it printed. It must
// succeed and leave nothing behind.
func show(t *testing.T, command string) string {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	bin := os.Getenv("ICHOR_BIN")
	if bin == "" {
		bin = filepath.Join(root, "bin")
	}
	demo := filepath.Join(bin, "ichor-demo")
	cmd := exec.CommandContext(t.Context(), demo, command, "--dir", dir, "--speed", "40")
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
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the demo left its folder behind: %v", err)
	}
	return string(out)
}
