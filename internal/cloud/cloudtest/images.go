package cloudtest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// images returns the part of the provider under test. A provider without one
// passes: it promises nothing.
func images(t *testing.T, w Cloud) (cloud.Images, bool) {
	t.Helper()
	i, ok := w.Open(t).(cloud.Images)
	return i, ok
}

// testPublished proves that somebody else's image is used and left alone.
func testPublished(t *testing.T, w Cloud) {
	pub, ok := w.(Publisher)
	if !ok {
		return
	}
	p, ok := w.Open(t).(cloud.Images)
	if !ok {
		t.Fatal("the provider has no images")
	}
	user := clusterOwner("u1")
	for _, create := range []bool{false, true} {
		look, err := p.EnsureImage(t.Context(), cloud.EnsureImageRequest{Spec: pub.Published(), User: user, Create: create})
		if err != nil || look.Image == nil || look.Created || look.Image.State != cloud.ImageReady || look.Image.Name != pub.Published().Name {
			t.Fatalf("EnsureImage(%t) = %+v, %v", create, look, err)
		}
		now, err := p.GetImage(t.Context(), look.Image.ID)
		if err != nil || now.State != cloud.ImageReady || now.ID != look.Image.ID {
			t.Errorf("GetImage = %+v, %v", now, err)
		}
	}
	if list, err := p.ListImages(t.Context(), user); err != nil || len(list) != 0 {
		t.Errorf("somebody else's image is listed as the user's: %+v, %v", list, err)
	}
	for range 2 {
		if done, err := p.ReleaseImage(t.Context(), pub.Published(), user); !done || err != nil {
			t.Errorf("ReleaseImage = %t, %v", done, err)
		}
	}
	look, err := p.EnsureImage(t.Context(), cloud.EnsureImageRequest{Spec: pub.Published(), User: user})
	if err != nil || look.Image == nil {
		t.Errorf("after its release: %+v, %v", look, err)
	}
	if n := w.WriteRequests(); n != 0 {
		t.Errorf("%d writes for an image that is somebody else's", n)
	}
}

// useImage takes an image into use and waits until it is ready.
func useImage(t *testing.T, w Cloud, spec cloud.ImageSpec, user cloud.Owner) cloud.Image {
	t.Helper()
	p, _ := images(t, w)
	im, err := drive(t.Context(), settings(t, w), func(ctx context.Context, create bool) (*cloud.Image, error) {
		look, err := p.EnsureImage(ctx, cloud.EnsureImageRequest{Spec: spec, User: user, Create: create})
		return look.Image, err
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the image is ready", func() (bool, error) {
		now, err := p.GetImage(t.Context(), im.ID)
		if err == nil {
			*im = now
		}
		return now.State == cloud.ImageReady, err
	})
	return *im
}

func testImages(t *testing.T, w Cloud) {
	p, ok := images(t, w)
	if !ok {
		return
	}
	spec := w.Image("talos-a")
	one, two := clusterOwner("u1"), clusterOwner("u2")
	look, err := p.EnsureImage(t.Context(), cloud.EnsureImageRequest{Spec: spec, User: one})
	if err != nil || look.Image != nil || w.WriteRequests() != 0 {
		t.Fatalf("look at nothing = %+v, %v, %d writes", look, err, w.WriteRequests())
	}
	first := useImage(t, w, spec, one)
	second := useImage(t, w, spec, two)
	if first.ID != second.ID {
		t.Errorf("two clusters have two images: %s, %s", first.ID, second.ID)
	}
	if diff := cmp.Diff([]string{"u1", "u2"}, second.Users); diff != "" || second.Name != spec.Name {
		t.Errorf("image %+v, users (-want +got):\n%s", second, diff)
	}
	useImage(t, w, w.Image("talos-b"), one)

	machine := w.Machine(owner("u1"), "m1")
	machine.ImageID = first.ID
	if m := create(t, w, machine); m.ImageID != first.ID {
		t.Errorf("machine of image %q, want %q", m.ImageID, first.ID)
	}
	release := func(spec cloud.ImageSpec, o cloud.Owner) {
		t.Helper()
		until(t, "release of "+spec.Name, func() (bool, error) { return p.ReleaseImage(t.Context(), spec, o) })
		list, err := p.ListImages(t.Context(), o)
		if err != nil || slices.ContainsFunc(list, func(i cloud.Image) bool { return i.Name == spec.Name }) {
			t.Errorf("after its release: %+v, %v", list, err)
		}
	}
	release(spec, one)
	release(spec, one) // again
	wantBooks(t, w, "u2", "image", 1)
	if now, err := p.GetImage(t.Context(), first.ID); err != nil || !slices.Equal(now.Users, []string{"u2"}) {
		t.Errorf("the image that somebody uses: %+v, %v", now, err)
	}
	release(w.Image("talos-b"), one)
	wantBooks(t, w, "u1", "image", 0)
	release(spec, two)
	wantBooks(t, w, "u2", "image", 0)
	_, err = p.GetImage(t.Context(), first.ID)
	wantKind(t, err, fault.NotFound)
}

func testImageLost(t *testing.T, w Cloud) {
	if _, ok := images(t, w); !ok {
		return
	}
	for _, e := range []Effect{LostReply, Dropped, Maintenance, Throttled} {
		w.Inject(t, Fault{On: CreateImage, Effect: e})
		useImage(t, w, w.Image("talos-"+string(e)[:4]), clusterOwner("u1"))
		w.Heal()
	}
	wantBooks(t, w, "u1", "image", 4)

	// Marks survive what happens to the requests that set them.
	spec := w.Image("talos-" + string(LostReply)[:4])
	p, _ := images(t, w)
	for _, e := range []Effect{LostReply, Dropped, ServerError} {
		user := clusterOwner("u-" + strings.ReplaceAll(string(e), " ", "-"))
		w.Inject(t, Fault{On: Write, Effect: e})
		useImage(t, w, spec, user)
		w.Heal()
		wantBooks(t, w, user.Cluster.UID, "image", 1)
		w.Inject(t, Fault{On: Write, Effect: e})
		until(t, "release", func() (bool, error) { return p.ReleaseImage(t.Context(), spec, user) })
		w.Heal()
		wantBooks(t, w, user.Cluster.UID, "image", 0)
	}
	wantBooks(t, w, "u1", "image", 4)
	w.Inject(t, Fault{On: Write, Effect: LostReply})
	until(t, "last release", func() (bool, error) { return p.ReleaseImage(t.Context(), spec, clusterOwner("u1")) })
	wantBooks(t, w, "u1", "image", 3)
}

func testImageFails(t *testing.T, w Cloud) {
	p, ok := images(t, w)
	if !ok {
		return
	}
	user := clusterOwner("u1")
	for range 2 { // a failed one is not adopted, it is tried again
		look, err := p.EnsureImage(t.Context(), cloud.EnsureImageRequest{Spec: w.Broken("talos-a"), User: user, Create: true})
		if err != nil || !look.Created {
			t.Fatalf("EnsureImage = %+v, %v", look, err)
		}
		until(t, "the import fails", func() (bool, error) {
			now, err := p.GetImage(t.Context(), look.Image.ID)
			return now.State == cloud.ImageFailed && now.Message != "", err
		})
	}
	until(t, "release", func() (bool, error) { return p.ReleaseImage(t.Context(), w.Image("talos-a"), user) })
	if list, err := p.ListImages(t.Context(), user); err != nil || len(list) != 0 {
		t.Errorf("after failed imports: %+v, %v", list, err)
	}
	useImage(t, w, w.Image("talos-a"), user)
}
