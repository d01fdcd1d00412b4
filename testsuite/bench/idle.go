package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ichor-project/ichor/activities"
)

const (
	idleSpeed = 100
	idleLimit = time.Hour
	// groupsPerCluster keeps clusters at a size that exists: what a comparison
	// reads is the list of its cluster's machines.
	groupsPerCluster = 20
)

// idleness is what groups cost that nothing happens to.
type idleness struct {
	groups int
	every  time.Duration
	window time.Duration
	before memory // of the worker without any group
	memory memory // at the end
	used   time.Duration
	spent  usage
	calls  int
	rounds float64 // comparisons per group
}

// idle measures a worker with many groups of one machine each, which compare
// themselves with the cloud more often than they would.
func idle(ctx context.Context, s settings) (string, error) {
	host := watchHost()
	fmt.Fprintf(os.Stderr, "%d idle groups for %s\n", s.idle, time.Duration(s.idleRounds)*s.idleEvery)
	out, err := s.rest(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "  %s, %s of a processor, %d actions %v in %.2f rounds\n", out.memory, out.share(), out.spent.total(), out.spent.actions, out.rounds)
	return idleText(s, host(), out), nil
}

func (s settings) rest(ctx context.Context) (out idleness, err error) {
	ctx, cancel := context.WithTimeout(ctx, idleLimit)
	defer cancel()
	sys, err := s.begin(ctx, "idle", idleSpeed, map[string]string{
		"ICHOR_RECONCILE_INTERVAL": s.idleEvery.String(),
		// The rate that the groups would need is scaled with their interval.
		"ICHOR_REQUEST_RATE": fmt.Sprint(max(requestRate, requestRate*float64(activities.DefaultTiming().Reconcile)/float64(s.idleEvery))),
	})
	if err != nil {
		return out, err
	}
	defer func() { err = joinEnd(sys.explain(err), sys) }()
	pid := sys.worker.process.PID()
	if out.before, err = memoryOf(pid); err != nil {
		return out, err
	}
	if _, err := sys.settle(ctx, size{s.idle, 1}, func(g int) string { return fmt.Sprintf("%s-%02d", fleetCluster, g/groupsPerCluster) }); err != nil {
		return out, err
	}
	if err := sys.begun(ctx, s.idle); err != nil {
		return out, err
	}
	from, err := sys.mark(ctx)
	if err != nil {
		return out, err
	}
	select {
	case <-ctx.Done():
		return out, ctx.Err()
	case <-time.After(time.Duration(s.idleRounds) * s.idleEvery):
	}
	to, err := sys.mark(ctx)
	if err != nil {
		return out, err
	}
	log, err := sys.requests(ctx, from.at)
	if err != nil {
		return out, err
	}
	out.groups, out.every, out.window, out.used = s.idle, s.idleEvery, to.at.Sub(from.at), to.used-from.used
	for _, r := range log {
		if r.Time.Before(to.at) {
			out.calls++
		}
	}
	if out.spent, err = accountBetween(ctx, sys.temporal, from.at, to.at); err != nil {
		return out, err
	}
	out.spent.actions["heartbeats"] = to.heartbeats - from.heartbeats
	out.rounds = float64(out.spent.actions["activity attempts"]) / float64(s.idle)
	out.memory, err = memoryOf(pid)
	return out, err
}

// moment is what a worker has used until then.
type moment struct {
	at         time.Time
	used       time.Duration
	heartbeats int
}

func (s *system) mark(ctx context.Context) (m moment, err error) {
	if m.heartbeats, err = s.worker.heartbeats(ctx); err != nil {
		return m, err
	}
	m.used, err = processorOf(s.worker.process.PID())
	m.at = time.Now()
	return m, err
}

// begun waits until no group has anything to do any more: each has learned what
// its nodes look like, which is two activities.
func (s *system) begun(ctx context.Context, groups int) error {
	return until(ctx, 3*time.Second, fmt.Sprintf("%d groups that have begun", groups), func(ctx context.Context) (bool, error) {
		u, err := account(ctx, s.temporal)
		return u.actions["activity attempts"] >= 2*groups, err
	})
}

// share is how much of one processor the worker used.
func (o idleness) share() string {
	return fmt.Sprintf("%.1f%%", 100*o.used.Seconds()/o.window.Seconds())
}

// perHour is a count of the window, per hour at another reconcile interval.
func (o idleness) perHour(n float64, every time.Duration) float64 {
	if o.rounds == 0 || every <= 0 {
		return 0
	}
	return n / o.rounds * float64(time.Hour) / float64(every)
}

func idleText(s settings, host string, o idleness) string {
	var b strings.Builder
	usual := activities.DefaultTiming().Reconcile
	b.WriteString(fmt.Sprintf("## %d idle groups on one worker\n\nWhat groups cost that nobody asks anything of.\n\n", o.groups))
	b.WriteString(made(fmt.Sprintf("-only idle -idle %d -idle-every %s -idle-rounds %d", s.idle, s.idleEvery, s.idleRounds), host))
	b.WriteString(fmt.Sprintf(`- Each group has one ready machine that really is in devcloud's account, and is a running `+"`ScaleNodeGroup`"+`; %d groups make
  a cluster, all clusters share an account, and the worker has all groups in its cache. What is done by itself is the
  comparison with the cloud, which lists the machines of the cluster, by default every %s (`+"`--reconcile-interval`"+`, which
  can be off: then the groups do nothing at all).
- To see enough of it the interval was %s, and the worker was watched for %s: %.2f comparisons per group by the
  number of activities in their histories. Actions, events, calls and processor time are divided by that and multiplied by
  the comparisons of an hour at the default. The request rate of the account was raised as much as the interval was cut.
- Groups also continue as new once a day, which is two actions per group and day and is left out.

| | Measured at %s | At the default, %s |
|---|---|---|
`, groupsPerCluster, interval(usual), interval(o.every), interval(o.window), o.rounds, interval(o.every), interval(usual)))
	b.WriteString(fmt.Sprintf("| Resident memory of the worker | %s | the same |\n", o.memory))
	b.WriteString(fmt.Sprintf("| – before there were groups | %s | |\n", o.before))
	b.WriteString(fmt.Sprintf("| – per group | %.0f KiB | |\n", float64(o.memory.now-o.before.now)/float64(o.groups)/1024))
	b.WriteString(fmt.Sprintf("| Processor time of the worker, of one processor | %s | %.2f%% |\n", o.share(), o.perHour(o.used.Seconds(), usual)/36))
	row := func(name string, n float64) {
		b.WriteString(fmt.Sprintf("| %s per hour | %.0f | %.0f |\n", name, o.perHour(n, o.every), o.perHour(n, usual)))
	}
	row("Billable actions", float64(o.spent.total()))
	for _, kind := range kinds(o.spent) {
		if n := o.spent.actions[kind]; n != 0 {
			row("– "+kind, float64(n))
		}
	}
	row("History events", float64(o.spent.events))
	row("Cloud API calls", float64(o.calls))
	b.WriteString(fmt.Sprintf("| Billable actions per group and hour | %.1f | %.1f |\n\n",
		o.perHour(float64(o.spent.total()), o.every)/float64(o.groups), o.perHour(float64(o.spent.total()), usual)/float64(o.groups)))
	return b.String()
}

// interval shows a duration without empty units.
func interval(d time.Duration) string {
	text := d.Round(time.Second).String()
	if rest, ok := strings.CutSuffix(text, "m0s"); ok {
		text = rest + "m"
	}
	if rest, ok := strings.CutSuffix(text, "h0m"); ok {
		text = rest + "h"
	}
	return text
}
