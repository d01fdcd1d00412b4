package talosnode

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"time"

	"github.com/siderolabs/crypto/x509"

	"github.com/siderolabs/talos/pkg/machinery/role"
)

// certTTL is how long certificates of nodes live; Talos renews them long
// before.
const certTTL = 24 * time.Hour

// maintenanceTLS is the self-signed certificate that nobody can verify.
func maintenanceTLS(addresses []netip.Addr) (*tls.Config, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}

	template := &stdx509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "maintenance-service.talos.dev"},
		DNSNames:     []string{"maintenance-service.talos.dev"},
		IPAddresses:  netIPs(addresses),
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(certTTL),
		KeyUsage:     stdx509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []stdx509.ExtKeyUsage{stdx509.ExtKeyUsageServerAuth},
	}

	der, err := stdx509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return nil, err
	}

	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13,
	}, nil
}

// mutualTLS serves with pair and demands a client certificate of the CAs.
func mutualTLS(pair tls.Certificate, cas []byte) (*tls.Config, error) {
	pool := stdx509.NewCertPool()
	if !pool.AppendCertsFromPEM(cas) {
		return nil, errors.New("machine.ca holds no certificate")
	}

	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		MinVersion:   tls.VersionTLS13,
	}, nil
}

// issue makes a key pair signed by a CA whose key is at hand.
func issue(ca *x509.PEMEncodedCertificateAndKey, options ...x509.Option) (tls.Certificate, *x509.PEMEncodedCertificateAndKey, error) {
	authority, err := x509.NewCertificateAuthorityFromCertificateAndKey(ca)
	if err != nil {
		return tls.Certificate{}, nil, err
	}

	options = append([]x509.Option{
		x509.NotBefore(time.Now().Add(-time.Minute)),
		x509.NotAfter(time.Now().Add(certTTL)),
		x509.KeyUsage(stdx509.KeyUsageDigitalSignature),
	}, options...)

	pair, err := x509.NewKeyPair(authority, options...)
	if err != nil {
		return tls.Certificate{}, nil, err
	}

	pem := x509.NewCertificateAndKeyFromKeyPair(pair)
	certificate, err := tls.X509KeyPair(pem.Crt, pem.Key)

	return certificate, pem, err
}

func serverOptions(addresses []netip.Addr, names []string) []x509.Option {
	return []x509.Option{
		x509.IPAddresses(netIPs(addresses)),
		x509.DNSNames(names),
		x509.ExtKeyUsage([]stdx509.ExtKeyUsage{stdx509.ExtKeyUsageServerAuth}),
	}
}

func clientOptions(roles role.Set) []x509.Option {
	return []x509.Option{
		x509.Organization(roles.Strings()...),
		x509.ExtKeyUsage([]stdx509.ExtKeyUsage{stdx509.ExtKeyUsageClientAuth}),
	}
}

func netIPs(addresses []netip.Addr) []net.IP {
	out := make([]net.IP, 0, len(addresses))
	for _, a := range addresses {
		out = append(out, a.AsSlice())
	}

	return out
}

// sans splits machine.certSANs into addresses and names.
func sans(config *nodeConfig, own []netip.Addr, hostname string) ([]netip.Addr, []string) {
	addresses := append([]netip.Addr{}, own...)
	names := []string{hostname}

	for _, san := range config.certSANs {
		if a, err := netip.ParseAddr(san); err == nil {
			addresses = append(addresses, a)
		} else {
			names = append(names, san)
		}
	}

	return addresses, names
}
