package mtls_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/grpcprovider/mtls"
	"github.com/ichor-project/ichor/internal/fault"
)

func TestRefusalsAreExplained(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	good := ours.issue(t, nil)
	server := ours.issue(t, func(c *x509.Certificate) { c.Subject.CommonName = "server" })
	client := func(own *pair, name string, versions ...uint16) func(t *testing.T) credentials.TransportCredentials {
		return func(t *testing.T) credentials.TransportCredentials {
			t.Helper()
			c := clientConfig(t, own, ours.pem, name)
			if len(versions) > 0 {
				c.MaxVersion = versions[0]
			}
			return credentials.NewTLS(c)
		}
	}
	issued := func(from authority, change func(*x509.Certificate)) *pair {
		p := from.issue(t, change)
		return &p
	}
	past := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	future := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
	onlyServer := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	other := func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "somebody", []string{"somebody.test"} }

	for name, tc := range map[string]struct {
		server *pair // the common one if nil
		names  []string
		dial   func(t *testing.T) credentials.TransportCredentials
		reason mtls.Reason
		line   string
	}{
		"no certificate":          {dial: client(nil, "provider.test"), reason: mtls.NoCertificate, line: "the client showed no certificate"},
		"no certificate, TLS 1.2": {dial: client(nil, "provider.test", tls.VersionTLS12), reason: mtls.NoCertificate, line: "the client showed no certificate"},
		"foreign CA":              {dial: client(issued(theirs, nil), "provider.test"), reason: mtls.ForeignCA, line: "issuer=\"CN=theirs\""},
		"foreign CA, TLS 1.2":     {dial: client(issued(theirs, nil), "provider.test", tls.VersionTLS12), reason: mtls.ForeignCA, line: "issuer=\"CN=theirs\""},
		"expired":                 {dial: client(issued(ours, past), "provider.test"), reason: mtls.Expired, line: "CN=autoscaler expired at"},
		"not yet valid":           {dial: client(issued(ours, future), "provider.test"), reason: mtls.NotYetValid, line: "CN=autoscaler is valid from"},
		"a server's certificate":  {dial: client(issued(ours, onlyServer), "provider.test"), reason: mtls.WrongUsage, line: "is not for clients"},
		"wrong client name": {
			names: []string{"autoscaler"}, dial: client(issued(ours, other), "provider.test"),
			reason: mtls.WrongName, line: "somebody.test",
		},
		"wrong server name":          {dial: client(&good, "elsewhere.test"), reason: mtls.WrongName, line: "dialled elsewhere.test, the provider's certificate is for provider.test"},
		"wrong server name, TLS 1.2": {dial: client(&good, "elsewhere.test", tls.VersionTLS12), reason: mtls.WrongName, line: "dialled elsewhere.test"},
		"wrong address": {
			server: issued(ours, func(c *x509.Certificate) { c.IPAddresses = nil }), dial: client(&good, "127.0.0.1"),
			reason: mtls.WrongName, line: "dialled an address, here 127.0.0.1",
		},
		"own certificate expired": {server: issued(ours, past), dial: client(&good, "provider.test"), reason: mtls.Expired, line: "the provider's own certificate expired"},
		"client trusts another CA": {
			server: issued(theirs, nil), dial: client(&good, "provider.test"), reason: mtls.Declined, line: "issued by CN=theirs",
		},
		"plaintext": {dial: func(*testing.T) credentials.TransportCredentials { return insecure.NewCredentials() }, reason: mtls.Plaintext, line: "does not speak TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			own := server
			if tc.server != nil {
				own = *tc.server
			}
			f := serve(t, own, ours.pem, tc.names...)
			if err := f.call(t, tc.dial(t)); status.Code(err) != codes.Unavailable {
				t.Errorf("the client was let in, or got %v", err)
			}
			if got := <-f.refused; got != tc.reason {
				t.Errorf("reason %q, want %q", got, tc.reason)
			}
			if !strings.Contains(f.log.String(), tc.line) {
				t.Errorf("the log does not say %q:\n%s", tc.line, f.log)
			}
			if !strings.Contains(f.log.String(), "a TLS connection was refused") {
				t.Errorf("the log does not name the refusal:\n%s", f.log)
			}
		})
	}
}

func TestLetsIn(t *testing.T) {
	ca := newAuthority(t, "ours")
	client := ca.issue(t, nil)
	for name, names := range map[string][]string{
		"anybody of the CA": nil, "by common name": {"x", "autoscaler"}, "by DNS name": {"provider.test"}, "by address": {"127.0.0.1"},
	} {
		f := serve(t, ca.issue(t, nil), ca.pem, names...)
		for _, dialled := range []string{"provider.test", "127.0.0.1"} {
			if err := f.call(t, credentials.NewTLS(clientConfig(t, &client, ca.pem, dialled))); err != nil {
				t.Errorf("%s, dialled as %s: %v\n%s", name, dialled, err, f.log)
			}
		}
	}
}

// serialSeen is the serial number of the certificate that the server shows.
func serialSeen(t *testing.T, f *fixture, config *tls.Config) string {
	t.Helper()
	seen := ""
	c := config.Clone()
	c.VerifyConnection = func(s tls.ConnectionState) error {
		seen = s.PeerCertificates[0].SerialNumber.String()
		return nil
	}
	if err := f.call(t, credentials.NewTLS(c)); err != nil {
		t.Fatal(err)
	}
	return seen
}

func serial(t *testing.T, p pair) string {
	t.Helper()
	b, _ := pem.Decode(p.cert)
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c.SerialNumber.String()
}

func TestRenewedFilesAreUsedWithoutARestart(t *testing.T) {
	ours, next := newAuthority(t, "ours"), newAuthority(t, "next")
	before, after := ours.issue(t, nil), ours.issue(t, nil)
	old, renewed := ours.issue(t, nil), next.issue(t, nil)
	f := serve(t, before, ours.pem)
	withOld, withNew := clientConfig(t, &old, ours.pem, "provider.test"), clientConfig(t, &renewed, ours.pem, "provider.test")
	if got := serialSeen(t, f, withOld); got != serial(t, before) {
		t.Fatal("another certificate than the file's is shown")
	}
	// A connection that is open outlives what follows.
	conn, err := grpc.NewClient("passthrough:///"+f.addr, grpc.WithTransportCredentials(credentials.NewTLS(withOld)))
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(t, conn)
	ping := func() error {
		_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		return err
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); f.files.Watch(ctx, time.Millisecond) }()
	defer func() { stop(); <-watched }()
	waitFor := func(line string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for !strings.Contains(f.log.String(), line) {
			select {
			case <-deadline:
				t.Fatalf("the log does not say %q:\n%s", line, f.log)
			case <-time.After(time.Millisecond):
			}
		}
	}

	// Half of a pair is not used, and the old pair stays.
	write(t, f.options.Cert, after.cert)
	waitFor("the old ones stay in use")
	if got := serialSeen(t, f, withOld); got != serial(t, before) {
		t.Error("a certificate without its key is shown")
	}
	write(t, f.options.Key, after.key)
	waitFor("TLS files were renewed")
	if got := serialSeen(t, f, withOld); got != serial(t, after) {
		t.Error("the old certificate is still shown")
	}
	// Another authority for clients: who was let in by the old one is not.
	if err := f.call(t, credentials.NewTLS(withNew)); err == nil {
		t.Error("a client of an authority that is not in the file yet was let in")
	}
	write(t, f.options.ClientCA, next.pem)
	deadline := time.Now().Add(20 * time.Second)
	for f.call(t, credentials.NewTLS(withNew)) != nil {
		if time.Now().After(deadline) {
			t.Fatalf("a client of the new authority is not let in:\n%s", f.log)
		}
	}
	if err := f.call(t, credentials.NewTLS(withOld)); err == nil {
		t.Error("a client of the old authority is still let in")
	}
	if err := ping(); err != nil {
		t.Errorf("the open connection broke: %v", err)
	}
}

func TestLoadRefusesWhatCannotServe(t *testing.T) {
	ca := newAuthority(t, "ours")
	one, two := ca.issue(t, nil), ca.issue(t, nil)
	for name, files := range map[string][3][]byte{
		"no certificate":       {nil, one.key, ca.pem},
		"no key":               {one.cert, nil, ca.pem},
		"another key":          {one.cert, two.key, ca.pem},
		"no authority":         {one.cert, one.key, nil},
		"a key as authority":   {one.cert, one.key, one.key},
		"text for certificate": {[]byte("hello"), one.key, ca.pem},
	} {
		dir := t.TempDir()
		o := mtls.Options{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k"), ClientCA: filepath.Join(dir, "a")}
		for i, path := range []string{o.Cert, o.Key, o.ClientCA} {
			if files[i] != nil {
				write(t, path, files[i])
			}
		}
		if _, err := mtls.Load(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: the error repeats the key", name)
		}
	}
}

func TestNotAfter(t *testing.T) {
	ca := newAuthority(t, "ours")
	end := time.Now().Add(42 * time.Minute).Truncate(time.Second)
	f := serve(t, ca.issue(t, func(c *x509.Certificate) { c.NotAfter = end }), ca.pem)
	if got := f.files.NotAfter(); !got.Equal(end) {
		t.Errorf("ends %s, want %s", got, end)
	}
}
