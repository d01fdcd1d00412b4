package workflows

import (
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// removeMachines deletes every machine that carries the cluster's tag, whoever
// made it.
func (l *lifecycle) removeMachines(ctx workflow.Context) (int, error) {
	owned, err := l.owned(ctx)
	if err != nil {
		return 0, err
	}
	var first error
	done := 0
	sem, wg := workflow.NewSemaphore(ctx, deletesAtOnce), workflow.NewWaitGroup(ctx)
	for _, m := range owned.Machines {
		wg.Add(1)
		workflow.GoNamed(ctx, "delete "+m.Name, func(ctx workflow.Context) {
			defer wg.Done()
			err := sem.Acquire(ctx, 1)
			if err == nil {
				defer sem.Release(1)
				err = do(ctx, &l.desk, l.waiting("delete "+m.Name, l.timing().Delete), aCloud.DeleteMachine,
					activities.DeleteMachineInput{Cloud: l.spec.Cloud, Ref: m.Ref})
			}
			if err == nil {
				done++
			} else if first == nil {
				first = err
			}
		})
	}
	wg.Wait(ctx)
	return done, first
}

// removeResources deletes the infrastructure in the cloud's own order.
func (l *lifecycle) removeResources(ctx workflow.Context, step string) (int, error) {
	owned, err := l.owned(ctx)
	if err != nil {
		return 0, err
	}
	for i, r := range owned.Resources {
		if step != "" {
			l.at(ctx, step, "%d of %d: %s %s", i+1, len(owned.Resources), r.Kind, r.Name)
		}
		err := do(ctx, &l.desk, l.waiting("delete "+r.Kind+" "+r.Name, l.timing().Delete), aCloud.DeleteResource,
			activities.DeleteResourceInput{Cloud: l.spec.Cloud, Resource: r})
		if err != nil {
			return i, err
		}
	}
	return len(owned.Resources), nil
}

func (l *lifecycle) releaseImage(ctx workflow.Context, f cluster.Frozen) error {
	for _, i := range f.Images() {
		in := imageInput(l.ref(), l.spec, i, l.site)
		in.Release = true
		if _, err := holdImage(ctx, &l.desk, in); err != nil {
			return err
		}
	}
	return nil
}

// proofRounds is how often what appears late is deleted before somebody has to
// look: more than that is not late, it is being made.
const proofRounds = 10

// proveEmpty lists until nothing is owned. When a create may be under way that
// nobody answers for, one empty list is not enough. What appears is deleted, with
// also for what is neither machine nor resource, and the proof begins again.
func (l *lifecycle) proveEmpty(ctx workflow.Context, unknown bool, also func(workflow.Context) error) error {
	for round := 0; ; round++ {
		ev := plan.Evidence{Pending: unknown, Since: workflow.Now(ctx)}
		owned, err := find(ctx, &l.desk, &ev, func(ctx workflow.Context, _ bool) (*activities.ListOwnedResult, error) {
			out, err := l.owned(ctx)
			if err != nil || out.Empty() {
				return nil, err
			}
			return &out, nil
		})
		if err != nil || owned == nil {
			l.progress.Remaining = nil
			return err
		}
		l.progress.Remaining = describe(*owned)
		l.details(ctx)
		if round == proofRounds {
			return fail(fault.Conflict, "%d resources keep appearing: %s", len(l.progress.Remaining), strings.Join(l.progress.Remaining, ", "))
		}
		if round > 0 {
			if err := workflow.Sleep(ctx, 5*l.timing().Backoff); err != nil {
				return err
			}
		}
		if err := also(ctx); err != nil {
			return err
		}
		if _, err := l.removeMachines(ctx); err != nil {
			return err
		}
		if _, err := l.removeResources(ctx, ""); err != nil {
			return err
		}
	}
}

// groupOf returns the group's name out of its workflow id.
func groupOf(id string) string { return id[strings.LastIndex(id, "/")+1:] }
