package talos_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/factory"
)

func startFactory(t *testing.T) talos.Factory {
	t.Helper()
	f, err := factory.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return talos.Factory{URL: s.URL + "/", HTTP: s.Client()}
}

var target = talos.Target{Platform: "openstack", Arch: "amd64", Format: "raw"}

func TestFreeze(t *testing.T) {
	f := startFactory(t)
	host := strings.TrimSuffix(strings.TrimPrefix(f.URL, "http://"), "/")
	const version = "v1.13.5"
	contract, err := talos.Contract(version)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := f.Freeze(context.Background(), cluster.Talos{Version: version}, "v1.36.3", target)
	if err != nil {
		t.Fatal(err)
	}
	want := cluster.Frozen{
		Contract: contract, TalosVersion: version, KubernetesVersion: "v1.36.3", Schematic: talos.DefaultSchematic,
		Image:          "376567988ad3-" + version + "-openstack-amd64",
		ImageURL:       "http://" + host + "/image/" + talos.DefaultSchematic + "/" + version + "/openstack-amd64.raw",
		InstallerImage: host + "/openstack-installer/" + talos.DefaultSchematic + ":" + version,
	}
	if diff := cmp.Diff(want, plain); diff != "" {
		t.Error(diff)
	}
	spec := cluster.Talos{Version: version, Extensions: []string{"siderolabs/qemu-guest-agent", "siderolabs/intel-ucode"}}
	extended, err := f.Freeze(context.Background(), spec, "v1.36.3", target)
	if err != nil {
		t.Fatal(err)
	}
	spec.Extensions = []string{"siderolabs/intel-ucode", "siderolabs/qemu-guest-agent", "siderolabs/intel-ucode"}
	again, err := f.Freeze(context.Background(), spec, "v1.36.3", target)
	if err != nil {
		t.Fatal(err)
	}
	if extended.Schematic == plain.Schematic || extended.Schematic != again.Schematic {
		t.Errorf("schematics: plain %s, extended %s, in other order %s", plain.Schematic, extended.Schematic, again.Schematic)
	}
}

func TestFreezeRefuses(t *testing.T) {
	f := startFactory(t)
	const version = "v1.13.5"
	for name, tc := range map[string]struct {
		talos cluster.Talos
		want  string
	}{
		"no such extension": {cluster.Talos{Version: version, Extensions: []string{"siderolabs/intel-ucode", "nosuch/thing"}}, `spec.talos.extensions[1]: Talos ` + version + ` has no official extension "nosuch/thing"`},
		"no such version":   {cluster.Talos{Version: "v1.13.99"}, "spec.talos.version"},
		"bad schematic":     {cluster.Talos{Version: version, Schematic: "abc"}, "spec.talos.schematic"},
		"unsupported minor": {cluster.Talos{Version: "v1.9.0"}, "not supported"},
	} {
		_, err := f.Freeze(context.Background(), tc.talos, "v1.36.3", target)
		if err == nil || !strings.Contains(err.Error(), tc.want) || fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v (%s)", name, err, fault.KindOf(err))
		}
	}
}

func TestReleases(t *testing.T) {
	got, err := startFactory(t).Releases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 || got[len(got)-1] != "v1.14.1" || !slices.Contains(got, "v1.12.8") {
		t.Errorf("releases %v", got)
	}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if _, err := rw.Write([]byte(`["v1.14.0","v1.13.10","v1.13.9","v1.15.0-alpha.1","latest","v1.14.0"]`)); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	got, err = talos.Factory{URL: s.URL}.Releases(t.Context())
	if diff := cmp.Diff([]string{"v1.13.9", "v1.13.10", "v1.14.0"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

func TestCheckInstaller(t *testing.T) {
	f := startFactory(t)
	schematic, err := f.EnsureSchematic(t.Context(), []string{"siderolabs/qemu-guest-agent"})
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]fault.Kind{
		f.InstallerImage(schematic, "v1.14.1", "openstack"):                                 "",
		f.InstallerImage(talos.DefaultSchematic, "v1.13.5", "aws"):                          "",
		f.InstallerImage(schematic, "v1.14.99", "openstack"):                                fault.Invalid,
		f.InstallerImage(strings.Repeat("0", 64), "v1.14.1", "openstack"):                   fault.Invalid,
		"registry.invalid/openstack-installer/" + talos.DefaultSchematic + ":v1.14.1":       fault.Invalid,
		strings.TrimSuffix(f.InstallerImage(schematic, "v1.14.1", "openstack"), ":v1.14.1"): fault.Invalid,
		"": fault.Invalid,
	} {
		if err := f.CheckInstaller(t.Context(), image); fault.KindOf(err) != want {
			t.Errorf("%s: %v", image, err)
		}
	}
	for status, want := range map[int]fault.Kind{200: "", 307: "", 401: fault.Unauthorized, 404: fault.Invalid, 429: fault.RateLimited, 502: fault.Unavailable} {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodHead {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			rw.Header().Set("Location", "http://registry.invalid/")
			rw.WriteHeader(status)
		}))
		there := talos.Factory{URL: s.URL}
		if err := there.CheckInstaller(t.Context(), there.InstallerImage(schematic, "v1.14.1", "openstack")); fault.KindOf(err) != want {
			t.Errorf("HTTP %d: %v", status, err)
		}
		s.Close()
		if status != http.StatusOK {
			continue
		}
		if err := there.CheckInstaller(t.Context(), there.InstallerImage(schematic, "v1.14.1", "openstack")); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("nobody listens: %v", err)
		}
	}
}

func TestFactoryErrors(t *testing.T) {
	for status, want := range map[int]fault.Kind{
		400: fault.Invalid, 401: fault.Unauthorized, 403: fault.Unauthorized, 404: fault.Invalid,
		429: fault.RateLimited, 500: fault.Unavailable, 503: fault.Unavailable,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(status)
			if _, err := rw.Write([]byte(strings.Repeat("<p>long</p>\n", 200))); err != nil {
				t.Error(err)
			}
		}))
		_, err := talos.Factory{URL: s.URL}.EnsureSchematic(context.Background(), nil)
		if got := fault.KindOf(err); got != want {
			t.Errorf("HTTP %d: %s (%v)", status, got, err)
		}
		if len(err.Error()) > 400 {
			t.Errorf("HTTP %d: the message has %d bytes", status, len(err.Error()))
		}
		s.Close()
	}
	liar := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(http.StatusCreated)
		if _, err := rw.Write([]byte(`{"id":"0000"}`)); err != nil {
			t.Error(err)
		}
	}))
	defer liar.Close()
	if _, err := (talos.Factory{URL: liar.URL}).EnsureSchematic(context.Background(), nil); fault.KindOf(err) != fault.Internal {
		t.Errorf("a wrong id: %v", err)
	}
	liar.Close()
	if _, err := (talos.Factory{URL: liar.URL}).EnsureSchematic(context.Background(), nil); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("nobody listens: %v", err)
	}
}
