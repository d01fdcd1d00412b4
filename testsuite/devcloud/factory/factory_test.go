package factory_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/image-factory/pkg/client"
	"github.com/siderolabs/image-factory/pkg/schematic"

	"github.com/ichor-project/ichor/testsuite/devcloud/factory"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// emptySchematic is the id that Talos itself uses for "no customization".
const emptySchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"

func serve(t *testing.T) (*factory.Factory, *client.Client, string) {
	t.Helper()
	f, err := factory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	c, err := client.New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return f, c, s.URL
}

func TestOfficialClient(t *testing.T) {
	_, c, _ := serve(t)
	id, err := c.SchematicCreate(t.Context(), schematic.Schematic{})
	if err != nil || id != emptySchematic {
		t.Fatalf("empty schematic: %s, %v", id, err)
	}
	versions, err := c.Versions(t.Context())
	if err != nil || !strings.Contains(strings.Join(versions, " "), "v1.13.5") {
		t.Fatalf("versions: %v, %v", versions, err)
	}
	exts, err := c.ExtensionsVersions(t.Context(), "v1.13.5")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range exts {
		names[e.Name] = true
	}
	if !names["siderolabs/intel-ucode"] {
		t.Errorf("no intel-ucode in %v", names)
	}
	var httpErr *client.HTTPError
	if _, err := c.ExtensionsVersions(t.Context(), "v9.9.9"); !errors.As(err, &httpErr) || httpErr.Code != http.StatusNotFound {
		t.Errorf("unknown version: %v", err)
	}
}

func TestImages(t *testing.T) {
	f, c, base := serve(t)
	id, err := c.SchematicCreate(t.Context(), schematic.Schematic{Customization: schematic.Customization{
		SystemExtensions: schematic.SystemExtensions{OfficialExtensions: []string{"siderolabs/intel-ucode"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	bad, err := c.SchematicCreate(t.Context(), schematic.Schematic{Customization: schematic.Customization{
		SystemExtensions: schematic.SystemExtensions{OfficialExtensions: []string{"siderolabs/no-such-thing"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	image := &guest.Image{
		Schematic: id, TalosVersion: "v1.13.5", Platform: "openstack", Arch: "amd64", Extensions: []string{"siderolabs/intel-ucode"},
	}
	for _, tt := range []struct {
		path   string
		status int
		magic  string
		want   *guest.Image
	}{
		{"/image/" + id + "/v1.13.5/openstack-amd64.qcow2", 200, "QFI\xfb", image},
		{"/image/" + id + "/v1.13.5/openstack-amd64.raw", 200, id, image},
		{"/image/" + id + "/v1.13.5/openstack-amd64.raw.xz", 200, "\xfd7zXZ", nil},
		{"/image/" + id + "/v1.99.0/openstack-amd64.raw", 404, "", nil},
		{"/image/" + id + "/v1.13.5/openstack-amd64.img", 400, "", nil},
		{"/image/" + bad + "/v1.13.5/openstack-amd64.raw", 400, "", nil},
		{"/image/" + strings.Repeat("0", 64) + "/v1.13.5/openstack-amd64.raw", 404, "", nil},
	} {
		t.Run(tt.path, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				req, err := http.NewRequestWithContext(t.Context(), method, base+tt.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if err = errors.Join(err, res.Body.Close()); err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != tt.status {
					t.Errorf("%s: status %d, want %d", method, res.StatusCode, tt.status)
				}
				if method == http.MethodGet && tt.status == 200 && !strings.HasPrefix(string(body), tt.magic) {
					t.Errorf("body starts with %q", body[:8])
				}
			}
			got, ok := f.Describe(base + tt.path)
			if tt.status != 200 {
				return
			}
			if ok != (tt.want != nil) {
				t.Fatalf("Describe: %v", ok)
			}
			if tt.want != nil {
				if d := cmp.Diff(*tt.want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
}

func TestInvalidSchematic(t *testing.T) {
	_, _, base := serve(t)
	res, err := http.Post(base+"/schematics", "application/yaml", strings.NewReader("customization: {nonsense: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d, want 400", res.StatusCode)
	}
}

// TestInstallerManifests follows a node to what the registry says of an installer.
func TestInstallerManifests(t *testing.T) {
	_, c, base := serve(t)
	id, err := c.SchematicCreate(t.Context(), schematic.Schematic{Customization: schematic.Customization{
		SystemExtensions: schematic.SystemExtensions{OfficialExtensions: []string{"siderolabs/zfs"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	type part struct {
		Digest string
		Size   int64
	}
	type manifest struct{ Manifests, Layers []part }
	get := func(reference string, status int) (m manifest) {
		t.Helper()
		res, err := http.Get(base + "/v2/openstack-installer/" + id + "/manifests/" + reference)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		if res.StatusCode != status || status == http.StatusOK && "sha256:"+hex.EncodeToString(sum[:]) != res.Header.Get("Docker-Content-Digest") {
			t.Fatalf("%s: status %d, %s", reference, res.StatusCode, body)
		}
		if status == http.StatusOK {
			if err := json.Unmarshal(body, &m); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	index := get("v1.14.1", http.StatusOK)
	if len(index.Manifests) != 2 || index.Manifests[0].Digest == index.Manifests[1].Digest {
		t.Fatalf("%+v", index)
	}
	for _, m := range index.Manifests {
		if layers := get(m.Digest, http.StatusOK).Layers; len(layers) != 3 || layers[2].Size != 8<<20 {
			t.Errorf("%s: %+v", m.Digest, layers)
		}
	}
	get("sha256:"+strings.Repeat("0", 64), http.StatusNotFound)
}
