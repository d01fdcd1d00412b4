package workflows

import (
	"errors"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// HoldImage takes an image into use for a cluster, importing it if needed, or
// gives it back. Its workflow id is the lock of the image: two clusters at once
// never import twice, and the last user's release never races a new use.
func HoldImage(ctx workflow.Context, in ImageInput) (ImageResult, error) {
	if err := checkID(ctx, cluster.ImageID(in.Cloud.Provider, in.Account, in.Image.Name), TypeHoldImage); err != nil {
		return ImageResult{}, err
	}
	d := &desk{site: in.Site, parks: true}
	d.handleResume(ctx)
	user := cloud.Owner{Cluster: in.User}
	if in.Release {
		return ImageResult{}, do(ctx, d, d.waiting("release "+in.Image.Name, d.timing().Delete), aCloud.ReleaseImage,
			activities.ReleaseImageInput{Cloud: in.Cloud, Image: in.Image, User: user})
	}
	ev := &plan.Evidence{}
	look := imageTry(d, in.Cloud, cloud.EnsureImageRequest{Spec: in.Image, User: user})
	image, err := ensure(ctx, d, ev, look)
	if err == nil && image.State != cloud.ImageReady {
		var done cloud.Image
		done, err = call(ctx, d, d.waiting("import "+in.Image.Name, d.timing().Image), aCloud.WaitImage,
			activities.WaitImageInput{Cloud: in.Cloud, ID: image.ID})
		image = &done
	}
	if err != nil {
		// What was sent but not answered is settled before the lock is given
		// back, so that the next holder sees the truth.
		calm, cancel := workflow.NewDisconnectedContext(ctx)
		defer cancel()
		if ev.Pending {
			if _, serr := find(calm, d, ev, look); serr != nil {
				workflow.GetLogger(ctx).Warn("an image import could not be settled", "image", in.Image.Name, "error", serr)
			}
		}
		return ImageResult{}, err
	}
	return ImageResult{ID: image.ID}, nil
}

func imageTry(d *desk, c cluster.Cloud, req cloud.EnsureImageRequest) try[cloud.Image] {
	return func(ctx workflow.Context, create bool) (*cloud.Image, error) {
		req.Create = create
		opts := d.short("look for image " + req.Spec.Name)
		if create {
			opts = d.once("import image " + req.Spec.Name)
		}
		out, err := call(ctx, d, opts, aCloud.EnsureImage, activities.EnsureImageInput{Cloud: c, EnsureImageRequest: req})
		return out.Image, err
	}
}

// imageInput names the image by content and zone: an image is imported into the
// zone of its users.
func imageInput(ref cluster.Ref, spec cluster.Spec, f cluster.Frozen, site Site) ImageInput {
	return ImageInput{
		Cloud: spec.Cloud, Account: site.Account, User: ref, Site: site,
		Image: cloud.ImageSpec{
			Name: f.Image + "-" + spec.Cloud.Zone, Schematic: f.Schematic, Version: f.TalosVersion, Arch: f.Architecture(), URL: f.ImageURL, Zone: spec.Cloud.Zone,
		},
	}
}

// holdImage runs HoldImage when nobody else holds the image, waiting its turn.
func holdImage(ctx workflow.Context, d *desk, in ImageInput) (ImageResult, error) {
	summary := "use image " + in.Image.Name
	if in.Release {
		summary = "release image " + in.Image.Name
	}
	for {
		var out ImageResult
		err := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID:            cluster.ImageID(in.Cloud.Provider, in.Account, in.Image.Name),
			WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
			WaitForCancellation:   true,
			StaticSummary:         summary,
		}), HoldImage, in).Get(ctx, &out)
		if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return out, err
		}
		if err := workflow.Sleep(ctx, d.timing().Backoff); err != nil {
			return out, err
		}
	}
}

// isNotRunning reports whether a signal found no running workflow.
func isNotRunning(err error) bool {
	var unknown *temporal.UnknownExternalWorkflowExecutionError
	return errors.As(err, &unknown) || kindOf(err) == fault.NotFound
}
