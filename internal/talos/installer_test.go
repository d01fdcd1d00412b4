package talos_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/talos"
)

func TestInstallerBytes(t *testing.T) {
	f := startFactory(t)
	id, err := f.EnsureSchematic(t.Context(), []string{"siderolabs/qemu-guest-agent", "siderolabs/zfs"})
	if err != nil {
		t.Fatal(err)
	}
	for schematic, mib := range map[string]int64{talos.DefaultSchematic: 150, id: 166} {
		got, err := f.InstallerBytes(t.Context(), f.InstallerImage(schematic, "v1.14.1", "openstack"))
		if err != nil || got>>20 != mib {
			t.Errorf("%.12s: %d MiB, %v", schematic, got>>20, err)
		}
	}
	for image, kind := range map[string]fault.Kind{
		f.InstallerImage(talos.DefaultSchematic, "v1.99.0", "openstack"):           fault.Invalid,
		f.InstallerImage(strings.Repeat("0", 64), "v1.14.1", "openstack"):          fault.Invalid,
		"registry.invalid/openstack-installer/" + talos.DefaultSchematic + ":v1.1": fault.Invalid,
	} {
		if _, err := f.InstallerBytes(t.Context(), image); fault.KindOf(err) != kind {
			t.Errorf("%s: %v", image, err)
		}
	}
}

// TestInstallerBytesOfARegistry has the factory send to another registry, which
// wants a token of anonymous readers, too.
func TestInstallerBytesOfARegistry(t *testing.T) {
	const image = `{"config": {"size": 5}, "layers": [{"size": 100}, {"size": 20}]}`
	for _, tc := range []struct {
		name  string
		serve func(http.ResponseWriter)
		want  int64
		kind  fault.Kind
	}{
		{"an image", func(rw http.ResponseWriter) { answerText(t, rw, 200, image) }, 125, ""},
		{"an empty one", func(rw http.ResponseWriter) { answerText(t, rw, 200, `{}`) }, 0, fault.Internal},
		{"a web page", func(rw http.ResponseWriter) { answerText(t, rw, 200, `<html>`) }, 0, fault.Internal},
		{"gone", func(rw http.ResponseWriter) { answerText(t, rw, 404, ``) }, 0, fault.Invalid},
		{"busy", func(rw http.ResponseWriter) { answerText(t, rw, 429, ``) }, 0, fault.RateLimited},
		{"broken", func(rw http.ResponseWriter) { answerText(t, rw, 503, ``) }, 0, fault.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var registry *httptest.Server
			registry = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/token":
					if q := r.URL.Query(); q.Get("service") != "it" || q.Get("scope") != "repository:a/b:pull,push" {
						t.Errorf("asked for %s", r.URL.RawQuery)
					}
					answerText(t, rw, 200, `{"token": "anybody"}`)
				case r.Header.Get("Authorization") != "Bearer anybody":
					rw.Header().Set("WWW-Authenticate", `Bearer realm="`+registry.URL+`/token",service="it",scope="repository:a/b:pull,push"`)
					answerText(t, rw, 401, "")
				default:
					tc.serve(rw)
				}
			}))
			t.Cleanup(registry.Close)
			front := httptest.NewServer(http.RedirectHandler(registry.URL+"/v2/a/b/manifests/sha256:1", http.StatusTemporaryRedirect))
			t.Cleanup(front.Close)
			f := talos.Factory{URL: front.URL, HTTP: registry.Client()}
			got, err := f.InstallerBytes(t.Context(), f.InstallerImage(talos.DefaultSchematic, "v1.14.1", "openstack"))
			if got != tc.want || fault.KindOf(err) != tc.kind {
				t.Errorf("%d, %s: %v", got, fault.KindOf(err), err)
			}
		})
	}
	t.Run("no anonymous readers", func(t *testing.T) {
		for _, challenge := range []string{"", `Basic realm="x"`, `Bearer realm="http://plain.invalid/token"`} {
			front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("WWW-Authenticate", challenge)
				answerText(t, rw, 401, "")
			}))
			t.Cleanup(front.Close)
			f := talos.Factory{URL: front.URL}
			_, err := f.InstallerBytes(t.Context(), f.InstallerImage(talos.DefaultSchematic, "v1.14.1", "openstack"))
			if fault.KindOf(err) != fault.Unauthorized {
				t.Errorf("%q: %v", challenge, err)
			}
		}
	})
}

func answerText(t *testing.T, rw http.ResponseWriter, status int, body string) {
	rw.WriteHeader(status)
	if _, err := rw.Write([]byte(body)); err != nil {
		t.Error(err)
	}
}
