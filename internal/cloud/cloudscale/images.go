package cloudscale

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// firmwareUEFI is what Talos boots with; the API's default is BIOS. The user
// data handling matters as much: the other one puts a cloud-init header before
// the machine config, and the node waits in maintenance mode for ever.
const firmwareUEFI = "uefi"

// imported is an import and its image: both have the same id.
type imported struct {
	cloud.Image
	tags    sdk.TagMap
	created time.Time // of the image; zero while there is only an import
	exists  bool      // the image itself is listed
}

// EnsureImage implements cloud.Images. A failed import is never adopted, so that
// the next create tries again.
func (p *Provider) EnsureImage(ctx context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	sendBy := p.calls.SendBy()
	body, err := importRequest(req)
	if err != nil {
		return cloud.ImageLook{}, err
	}
	look, err := p.lookForImage(ctx, req)
	if err != nil || look.Image != nil || !req.Create {
		return look, err
	}
	var made *sdk.CustomImageImport
	op := "import image " + req.Spec.Name
	err = p.calls.Call(ctx, exchange.Request{Op: op, Verb: exchange.Create, SendBy: sendBy}, func(ctx context.Context) (err error) {
		made, err = p.sdk.CustomImageImports.Create(ctx, body)
		return err
	})
	if err != nil {
		return look, err
	}
	if problem := cloud.MissingTags(*body.Tags, made.Tags); problem != "" || !plausibleID(made.UUID) {
		return look, fault.New(fault.Internal, op, "the cloud made something else: %s", cmp.Or(problem, "it has no id"))
	}
	im := imageOf(made.UUID, made.Tags, importState(made.Status), made.ErrorMessage)
	return cloud.ImageLook{Image: &im, Created: true}, nil
}

func importRequest(req cloud.EnsureImageRequest) (*sdk.CustomImageImportRequest, error) {
	op := "import image " + req.Spec.Name
	if req.Spec.Name == "" || req.User.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, op, "an image needs a name and a user")
	}
	u, err := url.Parse(req.Spec.URL)
	if err != nil || u.Host == "" {
		return nil, fault.New(fault.Invalid, op, "the image's URL is not one")
	}
	format := strings.TrimPrefix(path.Ext(u.Path), ".")
	if format != "qcow2" && format != "raw" {
		return nil, fault.New(fault.Invalid, op, "the cloud imports .qcow2 and .raw, not %q", path.Base(u.Path))
	}
	r := &sdk.CustomImageImportRequest{
		URL: req.Spec.URL, Name: req.Spec.Name, Slug: slug(req.Spec.Name),
		UserDataHandling: string(sdk.UserDataHandlingPassThrough), FirmwareType: firmwareUEFI, SourceFormat: format,
	}
	if req.Spec.Zone != "" {
		r.Zones = []string{req.Spec.Zone}
	}
	r.Tags = &sdk.TagMap{
		cluster.TagImage: req.Spec.Name,
		cluster.TagImageUser + req.User.Cluster.UID: req.User.Cluster.Name,
	}
	return r, nil
}

// slug is short enough for the API whatever the name. Nothing refers to it.
func slug(name string) string { return "ichor-" + cloud.Fingerprint("image", name) }

// lookForImage adopts, repairs and marks.
func (p *Provider) lookForImage(ctx context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	var look cloud.ImageLook
	have, err := p.images(ctx, cluster.TagImage, req.Spec.Name)
	if err != nil {
		return look, err
	}
	have = slices.DeleteFunc(have, func(i imported) bool { return i.State == cloud.ImageFailed })
	if len(have) == 0 {
		return look, nil
	}
	slices.SortFunc(have, better)
	best := have[0]
	for _, extra := range have[1:] {
		if !extra.exists {
			continue // nothing deletes a running import; its image is a duplicate later
		}
		p.log.WarnContext(ctx, "removing a duplicate image", "image", req.Spec.Name, "kept", best.ID, "duplicate", extra.ID)
		// What others marked stays theirs: their marks move to the one that is kept.
		if err := p.markImage(ctx, &best, func(t sdk.TagMap) { copyMarks(t, extra.tags) }); err != nil {
			return look, err
		}
		if err := erase(ctx, p, "image "+extra.Name, extra.ID, p.sdk.CustomImages.Delete); err != nil {
			return look, err
		}
		look.Removed++
	}
	err = p.markImage(ctx, &best, func(t sdk.TagMap) { t[cluster.TagImageUser+req.User.Cluster.UID] = req.User.Cluster.Name })
	if err != nil {
		return look, err
	}
	look.Image = &best.Image
	return look, nil
}

// better orders duplicates: ready before importing, then the oldest, then the
// lowest id.
func better(a, b imported) int {
	rank := map[cloud.ImageState]int{cloud.ImageReady: 0, cloud.ImageImporting: 1, cloud.ImageFailed: 2}
	return cmp.Or(rank[a.State]-rank[b.State], a.created.Compare(b.created), strings.Compare(a.ID, b.ID))
}

func copyMarks(to, from sdk.TagMap) {
	for k, v := range from {
		if strings.HasPrefix(k, cluster.TagImageUser) {
			to[k] = v
		}
	}
}

// images lists imports and images by one tag, imports first: an import that ends
// in between is then seen as its image.
func (p *Provider) images(ctx context.Context, key, value string) ([]imported, error) {
	imports, err := listTagged(ctx, p, "image imports", p.sdk.CustomImageImports, key, value)
	if err != nil {
		return nil, err
	}
	list, err := listTagged(ctx, p, "images", p.sdk.CustomImages, key, value)
	if err != nil {
		return nil, err
	}
	matches := func(t sdk.TagMap) bool {
		v, ok := t[key]
		return ok && (value == "" || v == value)
	}
	var out []imported
	for _, i := range list {
		if matches(i.Tags) {
			out = append(out, imported{Image: imageOf(i.UUID, i.Tags, cloud.ImageReady, ""), tags: i.Tags, created: i.CreatedAt, exists: true})
		}
	}
	for _, i := range imports {
		state := importState(i.Status)
		at := slices.IndexFunc(out, func(o imported) bool { return o.ID == i.UUID })
		switch {
		case at >= 0 && state == cloud.ImageFailed:
			out[at].State, out[at].Message = state, i.ErrorMessage
		case at < 0 && matches(i.Tags) && state != cloud.ImageReady: // a done one without image: the image was deleted
			out = append(out, imported{Image: imageOf(i.UUID, i.Tags, state, i.ErrorMessage), tags: i.Tags})
		}
	}
	return out, nil
}

func imageOf(id string, tags sdk.TagMap, state cloud.ImageState, message string) cloud.Image {
	return cloud.Image{ID: id, Name: tags[cluster.TagImage], State: state, Message: message, Users: cloud.ImageUsers(tags)}
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

// markImage changes the tags of an image, which the API replaces as a whole, and
// proves it by reading back. While an import runs there is no image to mark yet:
// NotYet.
func (p *Provider) markImage(ctx context.Context, im *imported, edit func(sdk.TagMap)) error {
	want := maps.Clone(im.tags)
	edit(want)
	if maps.Equal(want, im.tags) {
		return nil
	}
	op := "mark image " + im.Name
	if !im.exists {
		return fault.New(fault.NotYet, op, "its import has not ended yet")
	}
	// The list may be old; the others' marks must not be lost.
	now, err := get(ctx, p, "image", p.sdk.CustomImages, im.ID)
	if err != nil {
		return err
	}
	if want = maps.Clone(now.Tags); want == nil {
		want = sdk.TagMap{}
	}
	edit(want)
	err = p.calls.Call(ctx, exchange.Request{Op: op, Verb: exchange.Change}, func(ctx context.Context) error {
		r := &sdk.CustomImageRequest{}
		r.Tags = &want
		return p.sdk.CustomImages.Update(ctx, im.ID, r)
	})
	if err != nil {
		return err
	}
	if now, err = get(ctx, p, "image", p.sdk.CustomImages, im.ID); err != nil {
		return err
	}
	if !maps.Equal(now.Tags, want) {
		return fault.New(fault.Conflict, op, "its tags were changed by somebody else at the same time")
	}
	im.tags, im.Users = want, cloud.ImageUsers(want)
	return nil
}

// GetImage implements cloud.Images.
func (p *Provider) GetImage(ctx context.Context, id string) (cloud.Image, error) {
	i, err := get(ctx, p, "image import", p.sdk.CustomImageImports, id)
	if err == nil && importState(i.Status) != cloud.ImageReady {
		return imageOf(id, i.Tags, importState(i.Status), i.ErrorMessage), nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return cloud.Image{}, err
	}
	// The image has the marks; and imports may be forgotten before it is.
	im, err := get(ctx, p, "image", p.sdk.CustomImages, id)
	if err != nil {
		return cloud.Image{}, err
	}
	return imageOf(id, im.Tags, cloud.ImageReady, ""), nil
}

// ReleaseImage implements cloud.Images. It is called until released.
func (p *Provider) ReleaseImage(ctx context.Context, spec cloud.ImageSpec, user cloud.Owner) (bool, error) {
	have, err := p.images(ctx, cluster.TagImage, spec.Name)
	if err != nil {
		return false, err
	}
	mark := cluster.TagImageUser + user.Cluster.UID
	released := true
	for _, im := range have {
		_, marked := im.tags[mark]
		switch {
		case !marked || !im.exists && im.State == cloud.ImageFailed:
		case !im.exists: // a running import cannot be stopped: wait for its image
			released = false
		case len(im.Users) > 1:
			if err := p.markImage(ctx, &im, func(t sdk.TagMap) { delete(t, mark) }); err != nil {
				return false, err
			}
		default:
			if err := p.removeImage(ctx, im.ID, mark); err != nil {
				return false, err
			}
			released = false // until it is not listed any more
		}
	}
	return released, nil
}

// removeImage deletes an image that nobody else uses, which is read again first.
func (p *Provider) removeImage(ctx context.Context, id, mark string) error {
	now, err := get(ctx, p, "image", p.sdk.CustomImages, id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, uid := range cloud.ImageUsers(now.Tags) {
		if cluster.TagImageUser+uid != mark {
			return fault.New(fault.Conflict, "delete image "+now.Name, "somebody else began to use it")
		}
	}
	return erase(ctx, p, "image "+now.Name, id, p.sdk.CustomImages.Delete)
}

// ListImages implements cloud.Images. Failed imports are no images: nothing
// remains of them.
func (p *Provider) ListImages(ctx context.Context, user cloud.Owner) ([]cloud.Image, error) {
	if user.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "list images", "the user has no cluster uid")
	}
	have, err := p.images(ctx, cluster.TagImageUser+user.Cluster.UID, "")
	if err != nil {
		return nil, err
	}
	out := []cloud.Image{}
	for _, im := range have {
		if im.exists || im.State == cloud.ImageImporting {
			out = append(out, im.Image)
		}
	}
	slices.SortFunc(out, func(a, b cloud.Image) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return out, nil
}
