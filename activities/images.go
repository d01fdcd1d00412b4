package activities

import (
	"context"
	"fmt"
	"slices"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// FreezeInput is a spec and what its cloud can do.
type FreezeInput struct {
	Spec         cluster.Spec       `json:"spec"`
	Capabilities cloud.Capabilities `json:"capabilities"`
}

// FreezeVersions resolves versions, contract, schematic and image once. The
// factory learns the schematic, which is content-addressed: repeating is free.
func (c *Cloud) FreezeVersions(ctx context.Context, in FreezeInput) (cluster.Frozen, error) {
	defer alive(ctx, "asking the Image Factory")()
	flavors, err := c.flavors(ctx, in.Spec.Cloud)
	if err != nil {
		return cluster.Frozen{}, err
	}
	return freezeAll(ctx, c.Factory, in.Spec, in.Capabilities, flavors)
}

func (c *Cloud) flavors(ctx context.Context, spec cluster.Cloud) ([]cloud.Flavor, error) {
	p, _, err := c.Clouds.Open(ctx, spec)
	if err != nil {
		return nil, err
	}
	return p.Flavors(ctx)
}

// freezeAll resolves what the cluster runs, and what those groups run that differ
// by their machines' architecture or by extensions of their own. A group with an
// image that was brought along needs nothing.
func freezeAll(ctx context.Context, factory Factory, spec cluster.Spec, caps cloud.Capabilities, flavors []cloud.Flavor) (cluster.Frozen, error) {
	arch := func(flavor string) string {
		i := slices.IndexFunc(flavors, func(f cloud.Flavor) bool { return f.Name == flavor })
		if i < 0 || flavors[i].Arch == cluster.DefaultArch {
			return ""
		}
		return flavors[i].Arch
	}
	main, err := factory.Freeze(ctx, spec, spec.Talos, arch(spec.ControlPlane.Flavor), caps)
	if err != nil {
		return cluster.Frozen{}, err
	}
	out := main
	for i, g := range spec.NodeGroups {
		talos, own := spec.TalosOf(g.Name), arch(g.Flavor)
		if g.Image != "" || sameTalos(talos, spec.Talos) && own == main.Arch {
			continue
		}
		runs, err := factory.Freeze(ctx, spec, talos, own, caps)
		if err != nil {
			return cluster.Frozen{}, fault.Wrap(fault.KindOf(err), fmt.Sprintf("spec.nodeGroups[%d]", i), err)
		}
		out = out.Vary(g.Name, runs)
	}
	return out, nil
}

func images(ctx context.Context, clouds Clouds, c cluster.Cloud) (cloud.Images, cloud.Capabilities, error) {
	p, _, err := clouds.Open(ctx, c)
	if err != nil {
		return nil, cloud.Capabilities{}, err
	}
	im, ok := p.(cloud.Images)
	if !ok {
		return nil, cloud.Capabilities{}, fault.New(fault.Invalid, "open cloud", "cloud %q imports no images", c.Provider)
	}
	return im, p.Capabilities(), nil
}

// EnsureImageInput asks for an image on behalf of a cluster; Create as for
// machines. The caller holds the image's lock.
type EnsureImageInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	cloud.EnsureImageRequest
}

// EnsureImage adopts or imports an image and marks the cluster as its user.
func (c *Cloud) EnsureImage(ctx context.Context, in EnsureImageInput) (cloud.ImageLook, error) {
	im, _, err := images(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return cloud.ImageLook{}, err
	}
	defer alive(ctx, "ensuring image "+in.Spec.Name)()
	return im.EnsureImage(ctx, in.EnsureImageRequest)
}

// WaitImageInput names an image that is being imported.
type WaitImageInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	ID    string        `json:"id"`
}

// WaitImage returns the image when it is ready. A failed import is Invalid with
// the cloud's reason.
func (c *Cloud) WaitImage(ctx context.Context, in WaitImageInput) (cloud.Image, error) {
	var now cloud.Image
	im, caps, err := images(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return now, err
	}
	err = poll(ctx, "wait for image import", caps.Poll, appearing(caps, func(ctx context.Context) (bool, string, error) {
		i, err := im.GetImage(ctx, in.ID)
		if err != nil {
			return false, "", err
		}
		now = i
		if i.State == cloud.ImageFailed {
			return false, "", fault.New(fault.Invalid, "import image "+i.Name, "the cloud could not import it: %s", i.Message)
		}
		return i.State == cloud.ImageReady, string(i.State), nil
	}))
	return now, err
}

// ReleaseImageInput names an image and the cluster that stops using it.
type ReleaseImageInput struct {
	Cloud cluster.Cloud   `json:"cloud"`
	Image cloud.ImageSpec `json:"image"`
	User  cloud.Owner     `json:"user"`
}

// ReleaseImage removes the cluster's mark, and the image with the last mark. The
// caller holds the image's lock.
func (c *Cloud) ReleaseImage(ctx context.Context, in ReleaseImageInput) error {
	im, caps, err := images(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return err
	}
	return poll(ctx, "release image "+in.Image.Name, caps.Poll, func(ctx context.Context) (bool, string, error) {
		done, err := im.ReleaseImage(ctx, in.Image, in.User)
		return done, "is being released", err
	})
}
