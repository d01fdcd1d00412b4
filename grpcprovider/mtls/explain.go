package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// explain finds the reason of a failed handshake: whose fault it is, and what a
// person has to change.
func explain(s *state, asked string, local net.Addr, err error) (Reason, string) {
	var (
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		foreign x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		name    errName
		remote  *net.OpError
	)
	switch {
	case errors.As(err, &name):
		return WrongName, name.Error()
	case errors.As(err, &foreign):
		return ForeignCA, "the client certificate was issued by an authority that is not in the file of --tls-client-ca"
	case errors.As(err, &invalid):
		return dates(invalid, verify, err)
	case strings.Contains(err.Error(), "didn't provide a certificate"): // crypto/tls has no type for it
		return NoCertificate, "the client showed no certificate; the autoscaler's cloud config needs key and cert"
	case errors.As(err, &record):
		return Plaintext, "the client does not speak TLS; the autoscaler's cloud config needs key, cert and cacert"
	case errors.As(err, &remote) && remote.Op == "remote error": // the client's alert
		return declined(s, asked, local, err)
	case errors.Is(err, io.EOF):
		return Protocol, "the client hung up"
	}
	return Protocol, err.Error()
}

func dates(invalid x509.CertificateInvalidError, verify *tls.CertificateVerificationError, err error) (Reason, string) {
	leaf := invalid.Cert
	if errors.As(err, &verify) && len(verify.UnverifiedCertificates) > 0 {
		leaf = verify.UnverifiedCertificates[0]
	}
	switch {
	case invalid.Reason == x509.Expired && time.Now().Before(invalid.Cert.NotBefore):
		return NotYetValid, fmt.Sprintf("the certificate of %s is valid from %s", invalid.Cert.Subject, invalid.Cert.NotBefore)
	case invalid.Reason == x509.Expired:
		return Expired, fmt.Sprintf("the certificate of %s expired at %s", invalid.Cert.Subject, invalid.Cert.NotAfter)
	case invalid.Reason == x509.IncompatibleUsage:
		return WrongUsage, fmt.Sprintf("the certificate of %s is not for clients", leaf.Subject)
	}
	return Protocol, err.Error()
}

// declined explains why a client does not accept our certificate, as far as that
// can be seen from here.
func declined(s *state, asked string, local net.Addr, err error) (Reason, string) {
	if now := time.Now(); now.After(s.leaf.NotAfter) {
		return Expired, fmt.Sprintf("the provider's own certificate expired at %s", s.leaf.NotAfter)
	}
	ours := strings.Join(namesOf(s.leaf), ", ")
	if asked != "" {
		if s.leaf.VerifyHostname(asked) != nil {
			return WrongName, fmt.Sprintf("the client dialled %s, the provider's certificate is for %s", asked, ours)
		}
	} else if host, _, splitErr := net.SplitHostPort(local.String()); splitErr == nil && s.leaf.VerifyHostname(host) != nil {
		return WrongName, fmt.Sprintf("the client dialled an address, here %s; the provider's certificate is for %s", host, ours)
	}
	return Declined, fmt.Sprintf("the client does not accept the provider's certificate (for %s, issued by %s): %v", ours, s.leaf.Issuer, err)
}
