package proc_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// The test binary is its own helper: with this variable set it plays one role.
const roleVariable = "PROC_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "parent":
		parent(os.Args[1])
	}
}

func start(t *testing.T, script string) *proc.Process {
	t.Helper()
	p, err := proc.Start(proc.Spec{
		Name: "script", Path: "/bin/sh", Args: []string{"-c", script},
		Log: filepath.Join(t.TempDir(), "logs", "script.log"), Grace: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStopEndsWithSIGTERM(t *testing.T) {
	p := start(t, `trap 'echo terminated; exit 3' TERM; echo up; while :; do sleep 0.01; done`)
	waitFor(t, p, "up")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := p.Tail(1); got != "terminated" {
		t.Errorf("log ends with %q, want the trap's line", got)
	}
	var exit *exec.ExitError
	if !errors.As(p.Err(), &exit) || exit.ExitCode() != 3 {
		t.Errorf("Err() = %v, want exit code 3", p.Err())
	}
	if err := p.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
}

func TestStopKillsWhatIgnoresSIGTERM(t *testing.T) {
	p := start(t, `trap '' TERM; echo up; while :; do sleep 0.01; done`)
	waitFor(t, p, "up")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if p.Running() || alive(p.PID()) {
		t.Error("the process still runs")
	}
	if p.Err() == nil || !strings.Contains(p.Err().Error(), "killed") {
		t.Errorf("Err() = %v, want killed", p.Err())
	}
}

func TestWaitReadyTellsAnEarlyExit(t *testing.T) {
	p := start(t, `echo "no licence"; exit 7`)
	err := p.WaitReady(t.Context(), time.Millisecond, func(context.Context) error { return errors.New("not listening") })
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "no licence") {
		t.Errorf("got %v, want the exit status and the log", err)
	}
}

func TestWaitReadyTellsTheLastProbe(t *testing.T) {
	p := start(t, `sleep 600`)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := p.WaitReady(ctx, time.Millisecond, func(context.Context) error {
		if calls++; calls == 3 {
			cancel()
		}
		return errors.New("not listening")
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not listening") {
		t.Errorf("got %v, want canceled and the probe's words", err)
	}
}

func TestStartRefuses(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	for name, spec := range map[string]proc.Spec{
		"no log":      {Path: "/bin/true"},
		"no program":  {Path: "/nonexistent/program", Log: log},
		"no work dir": {Path: "/bin/true", Log: log, Dir: "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := proc.Start(spec); err == nil {
				t.Errorf("started as pid %d", p.PID())
			}
		})
	}
}

func TestFreePortsDiffer(t *testing.T) {
	seen := map[uint16]bool{}
	for range 50 {
		port, err := proc.FreePort(netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < 20000 || port >= 32000 {
			t.Errorf("port %d: given twice or out of range", port)
		}
		seen[port] = true
	}
	address, err := proc.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if at, err := netip.ParseAddrPort(address); err != nil || !at.Addr().IsLoopback() || seen[at.Port()] {
		t.Errorf("%s: given already or not on loopback, %v", address, err)
	}
}

func waitFor(t *testing.T, p *proc.Process, line string) {
	t.Helper()
	if err := p.WaitReady(t.Context(), time.Millisecond, func(context.Context) error {
		if !strings.Contains(p.Tail(10), line) {
			return errors.New("nothing yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
