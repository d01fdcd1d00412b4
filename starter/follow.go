package main

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/workflows"
)

const (
	// pollEvery is how often a run is asked for its progress. A query costs the
	// worker about 2 ms and writes no history.
	pollEvery = 500 * time.Millisecond
	// quietAfter is how long a run may leave questions unanswered before that
	// is said.
	quietAfter = 10 * time.Second
)

// view shows a run as it goes on.
type view interface {
	// progress is called with every answer of the run.
	progress(p workflows.Progress)
	// notice shows a line that is not part of the run.
	notice(text string)
	// tick is called often, so that elapsed times move.
	tick()
	// end is called once; nothing is shown afterwards.
	end()
}

// follow shows a lifecycle run until it ends and reads its result. When ctx ends
// first, the run goes on, and the error says only that watching has stopped.
func (a *app) follow(ctx context.Context, c client.Client, name, kind string, run client.WorkflowRun, result any) error {
	v := a.newView(name, kind)
	err := watchRun(ctx, question(c, name, kind, run.GetRunID()), run, result, v)
	v.end()
	if err != nil && ctx.Err() != nil {
		end := "ichor cancel " + name
		if kind == workflows.TypeProvisionCluster {
			end = "ichor delete " + name
		}
		fmt.Fprintf(a.err, "\nStopped watching; the run goes on.\n  come back:  ichor watch %s\n  stop it:    %s\n", name, end)
		return interrupted{}
	}
	return err
}

// followQuietly waits for a run that only looks, and tells what keeps it from
// going on.
func (a *app) followQuietly(ctx context.Context, c client.Client, name string, run client.WorkflowRun, result any) error {
	err := watchRun(ctx, question(c, name, workflows.TypeRollingUpgrade, run.GetRunID()), run, result, &quietView{out: a.err})
	if err != nil && ctx.Err() != nil {
		fmt.Fprintf(a.err, "\nStopped waiting; the run goes on, and changes nothing.\n  come back:  ichor watch %s\n", name)
		return interrupted{}
	}
	return err
}

// question asks a run of a kind how far it is.
func question(c client.Client, name, kind, runID string) func(context.Context) (workflows.Progress, error) {
	if kind == workflows.TypeRollingUpgrade {
		// It may go on in a new run, which is the latest under the lock.
		return func(ctx context.Context) (workflows.Progress, error) { return upgradeProgress(ctx, c, name) }
	}
	return func(ctx context.Context) (workflows.Progress, error) { return progressOf(ctx, c, name, runID) }
}

func watchRun(ctx context.Context, ask func(context.Context) (workflows.Progress, error), run client.WorkflowRun, result any, v view) error {
	done := make(chan error, 1)
	go func() { done <- run.Get(ctx, result) }()
	polling, stop := context.WithCancel(ctx)
	defer stop()
	answers := make(chan answer)
	go poll(polling, ask, answers)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	heard, warned := time.Now(), false
	for {
		select {
		case err := <-done:
			if ctx.Err() == nil {
				// The last word: what happened between the last answer and the end.
				if p, perr := ask(ctx); perr == nil {
					v.progress(p)
				}
			}
			return runFailure(err)
		case ans := <-answers:
			if ans.err == nil {
				heard, warned = time.Now(), false
				v.progress(ans.progress)
			} else if time.Since(heard) > quietAfter && !warned {
				warned = true
				v.notice("no worker answers; the run goes on when ichor-worker does (" + ans.err.Error() + ")")
			}
		case <-tick.C:
			v.tick()
		}
	}
}

type answer struct {
	progress workflows.Progress
	err      error
}

// poll asks until ctx ends.
func poll(ctx context.Context, ask func(context.Context) (workflows.Progress, error), answers chan<- answer) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		p, err := ask(ctx)
		select {
		case answers <- answer{p, err}:
		case <-ctx.Done():
			return
		}
		timer.Reset(pollEvery)
	}
}
