package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// A test of a demonstration that is killed takes all of its system along: what the
// demonstration runs, and what that runs.
func TestKilledTestLeavesNoProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// All that the other test keeps is below this folder, which tells its processes.
	dir := t.TempDir()
	t.Cleanup(func() {
		for pid := range processes(t, dir) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("kill %d: %v", pid, err)
			}
		}
	})
	killed, err := proc.Start(proc.Spec{
		Name: "the test to be killed", Path: self, Args: []string{"-test.run=^TestDemoAutoscale$/^cloudscale$"},
		Env: append(os.Environ(), "TMPDIR="+dir), Log: filepath.Join(dir, "test.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	// The last to come; by then the command and its server are two of a kind.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := killed.WaitReady(ctx, 100*time.Millisecond, func(context.Context) error {
		names := slices.Sorted(maps.Values(processes(t, dir)))
		for _, want := range []string{
			"cluster-autoscaler", "devcloud", "ichor-demo", "ichor-grpcprovider", "ichor-worker", "kine", "kube-apiserver", "temporal",
		} {
			if !slices.Contains(names, want) {
				return fmt.Errorf("no %s among %q", want, names)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%q run", slices.Sorted(maps.Values(processes(t, dir))))
	if err := killed.Signal(syscall.SIGKILL); err != nil { // and not to its group
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for left := processes(t, dir); len(left) > 0; left = processes(t, dir) {
		if ctx.Err() != nil {
			t.Fatalf("left running: %v", left)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// processes are the names of those that work below a folder, print to a file there,
// or were told of it. One that has ended and was not reaped is none.
func processes(t *testing.T, dir string) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// What cannot be read has ended meanwhile.
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil {
			continue
		}
		about := make([]string, 0, 5)
		for _, file := range []string{"cmdline", "environ"} {
			b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), file))
			about = append(about, string(b))
		}
		for _, link := range []string{"cwd", "fd/1", "fd/2"} {
			to, _ := os.Readlink(filepath.Join("/proc", e.Name(), link))
			about = append(about, to)
		}
		if strings.Contains(strings.Join(about, "\n"), dir) {
			found[pid] = filepath.Base(exe)
		}
	}
	return found
}
