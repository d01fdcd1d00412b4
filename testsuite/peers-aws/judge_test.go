// Package peersaws lets the vendor's command line, as Debian packages it, judge
// devcloud's AWS and what Ichor made there.
package peersaws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	// aws is where Debian's package awscli puts the program. Whatever else is
	// called aws on the path is not meant.
	aws = "/usr/bin/aws"
	// clientError is how it ends when the service refused.
	clientError = 254
)

// endpoints says which variable of the SDK holds the endpoint of a service of the
// command line: releases before 2.13 read none of them.
var endpoints = map[string]string{
	"ec2": "AWS_ENDPOINT_URL_EC2", "elbv2": "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", "sts": "AWS_ENDPOINT_URL_STS",
	"s3": "AWS_ENDPOINT_URL_S3", "s3api": "AWS_ENDPOINT_URL_S3",
}

// judge runs the command line as a person would who has the account's keys.
type judge struct {
	cloud map[string]string // the environment of the account
	home  string
	more  []string // further environment, which wins
}

// newJudge finds the program and says which one it is.
func newJudge(t *testing.T, cloud map[string]string) judge {
	t.Helper()
	owner, err := exec.CommandContext(t.Context(), "dpkg-query", "--search", aws).Output()
	if err != nil || !strings.HasPrefix(string(owner), "awscli:") {
		t.Fatalf("the judge is missing: %s of Debian's package awscli, which .ci/packages installs", aws)
	}
	j := judge{cloud: cloud, home: t.TempDir()}
	version, err := j.command(t.Context(), "--version").Output()
	if err != nil {
		t.Fatalf("%s --version: %v", aws, err)
	}
	t.Logf("the judge is %s", bytes.TrimSpace(version))
	return j
}

// with returns a judge in a changed environment.
func (j judge) with(env ...string) judge {
	j.more = append(append([]string{}, j.more...), env...)
	return j
}

func (j judge) command(ctx context.Context, args ...string) *exec.Cmd {
	if url := j.cloud[endpoints[args[0]]]; url != "" {
		args = append(args, "--endpoint-url", url)
	}
	cmd := exec.CommandContext(ctx, aws, args...)
	cmd.Dir = j.home
	cmd.Env = []string{
		"HOME=" + j.home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "AWS_PAGER=", "AWS_DEFAULT_OUTPUT=json",
		"AWS_EC2_METADATA_DISABLED=true",
	}
	for k, v := range j.cloud {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Env = append(cmd.Env, j.more...)
	return cmd
}

// run returns what the command printed and how it ended.
func (j judge) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := j.command(ctx, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("aws %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), strings.TrimSpace(complaint.String()), cmd.ProcessState.ExitCode()
}

// does runs a command that must succeed and returns what it printed.
func (j judge) does(t *testing.T, args ...string) string {
	t.Helper()
	out, complaint, code := j.run(t, args...)
	if code != 0 {
		t.Fatalf("aws %s: exit code %d\n%s", strings.Join(args, " "), code, complaint)
	}
	return out
}

// asks runs a command that must succeed and decodes its answer.
func asks[T any](t *testing.T, j judge, args ...string) T {
	t.Helper()
	var v T
	out := j.does(t, args...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// text is the answer of a query for one word.
func (j judge) text(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(j.does(t, append(args, "--output", "text")...))
}

var refusal = regexp.MustCompile(`An error occurred \(([^)]+)\) when calling the (\w+) operation`)

// refused runs a command that the service must refuse with a code.
func (j judge) refused(t *testing.T, want string, args ...string) {
	t.Helper()
	out, complaint, code := j.run(t, args...)
	found := refusal.FindStringSubmatch(complaint)
	if code != clientError || found == nil || found[1] != want {
		t.Errorf("aws %s: exit code %d, want %s\n%s%s", strings.Join(args, " "), code, want, out, complaint)
		return
	}
	t.Logf("aws %s %s: %s", args[0], args[1], complaint)
}
