package proc_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// The ways in which a child can be started.
const (
	attached = "attached" // Start
	detached = "detached" // Start, with Detached
	called   = "called"   // Run
)

// parent is a role of the test binary: it starts a child of each way, says which
// process each is and waits to be killed.
func parent(log string) {
	for _, way := range []string{attached, detached} {
		child, err := proc.Start(proc.Spec{Path: "/bin/sleep", Args: []string{"600"}, Log: log, Detached: way == detached})
		if err != nil {
			panic(err)
		}
		fmt.Println(way, child.PID())
	}
	cmd := exec.Command("/bin/sh", "-c", "echo "+called+" $$; exec sleep 600")
	cmd.Stdout = os.Stdout
	panic(proc.Run(cmd))
}

// A parent that dies without warning takes its processes along, but not those that
// were to outlive it.
func TestChildDiesWithItsParent(t *testing.T) {
	for name, end := range map[string]syscall.Signal{
		"killed": syscall.SIGKILL,
		// The runtime prints all stacks and exits, as for a panic.
		"crashed": syscall.SIGQUIT,
	} {
		t.Run(name, func(t *testing.T) { childrenOf(t, end) })
	}
}

func childrenOf(t *testing.T, end syscall.Signal) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), self, filepath.Join(t.TempDir(), "child.log"))
	parent.Env = append(os.Environ(), roleVariable+"=parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	children := map[string]int{}
	t.Cleanup(func() {
		for way, pid := range children {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && lives(pid) {
				t.Errorf("kill what was %s: %v", way, err)
			}
		}
	})
	for in := bufio.NewScanner(out); len(children) < 3; {
		if !in.Scan() {
			t.Fatalf("the parent started only %v: %v", children, in.Err())
		}
		way, number, _ := strings.Cut(in.Text(), " ")
		if children[way], err = strconv.Atoi(number); err != nil {
			t.Fatal(err)
		}
	}
	for way, pid := range children {
		if !lives(pid) {
			t.Fatalf("what was %s does not run", way)
		}
	}
	if err := parent.Process.Signal(end); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended by itself")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, way := range []string{attached, called} {
		for lives(children[way]) {
			if ctx.Err() != nil {
				t.Fatalf("what was %s outlived its parent", way)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if !lives(children[detached]) {
		t.Errorf("what was %s died with its parent", detached)
	}
}

// lives is false also for a killed process that its new parent has not reaped
// yet, which in a container without an init may take for ever.
func lives(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
