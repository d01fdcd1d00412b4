package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// resourceTry looks for, or creates, one infrastructure resource.
func resourceTry(d *desk, c cluster.Cloud, req cloud.EnsureResourceRequest) try[cloud.Resource] {
	return func(ctx workflow.Context, create bool) (*cloud.Resource, error) {
		req.Create = create
		opts := d.short("look for " + req.Step.Title)
		if create {
			opts = d.once("create " + req.Step.Title)
		}
		out, err := call(ctx, d, opts, aCloud.EnsureResource, activities.EnsureResourceInput{Cloud: c, EnsureResourceRequest: req})
		return out.Resource, err
	}
}

// ensureResource creates or adopts a resource and waits until it is ready.
func ensureResource(ctx workflow.Context, d *desk, c cluster.Cloud, req cloud.EnsureResourceRequest, ev *plan.Evidence) (cloud.Resource, error) {
	r, err := ensure(ctx, d, ev, resourceTry(d, c, req))
	if err != nil {
		return cloud.Resource{}, err
	}
	if r.Ready {
		return *r, nil
	}
	return call(ctx, d, d.waiting("wait for "+req.Step.Title, d.timing().Running), aCloud.WaitResource,
		activities.WaitResourceInput{Cloud: c, Resource: *r})
}

// removeResource deletes a resource if it exists, once nothing of it can be
// under way.
func removeResource(ctx workflow.Context, d *desk, c cluster.Cloud, req cloud.EnsureResourceRequest, ev *plan.Evidence) error {
	req.Doomed = true
	r, err := find(ctx, d, ev, resourceTry(d, c, req))
	if err != nil || r == nil {
		return err
	}
	return do(ctx, d, d.waiting("delete "+req.Step.Title, d.timing().Delete), aCloud.DeleteResource,
		activities.DeleteResourceInput{Cloud: c, Resource: *r})
}
