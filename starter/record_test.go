package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/talos"
)

// recorded makes a store in which the cluster of a spec file is ready, and further
// ones of the same kind.
func recorded(t *testing.T, file string, others ...string) {
	t.Helper()
	t.Setenv("ICHOR_STORE", "file://"+filepath.Join(t.TempDir(), "store"))
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1") // nobody listens there
	ctx := t.Context()
	st, err := store.Open(ctx, store.Options{URL: os.Getenv("ICHOR_STORE")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	putRecord(t, st, file)
	for _, name := range others {
		putRecord(t, st, specNamed(t, name))
	}
}

func putRecord(t *testing.T, st *store.Store, file string) {
	t.Helper()
	ctx := t.Context()
	a := &app{getenv: os.Getenv}
	l, err := a.loadSpec(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	published, err := publish(ctx, st, l)
	if err != nil {
		t.Fatal(err)
	}
	ref := cluster.Ref{Name: published.Metadata.Name, UID: "0123456789ab"}
	bundle, _, err := st.EnsureBundle(ctx, ref, func() (secrets.Value, error) { return talos.NewBundle("v1.13", time.Now()) })
	if err != nil {
		t.Fatal(err)
	}
	n := published.Normalise()
	if _, err := st.PutRecord(ctx, cluster.Record{
		Schema: 1, Ref: ref, Phase: cluster.PhaseReady, Spec: n.Spec, SpecDigest: published.Digest(),
		Frozen:   cluster.Frozen{Contract: "v1.13", TalosVersion: "v1.13.5", KubernetesVersion: "v1.36.3", Bundle: bundle},
		Endpoint: "https://198.51.100.1:6443", Entities: []string{cluster.GroupID(ref.Name, "cp")},
		ControlPlanes: []cluster.NodeAddress{{MachineID: "abcde", Name: ref.Name + "-cp-abcde", Address: "203.0.113.7"}},
		CreatedAt:     time.Now(), UpdatedAt: time.Now(),
	}, 0); err != nil {
		t.Fatal(err)
	}
}

// ichor runs a command to its end.
func ichor(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	if got := run(context.Background(), args, strings.NewReader(""), &out, &errOut); got != code {
		t.Errorf("ichor %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errOut.String())
	}
	return out.String(), errOut.String()
}

func wantText(t *testing.T, got string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			t.Errorf("the output lacks %q:\n%s", text, got)
		}
	}
}

func TestTheRecordIsEnoughWithoutTemporal(t *testing.T) {
	file := specNamed(t, "demo")
	recorded(t, file)

	out, _ := ichor(t, exitOK, "status", "demo")
	wantText(t, out, "demo (uid 0123456789ab)", "ready", "Talos v1.13.5", "https://198.51.100.1:6443", "demo-cp-abcde, machine API at 203.0.113.7", "reach Temporal at 127.0.0.1:1")
	out, _ = ichor(t, exitOK, "status", "demo", "-o", "json")
	var s state
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Phase != cluster.PhaseReady || len(s.Unknown) != 1 {
		t.Errorf("status as JSON: %+v, %v", s, err)
	}
	out, _ = ichor(t, exitOK, "list")
	wantText(t, out, "demo", "ready", "0123456789ab")

	out, _ = ichor(t, exitOK, "plan", "-f", file)
	wantText(t, out, "Provision changes nothing: the cluster exists and its spec is the same")
}

func TestAnotherSpecIsRefusedFieldByField(t *testing.T) {
	file := specNamed(t, "demo")
	recorded(t, file)
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(t.TempDir(), "changed.yaml")
	if err := os.WriteFile(changed, []byte(strings.NewReplacer("max: 2", "max: 5", "canary-body", "other-body").Replace(string(doc))), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := ichor(t, exitOK, "plan", "-f", changed)
	wantText(t, out, "differs: spec.nodeGroups[0].max is 5, was 2", "differs: spec.manifests[0].sha256 is ", "Provision refuses")
	_, errOut := ichor(t, exitConflict, "provision", "-f", changed)
	wantText(t, errOut, "exists (uid 0123456789ab, phase ready) with another spec", "spec.nodeGroups[0].max is 5, was 2")
	if strings.Contains(errOut, "body") && strings.Contains(errOut, "canary") {
		t.Errorf("a body is shown: %s", errOut)
	}
}

func TestCredentialsAreMintedAndExpire(t *testing.T) {
	recorded(t, specNamed(t, "demo"))
	out, errOut := ichor(t, exitOK, "kubeconfig", "demo", "--ttl", "2h")
	wantText(t, out, "server: https://198.51.100.1:6443")
	if errOut != "" {
		t.Errorf("standard error: %s", errOut)
	}
	var cfg struct {
		Users []struct {
			User struct {
				Cert string `yaml:"client-certificate-data"`
			} `yaml:"user"`
		} `yaml:"users"`
	}
	if err := yaml.Unmarshal([]byte(out), &cfg); err != nil || len(cfg.Users) != 1 {
		t.Fatalf("not a kubeconfig: %v", err)
	}
	raw, err := base64.StdEncoding.DecodeString(cfg.Users[0].User.Cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatal("the certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(cert.NotAfter); left > 2*time.Hour || left < time.Hour {
		t.Errorf("the certificate is valid for %s, want two hours", left)
	}

	file := filepath.Join(t.TempDir(), "talosconfig")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ = ichor(t, exitOK, "talosconfig", "demo", "--write", file)
	if out != "" {
		t.Errorf("--write still prints: %s", out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, string(data), "203.0.113.7", "context: demo")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}
