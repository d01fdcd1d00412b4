package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// undo is how one thing is taken back. It is recorded before the thing is done.
type undo struct {
	what     undoKind
	group    string
	req      cloud.EnsureResourceRequest
	evidence *plan.Evidence
}

type undoKind int

const (
	undoRecord undoKind = iota
	undoImage
	undoGroup
	undoResource
	undoSweep
)

// rollback takes back what was done, newest first, and then whatever else carries
// the cluster's tags. A compensation that fails is noted and the others go on;
// what remains is listed at the end.
func (p *provision) rollback(ctx workflow.Context, cause error) {
	p.phase(ctx, cluster.PhaseDeleting)
	p.try(ctx, "mark the record", func() error {
		return p.save(ctx, activities.RecordChange{Phase: cluster.PhaseDeleting, Failure: messageOf(cause)})
	})
	steps := slices.Clone(p.undo)
	slices.Reverse(steps)
	clean := true
	for _, u := range steps {
		switch u.what {
		case undoGroup:
			clean = p.try(ctx, "end group "+u.group, func() error { return p.endGroup(ctx, u.group, "rollback") }) && clean
		case undoResource:
			clean = p.try(ctx, "delete "+u.req.Step.Title, func() error {
				return removeResource(ctx, &p.desk, p.spec.Cloud, u.req, u.evidence)
			}) && clean
		case undoImage:
			clean = p.try(ctx, "release the image", func() error { return p.releaseImage(ctx, p.frozen) }) && clean
		case undoSweep:
			clean = p.try(ctx, "end the sweeps", func() error { return p.endSweeps(ctx) }) && clean
		case undoRecord:
			clean = p.clear(ctx) && clean
		}
	}
	if !clean {
		// Half deleted is what it is: only ichor delete goes on from here.
		p.try(ctx, "mark the record", func() error {
			return p.save(ctx, activities.RecordChange{Phase: cluster.PhaseDeleting, Failure: messageOf(cause)})
		})
		p.phase(ctx, cluster.PhaseFailed)
		return
	}
	p.try(ctx, "forget the cluster", func() error {
		return do(ctx, &p.desk, p.short("forget the cluster"), aRecords.ForgetCluster, activities.ForgetClusterInput{Ref: p.ref()})
	})
	p.phase(ctx, cluster.PhaseDeleted)
}

// clear deletes what no compensation knew of and reports whether nothing is left.
func (p *provision) clear(ctx workflow.Context) bool {
	if p.site.Account == "" {
		return p.remains(ctx) // the account was never opened
	}
	ok := p.try(ctx, "delete what is left", func() error {
		return p.proveEmpty(ctx, p.unknown, func(ctx workflow.Context) error { return p.releaseImage(ctx, p.frozen) })
	})
	return p.remains(ctx) && ok
}

// keep leaves everything as it is and says what there is.
func (p *provision) keep(ctx workflow.Context, cause error) {
	p.remains(ctx)
	p.try(ctx, "mark the record", func() error {
		return p.save(ctx, activities.RecordChange{Phase: cluster.PhaseFailed, Failure: messageOf(cause)})
	})
	p.phase(ctx, cluster.PhaseFailed)
}

// remains lists what the cluster owns and reports whether that is nothing.
func (p *provision) remains(ctx workflow.Context) bool {
	if p.site.Account == "" { // the account was never opened
		if p.resumed {
			p.progress.Remaining = []string{"whatever an earlier run of this cluster made: the account could not be asked"}
		}
		return !p.resumed
	}
	owned, err := p.owned(ctx)
	if err != nil {
		p.note(ctx, "could not list what remains: %s", messageOf(err))
		return false
	}
	p.progress.Remaining = describe(owned)
	return owned.Empty()
}

func (p *provision) try(ctx workflow.Context, what string, f func() error) bool {
	if err := f(); err != nil {
		p.note(ctx, "%s failed: %s", what, messageOf(err))
		return false
	}
	return true
}

// outcome says in one sentence what was left behind.
func (p *provision) outcome() string {
	switch {
	case p.progress.Phase == cluster.PhaseDeleted:
		return "everything that was created has been removed"
	case len(p.progress.Remaining) == 0:
		return "nothing remains in the account"
	}
	return fmt.Sprintf("%d resources remain, see the progress; remove them with: ichor delete %s", len(p.progress.Remaining), p.ref().Name)
}

// describe names every resource for people.
func describe(o activities.ListOwnedResult) []string {
	var out []string
	for _, m := range o.Machines {
		out = append(out, fmt.Sprintf("machine %s (%s)", m.Name, m.Ref.Cloud))
	}
	for _, r := range o.Resources {
		out = append(out, fmt.Sprintf("%s %s (%s)", r.Kind, r.Name, r.ID))
	}
	for _, i := range o.Images {
		out = append(out, fmt.Sprintf("use of image %s (%s)", i.Name, i.ID))
	}
	return out
}

// owned lists everything that carries the cluster's tags.
func (l *lifecycle) owned(ctx workflow.Context) (activities.ListOwnedResult, error) {
	return call(ctx, &l.desk, l.short("list what the cluster owns"), aCloud.ListOwned, activities.ListOwnedInput{Cloud: l.spec.Cloud, Owner: l.owner()})
}

// endGroup tells a group to delete its machines and waits until it has. A group
// that does not run has nothing under way; what it left is found by listing.
func (l *lifecycle) endGroup(ctx workflow.Context, name, reason string) error {
	id := cluster.GroupID(l.ref().Name, name)
	req := EndGroup{Cluster: l.ref(), RequestID: workflow.GetInfo(ctx).WorkflowExecution.RunID, Reason: reason}
	l.group(name).ended = false
	for {
		err := workflow.SignalExternalWorkflow(ctx, id, "", SignalEnd, req).Get(ctx, nil)
		if isNotRunning(err) {
			l.unknown = true
			return nil
		}
		if err != nil {
			return err
		}
		told := func() bool { return l.group(name).ended || l.group(name).foreign != "" }
		ended, err := workflow.AwaitWithTimeout(ctx, askAgain, told)
		if ended || err != nil {
			return err
		}
	}
}

// askAgain is after how long without news a group is asked once more: somebody
// may have terminated it.
const askAgain = 5 * time.Minute

func (l *lifecycle) endSweeps(ctx workflow.Context) error {
	return do(ctx, &l.desk, l.short("end the sweeps for orphans"), aSweeps.DeleteSweep, activities.EnsureSweepInput{Ref: l.ref()})
}
