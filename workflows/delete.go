package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
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
	d.unknown = rec.Phase != cluster.PhaseReady
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
		name := groupOf(id)
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

func (d *deletion) machines(ctx workflow.Context) error {
	n, err := d.removeMachines(ctx)
	d.result.Machines += n
	return err
}

// resources deletes the infrastructure in the cloud's own order.
func (d *deletion) resources(ctx workflow.Context) error {
	n, err := d.removeResources(ctx, stepResources)
	d.result.Resources += n
	return err
}

func (d *deletion) release(ctx workflow.Context) error {
	for _, f := range d.record.Former {
		if err := d.releaseImage(ctx, frozenOf(f)); err != nil {
			return err
		}
	}
	return d.releaseImage(ctx, d.record.Frozen)
}

// prove lists until nothing is owned; what appears late is deleted, its group
// ended.
func (d *deletion) prove(ctx workflow.Context) error {
	return d.proveEmpty(ctx, d.unknown, func(ctx workflow.Context) error {
		if err := d.endGroups(ctx); err != nil {
			return err
		}
		return d.release(ctx)
	})
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
