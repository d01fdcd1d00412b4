package resolve_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/resolve"
)

const canary = "canary-4c1d-hunter2"

type objects map[string]string

func (o objects) GetObject(_ context.Context, key string) (secrets.Value, error) {
	if v, ok := o[key]; ok {
		return secrets.NewValue([]byte(v)), nil
	}
	return secrets.Value{}, fault.New(fault.NotFound, "read "+key, "absent")
}

// kubeServer answers as a kube-apiserver does for one Secret.
func kubeServer(t *testing.T) *resolve.Kube {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		status := func(code int, reason string) {
			w.WriteHeader(code)
			_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"no"}`, reason, code)
		}
		switch r.URL.Path {
		case "/api/v1/namespaces/kube-system/secrets/cloudscale":
			_, _ = fmt.Fprintf(w, `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"cloudscale"},"data":{"access-token":"Y2FuYXJ5LTRjMWQtaHVudGVyMg=="}}`)
		case "/api/v1/namespaces/kube-system/secrets/forbidden":
			status(http.StatusForbidden, "Forbidden")
		case "/api/v1/namespaces/kube-system/secrets/broken":
			status(http.StatusInternalServerError, "InternalError")
		default:
			status(http.StatusNotFound, "NotFound")
		}
	}))
	t.Cleanup(srv.Close)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x",
		"contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],
		"clusters":[{"name":"x","cluster":{"server":%q}}],"users":[{"name":"x","user":{"token":"t"}}]}`, srv.URL)
	write(t, config, body)
	return resolve.NewKube(config)
}

func write(t *testing.T, name, body string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(inside, "token"), canary+"\n")
	write(t, filepath.Join(inside, "empty"), "\n")
	write(t, filepath.Join(inside, "huge"), strings.Repeat("x", 1<<20+1))
	write(t, filepath.Join(dir, "outside"), canary)
	for name, target := range map[string]string{"good-link": "token", "bad-link": "../outside"} {
		if err := os.Symlink(target, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
	}
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"TOKEN": canary, "EMPTY": "", "OTHER": canary}[name]
		return v, ok
	}
	store := objects{"secrets/token": canary, "clusters/demo/bodies/ab": canary, "clusters/demo/instances/u/bundle": canary, "clusters/demo/record/1": canary}
	open := resolve.New(resolve.Options{Objects: store, Kube: kubeServer(t), LookupEnv: env})
	tight := resolve.New(resolve.Options{EnvNames: []string{"TOKEN"}, FileRoots: []string{inside}, LookupEnv: env})
	closed := resolve.New(resolve.Options{EnvNames: []string{}, FileRoots: []string{}, LookupEnv: env})

	for _, tc := range []struct {
		name string
		r    *resolve.Resolver
		ref  string
		want fault.Kind // "" when the canary is found
	}{
		{"env", open, "env:TOKEN", ""},
		{"env unset", open, "env:MISSING", fault.NotFound},
		{"env empty", open, "env:EMPTY", fault.NotFound},
		{"env allowed", tight, "env:TOKEN", ""},
		{"env not allowed", tight, "env:OTHER", fault.Unsafe},
		{"no env allowed", closed, "env:TOKEN", fault.Unsafe},

		{"file", open, "file:" + inside + "/token", ""},
		{"file linked", open, "file:" + inside + "/bad-link", ""},
		{"file missing", open, "file:" + inside + "/missing", fault.NotFound},
		{"file empty", open, "file:" + inside + "/empty", fault.NotFound},
		{"file huge", open, "file:" + inside + "/huge", fault.Invalid},
		{"file relative", open, "file:token", fault.Invalid},
		{"folder", open, "file:" + inside, fault.Invalid},
		{"device", open, "file:/dev/zero", fault.Invalid},
		{"file in root", tight, "file:" + inside + "/token", ""},
		{"link in root", tight, "file:" + inside + "/good-link", ""},
		{"link out of the root", tight, "file:" + inside + "/bad-link", fault.Unsafe},
		{"missing in root", tight, "file:" + inside + "/missing", fault.NotFound},
		{"folder in root", tight, "file:" + inside + "/.", fault.Invalid},
		{"file outside", tight, "file:" + dir + "/outside", fault.Unsafe},
		{"dots outside", tight, "file:" + inside + "/../outside", fault.Unsafe},
		{"no file allowed", closed, "file:" + inside + "/token", fault.Unsafe},

		{"kube", open, "kube:kube-system/cloudscale#access-token", ""},
		{"kube missing key", open, "kube:kube-system/cloudscale#other", fault.NotFound},
		{"kube missing", open, "kube:kube-system/none#x", fault.NotFound},
		{"kube forbidden", open, "kube:kube-system/forbidden#x", fault.Unauthorized},
		{"kube broken", open, "kube:kube-system/broken#x", fault.Unavailable},
		{"no kube", tight, "kube:a/b#c", fault.Invalid},

		{"store", open, "store:secrets/token", ""},
		{"store body", open, "store:clusters/demo/bodies/ab", ""},
		{"store missing", open, "store:secrets/none", fault.NotFound},
		{"store bundle", open, "store:clusters/demo/instances/u/bundle", fault.Unsafe},
		{"store record", open, "store:clusters/demo/record/1", fault.Unsafe},
		{"no store", tight, "store:secrets/token", fault.Invalid},

		{"a secret instead of a reference", open, canary, fault.Invalid},
		{"another scheme", open, "vault:" + canary, fault.Invalid},
		{"nothing", open, "", fault.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, err := tc.r.Resolve(t.Context(), secrets.Ref(tc.ref))
			if got := fault.KindOf(err); got != tc.want {
				t.Fatalf("kind %q, want %q: %v", got, tc.want, err)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("the error repeats the secret: %v", err)
			}
			if want := canary; err == nil && v.RevealString() != want {
				t.Error("another value came back")
			}
		})
	}
}

func TestKubeWithoutCluster(t *testing.T) {
	r := resolve.New(resolve.Options{Kube: resolve.NewKube(filepath.Join(t.TempDir(), "none"))})
	if _, err := r.Resolve(t.Context(), "kube:a/b#c"); !fault.Is(err, fault.Invalid) {
		t.Errorf("error = %v", err)
	}
}
