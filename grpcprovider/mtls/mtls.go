// Package mtls serves gRPC over mutual TLS with files that may be renewed at any
// time, and says of every refused peer why it was refused.
package mtls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/ichor-project/ichor/internal/fault"
)

// DefaultEvery is how often files are looked at: soon enough for certificates
// that are renewed days before they end.
const DefaultEvery = 10 * time.Second

// Options name the files, all PEM.
type Options struct {
	Cert, Key string
	// ClientCA holds the authorities whose clients are let in.
	ClientCA string
	// ClientNames, when there are any, are the only clients that are let in: a
	// certificate must carry one of them as DNS name, URI or common name.
	ClientNames []string
	Logger      *slog.Logger
	// Refused is called for every refused handshake, after it was logged; may be nil.
	Refused func(reason Reason)
}

// Reason is why a handshake failed.
type Reason string

// Reasons.
const (
	NoCertificate Reason = "no client certificate"
	ForeignCA     Reason = "foreign CA"
	Expired       Reason = "expired"
	NotYetValid   Reason = "not yet valid"
	WrongUsage    Reason = "not a client certificate"
	WrongName     Reason = "wrong name"
	// Declined is a client that does not accept our certificate and does not say
	// why; it gave no name to compare.
	Declined  Reason = "declined by the client"
	Plaintext Reason = "no TLS"
	Protocol  Reason = "protocol" // anything else
)

// state is what the files held when they were read last.
type state struct {
	raw    [3][]byte
	config *tls.Config
	leaf   *x509.Certificate
}

// Files are the current certificate and authorities. They are safe for
// concurrent use.
type Files struct {
	o   Options
	now atomic.Pointer[state]
}

// Load reads the files for the first time. Invalid when they cannot be used.
func Load(o Options) (*Files, error) {
	f := &Files{o: o}
	s, err := f.read()
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "load TLS files", err)
	}
	f.now.Store(s)
	return f, nil
}

// read makes a configuration of what the files hold now.
func (f *Files) read() (*state, error) {
	s := &state{}
	for i, name := range []string{f.o.Cert, f.o.Key, f.o.ClientCA} {
		var err error
		if s.raw[i], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	cert, err := tls.X509KeyPair(s.raw[0], s.raw[1])
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", f.o.Cert, f.o.Key, err)
	}
	s.leaf = cert.Leaf
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.raw[2]) {
		return nil, fmt.Errorf("%s holds no certificate", f.o.ClientCA)
	}
	s.config = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		NextProtos:   []string{"h2"},
		// Connections are few and live long; and a resumed session would outlive
		// the authority that let it in.
		SessionTicketsDisabled: true,
		VerifyConnection:       f.verifyName,
	}
	return s, nil
}

// NotAfter is when the current server certificate ends.
func (f *Files) NotAfter() time.Time { return f.now.Load().leaf.NotAfter }

// Reload reads the files anew and tells whether something changed. What cannot
// be used, for example because only one of two files was replaced yet, is an
// error; what was read before stays in use.
func (f *Files) Reload() (bool, error) {
	s, err := f.read()
	if err != nil {
		return false, err
	}
	old := f.now.Load()
	if slices.EqualFunc(old.raw[:], s.raw[:], bytes.Equal) {
		return false, nil
	}
	f.now.Store(s)
	return true, nil
}

// Watch reloads until ctx ends, and logs what changes.
func (f *Files) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := f.Reload()
		switch {
		case err != nil && err.Error() != last: // once, not every few seconds
			f.o.Logger.Error("renewed TLS files cannot be used; the old ones stay in use", "error", err, "until", f.NotAfter())
			last = err.Error()
		case err == nil:
			last = ""
		}
		if changed {
			leaf := f.now.Load().leaf
			f.o.Logger.Info("TLS files were renewed", "serial", leaf.SerialNumber.Text(16), "until", leaf.NotAfter)
		}
	}
}

// errName marks our own refusal of a client's name.
type errName struct{ names []string }

func (e errName) Error() string {
	return fmt.Sprintf("the client certificate names %s, none of which is let in", strings.Join(e.names, ", "))
}

// verifyName is called after the chain was verified.
func (f *Files) verifyName(c tls.ConnectionState) error {
	if len(f.o.ClientNames) == 0 {
		return nil
	}
	names := namesOf(c.PeerCertificates[0])
	for _, n := range names {
		if slices.Contains(f.o.ClientNames, n) {
			return nil
		}
	}
	return errName{names}
}

func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

// Credentials are what a gRPC server uses.
func (f *Files) Credentials() credentials.TransportCredentials {
	return &creds{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), files: f}
}

type creds struct {
	credentials.TransportCredentials
	files *Files
}

// Clone implements credentials.TransportCredentials.
func (c *creds) Clone() credentials.TransportCredentials {
	return &creds{TransportCredentials: c.TransportCredentials.Clone(), files: c.files}
}

// ServerHandshake implements credentials.TransportCredentials with the files as
// they are now.
func (c *creds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s := c.files.now.Load()
	config := s.config.Clone()
	asked := ""
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked = hello.ServerName
		return nil, nil // the configuration stays
	}
	conn, info, err := credentials.NewTLS(config).ServerHandshake(raw)
	if err != nil {
		c.files.refused(raw, s, asked, err)
	}
	return conn, info, err
}

// refused says who was refused, and why.
func (f *Files) refused(raw net.Conn, s *state, asked string, err error) {
	reason, detail := explain(s, asked, raw.LocalAddr(), err)
	attrs := []any{"reason", string(reason), "detail", detail, "from", raw.RemoteAddr().String(), "error", err}
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) && len(verify.UnverifiedCertificates) > 0 {
		leaf := verify.UnverifiedCertificates[0]
		attrs = append(attrs, "subject", leaf.Subject.String(), "issuer", leaf.Issuer.String(), "notAfter", leaf.NotAfter)
	}
	f.o.Logger.Warn("a TLS connection was refused", attrs...)
	if f.o.Refused != nil {
		f.o.Refused(reason)
	}
}
