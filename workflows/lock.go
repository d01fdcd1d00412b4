package workflows

import (
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/fault"
)

// checkID refuses a workflow that does not run under the id which its input
// implies: the id is the lock. Nothing is done but to look who holds the lock,
// for the message.
func checkID(ctx workflow.Context, want, kind string) error {
	got := workflow.GetInfo(ctx).WorkflowExecution.ID
	if got == want {
		return nil
	}
	d := &desk{}
	opts := d.short("find who holds " + want)
	opts.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 2}
	holder, err := call(ctx, d, opts, aLocks.FindHolder, activities.FindHolderInput{WorkflowID: want})
	held := "Nothing was done."
	if err == nil && holder.RunID != "" {
		held = "Nothing was done; run " + holder.RunID + " (" + holder.Type + ") holds that lock now."
	}
	return fail(fault.Invalid,
		"this %s must run under the workflow id %q, which is its lock, not %q. %s Start it with: temporal workflow start --type %s --task-queue %s --workflow-id %s --fail-existing --input-file FILE",
		kind, want, got, held, kind, TaskQueue, want)
}

// checkScheduledID is checkID for workflows that a schedule starts: it appends
// the time to their id, and no lock is needed.
func checkScheduledID(ctx workflow.Context, want, kind string) error {
	if got := workflow.GetInfo(ctx).WorkflowExecution.ID; !strings.HasPrefix(got, want) {
		return fail(fault.Invalid, "this %s is started by the schedule %q, not under %q; nothing was done", kind, want, got)
	}
	return nil
}
