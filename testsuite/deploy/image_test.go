package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// programs are what there are images of.
var programs = []string{"ichor", "ichor-worker", "ichor-grpcprovider"}

// archives is the folder of the images, which are made once.
var archives string

func TestMain(m *testing.M) {
	var err error
	if archives, err = os.MkdirTemp("", "ichor-deploy-*"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(archives); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// image makes an archive of a program as make image does, for this machine's
// platform only.
func image(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(archives, name+".tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	out, err := exec.CommandContext(t.Context(), program(t, "tools/ichor-image"), "build", "--name", name,
		"--license", filepath.Join(root(t), "LICENSE"), "--program", "linux/"+runtime.GOARCH+"="+program(t, name), "--out", file).CombinedOutput()
	if err != nil {
		t.Fatalf("ichor-image: %v\n%s", err, out)
	}
	return file
}

// imageConfig is what a container runtime takes from an image.
type imageConfig struct {
	Architecture string
	Config       struct {
		User       string
		Entrypoint []string
		Env        []string
		WorkingDir string
	}
}

// unpackImage reads an OCI archive as a runtime does, into a folder.
func unpackImage(t *testing.T, file, folder string) imageConfig {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blobs := map[string][]byte{}
	eachFile(t, bytes.NewReader(body), func(h *tar.Header, body []byte) { blobs[h.Name] = body })
	type descriptor struct {
		Digest   string
		Platform *struct{ Architecture string }
	}
	read := func(digest string, into any) {
		name := "index.json"
		if digest != "" {
			name = "blobs/" + strings.ReplaceAll(digest, ":", "/")
		}
		if err := json.Unmarshal(blobs[name], into); err != nil {
			t.Fatalf("%s of %s: %v", name, file, err)
		}
	}
	var top, index struct{ Manifests []descriptor }
	read("", &top)
	read(top.Manifests[0].Digest, &index)
	at := slices.IndexFunc(index.Manifests, func(d descriptor) bool { return d.Platform != nil && d.Platform.Architecture == runtime.GOARCH })
	if at < 0 {
		t.Fatalf("%s has no image for %s", file, runtime.GOARCH)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	read(index.Manifests[at].Digest, &manifest)
	var config imageConfig
	read(manifest.Config.Digest, &config)
	for _, layer := range manifest.Layers {
		unpacked, err := gzip.NewReader(bytes.NewReader(blobs["blobs/"+strings.ReplaceAll(layer.Digest, ":", "/")]))
		if err != nil {
			t.Fatal(err)
		}
		eachFile(t, unpacked, func(h *tar.Header, body []byte) { unpackEntry(t, folder, h, body) })
	}
	return config
}

func eachFile(t *testing.T, r io.Reader, do func(*tar.Header, []byte)) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		do(h, body)
	}
}

func unpackEntry(t *testing.T, folder string, h *tar.Header, body []byte) {
	t.Helper()
	name := filepath.Join(folder, filepath.FromSlash(h.Name))
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		err = os.MkdirAll(name, 0o700)
	case tar.TypeReg:
		err = os.WriteFile(name, body, h.FileInfo().Mode().Perm()&0o700)
	default:
		t.Fatalf("%s is neither a file nor a folder", h.Name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestImages builds images of the real programs, reads them back, and runs the
// program that is in them.
func TestImages(t *testing.T) {
	for _, name := range programs {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			config := unpackImage(t, image(t, name), folder)
			if config.Config.User != "65532:65532" || config.Architecture != runtime.GOARCH || len(config.Config.Entrypoint) != 1 {
				t.Errorf("config: %+v", config)
			}
			entrypoint := filepath.Join(folder, config.Config.Entrypoint[0])
			binary, err := elf.Open(entrypoint)
			if err != nil {
				t.Fatal(err)
			}
			if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) > 0 {
				t.Errorf("needs %v, %v", libraries, err)
			}
			if err := binary.Close(); err != nil {
				t.Error(err)
			}
			cmd := exec.CommandContext(t.Context(), entrypoint, "--help")
			cmd.Env = config.Config.Env
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "ichor") {
				t.Errorf("--help: %v\n%s", err, out)
			}
		})
	}
}
