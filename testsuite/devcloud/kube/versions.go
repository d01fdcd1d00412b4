package kube

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// minor is the minor version of Kubernetes 1.x; there is no other major one.
type minor int

func (m minor) String() string { return "1." + strconv.Itoa(int(m)) }

// emulable is how many minor versions back a Kubernetes program can behave as
// (its flag --emulated-version).
const emulable = 3

// parseMinor reads "v1.36.3".
func parseMinor(version string) (minor, error) {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	text, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(text)
	if err != nil || major != "1" {
		return 0, fmt.Errorf("%q is not a Kubernetes version", version)
	}
	return minor(n), nil
}

// askVersion reads the minor version of the programs from one of them.
func askVersion(ctx context.Context, program string) (minor, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, program, "--version")
	command.Env = toolEnv()
	out, err := command.Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", program, err)
	}
	return parseMinor(strings.TrimPrefix(strings.TrimSpace(string(out)), "Kubernetes "))
}

// emulation is the minor version that programs of version have serve a cluster
// of which the machine config says configured: the same, as far as they can.
func emulation(configured string, have minor) (minor, error) {
	want, err := parseMinor(configured)
	if err != nil {
		return 0, err
	}
	return min(have, max(want, have-emulable)), nil
}

// emulate is the flag that makes programs of version have behave as version m;
// none for their own.
func emulate(m, have minor) []string {
	if m == 0 || m == have {
		return nil
	}
	return []string{"--emulated-version=" + m.String()}
}
