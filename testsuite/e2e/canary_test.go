package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/converter"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/testsuite/canary"
	"github.com/ichor-project/ichor/workflows"
)

// TestCanaries plants a secret at every door, lives a cluster's life with
// success, a failed application of a manifest, a failure and a deletion, and
// looks at all that Temporal and logs keep: once without and once with the
// payload codec.
func TestCanaries(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("codec %v", encrypted), func(t *testing.T) {
			t.Parallel()
			canaries(t, encrypted)
		})
	}
}

func canaries(t *testing.T, encrypted bool) {
	var set canary.Set
	reference, settings := chosen.Credentials(set.Plant)
	settings["CANARY_ENV"] = set.Plant("a secret from the environment")
	options := canary.TemporalOptions{Queries: []string{workflows.QueryProgress, workflows.QueryGroup, workflows.QueryUpgrade}}
	if encrypted {
		key := make([]byte, 32)
		if _, err := rand.Read(key); err != nil {
			t.Fatal(err)
		}
		text := base64.StdEncoding.EncodeToString(key)
		set.Add("the codec's key", text)
		settings["CODEC_KEY"], settings["ICHOR_CODEC_KEYS"] = text, "env:CODEC_KEY"
		options.Codecs = codecs(t, text)
	}
	s := startWithoutWorker(t, settings)
	if err := chosen.Accept(t.Context(), s.Stack, settings); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StartWorker(t.Context()); err != nil {
		t.Fatal(err)
	}
	spec := plant(s, &set)
	spec.Spec.Cloud.Credentials = reference
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	plantBundle(s, &set, spec.Metadata.Name)
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	s.ichor(codeOK, nil, "status", spec.Metadata.Name, "-o", "json")
	s.mint(&set, spec.Metadata.Name)
	// What people see through the codec is looked at in the end.
	s.wantSilence(&set, canary.TemporalOptions{Queries: options.Queries}, "after the success")
	upgradeNear(s, &set, spec)
	s.ichor(codeOK, nil, "delete", spec.Metadata.Name)

	failures(s, &set)
	s.wantSilence(&set, options, "in the end")
	s.wantEmpty()
}

// upgradeNear takes the cluster to a spec with other secrets in it, which rolls
// every node and stores a snapshot of etcd, and has an upgrade refused for one.
func upgradeNear(s *system, set *canary.Set, spec cluster.Cluster) {
	s.t.Helper()
	name := spec.Metadata.Name
	patched := func(patch string) string {
		c := spec
		c.Spec.Talos.Patches = append(slices.Clone(spec.Spec.Talos.Patches), cluster.Source{Inline: patch})
		c.Spec.Talos.Extensions = []string{"siderolabs/zfs"}
		return s.write(c)
	}
	r, err := s.Ichor(s.t.Context(), "upgrade", name, "--single-control-plane", "-f", patched("machine:\n  unheardOf: "+set.Plant("a wrong patch of an upgrade")))
	if err != nil || r.Code == codeOK {
		s.t.Errorf("an upgrade to a wrong patch was accepted: %v %s", err, r)
	}
	s.ichor(codeOK, nil, "upgrade", name, "--single-control-plane", "-f", patched("machine:\n  env:\n    UPGRADED: "+set.Plant("a patch of an upgrade")+"\n"))
	snapshots, err := filepath.Glob(filepath.Join(s.dir, "store", "clusters", name, "instances", "*", "etcd", "*.parts", "*", "*"))
	if err != nil || len(snapshots) == 0 {
		s.t.Errorf("no snapshot of etcd was stored, so nothing is proved of it: %v", err)
	}
}

// mint looks for the keys of an administrator, too.
func (s *system) mint(set *canary.Set, name string) {
	s.t.Helper()
	kubeconfig, talosconfig := filepath.Join(s.dir, "kubeconfig"), filepath.Join(s.dir, "talosconfig")
	s.ichor(codeOK, nil, "kubeconfig", name, "--write", kubeconfig)
	s.ichor(codeOK, nil, "talosconfig", name, "--write", talosconfig)
	kube, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := os.ReadFile(talosconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	var talos struct {
		Contexts map[string]struct{ Key []byte }
	}
	if err := yaml.Unmarshal(body, &talos); err != nil {
		s.t.Fatal(err)
	}
	before := len(set.Names())
	for _, user := range kube.AuthInfos {
		set.AddPrivateKey("the kubeconfig", user.ClientKeyData)
	}
	for _, c := range talos.Contexts {
		set.AddPrivateKey("the talosconfig", c.Key)
	}
	if got := len(set.Names()) - before; got != 2 {
		s.t.Fatalf("found %d keys in the credentials, want 2", got)
	}
}

func codecs(t *testing.T, text string) []converter.PayloadCodec {
	t.Helper()
	key, err := codec.ParseKey(secrets.NewValue([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	out, err := codec.Codecs([]codec.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// plant returns a spec that has a secret in everything that may carry one.
func plant(s *system, set *canary.Set) cluster.Cluster {
	s.t.Helper()
	c := s.spec("canary")
	file := func(name, content string) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return path
	}
	patch := func(door string) string { return "machine:\n  env:\n    CANARY: " + set.Plant(door) + "\n" }
	c.Spec.Talos.Patches = []cluster.Source{
		{File: file("patch.yaml", patch("a patch file"))},
		{Inline: patch("an inline patch")},
	}
	c.Spec.ControlPlane.Patches = []cluster.Source{{Inline: patch("an inline patch of the control plane")}}
	c.Spec.NodeGroups[0].Patches = []cluster.Source{{File: file("group.yaml", patch("a patch file of a group"))}}
	secret := func(name, door string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: %s, namespace: default}, stringData: {password: %s}}", name, set.Plant(door))
	}
	c.Spec.Manifests = append(c.Spec.Manifests,
		cluster.Manifest{Name: "by-file", Source: cluster.Source{File: file("manifest.yaml", secret("by-file", "a manifest file"))}},
		cluster.Manifest{Name: "by-url", Source: served(s.t, "/manifest?token="+set.Plant("a token in a URL"), secret("by-url", "a manifest from a URL"))},
		cluster.Manifest{Name: "inline", Source: cluster.Source{Inline: secret("inline", "an inline manifest")}})
	st := s.store()
	if _, err := st.PutObject(s.t.Context(), "secrets/canary", secrets.NewValue([]byte(set.Plant("a secret from the store")))); err != nil {
		s.t.Fatal(err)
	}
	from := map[string]string{
		"env": "env:CANARY_ENV", "store": "store:secrets/canary",
		"file": "file:" + file("secret", set.Plant("a secret from a file")),
	}
	for _, name := range []string{"env", "file", "store"} {
		c.Spec.Secrets = append(c.Spec.Secrets, cluster.KubeSecret{Namespace: "default", Name: "canary", Key: name, From: from[name]})
	}
	return c
}

// served offers a document over HTTP, which needs a pin.
func served(t *testing.T, path, content string) cluster.Source {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if _, err := io.WriteString(rw, content); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return cluster.Source{URL: server.URL + path, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content)))}
}

func (s *system) store() *store.Store {
	s.t.Helper()
	st, err := store.Open(s.t.Context(), store.Options{URL: "file://" + filepath.Join(s.dir, "store")})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := st.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return st
}

// plantBundle looks for the cluster's own keys, too, and for the rendered configs
// that hold them.
func plantBundle(s *system, set *canary.Set, name string) {
	s.t.Helper()
	st := s.store()
	rec, _, err := st.Record(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	bundle, err := st.GetObject(s.t.Context(), rec.Frozen.Bundle)
	if err != nil {
		s.t.Fatal(err)
	}
	before := len(set.Names())
	set.AddDocument("the PKI bundle", bundle.Reveal())
	if got := len(set.Names()) - before; got < 8 {
		s.t.Fatalf("the bundle holds %d secrets only", got)
	}
}

// failures makes errors near secrets: bodies that are not what they should be,
// and an API server that refuses what it is given.
func failures(s *system, set *canary.Set) {
	s.t.Helper()
	refused := func(what string, change func(c *cluster.Cluster)) {
		s.t.Helper()
		c := s.spec("refused")
		change(&c)
		r, err := s.Ichor(s.t.Context(), "provision", "-f", s.write(c))
		if err != nil || r.Code == codeOK {
			s.t.Errorf("%s was accepted: %v %s", what, err, r)
		}
	}
	refused("a patch that is no YAML", func(c *cluster.Cluster) {
		c.Spec.Talos.Patches = []cluster.Source{{Inline: "machine: [" + set.Plant("a broken patch")}}
	})
	refused("a patch of an unknown field", func(c *cluster.Cluster) {
		c.Spec.Talos.Patches = []cluster.Source{{Inline: "machine:\n  unheardOf: " + set.Plant("a wrong patch")}}
	})
	refused("credentials instead of a reference", func(c *cluster.Cluster) {
		c.Spec.Cloud.Credentials = set.Plant("credentials in the spec")
	})
	refused("a secret instead of a reference", func(c *cluster.Cluster) {
		c.Spec.Secrets = []cluster.KubeSecret{{Namespace: "default", Name: "refused", Key: "key", From: set.Plant("a secret in the spec")}}
	})
	refused("a manifest that the API server refuses", func(c *cluster.Cluster) {
		c.Spec.Manifests = append(c.Spec.Manifests, cluster.Manifest{Name: "bad", Source: cluster.Source{
			Inline: "{apiVersion: v1, kind: Secret, metadata: {name: bad, namespace: default}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: " + set.Plant("a refused manifest") + "}}",
		}})
	})
	// The other tools do not look into what they send: only the name of the field
	// comes back. What they sent is in Temporal by their own doing, so the value is
	// none of the canaries.
	c := s.spec("by-tool")
	c.Spec.Manifests[0].Source = cluster.Source{Inline: "not-a-canary-but-a-body"}
	r := s.temporalStart(cluster.LifecycleID("by-tool"), s.write(c))
	if err := s.runError(startedRun(s.t, r)); err == nil || strings.Contains(err.Error(), "not-a-canary") {
		s.t.Errorf("an inline body sent by temporal: %v", err)
	}
}

// wantSilence scans Temporal and every log.
func (s *system) wantSilence(set *canary.Set, o canary.TemporalOptions, when string) {
	s.t.Helper()
	report, err := set.ScanTemporal(s.t.Context(), s.temporal, o)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		s.t.Errorf("%s: %v", when, err)
	}
	// The store is encrypted; specs and secrets that this test wrote lie around it.
	logs := 0
	for _, name := range []string{"worker", "ichor", "temporal"} {
		body, err := os.ReadFile(s.Log(name))
		if err != nil {
			s.t.Fatal(err)
		}
		logs += len(body)
		if err := canary.Error(set.Scan(name+".log", body)); err != nil {
			s.t.Errorf("%s: %v", when, err)
		}
	}
	files, found, err := set.ScanDir(filepath.Join(s.dir, "store"), nil)
	if err != nil || files == 0 {
		s.t.Errorf("%d files in the store: %v", files, err)
	}
	if err := canary.Error(found); err != nil {
		s.t.Errorf("%s: the store: %v", when, err)
	}
	s.t.Logf("%s: %d secrets; %d runs, %d events, %d answers, %d schedules, %d bytes of logs, %d files of the store",
		when, len(set.Names()), report.Workflows, report.Events, report.Answers, report.Schedules, logs, files)
}
