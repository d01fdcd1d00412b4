package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image describes what is built.
type image struct {
	// Name of the program and of the image.
	Name        string
	Description string
	Version     string
	// Revision is the commit that the programs were built from.
	Revision string
	// Created is the time of that commit: the time of the build would make two
	// builds of one commit differ.
	Created time.Time
	// Programs are the static binaries, one a platform.
	Programs []program
	License  string
}

type program struct {
	Platform v1.Platform
	File     string
}

// source is where the labels say that the code is.
const source = "https://github.com/ichor-project/ichor"

// labels are the OCI's predefined annotation keys.
func (i image) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       i.Name,
		"org.opencontainers.image.description": i.Description,
		"org.opencontainers.image.version":     i.Version,
		"org.opencontainers.image.revision":    i.Revision,
		"org.opencontainers.image.created":     i.Created.Format(time.RFC3339),
		"org.opencontainers.image.source":      source,
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
}

// build makes an index with one image a platform.
func (i image) build() (v1.ImageIndex, error) {
	license, err := os.ReadFile(i.License)
	if err != nil {
		return nil, err
	}
	entries, err := baseEntries(license)
	if err != nil {
		return nil, err
	}
	base, err := newLayer(entries, i.Created)
	if err != nil {
		return nil, fmt.Errorf("base layer: %w", err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range i.Programs {
		img, err := i.platformImage(p, base)
		if err != nil {
			return nil, fmt.Errorf("%s for %s: %w", i.Name, p.Platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{MediaType: types.OCIManifestSchema1, Platform: &p.Platform},
		})
	}
	annotated, ok := mutate.Annotations(index, i.labels()).(v1.ImageIndex)
	if !ok {
		return nil, errors.New("an index with annotations is no index")
	}
	return annotated, nil
}

func (i image) platformImage(p program, base v1.Layer) (v1.Image, error) {
	if err := checkProgram(p); err != nil {
		return nil, err
	}
	file, err := programEntry(i.Name, p.File)
	if err != nil {
		return nil, err
	}
	top, err := newLayer([]entry{file}, i.Created)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.Append(img, i.addendum(base, "user, authorities and folders"), i.addendum(top, i.Name+" "+i.Version)); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = v1.Time{Time: i.Created}
	config.OS, config.Architecture, config.Variant = p.Platform.OS, p.Platform.Architecture, p.Platform.Variant
	config.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", userID, userID),
		Entrypoint: []string{"/usr/local/bin/" + i.Name},
		Env:        []string{"PATH=/usr/local/bin", "HOME=" + home},
		WorkingDir: home,
		Labels:     i.labels(),
	}
	return mutate.ConfigFile(img, config)
}

func (i image) addendum(layer v1.Layer, what string) mutate.Addendum {
	return mutate.Addendum{Layer: layer, History: v1.History{
		Created: v1.Time{Time: i.Created}, CreatedBy: "ichor-image", Comment: what,
	}}
}

// machines are the ELF machines of the platforms that images are made for.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkProgram refuses a file that an image from scratch could not run: another
// architecture's, or one that needs an interpreter or shared libraries.
func checkProgram(p program) error {
	want, ok := machines[p.Platform.Architecture]
	if p.Platform.OS != "linux" || !ok {
		return fmt.Errorf("no image is made for %s", p.Platform)
	}
	f, err := elf.Open(p.File)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // Opened for reading: closing loses nothing.
	if f.Machine != want {
		return fmt.Errorf("%s is for %s, not %s", p.File, f.Machine, want)
	}
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			return fmt.Errorf("%s is linked dynamically; build it with CGO_ENABLED=0", p.File)
		}
	}
	return nil
}
