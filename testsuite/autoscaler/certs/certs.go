// Package certs issues the certificates of a mutual TLS pair for tests.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// PEM is its own certificate.
	PEM []byte
}

// Pair is a certificate and its key as PEM.
type Pair struct{ Cert, Key []byte }

// Files are a pair and the authority to trust, on disk.
type Files struct{ Cert, Key, CA string }

// NewAuthority makes one that nobody else trusts.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert: cert, key: key, PEM: encode("CERTIFICATE", der)}, err
}

// Issue makes a certificate for both ends of a connection: name is its common
// name, hosts are addresses or DNS names that it proves.
func (a *Authority) Issue(name string, hosts ...string) (Pair, error) {
	return a.IssueUntil(time.Now().Add(12*time.Hour), name, hosts...)
}

// IssueUntil is Issue with an end, which may have passed.
func (a *Authority) IssueUntil(end time.Time, name string, hosts ...string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: end.Add(-24 * time.Hour), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return Pair{}, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	return Pair{Cert: encode("CERTIFICATE", der), Key: encode("PRIVATE KEY", raw)}, err
}

// Write puts a pair and the authority that its user trusts into a folder, each
// file in one step, so that a reader never sees half of one.
func (a *Authority) Write(dir string, p Pair) (Files, error) {
	f := Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
	err := os.MkdirAll(dir, 0o700)
	for name, body := range map[string][]byte{f.Cert: p.Cert, f.Key: p.Key, f.CA: a.PEM} {
		err = errors.Join(err, os.WriteFile(name+".new", body, 0o600), os.Rename(name+".new", name))
	}
	return f, err
}

// Config is a TLS configuration for either end: it shows the pair and trusts the
// authority only.
func (a *Authority) Config(p Pair) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool,
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
