package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
	"github.com/ichor-project/ichor/workflows"
)

const (
	// rollLimit bounds one roll with what goes before it.
	rollLimit = 90 * time.Minute
	// steady is for how long a node's gates must hold, the product's default.
	steady = 10 * time.Second
	// rollAim is the most that a roll may take, over the ideal one.
	rollAim = 1.10
)

// roll is one upgrade of a cluster with many workers.
type roll struct {
	workers int
	window  int
	// holds is for how long gates had to hold here, and node what devcloud's
	// machines need for their part, both divided by the speed.
	holds, node time.Duration

	nodes []rolled      // workers, in the order of their beginning
	whole time.Duration // the run of RollingUpgrade, with everything before and after
	busy  float64
	// spent by type of workflow.
	spent      map[string]usage
	heartbeats int
}

// rolled is the work on one node, as its history tells.
type rolled struct {
	name         string
	began, ended time.Time
	// waits are the activities in which the machine was waited for.
	waits map[string]time.Duration
}

func (r rolled) took() time.Duration { return r.ended.Sub(r.began) }

func (r rolled) waited() time.Duration {
	sum := time.Duration(0)
	for _, d := range r.waits {
		sum += d
	}
	return sum
}

// machineWaits are the activities that last as long as the machine takes, in
// their order. The others look, ask or write something down.
var machineWaits = []string{"PullImage", "InstallTalos", "DrainForWork", "RebootNode", "WaitBooted", "WaitGates"}

// wall is from the beginning of the first worker to the end of the last.
func (r roll) wall() time.Duration {
	last := r.nodes[0].ended
	for _, n := range r.nodes {
		if n.ended.After(last) {
			last = n.ended
		}
	}
	return last.Sub(r.nodes[0].began)
}

// ideal is how long the workers take at least if a node may begin in the moment
// in which another one ends: of those in the window the next begins where the
// first becomes free.
func ideal(nodes []time.Duration, window int) time.Duration {
	if window < 1 {
		return 0
	}
	free := make([]time.Duration, window)
	for _, d := range nodes {
		i := slices.Index(free, slices.Min(free))
		free[i] += d
	}
	return slices.Max(free)
}

func (r roll) each(f func(rolled) time.Duration) []time.Duration {
	out := make([]time.Duration, 0, len(r.nodes))
	for _, n := range r.nodes {
		out = append(out, f(n))
	}
	return out
}

// The three ideals: of whole nodes, of the waits for their machines, and of what
// devcloud's machines are set to need.
func (r roll) idealNodes() time.Duration { return ideal(r.each(rolled.took), r.window) }
func (r roll) idealWaits() time.Duration { return ideal(r.each(rolled.waited), r.window) }
func (r roll) idealCloud() time.Duration {
	return ideal(r.each(func(rolled) time.Duration { return r.node + r.holds }), r.window)
}

// together is how many workers were at work at once at most.
func (r roll) together() int {
	most := 0
	for _, n := range r.nodes {
		count := 0
		for _, o := range r.nodes {
			if !o.began.After(n.began) && o.ended.After(n.began) {
				count++
			}
		}
		most = max(most, count)
	}
	return most
}

// machineTime is what a machine of devcloud needs to run another system, in
// simulated time.
func machineTime(t talosnode.Timings) time.Duration {
	return t.ImagePull + t.Install + t.ServiceStop + t.Boot + max(t.KubeletStart, t.TimeSync)
}

// upgrades measures rolls over the workers of clusters.
func upgrades(ctx context.Context, s settings) (string, error) {
	host := watchHost()
	var all []roll
	for _, n := range s.rolls {
		fmt.Fprintf(os.Stderr, "roll of %d, %d at a time, at %gx\n", n, s.window, s.rollSpeed)
		one, err := s.upgrade(ctx, n)
		if err != nil {
			return "", fmt.Errorf("%d workers: %w", n, err)
		}
		fmt.Fprint(os.Stderr, one.explain())
		all = append(all, one)
	}
	return upgradeText(s, host(), all), nil
}

// upgrade provisions a cluster on a fast cloud and rolls its workers to other
// extensions: install, drain and reboot.
func (s settings) upgrade(ctx context.Context, workers int) (out roll, err error) {
	ctx, cancel := context.WithTimeout(ctx, rollLimit)
	defer cancel()
	root, err := os.Getwd()
	if err != nil {
		return out, err
	}
	sys, err := s.begin(ctx, "upgrade-"+strconv.Itoa(workers), s.rollSpeed, waits(s.rollSpeed, onCloudscale))
	if err != nil {
		return out, err
	}
	defer func() { err = joinEnd(sys.explain(err), sys) }()
	spec, err := writeSpec(sys.Stack, onCloudscale, root, shape{1, workers})
	if err != nil {
		return out, err
	}
	if err := sys.provision(ctx, s.bin, spec); err != nil {
		return out, err
	}
	scaled := func(d time.Duration) time.Duration { return time.Duration(float64(d) / s.rollSpeed) }
	out = roll{workers: workers, window: s.window, holds: scaled(steady), node: scaled(machineTime(talosnode.DefaultTimings()))}
	before, err := sys.worker.heartbeats(ctx)
	if err != nil {
		return out, err
	}
	began, busy := time.Now(), processors()
	if err := sys.roll(ctx, &out); err != nil {
		return out, err
	}
	out.busy = busy()
	after, err := sys.worker.heartbeats(ctx)
	if err != nil {
		return out, err
	}
	out.heartbeats = after - before
	if err := sys.follow(ctx, &out, began); err != nil {
		return out, err
	}
	return out, out.check()
}

// provision makes a cluster and waits for it.
func (s *system) provision(ctx context.Context, bin, spec string) error {
	if _, err := ichor(ctx, s.Stack, filepath.Join(bin, "ichor"), "provision", "-f", spec, "--detach"); err != nil {
		return err
	}
	return s.temporal.GetWorkflow(ctx, cluster.LifecycleID(clusterName), "").Get(ctx, nil)
}

// roll runs RollingUpgrade as any client would, without watching.
func (s *system) roll(ctx context.Context, r *roll) error {
	run, err := s.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: cluster.LifecycleID(clusterName), TaskQueue: workflows.TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, workflows.TypeRollingUpgrade, workflows.UpgradeInput{
		Cluster:       clusterName,
		UpgradeChange: activities.UpgradeChange{Extensions: []string{"siderolabs/qemu-guest-agent"}},
		Strategy: plan.UpgradeStrategy{
			MaxUnavailable: strconv.Itoa(r.window), Stable: cluster.Duration(r.holds), SingleControlPlane: true,
		},
	})
	if err != nil {
		return err
	}
	began := time.Now()
	var result workflows.UpgradeResult
	// A roll that parks would wait for somebody for ever.
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- run.Get(waiting, &result) }()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			r.whole = time.Since(began)
			if err == nil && result.Upgraded != r.workers+1 {
				err = fmt.Errorf("%s; want %d nodes", result.Message, r.workers+1)
			}
			return err
		case <-tick.C:
			if why := s.parked(ctx); why != "" {
				return errors.New("the roll parks: " + why)
			}
		}
	}
}

// parked asks rarely, since each question is an action; none is in a history.
func (s *system) parked(ctx context.Context) string {
	v, err := s.temporal.QueryWorkflow(ctx, cluster.LifecycleID(clusterName), "", workflows.QueryUpgrade)
	var st workflows.UpgradeStatus
	if err != nil || v.Get(&st) != nil {
		return "" // asked again
	}
	return st.Parked
}

// check refuses a measurement of something else.
func (r roll) check() error {
	if len(r.nodes) != r.workers {
		return fmt.Errorf("%d workers were worked on, want %d", len(r.nodes), r.workers)
	}
	if most := r.together(); most > r.window {
		return fmt.Errorf("%d nodes were at work at once, at most %d may be", most, r.window)
	}
	for _, n := range r.nodes {
		for _, name := range machineWaits {
			if _, ok := n.waits[name]; !ok {
				return fmt.Errorf("%s: its history has no %s", n.name, name)
			}
		}
	}
	return nil
}
