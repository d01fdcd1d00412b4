package cloudscale

import (
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Talos reads its config from user data as it is, and boots by UEFI. The
// platform's defaults are neither: with "extend-cloud-config" the node would
// wait in maintenance mode for ever.
const (
	userDataHandling = "pass-through"
	firmwareType     = "uefi"
)

// imported is an import and its image: both have the same id.
type imported struct {
	cloud.Image
	tags   sdk.TagMap
	exists bool // the image itself is listed
}

// EnsureImage implements cloud.Images.
func (p *Provider) EnsureImage(ctx context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	var out cloud.ImageLook
	begun := p.now()
	have, err := p.images(ctx, cluster.TagImage, req.Spec.Name)
	if err != nil {
		return out, err
	}
	if best, rest := pick(have); best != nil {
		for _, extra := range rest {
			p.log.Warn("deleting a duplicate image", "image", req.Spec.Name, "kept", best.ID, "duplicate", extra.ID)
			if err := p.deleteImage(ctx, extra.ID); err != nil && !fault.Is(err, fault.NotFound) {
				return out, err
			}
			out.Removed++
		}
		users := maps.Clone(best.tags)
		users[cluster.TagImageUser+req.User.Cluster.UID] = req.User.Cluster.Name
		if err := p.markImage(ctx, *best, users); err != nil {
			return out, err
		}
		out.Image = &best.Image
		return out, nil
	}
	if !req.Create {
		return out, nil
	}
	op := "import image " + req.Spec.Name
	if late := p.now().Sub(begun); late > p.s.PostWindow {
		return out, fault.New(fault.Unavailable, op, "looking took %s; nothing was sent", late)
	}
	r := &sdk.CustomImageImportRequest{
		URL: req.Spec.URL, Name: req.Spec.Name, Slug: slug(req.Spec.Name), UserDataHandling: userDataHandling,
		FirmwareType: firmwareType, SourceFormat: strings.TrimPrefix(path.Ext(req.Spec.URL), "."), Zones: []string{req.Spec.Zone},
	}
	r.Tags = &sdk.TagMap{cluster.TagImage: req.Spec.Name, cluster.TagImageUser + req.User.Cluster.UID: req.User.Cluster.Name}
	ctx, cancel := writing(ctx, p.s.CreateTimeout)
	defer cancel()
	made, err := p.sdk.CustomImageImports.Create(ctx, r)
	if err != nil {
		return out, createFault(ctx, op, err)
	}
	out.Image = &cloud.Image{ID: made.UUID, Name: req.Spec.Name, State: importState(made.Status), Message: made.ErrorMessage, Users: []string{req.User.Cluster.UID}}
	out.Created = true
	return out, nil
}

// slug is a short name that the platform accepts.
func slug(name string) string { return strings.ToLower(strings.ReplaceAll(name, ".", "-")) }

// pick keeps a ready image before one that is being imported, and the lower id
// of equals. A failed import is never kept, so that it can be tried again.
func pick(have []imported) (best *imported, rest []imported) {
	rank := func(i imported) int {
		switch i.State {
		case cloud.ImageReady:
			return 0
		case cloud.ImageImporting:
			return 1
		case cloud.ImageFailed:
		}
		return 2
	}
	slices.SortFunc(have, func(a, b imported) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	for i := range have {
		switch {
		case best == nil && rank(have[i]) < 2:
			best = &have[i]
		case have[i].exists:
			rest = append(rest, have[i])
		}
	}
	return best, rest
}

// images lists imports and images by one tag. An import that has ended well is
// known by its image; the tags of the image are the ones that are kept up.
func (p *Provider) images(ctx context.Context, key, value string) ([]imported, error) {
	ctx, cancel := reading(ctx)
	defer cancel()
	filter := sdk.WithTagFilter(sdk.TagMap{key: value})
	imports, err := p.sdk.CustomImageImports.List(ctx, filter)
	if err != nil {
		return nil, readFault(ctx, "list image imports", err)
	}
	ctx, again := reading(ctx)
	defer again()
	list, err := p.sdk.CustomImages.List(ctx, filter)
	if err != nil {
		return nil, readFault(ctx, "list images", err)
	}
	matches := func(t sdk.TagMap) bool {
		v, ok := t[key]
		return ok && (value == "" || v == value)
	}
	var out []imported
	for _, i := range list {
		if matches(i.Tags) {
			im := imported{tags: i.Tags, exists: true}
			im.Image = cloud.Image{ID: i.UUID, Name: i.Tags[cluster.TagImage], State: cloud.ImageReady, Users: users(i.Tags)}
			out = append(out, im)
		}
	}
	for _, i := range imports {
		at := slices.IndexFunc(out, func(o imported) bool { return o.ID == i.UUID })
		state := importState(i.Status)
		switch {
		case at >= 0:
			out[at].State, out[at].Message = state, i.ErrorMessage
		case matches(i.Tags) && state != cloud.ImageReady: // a done import without image: the image was deleted
			im := imported{tags: i.Tags}
			im.Image = cloud.Image{ID: i.UUID, Name: i.Tags[cluster.TagImage], State: state, Message: i.ErrorMessage, Users: users(i.Tags)}
			out = append(out, im)
		}
	}
	return out, nil
}

func importState(status string) cloud.ImageState {
	switch status {
	case "success":
		return cloud.ImageReady
	case "failed":
		return cloud.ImageFailed
	}
	return cloud.ImageImporting
}

func users(t sdk.TagMap) []string {
	var out []string
	for k := range t {
		if uid, ok := strings.CutPrefix(k, cluster.TagImageUser); ok {
			out = append(out, uid)
		}
	}
	slices.Sort(out)
	return out
}

// markImage replaces the tags of an image, which the API does as a whole, and
// proves it by reading back. While an import runs, its image may not take tags
// yet: NotYet.
func (p *Provider) markImage(ctx context.Context, im imported, tags sdk.TagMap) error {
	if maps.Equal(im.tags, tags) {
		return nil
	}
	op := "mark image " + im.Name
	err := func() error {
		ctx, cancel := writing(ctx, deleteTimeout)
		defer cancel()
		r := &sdk.CustomImageRequest{}
		r.Tags = &tags
		if err := p.sdk.CustomImages.Update(ctx, im.ID, r); err != nil {
			return writeFault(ctx, op, err)
		}
		return nil
	}()
	if fault.Is(err, fault.NotFound) && im.State == cloud.ImageImporting {
		return fault.New(fault.NotYet, op, "its import has not ended yet")
	}
	if err != nil {
		return err
	}
	ctx, cancel := reading(ctx)
	defer cancel()
	now, err := p.sdk.CustomImages.Get(ctx, im.ID)
	if err != nil {
		return readFault(ctx, op, err)
	}
	if !maps.Equal(now.Tags, tags) {
		return fault.New(fault.Conflict, op, "its tags were changed by somebody else at the same time")
	}
	return nil
}

// GetImage implements cloud.Images.
func (p *Provider) GetImage(ctx context.Context, id string) (cloud.Image, error) {
	ctx, cancel := reading(ctx)
	defer cancel()
	i, err := p.sdk.CustomImageImports.Get(ctx, id)
	if err == nil {
		return cloud.Image{ID: id, Name: i.Tags[cluster.TagImage], State: importState(i.Status), Message: i.ErrorMessage, Users: users(i.Tags)}, nil
	}
	if f := readFault(ctx, "read image import "+id, err); !fault.Is(f, fault.NotFound) {
		return cloud.Image{}, f
	}
	// Imports are forgotten after a while; their images stay.
	ctx, again := reading(ctx)
	defer again()
	im, err := p.sdk.CustomImages.Get(ctx, id)
	if err != nil {
		return cloud.Image{}, readFault(ctx, "read image "+id, err)
	}
	return cloud.Image{ID: id, Name: im.Tags[cluster.TagImage], State: cloud.ImageReady, Users: users(im.Tags)}, nil
}

// ReleaseImage implements cloud.Images. It ends when no image of the content
// carries the user's mark, so it must be called until released.
func (p *Provider) ReleaseImage(ctx context.Context, spec cloud.ImageSpec, user cloud.Owner) (bool, error) {
	have, err := p.images(ctx, cluster.TagImage, spec.Name)
	if err != nil {
		return false, err
	}
	mark := cluster.TagImageUser + user.Cluster.UID
	released := true
	for _, im := range have {
		if _, ours := im.tags[mark]; !ours || im.State == cloud.ImageFailed && !im.exists {
			continue
		}
		released = false
		rest := maps.Clone(im.tags)
		delete(rest, mark)
		if len(users(rest)) > 0 {
			err = p.markImage(ctx, im, rest)
		} else {
			err = p.deleteImage(ctx, im.ID)
			if fault.Is(err, fault.NotFound) {
				err = nil // an import under way has no image to delete yet: look again
			}
		}
		if err != nil {
			return false, err
		}
	}
	return released, nil
}

func (p *Provider) deleteImage(ctx context.Context, id string) error {
	ctx, cancel := writing(ctx, deleteTimeout)
	defer cancel()
	if err := p.sdk.CustomImages.Delete(ctx, id); err != nil {
		return writeFault(ctx, "delete image "+id, err)
	}
	return nil
}

// ListImages implements cloud.Images.
func (p *Provider) ListImages(ctx context.Context, user cloud.Owner) ([]cloud.Image, error) {
	have, err := p.images(ctx, cluster.TagImageUser+user.Cluster.UID, user.Cluster.Name)
	if err != nil {
		return nil, err
	}
	var out []cloud.Image
	for _, im := range have {
		if im.exists || im.State == cloud.ImageImporting {
			out = append(out, im.Image)
		}
	}
	return out, nil
}
