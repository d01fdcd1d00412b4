package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// Steps of DeleteCluster, as people read them.
const (
	stepFind      = "find the cluster"
	stepEnd       = "end node groups"
	stepMachines  = "delete remaining machines"
	stepResources = "delete network and endpoint"
	stepRelease   = "release the image"
	stepProve     = "prove that nothing remains"
	stepForget    = "forget secrets"
)

var deleteSteps = []string{stepFind, stepEnd, stepMachines, stepResources, stepRelease, stepProve, stepForget}

// DeleteCluster removes everything that carries the cluster's tags and proves it
// by listing. It works for a half-made cluster, after the loss of the Temporal
// database, and when run twice.
func DeleteCluster(ctx workflow.Context, in DeleteInput) (DeleteResult, error) {
	if err := checkID(ctx, cluster.LifecycleID(in.Name), TypeDeleteCluster); err != nil {
		return DeleteResult{}, err
	}
	d := &deletion{name: in.Name}
	d.parks = true
	if err := d.begin(ctx, TypeDeleteCluster, cluster.Ref{Name: in.Name}, cluster.PhaseDeleting, deleteSteps); err != nil {
		return DeleteResult{}, err
	}
	for _, s := range []phase{
		{stepFind, d.find},
		{stepEnd, d.endGroups},
		{stepMachines, d.machines},
		{stepResources, d.resources},
		{stepRelease, d.release},
		{stepProve, d.prove},
		{stepForget, d.forget},
	} {
		if err := d.step(ctx, s.name, s.do); err != nil {
			d.progress.Failure = failureOf(err)
			d.details(ctx)
			return DeleteResult{}, err
		}
		if d.done {
			break
		}
	}
	return d.result, nil
}

// deletion is a running DeleteCluster.
type deletion struct {
	lifecycle
	name   string
	record cluster.Record
	result DeleteResult
	done   bool
	// settled says that nothing can be under way that listing does not show.
	settled bool
}

// find reads the record, the one thing that survives everything else.
func (d *deletion) find(ctx workflow.Context) error {
	rec, err := call(ctx, &d.desk, d.short("read the record"), aRecords.GetRecord, activities.GetRecordInput{Name: d.name})
	if kindOf(err) == fault.NotFound {
		return fail(fault.NotFound, "there is no cluster %q and never was one in this store", d.name)
	}
	if err != nil {
		return err
	}
	d.record, d.spec, d.progress.Cluster = rec, rec.Spec, rec.Ref
	d.result.Cluster = rec.Ref
	if rec.Phase == cluster.PhaseDeleted {
		d.done = true
		d.result.Message = fmt.Sprintf("cluster %q (uid %s) was deleted before; nothing was to be done", d.name, rec.Ref.UID)
		d.phase(ctx, cluster.PhaseDeleted)
		return nil
	}
	d.phase(ctx, cluster.PhaseDeleting)
	d.settled = rec.Phase == cluster.PhaseReady
	if _, err := call(ctx, &d.desk, d.short("mark the record"), aRecords.UpdateRecord,
		activities.RecordChange{Ref: rec.Ref, Phase: cluster.PhaseDeleting}); err != nil {
		return err
	}
	site, err := call(ctx, &d.desk, d.short("open the cloud account"), aCloud.OpenAccount, activities.OpenAccountInput{Cloud: d.spec.Cloud})
	if err != nil {
		return err
	}
	d.site = Site{Account: site.Account, Capabilities: site.Capabilities, Timing: site.Timing}
	return nil
}

// endGroups lets every group finish by itself: only it knows what it has under
// way.
func (d *deletion) endGroups(ctx workflow.Context) error {
	if err := d.endSweeps(ctx); err != nil {
		return err
	}
	var first error
	wg := workflow.NewWaitGroup(ctx)
	for _, id := range d.record.Entities {
		name := id[strings.LastIndex(id, "/")+1:]
		wg.Add(1)
		workflow.GoNamed(ctx, "end "+name, func(ctx workflow.Context) {
			defer wg.Done()
			if err := d.endGroup(ctx, name, "the cluster is being deleted"); err != nil && first == nil {
				first = err
			}
			d.result.Machines += d.group(name).removed
		})
	}
	wg.Wait(ctx)
	return first
}

// machines deletes what no group deleted.
func (d *deletion) machines(ctx workflow.Context) error {
	owned, err := d.owned(ctx)
	if err != nil {
		return err
	}
	var first error
	sem, wg := workflow.NewSemaphore(ctx, deletesAtOnce), workflow.NewWaitGroup(ctx)
	for _, m := range owned.Machines {
		wg.Add(1)
		workflow.GoNamed(ctx, "delete "+m.Name, func(ctx workflow.Context) {
			defer wg.Done()
			err := sem.Acquire(ctx, 1)
			if err == nil {
				defer sem.Release(1)
				err = do(ctx, &d.desk, d.waiting("delete "+m.Name, d.timing().Delete), aCloud.DeleteMachine,
					activities.DeleteMachineInput{Cloud: d.spec.Cloud, Ref: m.Ref})
			}
			if err != nil && first == nil {
				first = err
			}
			d.result.Machines++
		})
	}
	wg.Wait(ctx)
	return first
}

// resources deletes the infrastructure in the cloud's own order.
func (d *deletion) resources(ctx workflow.Context) error {
	owned, err := d.owned(ctx)
	if err != nil {
		return err
	}
	for i, r := range owned.Resources {
		d.at(ctx, stepResources, "%d of %d: %s %s", i+1, len(owned.Resources), r.Kind, r.Name)
		err := do(ctx, &d.desk, d.waiting("delete "+r.Kind+" "+r.Name, d.timing().Delete), aCloud.DeleteResource,
			activities.DeleteResourceInput{Cloud: d.spec.Cloud, Resource: r})
		if err != nil {
			return err
		}
		d.result.Resources++
	}
	return nil
}

func (d *deletion) release(ctx workflow.Context) error {
	if d.record.Frozen.Image == "" {
		return nil
	}
	in := imageInput(d.ref(), d.spec, d.record.Frozen, d.site)
	in.Release = true
	_, err := holdImage(ctx, &d.desk, in)
	return err
}

// prove lists until nothing is owned. When a create may still be under way whose
// owner is unknown, one empty list is not enough.
func (d *deletion) prove(ctx workflow.Context) error {
	ev := plan.Evidence{Pending: !d.settled, Since: workflow.Now(ctx)}
	for {
		owned, err := find(ctx, &d.desk, &ev, func(ctx workflow.Context, _ bool) (*activities.ListOwnedResult, error) {
			out, err := d.owned(ctx)
			if err != nil || out.Empty() {
				return nil, err
			}
			return &out, nil
		})
		if err != nil {
			return err
		}
		if owned == nil {
			return nil
		}
		// Something appeared late: delete it and begin the proof again.
		d.progress.Remaining = describe(*owned)
		d.details(ctx)
		for _, again := range []func(workflow.Context) error{d.machines, d.resources, d.release} {
			if err := again(ctx); err != nil {
				return err
			}
		}
		d.progress.Remaining = nil
		ev = plan.Evidence{Pending: !d.settled, Since: workflow.Now(ctx)}
	}
}

func (d *deletion) forget(ctx workflow.Context) error {
	err := do(ctx, &d.desk, d.short("forget secrets, close the record"), aRecords.ForgetCluster, activities.ForgetClusterInput{Ref: d.ref()})
	if err != nil {
		return err
	}
	d.result.Message = fmt.Sprintf("cluster %q is deleted: nothing with its tags is left in the account", d.name)
	d.phase(ctx, cluster.PhaseDeleted)
	return nil
}
