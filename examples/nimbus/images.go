package nimbus

import (
	"context"
	"maps"
	"net/http"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

const images = "/v1/images"

// EnsureImage implements cloud.Images. The image is known by its name, which says its
// content, and carries a label for each cluster that uses it.
func (p *Provider) EnsureImage(ctx context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	sendBy := p.calls.SendBy()
	found, err := p.list(ctx, images, "name", req.Spec.Name)
	if err != nil {
		return cloud.ImageLook{}, err
	}
	mark := cluster.TagImageUser + req.User.Cluster.UID
	if len(found) > 0 && imageOf(found[0]).State != cloud.ImageFailed {
		o := found[0]
		if _, marked := o.Labels[mark]; !marked {
			o.Labels[mark] = req.User.Cluster.Name
			err = p.relabel(ctx, o)
		}
		im := imageOf(o)
		return cloud.ImageLook{Image: &im}, err
	}
	if !req.Create {
		return cloud.ImageLook{}, nil
	}
	if len(found) > 0 { // a failed import keeps the name
		if err := p.remove(ctx, images, found[0].ID); err != nil {
			return cloud.ImageLook{}, err
		}
	}
	in := object{Name: req.Spec.Name, Zone: req.Spec.Zone, URL: req.Spec.URL, Labels: map[string]string{cluster.TagImage: req.Spec.Name, mark: req.User.Cluster.Name}}
	var made object
	if err := p.do(ctx, exchange.Request{Op: "import image " + in.Name, Verb: exchange.Create, SendBy: sendBy}, http.MethodPost, images, in, &made); err != nil {
		return cloud.ImageLook{}, err
	}
	im := imageOf(made)
	return cloud.ImageLook{Image: &im, Created: true}, nil
}

// relabel replaces the labels of an image. The API has nothing that compares before it
// writes; callers hold the image's lock.
func (p *Provider) relabel(ctx context.Context, o object) error {
	return p.do(ctx, exchange.Request{Op: "mark image " + o.Name, Verb: exchange.Change}, http.MethodPut, images+"/"+o.ID+"/labels", o.Labels, nil)
}

// GetImage implements cloud.Images.
func (p *Provider) GetImage(ctx context.Context, id string) (cloud.Image, error) {
	o, err := p.get(ctx, images, id)
	return imageOf(o), err
}

// ReleaseImage implements cloud.Images.
func (p *Provider) ReleaseImage(ctx context.Context, spec cloud.ImageSpec, user cloud.Owner) (bool, error) {
	found, err := p.list(ctx, images, "name", spec.Name)
	if err != nil || len(found) == 0 {
		return err == nil, err
	}
	o := found[0]
	maps.DeleteFunc(o.Labels, func(k, _ string) bool { return k == cluster.TagImageUser+user.Cluster.UID })
	switch {
	case o.Labels[cluster.TagImage] != spec.Name:
		return false, fault.New(fault.Unsafe, "release image "+spec.Name, "%s has the name and not the label", o.ID)
	case len(cloud.ImageUsers(o.Labels)) == 0:
		err = p.remove(ctx, images, o.ID)
	default:
		err = p.relabel(ctx, o)
	}
	return err == nil, err
}

// ListImages implements cloud.Images.
func (p *Provider) ListImages(ctx context.Context, user cloud.Owner) ([]cloud.Image, error) {
	found, err := p.list(ctx, images, "label", cluster.TagImageUser+user.Cluster.UID+"="+user.Cluster.Name)
	out := []cloud.Image{}
	for _, o := range found {
		out = append(out, imageOf(o))
	}
	return out, err
}

func imageOf(o object) cloud.Image {
	im := cloud.Image{ID: o.ID, Name: o.Name, State: cloud.ImageImporting, Users: cloud.ImageUsers(o.Labels)}
	switch o.State {
	case "ready":
		im.State = cloud.ImageReady
	case "failed":
		im.State, im.Message = cloud.ImageFailed, o.Reason
	}
	return im
}
