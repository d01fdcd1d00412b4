package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

const created = "1700000000"

// programs compiles one small program for both architectures.
func programs(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, arch := range []string{"amd64", "arm64"} {
		out[arch] = filepath.Join(dir, arch)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out[arch], source)
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	return out
}

func buildArchive(t *testing.T, programs map[string]string) (file, said string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "image.tar")
	var out bytes.Buffer
	err := run(t.Context(), []string{
		"build", "--name", "ichor-test", "--version", "v1.2.3+dirty", "--revision", "abc", "--created", created, "--license", "../../LICENSE",
		"--program", "linux/amd64=" + programs["amd64"], "--program", "linux/arm64=" + programs["arm64"], "--out", file,
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	return file, out.String()
}

// The formats are written down here once more, from the OCI's specification, so
// that the library that writes archives does not judge itself.
type (
	descriptor struct {
		MediaType   string
		Digest      string
		Size        int64
		Platform    *struct{ OS, Architecture string }
		Annotations map[string]string
	}
	indexFile struct {
		SchemaVersion int
		MediaType     string
		Manifests     []descriptor
		Annotations   map[string]string
	}
	manifestFile struct {
		SchemaVersion int
		MediaType     string
		Config        descriptor
		Layers        []descriptor
	}
	configFile struct {
		Created, OS, Architecture string
		Config                    struct {
			User       string
			Entrypoint []string
			Env        []string
			WorkingDir string
			Labels     map[string]string
		}
		RootFS struct {
			Type    string
			DiffIDs []string `json:"diff_ids"`
		}
	}
)

// readTar returns the files of a tar.
func readTar(t *testing.T, r io.Reader) (headers map[string]*tar.Header, bodies map[string][]byte) {
	t.Helper()
	headers, bodies = map[string]*tar.Header{}, map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return headers, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		if headers[h.Name] != nil {
			t.Errorf("%s is there twice", h.Name)
		}
		headers[h.Name] = h
		if bodies[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// blob finds what a descriptor names, and proves size and digest.
func blob(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	body, ok := files["blobs/"+strings.ReplaceAll(d.Digest, ":", "/")]
	if !ok {
		t.Fatalf("no blob %s", d.Digest)
	}
	if int64(len(body)) != d.Size || digest(body) != d.Digest {
		t.Errorf("blob %s is of size %d and digest %s, not %d", d.Digest, len(body), digest(body), d.Size)
	}
	return body
}

func decode(t *testing.T, body []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}

func TestArchive(t *testing.T) {
	binaries := programs(t)
	file, said := buildArchive(t, binaries)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	_, files := readTar(t, f)
	var layout struct{ ImageLayoutVersion string }
	decode(t, files["oci-layout"], &layout)
	if layout.ImageLayoutVersion != "1.0.0" {
		t.Errorf("layout version %q", layout.ImageLayoutVersion)
	}
	var top indexFile
	decode(t, files["index.json"], &top)
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations[annotationRef] != "v1.2.3-dirty" {
		t.Fatalf("index.json: %+v", top)
	}
	if !strings.HasSuffix(strings.TrimSpace(said), top.Manifests[0].Digest) {
		t.Errorf("said %q, but the image is %s", said, top.Manifests[0].Digest)
	}
	var index indexFile
	decode(t, blob(t, files, top.Manifests[0]), &index)
	used := 3 // oci-layout, index.json, the image index
	seen := map[string]bool{}
	for _, d := range index.Manifests {
		if d.Platform == nil {
			t.Fatal("an image without a platform")
		}
		seen[d.Platform.OS+"/"+d.Platform.Architecture] = true
		used += checkImage(t, files, d, binaries[d.Platform.Architecture])
	}
	if want := map[string]bool{"linux/amd64": true, "linux/arm64": true}; !maps.Equal(seen, want) {
		t.Errorf("platforms %v", seen)
	}
	if want := used - 1; len(files) != want { // the base layer is shared
		t.Errorf("%d files in the archive, %d are needed", len(files), want)
	}
}

// checkImage judges the image of one platform and says how many blobs it has.
func checkImage(t *testing.T, files map[string][]byte, d descriptor, binary string) int {
	t.Helper()
	var manifest manifestFile
	decode(t, blob(t, files, d), &manifest)
	if manifest.SchemaVersion != 2 || manifest.MediaType != "application/vnd.oci.image.manifest.v1+json" ||
		manifest.Config.MediaType != "application/vnd.oci.image.config.v1+json" {
		t.Errorf("manifest: %+v", manifest)
	}
	var config configFile
	decode(t, blob(t, files, manifest.Config), &config)
	c := config.Config
	if config.OS != "linux" || config.Architecture != d.Platform.Architecture || config.Created != "2023-11-14T22:13:20Z" {
		t.Errorf("config: %+v", config)
	}
	if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/usr/local/bin/ichor-test"}) || c.WorkingDir != "/var/lib/ichor" {
		t.Errorf("config: %+v", c)
	}
	for _, label := range []string{"title", "description", "version", "revision", "created", "source", "licenses"} {
		if _, ok := c.Labels["org.opencontainers.image."+label]; !ok {
			t.Errorf("no label %s", label)
		}
	}
	if len(manifest.Layers) != len(config.RootFS.DiffIDs) {
		t.Fatalf("%d layers, %d diff ids", len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	headers, bodies := map[string]*tar.Header{}, map[string][]byte{}
	for i, l := range manifest.Layers {
		if l.MediaType != "application/vnd.oci.image.layer.v1.tar+gzip" {
			t.Errorf("layer of type %s", l.MediaType)
		}
		r, err := gzip.NewReader(bytes.NewReader(blob(t, files, l)))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if digest(raw) != config.RootFS.DiffIDs[i] {
			t.Errorf("layer %d unpacks to %s, not %s", i, digest(raw), config.RootFS.DiffIDs[i])
		}
		h, b := readTar(t, bytes.NewReader(raw))
		maps.Copy(headers, h)
		maps.Copy(bodies, b)
	}
	checkFiles(t, headers, bodies, binary)
	return 2 + len(manifest.Layers)
}

func checkFiles(t *testing.T, headers map[string]*tar.Header, bodies map[string][]byte, binary string) {
	t.Helper()
	want, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bodies["usr/local/bin/ichor-test"], want) {
		t.Error("the program in the image is another one")
	}
	for name, mode := range map[string]int64{"tmp/": 0o1777, "var/lib/ichor/": 0o700, "usr/local/bin/ichor-test": 0o755, "etc/passwd": 0o644} {
		if h := headers[name]; h == nil || h.Mode != mode {
			t.Errorf("%s: %+v, want mode %o", name, h, mode)
		}
	}
	for name, h := range headers {
		if owner := map[bool]int{true: userID}[name == "var/lib/ichor/"]; h.Uid != owner || h.Gid != owner {
			t.Errorf("%s belongs to %d:%d", name, h.Uid, h.Gid)
		}
		if h.Mode&0o022 != 0 && name != "tmp/" {
			t.Errorf("%s may be written by others: %o", name, h.Mode)
		}
	}
	if !strings.Contains(string(bodies["etc/passwd"]), "nonroot:x:65532:65532:") {
		t.Errorf("passwd: %s", bodies["etc/passwd"])
	}
	roots := 0
	for rest := bodies[rootsFile]; ; roots++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
	}
	if roots < 100 {
		t.Errorf("%d authorities", roots)
	}
}

func TestSameInputSameArchive(t *testing.T) {
	binaries := programs(t)
	var bodies [2][]byte
	for i := range bodies {
		file, _ := buildArchive(t, binaries)
		var err error
		if bodies[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(bodies[0], bodies[1]) {
		t.Error("two builds of the same programs differ")
	}
}

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	file, said := buildArchive(t, programs(t))
	ref := strings.TrimPrefix(server.URL, "http://") + "/ichor/test"
	var out bytes.Buffer
	if err := run(t.Context(), []string{"push", file, ref + ":v1"}, &out); err != nil {
		t.Fatal(err)
	}
	if want := ref + "@" + strings.TrimSpace(said[strings.LastIndex(said, " ")+1:]); strings.TrimSpace(out.String()) != want {
		t.Errorf("said %q, want %q", out.String(), want)
	}
	answer, err := server.Client().Get(server.URL + "/v2/ichor/test/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var index indexFile
	if err := json.NewDecoder(answer.Body).Decode(&index); err != nil || len(index.Manifests) != 2 {
		t.Errorf("the registry holds %+v, %v", index, err)
	}
}

func TestRefused(t *testing.T) {
	binaries := programs(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\necho a script is no program\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		program, want string
	}{
		"wrong architecture": {"linux/arm64=" + binaries["amd64"], "is for EM_X86_64"},
		"another system":     {"windows/amd64=" + binaries["amd64"], "no image is made for windows/amd64"},
		"no binary":          {"linux/amd64=" + text, "bad magic number"},
		"no file":            {"linux/amd64=" + text + "x", "no such file"},
		"no platform":        {binaries["amd64"], "is not OS/ARCH=FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "image.tar")
			err := run(t.Context(), []string{"build", "--name", "x", "--license", "../../LICENSE", "--program", c.program, "--out", out}, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
