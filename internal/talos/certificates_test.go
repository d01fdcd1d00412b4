package talos_test

import (
	"context"
	"crypto/tls"
	stdx509 "crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/crypto/x509"
	machinery "github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
)

// Machinery makes authorities for ten years.
func TestAuthorities(t *testing.T) {
	got, err := talos.Authorities(bundle(t, "v1.14"))
	if err != nil || len(got) != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	names := map[string]bool{}
	for _, a := range got {
		names[a.Name] = true
		if life := a.NotAfter.Sub(a.NotBefore); life < 9*365*24*time.Hour {
			t.Errorf("the %s lives for %s", a.Name, life)
		}
	}
	if !names[talos.TalosAuthority] || !names[talos.KubernetesAuthority] || !names[talos.EtcdAuthority] || !names[talos.AggregationAuthority] {
		t.Errorf("authorities %v", names)
	}
	const canary = "CANARY-bundle"
	if _, err := talos.Authorities(secrets.NewValue([]byte(canary))); fault.KindOf(err) != fault.Internal || strings.Contains(err.Error(), canary) {
		t.Errorf("no bundle: %v", err)
	}
}

func TestInspect(t *testing.T) {
	m := newMachines(t, "v1.14.1", 1)
	look := func() map[string]time.Duration {
		t.Helper()
		got, err := talos.Inspect(t.Context(), m.dial(0))
		if err != nil {
			t.Fatal(err)
		}
		if got.FreeBytes <= 0 || got.DiskBytes <= got.FreeBytes {
			t.Errorf("space %d of %d", got.FreeBytes, got.DiskBytes)
		}
		left := map[string]time.Duration{}
		for _, c := range got.Certificates {
			if !c.Renewed.After(c.NotBefore) || !c.Renewed.Before(c.NotAfter) || c.Renewed.Before(time.Now()) != (time.Until(c.NotAfter) < 2*time.Hour) {
				t.Errorf("%+v", c)
			}
			left[c.Name] = time.Until(c.NotAfter)
		}
		return left
	}
	await(t, "kubelet", func(context.Context) (bool, string, error) { return len(look()) == 2, "", nil })
	if left := look(); left[talos.MachineAPICertificate] < 12*time.Hour || left[talos.KubeletCertificate] < 300*24*time.Hour {
		t.Errorf("left: %v", left)
	}
	m.nodes[0].Inject(talosnode.Faults{KubeletCertificateLeft: time.Hour})
	if left := look(); left[talos.KubeletCertificate] > time.Hour {
		t.Errorf("left: %v", left)
	}

	waiting := m.lab.Server("demo-cp-9", nil, image("v1.14.1"))
	m.lab.Boot(waiting)
	await(t, "maintenance mode", func(ctx context.Context) (bool, string, error) {
		_, err := talos.Inspect(ctx, talos.DialOptions{Bundle: m.bundle, Address: waiting.Loopback.String()})
		return fault.Is(err, fault.NotYet), "", nil
	})
}

// TestExpiredNode asks nodes whose certificates are of another time: the answer
// names it.
func TestExpiredNode(t *testing.T) {
	b := bundle(t, "v1.14")
	for _, tc := range []struct {
		from, until string
		words       string
	}{
		{"2020-01-02T03:04:05Z", "2020-01-03T03:04:05Z", "expired at 2020-01-03T03:04:05Z"},
		{"2090-01-02T03:04:05Z", "2090-01-03T03:04:05Z", "not valid before 2090-01-02T03:04:05Z"},
	} {
		at := func(text string) time.Time {
			v, err := time.Parse(time.RFC3339, text)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		address := listenAs(t, nodeCertificate(t, b, at(tc.from), at(tc.until)))
		_, err := talos.Inspect(t.Context(), talos.DialOptions{Bundle: b, Address: address})
		if fault.KindOf(err) != fault.Unauthorized || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s: %v", fault.KindOf(err), err)
		}
	}
}

// nodeCertificate signs a server's certificate with the Talos authority.
func nodeCertificate(t *testing.T, bundle secrets.Value, from, until time.Time) tls.Certificate {
	t.Helper()
	var parsed machinery.Bundle
	if err := yaml.Unmarshal(bundle.Reveal(), &parsed); err != nil {
		t.Fatal(err)
	}
	ca, err := x509.NewCertificateAuthorityFromCertificateAndKey(parsed.Certs.OS)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := x509.NewKeyPair(ca, x509.NotBefore(from), x509.NotAfter(until), x509.IPAddresses([]net.IP{net.IPv4(127, 0, 0, 1)}),
		x509.ExtKeyUsage([]stdx509.ExtKeyUsage{stdx509.ExtKeyUsageServerAuth}))
	if err != nil {
		t.Fatal(err)
	}
	pem := x509.NewCertificateAndKeyFromKeyPair(pair)
	out, err := tls.X509KeyPair(pem.Crt, pem.Key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// listenAs shakes hands with whoever comes.
func listenAs(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			// The client ends the handshake in its own way.
			_ = conn.(*tls.Conn).HandshakeContext(context.Background())
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return l.Addr().String()
}
