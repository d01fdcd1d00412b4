// Package pki issues the certificates of a cluster's Kubernetes processes from
// the authorities that a Talos machine config carries.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"time"
)

// Lifetime of issued certificates: devcloud is thrown away long before.
const lifetime = 10 * 365 * 24 * time.Hour

// Authority is a certificate authority with its key.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// ParseAuthority reads a certificate and its key from PEM (PKCS#8, PKCS#1 or
// SEC 1). It refuses a key of another certificate and a certificate that may
// not sign: Kubernetes would refuse everything issued by it, much later.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return nil, errors.New("pki: the authority's certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: parse the authority's certificate: %w", err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	type publicKey interface{ Equal(crypto.PublicKey) bool }
	if public, ok := key.Public().(publicKey); !ok || !public.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("pki: the key does not belong to the certificate of %q", cert.Subject)
	}
	if !cert.IsCA {
		return nil, fmt.Errorf("pki: the certificate of %q is not an authority", cert.Subject)
	}
	return &Authority{cert: cert, key: key, pem: certPEM}, nil
}

// ParseKey reads a private key from PEM. Errors never contain key material.
func ParseKey(keyPEM []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("pki: the key is not PEM")
	}
	var (
		key any
		err error
	)
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default: // "PRIVATE KEY", and Talos' "ED25519 PRIVATE KEY", are PKCS#8
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("pki: parse a %q block: %w", block.Type, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("pki: a %T cannot sign", key)
	}
	return signer, nil
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return a.pem }

// Subject says who a certificate is for. With names or addresses it may serve,
// and every certificate may authenticate a client.
type Subject struct {
	CommonName    string
	Organizations []string
	DNSNames      []string
	Addresses     []netip.Addr
}

// Pair is a certificate and its key, both PEM.
type Pair struct{ Cert, Key []byte }

// Issue makes a key and a certificate for it.
func (a *Authority) Issue(subject Subject) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("pki: make a key for %q: %w", subject.CommonName, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, fmt.Errorf("pki: make a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: subject.CommonName, Organization: subject.Organizations},
		// An hour back, so that a clock a little behind accepts it.
		NotBefore:   time.Now().Add(-time.Hour),
		NotAfter:    time.Now().Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:    subject.DNSNames,
	}
	for _, address := range subject.Addresses {
		template.IPAddresses = append(template.IPAddresses, address.AsSlice())
	}
	if len(subject.DNSNames)+len(subject.Addresses) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("pki: issue a certificate for %q: %w", subject.CommonName, err)
	}
	keyPEM, err := EncodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: keyPEM}, nil
}

// EncodeKey writes a private key as PKCS#8 PEM.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pki: encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// EncodePublicKey writes the public half of a key as PKIX PEM.
func EncodePublicKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("pki: encode a public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
