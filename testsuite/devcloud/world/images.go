package world

import (
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// Image is a custom image.
type Image struct {
	Meta
	Slug             string
	UserDataHandling string
	Firmware         string
	SizeGB           int
	Checksums        map[string]string
	Zones            []string
	guest            guest.Image
}

// Import is the job that makes an image; both have the same UUID.
type Import struct {
	Meta
	URL          string
	Status       string
	ErrorMessage string
	spec         ImportSpec
}

// ImportSpec asks for the import of an image.
type ImportSpec struct {
	URL, Name, Slug, UserDataHandling, Firmware, Format string
	Zones                                               []string
	Tags                                                map[string]string
}

// bootImage resolves what a server request calls its image: the slug of a stock
// image, custom:<slug> (the newest one wins) or the UUID of a custom image.
func (w *World) bootImage(ref, zone string) (BootImage, error) {
	for _, s := range StockImages() {
		if s.Slug == ref {
			return BootImage{Slug: s.Slug, Name: s.Name, OperatingSystem: s.OperatingSystem, Username: s.Username}, nil
		}
	}
	slug, custom := strings.CutPrefix(ref, "custom:")
	for _, i := range slices.Backward(w.images.all()) {
		if i.UUID != ref && (!custom || i.Slug != slug) {
			continue
		}
		if !slices.Contains(i.Zones, zone) {
			return BootImage{}, invalid("image", "Image %s is not available in zone %s.", ref, zone)
		}
		g := i.guest
		g.UUID, g.UserDataHandling, g.Firmware = i.UUID, i.UserDataHandling, i.Firmware
		return BootImage{Slug: "custom:" + i.Slug, Name: i.Name, Guest: g}, nil
	}
	return BootImage{}, refuse(NotFound, "Image not found.")
}
