// Package rig runs a whole Ichor whose worker may be killed at exact moments,
// drives clusters through it, and judges the account by what devcloud says, never
// by what the product says.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// Speed is how many times faster than real time the cloud runs.
const Speed = 40

// Cluster is the name of every rig's cluster.
const Cluster = "demo"

// Options say what is special about a run.
type Options struct {
	// Settings replace those of Scaled.
	Settings map[string]string
	// SharedAPIServers runs one kube-apiserver per cluster instead of one per
	// control plane: cheaper, and enough where quorum is not the question.
	SharedAPIServers bool
	// Hook decides about kills; nil kills nothing.
	Hook func(r *Rig, t killer.Task, m killer.Moment) bool
}

// Rig is a running system.
type Rig struct {
	*stack.Stack
	Proxy    *killer.Proxy
	Temporal client.Client // not through the proxy
	Spec     cluster.Cluster
	Home     stack.Cloud // where clusters are made

	root string // of the repository
	dir  string
	bin  string
	site site
	crew *crew
}

// Scaled are the waits that fit a cloud that runs Speed times faster. Heartbeats
// and Kubernetes do not get faster with it, so their waits shrink less.
func Scaled() map[string]string {
	s := stack.Scaled(Speed)
	s["ICHOR_HEARTBEAT"] = "3s"
	s["ICHOR_SETTLE"] = "1s"
	s["ICHOR_ABSENCE_WINDOW"] = "1s"
	return s
}

// Start runs everything with one worker and ends it with the test.
func Start(t *testing.T, o Options) *Rig {
	t.Helper()
	settings := Scaled()
	for k, v := range o.Settings {
		settings[k] = v
	}
	var args []string
	if o.SharedAPIServers {
		args = append(args, "--shared-apiservers")
	}
	home, root, bin, err := stack.Suite()
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{Home: home, site: sites[home.Name], root: root, dir: folder(t), bin: bin}
	started.Add(1)
	s, err := stack.Start(t.Context(), stack.Options{
		Bin: r.bin, Dir: r.dir, Speed: Speed, UIPort: -1, Settings: settings, CloudArgs: args,
		LoopbackPrefix: "127.150",
	})
	r.Stack = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the stack: %v", err)
		}
	})
	if err != nil {
		t.Fatalf("start: %v\n%s", err, s.Tail(30))
	}
	r.Proxy, err = killer.Start(s.TemporalAddress, func(task killer.Task, m killer.Moment) bool {
		return o.Hook != nil && o.Hook(r, task, m)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Proxy.Close(); err != nil {
			t.Errorf("close the proxy: %v", err)
		}
	})
	if r.Temporal, err = s.Dial(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Temporal.Close)
	r.Spec = r.demo(t)
	r.crew = &crew{stack: s, env: []string{"TEMPORAL_ADDRESS=" + r.Proxy.Address()}}
	t.Cleanup(r.crew.dismiss)
	if err := r.crew.hire(t.Context()); err != nil {
		t.Fatalf("first worker: %v\n%s", err, s.Tail(30))
	}
	return r
}

// Kill ends the worker that an attempt belongs to, unless it is dead already,
// and starts the next one.
func (r *Rig) Kill(task killer.Task) { r.crew.kill(task.Worker) }

// Republish stores the spec's bodies anew; deleting a cluster forgets them.
func (r *Rig) Republish(t *testing.T) {
	t.Helper()
	r.Spec = r.demo(t)
}

// Kills counts the workers killed so far.
func (r *Rig) Kills() int {
	n, _ := r.crew.state()
	return n
}

// Provision runs ProvisionCluster to its end.
func (r *Rig) Provision(ctx context.Context) (workflows.ProvisionResult, error) {
	var out workflows.ProvisionResult
	err := r.run(ctx, workflows.TypeProvisionCluster, workflows.ProvisionInput{Cluster: r.Spec}, &out)
	return out, err
}

// Delete runs DeleteCluster to its end.
func (r *Rig) Delete(ctx context.Context) (workflows.DeleteResult, error) {
	var out workflows.DeleteResult
	err := r.run(ctx, workflows.TypeDeleteCluster, workflows.DeleteInput{Name: Cluster}, &out)
	return out, err
}

// ErrStuck says that a workflow did not end in time.
var ErrStuck = errors.New("the workflow did not end in time")

func (r *Rig) run(ctx context.Context, kind string, in, out any) error {
	id := cluster.LifecycleID(Cluster)
	run, err := r.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue}, kind, in)
	if err != nil {
		return fmt.Errorf("start %s: %w", kind, err)
	}
	done := make(chan error, 1)
	go func() {
		for {
			err := run.Get(ctx, out)
			if err == nil || ctx.Err() != nil || r.ended(ctx, id, run.GetRunID()) {
				done <- err
				return
			}
			time.Sleep(200 * time.Millisecond) // Temporal itself may be away for a moment
		}
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", kind, ErrStuck)
			}
			return err
		case <-tick.C:
			if _, crash := r.crew.state(); crash != nil {
				return crash
			}
		}
	}
}

// ended says whether a run is closed.
func (r *Rig) ended(ctx context.Context, id, run string) bool {
	d, err := r.Temporal.DescribeWorkflowExecution(ctx, id, run)
	return err == nil && d.GetWorkflowExecutionInfo().GetCloseTime() != nil
}

// Explain gathers what helps to understand a failure.
func (r *Rig) Explain(ctx context.Context) string {
	var b strings.Builder
	const name = Cluster
	ids := []string{cluster.LifecycleID(name), cluster.GroupID(name, cluster.ControlPlaneGroup)}
	for _, g := range r.Spec.Spec.NodeGroups {
		ids = append(ids, cluster.GroupID(name, g.Name))
	}
	for _, id := range ids {
		d, err := r.Temporal.DescribeWorkflowExecution(ctx, id, "")
		if err != nil {
			b.WriteString(fmt.Sprintf("%s: %v\n", id, err))
			continue
		}
		b.WriteString(fmt.Sprintf("%s: %s\n", id, d.GetWorkflowExecutionInfo().GetStatus()))
		for _, a := range d.GetPendingActivities() {
			b.WriteString(fmt.Sprintf("  pending %s attempt %d %s: %s %s\n", a.GetActivityType().GetName(), a.GetAttempt(), a.GetState(),
				a.GetLastFailure().GetMessage(), a.GetHeartbeatDetails()))
		}
	}
	if v, err := r.Temporal.QueryWorkflow(ctx, ids[0], "", workflows.QueryProgress); err == nil {
		var p workflows.Progress
		if v.Get(&p) == nil {
			b.WriteString(fmt.Sprintf("progress: %+v\n", p))
		}
	}
	if s, err := r.State(ctx); err == nil {
		b.WriteString(s.String())
		for _, v := range s.Machines() {
			if console, err := r.Console(ctx, v); err == nil {
				b.WriteString(v.Name + ":\n  " + strings.Join(console[max(0, len(console)-8):], "\n  ") + "\n")
			}
		}
	}
	b.WriteString(r.Tail(40))
	return b.String()
}

// folder is the test's own, or one below ICHOR_KEEP that stays for a look at the
// logs.
func folder(t *testing.T) string {
	t.Helper()
	keep := os.Getenv("ICHOR_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	dir := filepath.Join(keep, strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o750)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// demo is the demo's cluster with two workers only: three control planes, the
// least with a quorum, and one group.
func (r *Rig) demo(t *testing.T) cluster.Cluster {
	t.Helper()
	c, err := r.Home.Spec(r.root, Cluster)
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), store.Options{URL: "file://" + filepath.Join(r.dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	}()
	for i, m := range c.Spec.Manifests {
		body, err := os.ReadFile(m.File)
		if err != nil {
			t.Fatal(err)
		}
		ref, sum, err := st.PutBody(t.Context(), Cluster, secrets.NewValue(body))
		if err != nil {
			t.Fatal(err)
		}
		c.Spec.Manifests[i].Source = cluster.Source{Ref: ref, SHA256: sum}
	}
	c.Spec.NodeGroups = c.Spec.NodeGroups[:1]
	c.Spec.NodeGroups[0].Count = new(2)
	c.Spec.NodeGroups[0].Extensions = r.site.extensions
	return c
}
