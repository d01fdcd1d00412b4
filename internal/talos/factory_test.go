package talos_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
