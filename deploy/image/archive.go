package main

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Names under which programs that read archives look for an image's name: the
// first is the OCI's, the second containerd's.
const (
	annotationRef  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name"
)

// writeArchive writes the index as an OCI archive, a tar of an OCI layout, whose
// one entry is named name:tag. The same index gives the same bytes.
func writeArchive(file, name, tag string, index v1.ImageIndex, created time.Time) (err error) {
	folder, err := os.MkdirTemp("", "ichor-image-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }() // What is left over is in the folder for such things.
	top, err := layout.Write(folder, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	if err := top.AppendIndex(index, layout.WithAnnotations(map[string]string{
		annotationRef: tag, annotationName: name + ":" + tag,
	})); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	// Renamed when it is whole, so that a broken build leaves no half an archive.
	out, err := os.CreateTemp(filepath.Dir(file), ".ichor-image-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name()) // The error that matters is returned.
		}
	}()
	if err := tarFolder(out, folder, created); err != nil {
		_ = out.Close() // The error that matters is returned.
		return err
	}
	if err := out.Chmod(0o644); err != nil {
		_ = out.Close() // The error that matters is returned.
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(out.Name(), file)
}

// tarFolder writes the files of a folder in the order of their names, owned by
// root and made at one time.
func tarFolder(out io.Writer, folder string, at time.Time) error {
	var files []string
	err := filepath.WalkDir(folder, func(name string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(files)
	w := tar.NewWriter(out)
	for _, name := range files {
		inside, err := filepath.Rel(folder, name)
		if err != nil {
			return err
		}
		if err := tarFile(w, name, path.Clean(filepath.ToSlash(inside)), at); err != nil {
			return err
		}
	}
	return w.Close()
}

func tarFile(w *tar.Writer, file, name string, at time.Time) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // Opened for reading: closing loses nothing.
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: 0o644, ModTime: at, Format: tar.FormatPAX,
	}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// readArchive unpacks an archive into a folder and returns the index it holds.
func readArchive(file, folder string) (v1.ImageIndex, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // Opened for reading: closing loses nothing.
	// A root, so that no name in an archive leads out of the folder.
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // Nothing is written by closing it.
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, header.Name, r); err != nil {
			return nil, err
		}
	}
	top, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, fmt.Errorf("%s holds no OCI layout: %w", file, err)
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("%s holds %d images, not one", file, len(manifest.Manifests))
	}
	return top.ImageIndex(manifest.Manifests[0].Digest)
}

func unpackFile(root *os.Root, name string, body io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := root.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, body); err != nil {
		_ = out.Close() // The error that matters is returned.
		return err
	}
	return out.Close()
}
