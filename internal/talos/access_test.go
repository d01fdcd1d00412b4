package talos

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func TestBundle(t *testing.T) {
	for _, c := range Contracts() {
		b, err := loadBundle(testBundle(t, c), now)
		if err != nil {
			t.Fatal(err)
		}
		key, err := b.Certs.K8sServiceAccount.GetKey()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(key.GetPrivateKeyPEM()), "EC PRIVATE KEY") {
			t.Errorf("%s: the service account key is not ECDSA", c)
		}
		ca, err := b.Certs.OS.GetCert()
		if err != nil {
			t.Fatal(err)
		}
		if !ca.NotBefore.Before(now) {
			t.Errorf("%s: authority not valid before %s: a node with a late clock refuses it", c, ca.NotBefore)
		}
	}
	for _, v := range []secrets.Value{{}, secrets.NewValue([]byte("hunter2")), secrets.NewValue([]byte("certs: {}"))} {
		_, err := loadBundle(v, now)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := NewBundle("v9.9", now); fault.KindOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
}

func TestContract(t *testing.T) {
	for version, want := range map[string]string{"v1.13.5": "v1.13", "v1.14.0-beta.1": "v1.14", "1.13.5": "", "v1.13": "", "v1.12.3": "", "v1.15.0": "", "": ""} {
		got, err := Contract(version)
		if got != want || (err == nil) != (want != "") || (err != nil && fault.KindOf(err) != fault.Invalid) {
			t.Errorf("%q: %q, %v", version, got, err)
		}
	}
}

func TestTalosconfig(t *testing.T) {
	access := Access{Bundle: testBundle(t, "v1.14"), Cluster: "demo", TTL: time.Hour, Now: now}
	v, err := Talosconfig(access, []string{"203.0.113.5"}, []string{"10.100.0.5"})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientconfig.FromBytes(v.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	c := cfg.Contexts[cfg.Context]
	if cfg.Context != "demo" {
		t.Errorf("context %q", cfg.Context)
	}
	if diff := cmp.Diff([][]string{{"203.0.113.5"}, {"10.100.0.5"}}, [][]string{c.Endpoints, c.Nodes}); diff != "" {
		t.Error(diff)
	}
	cert := verify(t, c.Crt, c.Key, c.CA)
	if diff := cmp.Diff([]string{"os:admin"}, cert.Subject.Organization); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, cert.ExtKeyUsage); diff != "" {
		t.Error(diff)
	}
	if !cert.NotAfter.Equal(now.Add(time.Hour)) || !cert.NotBefore.Equal(now.Add(-clockSkew)) {
		t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
	}
}

func TestKubeconfig(t *testing.T) {
	access := Access{Bundle: testBundle(t, "v1.13"), Cluster: "demo", TTL: time.Hour, Now: now}
	v, err := Kubeconfig(access, "https://198.51.100.7:6443")
	if err != nil {
		t.Fatal(err)
	}
	var cfg kubeconfig
	if err := yaml.Unmarshal(v.Reveal(), &cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Clusters[0].Cluster.Server != "https://198.51.100.7:6443" || cfg.CurrentContext != "admin@demo" {
		t.Errorf("server %q, context %q", cfg.Clusters[0].Cluster.Server, cfg.CurrentContext)
	}
	u := cfg.Users[0].User
	cert := verify(t, u.Cert, u.Key, cfg.Clusters[0].Cluster.CA)
	if cert.Subject.CommonName != "ichor:admin" || cert.Subject.Organization[0] != adminGroup {
		t.Errorf("subject %s", cert.Subject)
	}
	if !cert.NotAfter.Equal(now.Add(time.Hour)) {
		t.Errorf("valid to %s", cert.NotAfter)
	}
	if _, err := Kubeconfig(access, "http://x"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
	access.TTL = 0
	if _, err := Kubeconfig(access, "https://x:6443"); fault.KindOf(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
}

// verify checks that a certificate belongs to its key and authority.
func verify(t *testing.T, crt, key, ca string) *x509.Certificate {
	t.Helper()
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	pair, err := tls.X509KeyPair(decode(crt), decode(key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(decode(ca)) {
		t.Fatal("no authority")
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}
