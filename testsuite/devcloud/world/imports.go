package world

import (
	"bytes"
	"context"
	"crypto/md5" // the API publishes MD5 sums
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
)

// States of an import.
const (
	ImportStarted    = "started"
	ImportInProgress = "in_progress"
	ImportSuccess    = "success"
	ImportFailed     = "failed"
)

var imageSlug = regexp.MustCompile(`^[a-z0-9-]{0,50}$`)

// ImportImage starts the import of an image. The image exists when the import
// has succeeded, under the UUID of the import.
func (w *World) ImportImage(spec ImportSpec) (Import, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if spec.Firmware == "" {
		spec.Firmware = "bios"
	}
	if spec.Format == "" {
		spec.Format = "raw"
	}
	if len(spec.Zones) == 0 {
		spec.Zones = Zones()
	}
	if err := checkImport(spec); err != nil {
		return Import{}, err
	}
	if over(w.limits.CustomImages, w.images.len()+1) {
		return Import{}, refuse(Quota, QuotaText)
	}
	i := &Import{Meta: w.newMeta(spec.Name, "", spec.Tags), URL: spec.URL, Status: ImportStarted, spec: spec}
	w.imports.add(i)
	w.record("custom_image_import_create", i.Meta)
	w.background(func(ctx context.Context) { w.runImport(ctx, i) })
	return *i, nil
}

func checkImport(spec ImportSpec) error {
	u, err := url.Parse(spec.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return invalid("url", "Enter a valid URL.")
	case spec.Name == "":
		return invalid("name", "This field is required.")
	case !imageSlug.MatchString(spec.Slug):
		return invalid("slug", "Enter a valid slug consisting of lower-case letters, numbers and hyphens.")
	case !slices.Contains([]string{"pass-through", "extend-cloud-config"}, spec.UserDataHandling):
		return invalid("user_data_handling", "%q is not a valid choice.", spec.UserDataHandling)
	case !slices.Contains([]string{"bios", "uefi"}, spec.Firmware):
		return invalid("firmware_type", "%q is not a valid choice.", spec.Firmware)
	case !slices.Contains([]string{"raw", "qcow2", "iso"}, spec.Format):
		return invalid("source_format", "%q is not a valid choice.", spec.Format)
	}
	for _, z := range spec.Zones {
		if !zoneExists(z) {
			return invalid("zones", "Object with slug=%s does not exist.", z)
		}
	}
	return nil
}

func (w *World) runImport(ctx context.Context, i *Import) {
	if w.clock.Sleep(ctx, w.lat.ImageImport/10) != nil {
		return
	}
	w.mu.Lock()
	i.Status = ImportInProgress
	w.mu.Unlock()
	data, err := w.download(ctx, i.URL)
	if err == nil {
		err = checkFormat(i.spec.Format, data)
	}
	if w.clock.Sleep(ctx, w.lat.ImageImport-w.lat.ImageImport/10) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, gone := w.imports.get(i.UUID); gone != nil {
		return
	}
	if err != nil {
		i.Status, i.ErrorMessage = ImportFailed, err.Error()
		w.note("custom_image_import_failed", i.Meta)
		return
	}
	sum5, sum256 := md5.Sum(data), sha256.Sum256(data) // the API publishes MD5 sums
	img := &Image{
		Meta: i.Meta, Slug: i.spec.Slug, UserDataHandling: i.spec.UserDataHandling, Firmware: i.spec.Firmware, SizeGB: 2,
		Zones:     i.spec.Zones,
		Checksums: map[string]string{"md5": hex.EncodeToString(sum5[:]), "sha256": hex.EncodeToString(sum256[:])},
	}
	img.guest, _ = w.describe(i.URL)
	w.images.add(img)
	i.Status = ImportSuccess
	w.record("custom_image_create", img.Meta)
}

// maxImage is far above what stand-ins for images serve.
const maxImage = 64 << 20

// download fetches an image. Its errors are what the API shows.
func (w *World) download(ctx context.Context, address string) ([]byte, error) {
	real, err := w.imageURL(address)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, real, nil)
	if err != nil {
		return nil, err
	}
	res, err := w.client.Do(req)
	if err != nil {
		return nil, errors.New("could not connect to the server")
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxImage))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, errors.New("the download was interrupted")
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("Expected HTTP 200, got HTTP %d", res.StatusCode) //nolint:staticcheck // the API's words
	}
	return data, nil
}

// checkFormat refuses content that is plainly something else.
func checkFormat(format string, data []byte) error {
	magic := map[string][]byte{
		"qcow2": []byte("QFI\xfb"), "xz": {0xfd, '7', 'z', 'X', 'Z', 0}, "gzip": {0x1f, 0x8b}, "zstd": {0x28, 0xb5, 0x2f, 0xfd},
	}
	is := func(name string) bool { return bytes.HasPrefix(data, magic[name]) }
	switch {
	case is("xz") || is("gzip") || is("zstd"):
		return errors.New("the image is compressed, which is not supported")
	case format == "qcow2" && !is("qcow2"):
		return errors.New("the image is not in qcow2 format")
	case format == "raw" && is("qcow2"):
		return errors.New("the image is not in raw format")
	}
	return nil
}

// Imports returns all imports, failed ones included.
func (w *World) Imports() []Import { return all(w, &w.imports) }

// Import returns one import.
func (w *World) Import(id string) (Import, error) { return find(w, &w.imports, id) }

// Images returns all custom images.
func (w *World) Images() []Image { return all(w, &w.images) }

// Image returns one custom image.
func (w *World) Image(id string) (Image, error) { return find(w, &w.images, id) }

// ImagePatch changes a custom image; nil means unchanged.
type ImagePatch struct {
	MetaPatch
	Slug, UserDataHandling *string
}

// UpdateImage applies a patch.
func (w *World) UpdateImage(id string, p ImagePatch) error {
	return change(w, &w.images, id, "custom_image_update", func(i *Image) error {
		if p.Slug != nil {
			i.Slug = *p.Slug
		}
		if p.UserDataHandling != nil {
			i.UserDataHandling = *p.UserDataHandling
		}
		p.apply(&i.Meta)
		return nil
	})
}

// DeleteImage removes a custom image and its import. Servers that were created
// from it go on.
func (w *World) DeleteImage(id string) error {
	return change(w, &w.images, id, "custom_image_delete", func(*Image) error {
		w.images.remove(id)
		w.imports.remove(id)
		return nil
	})
}
