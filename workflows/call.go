package workflows

import (
	"context"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// Nil pointers of the activity structs: they give method values compile-time
// types without an instance.
var (
	aRecords  *activities.Records
	aCloud    *activities.Cloud
	aWatch    *activities.Watch
	aTalos    *activities.Talos
	aKube     *activities.Kube
	aSweeps   *activities.Sweeps
	aLocks    *activities.Locks
	aUpgrades *activities.Upgrades
)

// Site is what a workflow freezes about where it works.
type Site struct {
	Account      string             `json:"account"`
	Capabilities cloud.Capabilities `json:"capabilities"`
	Timing       activities.Timing  `json:"timing"`
}

// desk is what every workflow needs to make calls: the frozen waits, and the
// place where it parks when credentials fail.
type desk struct {
	site Site
	// parks says that a call refused for its credentials waits for resume
	// instead of failing: there is something to lose.
	parks   bool
	parked  string
	resumed int
	// show is called when parked changes.
	show func(ctx workflow.Context)
	// listen receives signals while the workflow is parked, where no coroutine
	// of its own does.
	listen func(ctx workflow.Context)
}

func (d *desk) timing() activities.Timing {
	if d.site.Timing == (activities.Timing{}) {
		return activities.DefaultTiming()
	}
	return d.site.Timing
}

// handleResume listens for resume; it is registered before the first wait.
func (d *desk) handleResume(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalResume)
	workflow.GoNamed(ctx, "resume", func(ctx workflow.Context) {
		for ch.Receive(ctx, nil) {
			d.resumed++
		}
	})
}

func (d *desk) park(ctx workflow.Context, what string, err error) error {
	return d.parkUntil(ctx, what, err, func() bool { return false })
}

// parkUntil parks until somebody resumes or the wait is over by itself.
func (d *desk) parkUntil(ctx workflow.Context, what string, err error, over func() bool) error {
	seen := d.resumed
	d.parked = what + ": " + messageOf(err) + " — fix the credentials, then send the signal " + SignalResume
	d.refresh(ctx)
	werr := workflow.Await(ctx, func() bool {
		if d.listen != nil {
			d.listen(ctx)
		}
		return d.resumed > seen || over()
	})
	d.parked = ""
	d.refresh(ctx)
	return werr
}

func (d *desk) refresh(ctx workflow.Context) {
	if d.show != nil {
		d.show(ctx)
	}
}

// call runs an activity to its result.
func call[In, Out any](ctx workflow.Context, d *desk, opts workflow.ActivityOptions, activity func(context.Context, In) (Out, error), in In) (Out, error) {
	for {
		var out Out
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, opts), activity, in).Get(ctx, &out)
		if d.parks && kindOf(err) == fault.Unauthorized {
			if err := d.park(ctx, opts.Summary, err); err != nil {
				return out, err
			}
			continue
		}
		if unserved(err) && ctx.Err() == nil {
			continue
		}
		return out, err
	}
}

// do is call for activities without a result.
func do[In any](ctx workflow.Context, d *desk, opts workflow.ActivityOptions, activity func(context.Context, In) error, in In) error {
	for {
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, opts), activity, in).Get(ctx, nil)
		if d.parks && kindOf(err) == fault.Unauthorized {
			if err := d.park(ctx, opts.Summary, err); err != nil {
				return err
			}
			continue
		}
		if unserved(err) && ctx.Err() == nil {
			continue
		}
		return err
	}
}

// shortBeat is after how long without a sign of life a short activity counts as
// lost. All of them heartbeat in the background.
const shortBeat = 10 * time.Second

// short is for reads and quick idempotent writes: a minute each, tried for ten.
func (d *desk) short(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary:                summary,
		StartToCloseTimeout:    time.Minute,
		ScheduleToCloseTimeout: 10 * time.Minute,
		HeartbeatTimeout:       min(d.timing().Heartbeat, shortBeat),
		WaitForCancellation:    true, // what is undone next must have been done
		RetryPolicy:            d.retry(),
	}
}

// waiting is for activities that poll: lost workers show by the heartbeat, and
// total bounds all attempts together.
func (d *desk) waiting(summary string, total time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary:                summary,
		StartToCloseTimeout:    total,
		ScheduleToCloseTimeout: total,
		HeartbeatTimeout:       d.timing().Heartbeat,
		RetryPolicy:            d.retry(),
	}
}

// once is for creates: one attempt, because only evidence permits the next.
func (d *desk) once(summary string) workflow.ActivityOptions {
	c := d.site.Capabilities
	return workflow.ActivityOptions{
		Summary:             summary,
		StartToCloseTimeout: c.CreateTimeout + c.PostWindow + 30*time.Second,
		HeartbeatTimeout:    d.timing().Heartbeat,
		WaitForCancellation: true,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
	}
}

func (d *desk) retry() *temporal.RetryPolicy {
	b := d.timing().Backoff
	return &temporal.RetryPolicy{InitialInterval: b, BackoffCoefficient: 1.5, MaximumInterval: 15 * b}
}

// patiently does what may have to wait for a person: when its time is over, park
// says why and waits, and it is tried again.
func patiently(ctx workflow.Context, f func(workflow.Context) error, park func(ctx workflow.Context, why string) error) error {
	for {
		err := f(ctx)
		if kind := kindOf(err); kind != fault.NotYet && kind != fault.Ambiguous && kind != fault.Unavailable || ctx.Err() != nil {
			return err
		}
		if err := park(ctx, messageOf(err)); err != nil {
			return err
		}
	}
}
