package aws

import (
	"cmp"
	"context"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

var _ cloud.Images = (*Provider)(nil)

// Talos' publisher and what it publishes: images without extensions, in every
// region, under one name for each version and architecture (Talos, AWS guide).
const (
	talosOwner = "540036508848"
	// stockSchematic is the Image Factory's id of "no customization".
	stockSchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"
)

// publishedName is the name of a published image.
func publishedName(s cloud.ImageSpec, region string) string {
	return "talos-" + s.Version + "-" + region + "-" + s.Arch
}

// EnsureImage implements cloud.Images. The images that Talos publishes are used
// as they are: nothing is created, marked or removed. Other schematics have to
// be brought along as AMIs.
func (p *Provider) EnsureImage(ctx context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	op := "find image " + req.Spec.Name
	switch {
	case req.Spec.Name == "" || req.User.Cluster.UID == "":
		return cloud.ImageLook{}, fault.New(fault.Internal, op, "an image needs a name and a user")
	case req.Spec.Arch != "amd64" && req.Spec.Arch != "arm64":
		return cloud.ImageLook{}, fault.New(fault.Invalid, op, "the architecture %q is unknown", req.Spec.Arch)
	case req.Spec.Schematic != stockSchematic:
		return cloud.ImageLook{}, fault.New(fault.Invalid, op,
			"Talos publishes AMIs without extensions only; import the image of schematic %s as an AMI and name it in the group's image", req.Spec.Schematic)
	}
	found, err := p.describeImages(ctx, op, &ec2.DescribeImagesInput{
		Owners: []string{talosOwner}, Filters: []types.Filter{filter("name", publishedName(req.Spec, p.region))},
	})
	if err != nil {
		return cloud.ImageLook{}, err
	}
	found = slices.DeleteFunc(found, func(i types.Image) bool {
		return sdk.ToString(i.OwnerId) != talosOwner || imageState(i.State) != cloud.ImageReady
	})
	if len(found) == 0 {
		if req.Create {
			return cloud.ImageLook{}, fault.New(fault.Invalid, op, "Talos has published no image %s", publishedName(req.Spec, p.region))
		}
		return cloud.ImageLook{}, nil
	}
	// The same name published again: the newest is the one to use, as long as it
	// is pinned once.
	best := slices.MaxFunc(found, func(a, b types.Image) int {
		return cmp.Or(strings.Compare(sdk.ToString(a.CreationDate), sdk.ToString(b.CreationDate)), strings.Compare(sdk.ToString(a.ImageId), sdk.ToString(b.ImageId)))
	})
	im := imageOf(&best)
	im.Name = req.Spec.Name
	return cloud.ImageLook{Image: &im}, nil
}

func (p *Provider) describeImages(ctx context.Context, op string, in *ec2.DescribeImagesInput) ([]types.Image, error) {
	var out []types.Image
	for {
		var page *ec2.DescribeImagesOutput
		err := p.call(ctx, request{op: op, action: "DescribeImages"}, func(ctx context.Context) (err error) {
			page, err = p.ec2.DescribeImages(ctx, in)
			return err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, page.Images...)
		if sdk.ToString(page.NextToken) == "" {
			return out, nil
		}
		in.NextToken = page.NextToken
	}
}

func imageOf(i *types.Image) cloud.Image {
	out := cloud.Image{ID: sdk.ToString(i.ImageId), Name: sdk.ToString(i.Name), State: imageState(i.State)}
	if i.StateReason != nil && out.State == cloud.ImageFailed {
		out.Message = clip(sdk.ToString(i.StateReason.Message))
	}
	return out
}

func imageState(s types.ImageState) cloud.ImageState {
	switch s {
	case types.ImageStateAvailable:
		return cloud.ImageReady
	case types.ImageStatePending, types.ImageStateTransient:
		return cloud.ImageImporting
	case types.ImageStateInvalid, types.ImageStateDeregistered, types.ImageStateFailed, types.ImageStateError, types.ImageStateDisabled:
		return cloud.ImageFailed
	}
	return cloud.ImageImporting
}

// GetImage implements cloud.Images.
func (p *Provider) GetImage(ctx context.Context, id string) (cloud.Image, error) {
	const op = "read image"
	if !plausibleID(id) {
		return cloud.Image{}, fault.New(fault.Invalid, op, "%q is not an id of this cloud", id)
	}
	found, err := p.describeImages(ctx, op, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil {
		return cloud.Image{}, err
	}
	if len(found) == 0 {
		return cloud.Image{}, fault.New(fault.NotFound, op, "%s does not exist, or is not for this account", id)
	}
	return imageOf(&found[0]), nil
}

// ReleaseImage implements cloud.Images: nothing was marked.
func (p *Provider) ReleaseImage(_ context.Context, _ cloud.ImageSpec, _ cloud.Owner) (bool, error) {
	return true, nil
}

// ListImages implements cloud.Images: no image is the user's.
func (p *Provider) ListImages(_ context.Context, user cloud.Owner) ([]cloud.Image, error) {
	if user.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "list images", "the user has no cluster uid")
	}
	return []cloud.Image{}, nil
}
