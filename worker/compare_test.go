package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/registry"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/compare"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/factory"
)

// What `ichor compare` renders is, byte for byte, what a worker sends to the cloud
// when it makes a machine: for every example of a cluster, through the activities,
// a real store, and the capabilities of the real providers.
func TestComparedConfigsAreThoseOfMachines(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	newer := []string{"v1.13.5", "v1.14.1", "v1.36.3", "v1.37.0"}
	for _, tc := range []struct {
		file  string
		edits []string
	}{
		{"same/cloudscale.yaml", nil},
		{"same/cloudscale.yaml", newer},
		{"same/aws.yaml", nil},
		{"same/aws.yaml", newer},
		{"demo.yaml", nil},
		{"aws/demo.yaml", nil},
	} {
		t.Run(tc.file+strings.Join(tc.edits, " "), func(t *testing.T) {
			f := exampleOf(t, tc.file, tc.edits...)
			w := &creation{t: t, kept: keptStore(t), f: f}
			bundle, rec := w.freeze()
			compared, samples, err := compare.Render(f, bundle)
			if err != nil {
				t.Fatal(err)
			}
			rec = w.base(rec, compared.Endpoint)
			if len(samples) != 1+len(rec.Spec.NodeGroups) {
				t.Fatalf("%d kinds of nodes, the spec has %d groups", len(samples), len(rec.Spec.NodeGroups))
			}
			for _, s := range samples {
				sent := w.machine(rec, s.Role, s.Group)
				if !bytes.Equal(sent, s.Config.Reveal()) {
					t.Errorf("the config of %s that is compared is not the one that a machine gets (%d and %d bytes)", s.Group, len(s.Config.Reveal()), len(sent))
				}
				if got, want := compared.Frozen.For(s.Group), rec.Frozen.For(s.Group); got.Schematic != want.Schematic || got.InstallerImage != want.InstallerImage || got.Contract != want.Contract {
					t.Errorf("%s runs %+v, a worker would freeze %+v", s.Group, got, want)
				}
			}
		})
	}
}

// exampleOf reads an example with texts of it replaced. The cluster has the name
// under which clusters are compared.
func exampleOf(t *testing.T, name string, edits ...string) compare.File {
	t.Helper()
	file := filepath.Join("..", "examples", filepath.FromSlash(name))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := cluster.Decode([]byte(strings.NewReplacer(edits...).Replace(string(data))))
	if err != nil {
		t.Fatal(err)
	}
	c.Metadata.Name = "cluster"
	f := compare.File{Name: name, Cluster: c, Bodies: map[string][]byte{}}
	for _, s := range c.Sources() {
		body := []byte(s.Source.Inline)
		if s.Source.File != "" {
			if body, err = os.ReadFile(filepath.Join(filepath.Dir(file), s.Source.File)); err != nil {
				t.Fatal(err)
			}
		}
		f.Bodies[s.Field] = body
	}
	return f
}

func keptStore(t *testing.T) storeAdapter {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(t.Context(), store.Options{URL: "file://" + filepath.Join(dir, "store"), Key: "file://" + filepath.Join(dir, "key")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return storeAdapter{st}
}

// creation is the part of a cluster's creation that decides on machine configs.
type creation struct {
	t     *testing.T
	kept  storeAdapter
	f     compare.File
	cloud *recorder
}

// freeze publishes the spec, opens a record for it, and freezes what it resolves to.
func (w *creation) freeze() (secrets.Value, cluster.Record) {
	t := w.t
	t.Helper()
	c := w.f.Cluster.Normalise()
	for _, s := range c.Sources() {
		ref, sum, err := w.kept.PutBody(t.Context(), c.Metadata.Name, secrets.NewValue(w.f.Bodies[s.Field]))
		if err != nil {
			t.Fatal(err)
		}
		*s.Source = cluster.Source{Ref: ref, SHA256: sum}
	}
	records := &activities.Records{Store: w.kept, Checker: check.Checker{}, Configs: configAdapter{}, Now: time.Now}
	rec := ok(t, records.OpenRecord, activities.OpenRecordInput{Cluster: c, UID: "u1"}).Record
	w.cloud = recorderOf(t, rec.Spec.Cloud)
	frozen := ok(t, w.activities().FreezeVersions, activities.FreezeInput{Spec: rec.Spec, Capabilities: w.cloud.Capabilities()})
	frozen.Bundle = ok(t, records.EnsureSecrets, activities.EnsureSecretsInput{Ref: rec.Ref, Contract: frozen.Contract}).Bundle
	rec = ok(t, records.UpdateRecord, activities.RecordChange{Ref: rec.Ref, Frozen: &frozen})
	bundle, err := w.kept.Object(t.Context(), frozen.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	return bundle, rec
}

// base renders the base configs, once the endpoint is known.
func (w *creation) base(rec cluster.Record, endpoint string) cluster.Record {
	w.t.Helper()
	records := &activities.Records{Store: w.kept, Configs: configAdapter{}, Now: time.Now}
	ok(w.t, records.UpdateRecord, activities.RecordChange{Ref: rec.Ref, Endpoint: endpoint})
	bases := ok(w.t, records.EnsureBaseConfigs, activities.EnsureBaseConfigsInput{Ref: rec.Ref}).BaseConfig
	return ok(w.t, records.UpdateRecord, activities.RecordChange{Ref: rec.Ref, Frozen: &cluster.Frozen{BaseConfig: bases}})
}

// machine creates one and returns the config that the cloud was sent.
func (w *creation) machine(rec cluster.Record, role cluster.Role, group string) []byte {
	w.t.Helper()
	ok(w.t, w.activities().EnsureMachine, activities.EnsureMachineInput{Cloud: rec.Spec.Cloud, Create: true, Machine: cloud.MachineSpec{
		ID: "sample", Name: cluster.MachineName(rec.Ref.Name, group, "sample"), Owner: cloud.Owner{Cluster: rec.Ref, Group: group}, Role: role,
	}})
	sent := w.cloud.sent.Reveal()
	if !w.cloud.Capabilities().UserDataGzip {
		return sent
	}
	r, err := gzip.NewReader(bytes.NewReader(sent))
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

func (w *creation) activities() *activities.Cloud {
	f, err := factory.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	here := &http.Client{Transport: handled{f}}
	return &activities.Cloud{Clouds: w.cloud, Store: w.kept, Configs: configAdapter{}, Factory: factoryAdapter{talos.Factory{HTTP: here}}}
}

// handled answers requests to any host.
type handled struct{ http.Handler }

func (h handled) RoundTrip(r *http.Request) (*http.Response, error) {
	rw := httptest.NewRecorder()
	h.ServeHTTP(rw, r)
	return rw.Result(), nil
}

// recorder is an account of a real provider's cloud that keeps what it is sent.
type recorder struct {
	cloud.Provider
	sent secrets.Value
}

func recorderOf(t *testing.T, spec cluster.Cloud) *recorder {
	t.Helper()
	t.Setenv("CLOUDSCALE_API_TOKEN", "token")
	p, _, err := registry.New(registry.Options{Secrets: newResolver(config{}, nil)}).Open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return &recorder{Provider: p}
}

func (r *recorder) Open(context.Context, cluster.Cloud) (cloud.Provider, string, error) {
	return r, "acc", nil
}

// Flavors are those of the examples whose architecture is not the usual one.
func (*recorder) Flavors(context.Context) ([]cloud.Flavor, error) {
	return []cloud.Flavor{{Name: "m7g.large", Arch: "arm64"}}, nil
}

func (r *recorder) EnsureMachine(_ context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	r.sent = req.UserData
	return cloud.MachineLook{Created: true}, nil
}
