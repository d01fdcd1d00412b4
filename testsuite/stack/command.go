package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// Result is what a command printed and how it ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// String is all that a person would see.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
}

// Ichor runs the command line and waits for its end. Its output is kept in the
// log "ichor", too. The error is nil whatever the exit code.
func (s *Stack) Ichor(ctx context.Context, args ...string) (Result, error) {
	return s.run(ctx, "ichor", s.Env(), filepath.Join(s.opts.Bin, "ichor"), args)
}

// Tool runs one of the programs of bin/tools, such as temporal, tctl or
// talosctl, with the environment of workers and env.
func (s *Stack) Tool(ctx context.Context, env []string, name string, args ...string) (Result, error) {
	return s.run(ctx, name, append(s.Env(), env...), s.tool(name), args)
}

func (s *Stack) run(ctx context.Context, log string, env []string, path string, args []string) (r Result, err error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir = env, s.opts.Dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = proc.Run(cmd)
	r = Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		err = nil
	}
	return r, errors.Join(err, s.appendLog(log, args, r))
}

func (s *Stack) appendLog(log string, args []string, r Result) error {
	f, err := os.OpenFile(s.log(log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "$ %s %q\n%s\n", log, args, r)
	return errors.Join(err, f.Close())
}
