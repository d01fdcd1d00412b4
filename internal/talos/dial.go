package talos

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"time"

	cryptox509 "github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

const (
	// DefaultTTL is the lifetime of the client certificate that Dial mints:
	// longer than any activity attempt that uses one connection.
	DefaultTTL = 10 * time.Minute
	// dialTimeout bounds connecting and the TLS handshake.
	dialTimeout = 5 * time.Second
	// readTimeout bounds a call that reads, writeTimeout one that changes
	// something. A node that goes through kexec never answers nor closes the
	// connection, so every call needs a bound of its own.
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
)

// DialOptions says whom to call and how to prove who calls.
type DialOptions struct {
	// Bundle is the PKI bundle of the cluster.
	Bundle secrets.Value
	// Address is an IP address or host name of the node, the port (default
	// 50000) may follow. Nodes' certificates name their addresses.
	Address string
	// TTL is the lifetime of the client certificate, DefaultTTL when zero.
	TTL time.Duration
}

// Node is a connection to the machine API of one node, with role os:admin.
// Close it; never keep it across a reboot.
type Node struct {
	api     *client.Client
	address string
	cert    *x509.Certificate // what the node showed
}

// Dial connects to a node that has a config and checks that it belongs to the
// cluster. Errors: NotYet when the node waits for a config (see
// InMaintenance), Unauthorized when it presents another cluster's certificate,
// Unavailable when it does not answer.
func Dial(ctx context.Context, opts DialOptions) (*Node, error) {
	const op = "dial machine API"
	now := time.Now()
	bundle, err := loadBundle(opts.Bundle, now)
	if err != nil {
		return nil, err
	}
	ttl := opts.TTL
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	id, err := bundle.GenerateTalosAPIClientCertificateWithTTL(role.MakeSet(role.Admin), ttl+clockSkew)
	if err != nil {
		return nil, fault.New(fault.Internal, op, "the client certificate cannot be signed with the bundle's authority")
	}
	pair, err := tls.X509KeyPair(id.Crt, id.Key)
	if err != nil {
		return nil, fault.New(fault.Internal, op, "the minted certificate does not fit its key")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle.Certs.OS.Crt) {
		return nil, fault.New(fault.Internal, op, "the bundle's Talos authority cannot be read")
	}
	address := withPort(opts.Address)
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}}
	cert, err := greet(ctx, address, cfg)
	if err != nil {
		return nil, err
	}
	api, err := client.New(ctx, client.WithTLSConfig(cfg), client.WithEndpoints(address))
	if err != nil {
		return nil, fault.New(fault.Unavailable, op, "%s: %s", address, err)
	}
	return &Node{api: api, address: address, cert: cert}, nil
}

// Close ends the connection.
func (n *Node) Close() error {
	return fault.Wrap(fault.Internal, "close connection to "+n.address, n.api.Close())
}

// Address returns the address with port.
func (n *Node) Address() string { return n.address }

// InMaintenance reports whether a node runs in maintenance mode: without a
// config, with a certificate that nobody signed. Such a node cannot prove who
// it is; the caller must know the address from the cloud. Errors: Unavailable.
func InMaintenance(ctx context.Context, address string) (bool, error) {
	_, err := maintenance(ctx, withPort(address))
	switch {
	case err == nil:
		return true, nil
	case fault.Is(err, fault.Conflict):
		return false, nil
	default:
		return false, err
	}
}

// maintenance returns the certificate of a node in maintenance mode. Conflict
// when the node has a config.
func maintenance(ctx context.Context, address string) (*x509.Certificate, error) {
	// With no authority at all, every certificate is refused and comes back
	// with the refusal.
	cert, err := greet(ctx, address, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()})
	if cert != nil && isMaintenance(cert) {
		return cert, nil
	}
	if cert != nil || err == nil {
		return nil, fault.New(fault.Conflict, "look for maintenance mode", "%s has a config already", address)
	}
	return nil, err
}

// isMaintenance recognises the certificate that Talos makes for itself before
// it has a config.
func isMaintenance(cert *x509.Certificate) bool {
	return cert.Subject.CommonName == constants.MaintenanceServiceCommonName
}

// greet makes one TLS handshake and hangs up. gRPC tells of a failed handshake
// in words only; here the cause is still an error value. The certificate is the
// node's, also when it was refused.
func greet(ctx context.Context, address string, cfg *tls.Config) (*x509.Certificate, error) {
	const op = "dial machine API"
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", address)
	if err == nil {
		state := conn.(*tls.Conn).ConnectionState()
		// Nothing was sent; a failed close changes nothing.
		_ = conn.Close()
		return state.PeerCertificates[0], nil
	}
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return refusedCertificate(address, refused)
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return nil, fault.New(fault.Unauthorized, op, "%s refuses our certificate: %s", address, err)
	}
	return nil, &fault.Error{
		Kind: fault.Unavailable, Op: op, Err: err,
		Message: address + " does not answer: " + cause(err) + "; check that the machine runs and that spec.network.adminCIDRs contains the address from which the worker reaches it",
	}
}

func refusedCertificate(address string, refused *tls.CertificateVerificationError) (*x509.Certificate, error) {
	const op = "dial machine API"
	if len(refused.UnverifiedCertificates) == 0 {
		return nil, fault.New(fault.Unauthorized, op, "%s presents no certificate", address)
	}
	cert := refused.UnverifiedCertificates[0]
	if isMaintenance(cert) {
		return cert, fault.New(fault.NotYet, op, "%s is in maintenance mode: it waits for a config", address)
	}
	why := "a certificate that is refused (" + refused.Err.Error() + ")"
	if _, ok := errors.AsType[x509.UnknownAuthorityError](refused.Err); ok {
		why = "another cluster's certificate"
	} else if _, ok := errors.AsType[x509.HostnameError](refused.Err); ok {
		why = "a certificate for other addresses (is it behind an address translation?)"
	} else if invalid, ok := errors.AsType[x509.CertificateInvalidError](refused.Err); ok && invalid.Reason == x509.Expired {
		why = notValid(cert, time.Now())
	}
	return cert, fault.New(fault.Unauthorized, op, "%s presents %s", address, why)
}

// notValid says why a certificate is refused for its dates. Talos renews it by
// itself, so the clock is the first suspect.
func notValid(cert *x509.Certificate, now time.Time) string {
	what, at := "expired at ", cert.NotAfter
	if now.Before(cert.NotBefore) {
		what, at = "is not valid before ", cert.NotBefore
	}
	return "a certificate that " + what + at.UTC().Format(time.RFC3339) +
		": check the node's clock and ours; a restart of the node makes a new certificate"
}

// cause shortens a network error to what differs between failures.
func cause(err error) string {
	var netErr net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout() {
		return "no connection within " + dialTimeout.String()
	}
	if opErr, ok := errors.AsType[*net.OpError](err); ok {
		return opErr.Err.Error()
	}
	return err.Error()
}

func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(address, strconv.Itoa(constants.ApidPort))
}

// fingerprint is the form in which machinery pins a certificate.
func fingerprint(cert *x509.Certificate) string { return cryptox509.SPKIFingerprint(cert).String() }
