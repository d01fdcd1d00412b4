package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"

	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// ichor runs the command line on a stack and returns what it printed. Unlike the
// stack's own, it leaves no log: credentials are printed, too.
func ichor(ctx context.Context, st *stack.Stack, program string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = st.Env(), &stdout, &stderr
	if err := proc.Run(cmd); err != nil {
		return nil, fmt.Errorf("ichor %s: %w\n%s%s", args[0], err, stdout.String(), stderr.String())
	}
	return stdout.Bytes(), nil
}
