package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// clouds are those that every demonstration is shown on, with what its output says
// on each: provider IDs on AWS come from the vendor's own cloud controller, and all
// machines of a group are in the zones that have some left.
var clouds = []struct {
	name    string
	ids     *regexp.Regexp
	refused string
}{
	{"cloudscale", regexp.MustCompile(`True .* cloudscale://[0-9a-f-]{36}\n`), ""},
	{"aws", regexp.MustCompile(`True .* aws:///eu-central-1[abc]/i-[0-9a-f]{17}\n`), "Their machines run in other zones: "},
}

// onClouds lets a test judge what a demonstration prints on each cloud, where it
// lists so many nodes at least in tables with their provider IDs.
func onClouds(t *testing.T, command string, nodes int, judge func(t *testing.T, out string)) {
	for _, cloud := range clouds {
		t.Run(cloud.name, func(t *testing.T) {
			out := show(t, command, "--cloud", cloud.name)
			if n := len(cloud.ids.FindAllString(out, -1)); n < nodes || !strings.Contains(out, cloud.refused) {
				t.Errorf("%d ready nodes with provider IDs of %s, want %d, and %q:\n%s", n, cloud.name, nodes, cloud.refused, out)
			}
			judge(t, out)
		})
	}
}

// show runs a demonstration to its end and returns what it printed. It must
// succeed and leave nothing behind.
func show(t *testing.T, command string, flags ...string) string {
	t.Helper()
	root, bin, err := stack.Programs("ichor-demo")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	demo := filepath.Join(bin, "ichor-demo")
	// Tied to this process, and this process to it: a test that is killed, or that
	// ends in a panic because it takes too long, leaves nothing running.
	run := func(ctx context.Context, command string, flags ...string) ([]byte, error) {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, demo, append([]string{command, "--dir", dir, "--tied"}, flags...)...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = root, &out, &out
		err := proc.Run(cmd)
		return out.Bytes(), err
	}
	t.Cleanup(func() {
		if out, err := run(context.WithoutCancel(t.Context()), "down"); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
	})
	out, err := run(t.Context(), command, append([]string{"--speed", "40"}, flags...)...)
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
