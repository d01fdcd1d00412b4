// Command record runs a whole Ichor on loopback, brings its workflows into every
// ending that they have, and writes their histories for the replay test.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/replay"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

const speed = 40

// historyLimit makes a group that is scaled continue as new, and leaves the
// others in one run.
const historyLimit = "400"

func main() { stack.Main("record", record) }

func record(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("record", flag.ContinueOnError)
	out := flags.String("out", "testsuite/replay/histories/upgrading", "where the histories go, below the repository's root")
	what := flags.String("what", "upgrade", "which scenarios: upgrade, phases, repair, elsewhere, or life for all others")
	prefix := flags.String("loopback-prefix", "127.98", "first two octets of the emulated public addresses")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return run(ctx, *what, *out, *prefix)
}

func run(ctx context.Context, what, out, prefix string) (err error) {
	if !slices.Contains(whats, what) {
		return fmt.Errorf("-what %s: is none of %v", what, whats)
	}
	home, root, bin, err := stack.Suite()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ichor-record-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	reference, keys := home.Credentials(func(what string) string { return replay.Doors[what] })
	settings := stack.Scaled(speed)
	maps.Copy(settings, keys)
	maps.Copy(settings, map[string]string{"CANARY_ENV": replay.Doors["a secret from the environment"], "ICHOR_GROUP_HISTORY": historyLimit})
	s, err := stack.Start(ctx, stack.Options{Bin: bin, Dir: dir, Speed: speed, LoopbackPrefix: prefix, UIPort: -1, Settings: settings})
	defer func() { err = errors.Join(err, s.Close()) }()
	if err != nil {
		return err
	}
	if err := home.Accept(ctx, s, settings); err != nil {
		return err
	}
	if _, err := s.StartWorker(ctx); err != nil {
		return err
	}
	c, err := s.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	r := &recorder{Stack: s, temporal: c, home: home, reference: reference, root: root, dir: dir}
	scenarios := []func(context.Context) error{r.life, r.rollback, r.cancel, r.keep, r.refusals, r.scale}
	switch what {
	case "upgrade":
		scenarios = []func(context.Context) error{r.upgrade}
	case whatPhases:
		scenarios = []func(context.Context) error{r.phases}
	case "elsewhere":
		scenarios = []func(context.Context) error{r.elsewhere}
	case "repair":
		scenarios = []func(context.Context) error{r.repair}
	}
	for _, scenario := range scenarios {
		if err := scenario(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, s.Tail(20))
		}
	}
	return r.write(ctx, what, filepath.Join(root, out))
}

// whatPhases records beside upgrade, in the same folder.
const whatPhases = "phases"

var whats = []string{"upgrade", whatPhases, "repair", "life", "elsewhere"}

// owns reports whether a scenario records the histories of a name.
func owns(what, file string) bool { return strings.HasPrefix(file, phased) == (what == whatPhases) }

// recorder drives a system through its scenarios and remembers which runs are
// worth keeping.
type recorder struct {
	*stack.Stack
	temporal client.Client
	home     stack.Cloud
	// reference is what specs refer to the account's credentials by.
	reference string
	root      string
	dir       string // for files, removed in the end
	keeps     []kept
}

// kept is a run and the name of its file.
type kept struct{ file, id, run string }

// spec is the smallest cluster, with secrets at its doors.
func (r *recorder) spec(name string) (cluster.Cluster, error) {
	c, err := r.home.Spec(r.root, name)
	if err != nil {
		return c, err
	}
	if c = stack.Small(c); r.home.Name != stack.Default().Name {
		c = r.home.Small(c)
	}
	c.Spec.Cloud.Credentials = r.reference
	c.Spec.Talos.Patches = []cluster.Source{{Inline: "machine: {env: {CANARY: " + replay.Doors["an inline patch"] + "}}"}}
	c.Spec.Manifests = append(c.Spec.Manifests, cluster.Manifest{Name: "canary", Source: cluster.Source{
		Inline: "{apiVersion: v1, kind: ConfigMap, metadata: {name: canary, namespace: default}, data: {note: " + replay.Doors["an inline manifest"] + "}}",
	}})
	c.Spec.Secrets = append(c.Spec.Secrets, cluster.KubeSecret{Namespace: "default", Name: "canary", Key: "env", From: "env:CANARY_ENV"})
	return c, nil
}

// ichor runs the command line; which code it must end with is the scenario's
// business.
func (r *recorder) ichor(ctx context.Context, code int, args ...string) error {
	res, err := r.Ichor(ctx, args...)
	if err != nil {
		return err
	}
	if res.Code != code {
		return fmt.Errorf("ichor %v: %s", args, res)
	}
	return nil
}

func (r *recorder) provision(ctx context.Context, code int, c cluster.Cluster, more ...string) error {
	file, err := r.WriteSpec(c)
	if err != nil {
		return err
	}
	return r.ichor(ctx, code, append([]string{"provision", "-f", file}, more...)...)
}

// keepRun remembers the latest run of a workflow.
func (r *recorder) keepRun(ctx context.Context, file, id string) error {
	d, err := r.temporal.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return fmt.Errorf("find %s: %w", id, err)
	}
	r.keeps = append(r.keeps, kept{file, id, d.GetWorkflowExecutionInfo().GetExecution().GetRunId()})
	return nil
}

// at waits until a run is at a step.
func (r *recorder) at(ctx context.Context, name, step string) error {
	return r.until(ctx, name, func(p workflows.Progress) bool {
		return slices.ContainsFunc(p.Steps, func(s workflows.StepStatus) bool { return s.Name == step && s.State != workflows.StepPending })
	})
}

// parks waits until a run waits for its credentials.
func (r *recorder) parks(ctx context.Context, name string) error {
	return r.until(ctx, name, func(p workflows.Progress) bool { return p.Kind == workflows.TypeDeleteCluster && p.Parked != "" })
}

// patience bounds every wait; it only matters when something is broken.
const patience = 2 * time.Minute

// until asks the latest run of a cluster for its progress until ok.
func (r *recorder) until(ctx context.Context, name string, ok func(workflows.Progress) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		var p workflows.Progress
		v, err := r.temporal.QueryWorkflow(ctx, cluster.LifecycleID(name), "", workflows.QueryProgress)
		if err == nil && v.Get(&p) == nil && ok(p) {
			return nil
		}
	}
	return fmt.Errorf("cluster %s never came to the state that is to be recorded: %w", name, ctx.Err())
}
