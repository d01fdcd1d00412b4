package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// ichor runs the CLI against the system, as somebody at the terminal would.
func (d demo) ichor(ctx context.Context, s *system, args ...string) error {
	return d.cli(ctx, s, os.Stdin, os.Stdout, args)
}

// plain runs the CLI with output that is not redrawn, so that other lines can stand
// between its own.
func (d demo) plain(ctx context.Context, s *system, args ...string) error {
	return d.cli(ctx, s, nil, struct{ io.Writer }{os.Stdout}, args)
}

// output runs the CLI for what it prints.
func (d demo) output(ctx context.Context, s *system, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := d.cli(ctx, s, nil, &out, args)
	return out.Bytes(), err
}

func (d demo) cli(ctx context.Context, s *system, stdin io.Reader, stdout io.Writer, args []string) error {
	cmd := exec.CommandContext(ctx, d.bin("ichor"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir, cmd.Env = d.root, s.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
	if err := proc.Run(cmd); err != nil {
		return fmt.Errorf("ichor %s: %w", args[0], err)
	}
	return nil
}
