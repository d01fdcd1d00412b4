package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"

	"github.com/ichor-project/ichor/testsuite/devcloud/kube/pki"
)

func bundle(t *testing.T) *secrets.Bundle {
	t.Helper()
	b, err := secrets.NewBundle(secrets.NewClock(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIssue(t *testing.T) {
	certs := bundle(t).Certs
	authority, err := pki.ParseAuthority(certs.K8s.Crt, certs.K8s.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		subject pki.Subject
		usage   x509.ExtKeyUsage
		host    string
	}{
		"client": {
			pki.Subject{CommonName: "admin", Organizations: []string{"system:masters"}}, x509.ExtKeyUsageClientAuth, "",
		},
		"server by name": {
			pki.Subject{CommonName: "kube-apiserver", DNSNames: []string{"kubernetes.default"}}, x509.ExtKeyUsageServerAuth, "kubernetes.default",
		},
		"server by address": {
			pki.Subject{CommonName: "kube-apiserver", Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.1")}},
			x509.ExtKeyUsageServerAuth, "10.96.0.1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := authority.Issue(test.subject)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
				t.Fatalf("certificate and key do not match: %v", err)
			}
			block, _ := pem.Decode(pair.Cert)
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(authority.PEM())
			if _, err := cert.Verify(x509.VerifyOptions{
				Roots: roots, KeyUsages: []x509.ExtKeyUsage{test.usage}, DNSName: test.host,
			}); err != nil {
				t.Errorf("the authority's own certificate does not verify: %v", err)
			}
			if test.host == "" && len(cert.ExtKeyUsage) != 1 {
				t.Errorf("a client may be used as %v", cert.ExtKeyUsage)
			}
		})
	}
}

func TestParseAuthorityRefuses(t *testing.T) {
	one, two := bundle(t).Certs, bundle(t).Certs
	ordinary, err := func() (pki.Pair, error) {
		authority, err := pki.ParseAuthority(one.K8s.Crt, one.K8s.Key)
		if err != nil {
			return pki.Pair{}, err
		}
		return authority.Issue(pki.Subject{CommonName: "x"})
	}()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		cert, key []byte
		want      string
	}{
		"no certificate":   {nil, one.K8s.Key, "not PEM"},
		"no key":           {one.K8s.Crt, nil, "not PEM"},
		"key of another":   {one.K8s.Crt, two.K8s.Key, "does not belong"},
		"not an authority": {ordinary.Cert, ordinary.Key, "not an authority"},
		"broken certificate": {
			pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), one.K8s.Key, "parse the authority's certificate",
		},
		"broken key": {
			one.K8s.Crt, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), `parse a "PRIVATE KEY" block`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pki.ParseAuthority(test.cert, test.key)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

// Talos has written keys in all of these forms over time.
func TestParseKeyForms(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(small)
	if err != nil {
		t.Fatal(err)
	}
	for kind, der := range map[string][]byte{
		"EC PRIVATE KEY": sec1, "RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(small), "PRIVATE KEY": pkcs8,
	} {
		t.Run(kind, func(t *testing.T) {
			key, err := pki.ParseKey(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
			if err != nil {
				t.Fatal(err)
			}
			again, err := pki.EncodeKey(key)
			if err != nil {
				t.Fatal(err)
			}
			back, err := pki.ParseKey(again)
			if err != nil {
				t.Fatal(err)
			}
			first, err := pki.EncodePublicKey(key)
			if err != nil {
				t.Fatal(err)
			}
			second, err := pki.EncodePublicKey(back)
			if err != nil {
				t.Fatal(err)
			}
			if string(first) != string(second) {
				t.Error("the key changed on its way through PEM")
			}
		})
	}
}
