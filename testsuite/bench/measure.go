package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

const (
	clusterName       = "bench"
	controlPlaneGroup = cluster.ControlPlaneGroup
	// runLimit bounds one run; the largest takes minutes.
	runLimit = 20 * time.Minute
)

// measurement is one run.
type measurement struct {
	path  path
	busy  float64 // share of the machine's processors while provisioning
	spent usage
	calls map[string]int // requests of the product by route
	// controller is how many requests the cluster's cloud controller sent.
	controller int
	nodes      []arrival

	deletion      time.Duration
	deletionPath  time.Duration
	deletionSpent usage
	deletionCalls map[string]int
}

// measure runs a whole system, provisions, deletes and takes everything down.
func (s settings) measure(ctx context.Context, on manner, sh shape, number int) (m measurement, err error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	root, err := os.Getwd()
	if err != nil {
		return m, err
	}
	dir, forget, err := s.folder(fmt.Sprintf("%s-%s-%d", on.provider, sh, number))
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, forget()) }()
	st, err := stack.Start(ctx, stack.Options{
		Bin: s.bin, Dir: dir, Speed: s.speed, LoopbackPrefix: s.prefix, UIPort: -1, Settings: waits(s.speed, on),
	})
	defer func() { err = errors.Join(err, st.Close()) }()
	if err != nil {
		return m, err
	}
	w, err := startWorker(ctx, s.bin, st)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	c, err := st.Dial(ctx)
	if err != nil {
		return m, err
	}
	defer c.Close()
	spec, err := writeSpec(st, on, root, sh)
	if err != nil {
		return m, err
	}
	b := bench{on: on, stack: st, worker: w, client: c, ichor: filepath.Join(s.bin, "ichor"), shape: sh}
	if err := b.provision(ctx, spec, &m); err != nil {
		return m, fmt.Errorf("%w\n%s\n%s", err, st.Tail(20), w.tail(20))
	}
	return m, b.delete(ctx, &m)
}

// folder is where a run keeps its files, and how they are removed.
func (s settings) folder(name string) (string, func() error, error) {
	if s.keep != "" {
		dir, err := filepath.Abs(filepath.Join(s.keep, name))
		if err != nil {
			return "", nil, err
		}
		if _, err := os.Stat(dir); err == nil {
			return "", nil, fmt.Errorf("%s holds an earlier run", dir)
		}
		return dir, func() error { return nil }, nil
	}
	dir, err := os.MkdirTemp("", "ichor-bench-")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// waits are all waits of the product at their defaults, divided by the speed, so
// that they stay in proportion to the cloud. Nothing has a floor.
func waits(speed float64, on manner) map[string]string {
	t := activities.DefaultTiming()
	scale := func(d time.Duration) string { return time.Duration(float64(d) / speed).String() }
	return map[string]string{
		"ICHOR_POLL": scale(t.Poll), "ICHOR_BACKOFF": scale(t.Backoff), "ICHOR_CLOUD_POLL": scale(on.poll),
		"ICHOR_HEARTBEAT": scale(t.Heartbeat), "ICHOR_SETTLE": scale(on.settle), "ICHOR_ABSENCE_WINDOW": scale(on.absence),
		"ICHOR_REQUEST_RATE": strconv.FormatFloat(10*speed, 'f', -1, 64),
	}
}

// bench is a running system with a worker whose metrics can be read.
type bench struct {
	on     manner
	stack  *stack.Stack
	worker *worker
	client client.Client
	ichor  string
	shape  shape
	// What had happened before the operation that is being measured.
	spent usage
	calls map[string]int
}

// provision runs the command without watching: questions for progress are
// actions too, and are asked by people, not by the operation.
func (b *bench) provision(ctx context.Context, spec string, m *measurement) error {
	watch := newObserver(b.on, b.stack, b.shape, b.ichor)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	seen := make(chan error, 1)
	go func() { seen <- watch.watch(watching) }()
	busy := processors()
	if _, err := ichor(ctx, b.stack, b.ichor, "provision", "-f", spec, "--detach"); err != nil {
		return err
	}
	id := cluster.LifecycleID(clusterName)
	if err := b.client.GetWorkflow(ctx, id, "").Get(ctx, nil); err != nil {
		return err
	}
	m.busy = busy()
	if err := <-seen; err != nil {
		return fmt.Errorf("watch the cluster: %w", err)
	}
	o := observed{machineAPI: watch.machineAPI, etcd: watch.etcd, local: watch.local, kubernetes: watch.kubernetes, ready: map[string]time.Time{}, on: b.on}
	for name, n := range watch.nodes {
		o.ready[name] = n.initialised
		m.nodes = append(m.nodes, *n)
	}
	var err error
	if o.names, err = machineNames(ctx, b.stack); err != nil {
		return err
	}
	if err := b.history(ctx, &o); err != nil {
		return err
	}
	if m.path, err = criticalPath(o); err != nil {
		return err
	}
	m.controller = o.controller
	m.spent, m.calls, err = b.since(ctx)
	return err
}

func (b *bench) delete(ctx context.Context, m *measurement) error {
	id := cluster.LifecycleID(clusterName)
	run, err := b.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue},
		workflows.TypeDeleteCluster, workflows.DeleteInput{Name: clusterName})
	if err != nil {
		return err
	}
	if err := run.Get(ctx, nil); err != nil {
		return err
	}
	var state struct{ Count int }
	if err := b.stack.Cloud(ctx, "GET", "/_devcloud/state", nil, &state); err != nil {
		return err
	}
	if state.Count != 0 {
		return fmt.Errorf("%d resources are left after the deletion", state.Count)
	}
	o := observed{on: b.on}
	if err := b.history(ctx, &o); err != nil {
		return err
	}
	m.deletion, m.deletionPath = o.closed.Sub(o.started), b.on.remove(o)
	m.deletionSpent, m.deletionCalls, err = b.since(ctx)
	return err
}

// history reads what the cloud and Temporal know of the last run.
func (b *bench) history(ctx context.Context, o *observed) error {
	d, err := b.client.DescribeWorkflowExecution(ctx, cluster.LifecycleID(clusterName), "")
	if err != nil {
		return err
	}
	o.started, o.closed = d.GetWorkflowExecutionInfo().GetStartTime().AsTime(), d.GetWorkflowExecutionInfo().GetCloseTime().AsTime()
	if err := b.stack.Cloud(ctx, "GET", "/_devcloud/timeline", nil, &o.timeline); err != nil {
		return err
	}
	var all []request
	if err := b.stack.Cloud(ctx, "GET", "/_devcloud/requests", nil, &all); err != nil {
		return err
	}
	for _, r := range all {
		switch {
		case product(r):
			o.requests = append(o.requests, r)
		case controller(r):
			o.controller++
		}
	}
	return nil
}

// since is what was spent since the last call.
func (b *bench) since(ctx context.Context) (usage, map[string]int, error) {
	now, err := account(ctx, b.client)
	if err != nil {
		return now, nil, err
	}
	if now.actions["heartbeats"], err = b.worker.heartbeats(ctx); err != nil {
		return now, nil, err
	}
	var all []request
	if err := b.stack.Cloud(ctx, "GET", "/_devcloud/requests", nil, &all); err != nil {
		return now, nil, err
	}
	calls := map[string]int{}
	for _, r := range all {
		if product(r) {
			calls[route(r)]++
		}
	}
	fresh := maps.Clone(calls)
	for k, n := range b.calls {
		if fresh[k] -= n; fresh[k] == 0 {
			delete(fresh, k)
		}
	}
	spent := now
	if b.calls != nil {
		spent = now.minus(b.spent)
	}
	b.spent, b.calls = now, calls
	return spent, fresh, nil
}
