package aws

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

var _ cloud.Images = (*Provider)(nil)

// Talos' publisher and what it publishes: images without extensions, under one
// name for each version, region and architecture (Talos, AWS guide).
const (
	talosOwner = "540036508848"
	// stockSchematic is the Image Factory's id of "no customization".
	stockSchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"
)

// ours is what the API calls the account itself.
const ours = "self"

// publishedName is the name of a published image.
func publishedName(s cloud.ImageSpec, region string) string {
	return "talos-" + s.Version + "-" + region + "-" + s.Arch
}

// ami is an image of the account, or somebody else's.
type ami struct {
	cloud.Image
	snapshot string // of its root volume
	created  string
	tags     map[string]string
}

// EnsureImage implements cloud.Images. An image that Talos publishes is used as
// it is: nothing is created, marked or removed. Others are imported, which begins
// with an empty snapshot: until the image is registered, its id is the
// snapshot's. Images are regional, so a name is unique in the account's region.
func (p *Provider) EnsureImage(ctx context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	sendBy := p.calls.SendBy()
	op := "import image " + req.Spec.Name
	switch {
	case req.Spec.Name == "" || req.User.Cluster.UID == "":
		return cloud.ImageLook{}, fault.New(fault.Internal, op, "an image needs a name and a user")
	case req.Spec.Arch != "amd64" && req.Spec.Arch != "arm64":
		return cloud.ImageLook{}, fault.New(fault.Invalid, op, "the architecture %q is unknown", req.Spec.Arch)
	}
	if req.Spec.Schematic == stockSchematic {
		look, err := p.published(ctx, op, req.Spec)
		if err != nil || look.Image != nil {
			return look, err
		}
	}
	look, err := p.lookForImage(ctx, req)
	if err != nil || look.Image != nil || !req.Create {
		return look, err
	}
	return p.startImport(ctx, req, sendBy)
}

// published finds an image of Talos' publisher.
func (p *Provider) published(ctx context.Context, op string, s cloud.ImageSpec) (cloud.ImageLook, error) {
	found, err := p.describeImages(ctx, op, &ec2.DescribeImagesInput{
		Owners: []string{talosOwner}, Filters: []types.Filter{filter("name", publishedName(s, p.region))},
	})
	if err != nil {
		return cloud.ImageLook{}, err
	}
	found = slices.DeleteFunc(found, func(a ami) bool { return a.State != cloud.ImageReady })
	if len(found) == 0 {
		return cloud.ImageLook{}, nil
	}
	// Of one that was published again the newest; clusters pin what they found.
	best := slices.MaxFunc(found, func(a, b ami) int { return cmp.Or(strings.Compare(a.created, b.created), strings.Compare(a.ID, b.ID)) })
	best.Name, best.Users = s.Name, nil
	return cloud.ImageLook{Image: &best.Image}, nil
}

// lookForImage adopts, repairs and marks what was imported, or is being.
func (p *Provider) lookForImage(ctx context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	var look cloud.ImageLook
	images, snapshots, err := p.imported(ctx, "look for image "+req.Spec.Name, filter("tag:"+cluster.TagImage, req.Spec.Name))
	if err != nil {
		return look, err
	}
	mark := map[string]string{cluster.TagImageUser + req.User.Cluster.UID: req.User.Cluster.Name}
	if len(images) > 0 {
		im := images[0]
		if err := p.markImage(ctx, &im.Image, im.tags, mark, im.ID, im.snapshot); err != nil {
			return look, err
		}
		look.Image = &im.Image
		return look, nil
	}
	for n, s := range snapshots {
		if n == 0 {
			im := s.image()
			if err := p.markImage(ctx, &im, s.tags, mark, s.id); err != nil {
				return look, err
			}
			look.Image = &im
			continue
		}
		p.log.WarnContext(ctx, "removing a duplicate snapshot", "image", req.Spec.Name, "kept", snapshots[0].id, "duplicate", s.id)
		if err := p.deleteSnapshot(ctx, s.id); err != nil {
			return look, err
		}
		look.Removed++
	}
	return look, nil
}

// imported lists images of the account and the snapshots that belong to none of
// them, each the one to keep first. Failed ones are as good as none.
func (p *Provider) imported(ctx context.Context, op string, f types.Filter) ([]ami, []snapshot, error) {
	snapshots, err := p.describeSnapshots(ctx, op, &ec2.DescribeSnapshotsInput{OwnerIds: []string{ours}, Filters: []types.Filter{f}})
	if err != nil {
		return nil, nil, err
	}
	images, err := p.describeImages(ctx, op, &ec2.DescribeImagesInput{Owners: []string{ours}, Filters: []types.Filter{f}})
	if err != nil {
		return nil, nil, err
	}
	images = slices.DeleteFunc(images, func(a ami) bool { return a.State == cloud.ImageFailed })
	slices.SortFunc(images, func(a, b ami) int { return cmp.Or(strings.Compare(a.created, b.created), strings.Compare(a.ID, b.ID)) })
	snapshots = slices.DeleteFunc(snapshots, func(s snapshot) bool {
		return s.state == types.SnapshotStateError || slices.ContainsFunc(images, func(a ami) bool { return a.snapshot == s.id })
	})
	slices.SortFunc(snapshots, func(a, b snapshot) int { return cmp.Or(a.started.Compare(b.started), strings.Compare(a.id, b.id)) })
	return images, snapshots, nil
}

// markImage adds tags to an image, or to what it is made of.
func (p *Provider) markImage(ctx context.Context, im *cloud.Image, have, add map[string]string, ids ...string) error {
	if cloud.MissingTags(add, have) == "" {
		return nil
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == "" })
	err := p.change(ctx, "mark image "+im.Name, "CreateTags", func(ctx context.Context) error {
		_, err := p.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: ec2Tags(add)})
		return err
	})
	if err != nil {
		return err
	}
	have = maps.Clone(have)
	maps.Copy(have, add)
	im.Users = cloud.ImageUsers(have)
	return nil
}

func (p *Provider) unmarkImage(ctx context.Context, name, mark string, ids ...string) error {
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == "" })
	return p.change(ctx, "unmark image "+name, "DeleteTags", func(ctx context.Context) error {
		_, err := p.ec2.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: ids, Tags: []types.Tag{{Key: sdk.String(mark)}}})
		return err
	})
}

func (p *Provider) describeImages(ctx context.Context, op string, in *ec2.DescribeImagesInput) ([]ami, error) {
	return pages(ctx, p, op, "DescribeImages", func(ctx context.Context, token *string) ([]ami, *string, error) {
		in.NextToken = token
		page, err := p.ec2.DescribeImages(ctx, in)
		if err != nil {
			return nil, nil, err
		}
		var out []ami
		for n := range page.Images {
			a := amiOf(&page.Images[n])
			at, err := time.Parse(time.RFC3339, a.created)
			if err != nil {
				at = time.Time{}
			}
			p.seen.Saw(a.ID, at)
			out = append(out, a)
		}
		return out, page.NextToken, nil
	})
}

func amiOf(i *types.Image) ami {
	tags := tagMap(i.Tags)
	out := ami{
		Image: cloud.Image{
			ID: sdk.ToString(i.ImageId), Name: cmp.Or(tags[cluster.TagImage], sdk.ToString(i.Name)), State: imageState(i.State), Users: cloud.ImageUsers(tags),
		},
		created: sdk.ToString(i.CreationDate), tags: tags,
	}
	if i.StateReason != nil && out.State == cloud.ImageFailed {
		out.Message = exchange.Clip(sdk.ToString(i.StateReason.Message))
	}
	for _, b := range i.BlockDeviceMappings {
		if b.Ebs != nil && sdk.ToString(b.DeviceName) == sdk.ToString(i.RootDeviceName) {
			out.snapshot = sdk.ToString(b.Ebs.SnapshotId)
		}
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

// GetImage implements cloud.Images. For the id of an import it goes on with it,
// and answers with the image's own id once there is one.
func (p *Provider) GetImage(ctx context.Context, id string) (cloud.Image, error) {
	const op = "read image"
	switch {
	case !plausibleID(id):
		return cloud.Image{}, fault.New(fault.Invalid, op, "%q is not an id of this cloud", id)
	case strings.HasPrefix(id, snapshotPrefix):
		return p.importing(ctx, id)
	}
	found, err := p.describeImages(ctx, op, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if fault.Is(err, fault.NotFound) || err == nil && len(found) == 0 {
		return cloud.Image{}, p.seen.Absent(op, id)
	}
	if err != nil {
		return cloud.Image{}, err
	}
	return found[0].Image, nil
}

// ReleaseImage implements cloud.Images. It is called until released.
func (p *Provider) ReleaseImage(ctx context.Context, spec cloud.ImageSpec, user cloud.Owner) (bool, error) {
	op := "release image " + spec.Name
	if spec.Name == "" || user.Cluster.UID == "" {
		return false, fault.New(fault.Internal, op, "an image needs a name and a user")
	}
	images, snapshots, err := p.imported(ctx, op, filter("tag:"+cluster.TagImage, spec.Name))
	if err != nil {
		return false, err
	}
	mark := cluster.TagImageUser + user.Cluster.UID
	// A snapshot that nobody has marked is what is left of an image.
	mine := func(tags map[string]string) bool { return tags[mark] != "" || len(cloud.ImageUsers(tags)) == 0 }
	released := true
	for _, a := range images {
		switch {
		case !mine(a.tags):
		case len(a.Users) > 1:
			if err := p.unmarkImage(ctx, a.Name, mark, a.ID, a.snapshot); err != nil {
				return false, err
			}
		default:
			released = false // until it is not listed any more
			if err := p.removeImage(ctx, &a); err != nil {
				return false, err
			}
		}
	}
	for _, s := range snapshots {
		switch {
		case !mine(s.tags):
		case len(cloud.ImageUsers(s.tags)) > 1:
			if err := p.unmarkImage(ctx, spec.Name, mark, s.id); err != nil {
				return false, err
			}
		default:
			released = false
			if err := p.deleteSnapshot(ctx, s.id); err != nil {
				return false, err
			}
		}
	}
	return released, nil
}

// removeImage removes an image and what it was made of.
func (p *Provider) removeImage(ctx context.Context, a *ami) error {
	err := p.calls.Call(ctx, exchange.Request{Op: "delete image " + a.Name, Action: "DeregisterImage", Verb: exchange.Remove}, func(ctx context.Context) error {
		_, err := p.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: sdk.String(a.ID)})
		return err
	})
	if err != nil && codeOf(err) != codeNoImage {
		return err
	}
	p.seen.Deleted(a.ID)
	if a.snapshot == "" {
		return nil
	}
	return p.deleteSnapshot(ctx, a.snapshot)
}

// ListImages implements cloud.Images. Its reads are one Whole, as those of
// ListResources.
func (p *Provider) ListImages(ctx context.Context, user cloud.Owner) ([]cloud.Image, error) {
	if user.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "list images", "the user has no cluster uid")
	}
	images, snapshots, err := p.imported(exchange.Whole(ctx), "list images", filter("tag-key", cluster.TagImageUser+user.Cluster.UID))
	if err != nil {
		return nil, err
	}
	out := []cloud.Image{}
	for _, a := range images {
		out = append(out, a.Image)
	}
	for _, s := range snapshots {
		out = append(out, s.image())
	}
	slices.SortFunc(out, func(a, b cloud.Image) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return out, nil
}
