package talosnode

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	stdx509 "crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/siderolabs/crypto/x509"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/api/security"
	"github.com/siderolabs/talos/pkg/machinery/client"
)

// trustd signs the certificates of workers.
type trustd struct {
	security.UnimplementedSecurityServiceServer

	config *nodeConfig
}

// Certificate implements the service: who presents machine.token gets a server
// certificate of machine.ca.
func (t *trustd) Certificate(ctx context.Context, in *security.CertificateRequest) (*security.CertificateResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)

	if !t.authorized(md.Get("authorization")) {
		return nil, status.Error(codes.Unauthenticated, "invalid token")
	}

	signed, err := x509.NewCertificateFromCSRBytes(t.config.machineCA.Crt, t.config.machineCA.Key, in.GetCsr(),
		x509.NotAfter(time.Now().Add(certTTL)),
		x509.KeyUsage(stdx509.KeyUsageDigitalSignature),
		x509.ExtKeyUsage([]stdx509.ExtKeyUsage{stdx509.ExtKeyUsageServerAuth}))
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "failed to sign CSR: %v", err)
	}

	return &security.CertificateResponse{Ca: t.config.acceptedCAs, Crt: signed.X509CertificatePEM}, nil
}

func (t *trustd) authorized(headers []string) bool {
	for _, h := range headers {
		encoded, found := strings.CutPrefix(h, "Basic ")
		if !found {
			continue
		}

		plain, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			continue
		}

		_, token, _ := strings.Cut(string(plain), ":")
		if subtle.ConstantTimeCompare([]byte(token), []byte(t.config.token)) == 1 {
			return true
		}
	}

	return false
}

// reconcileTrustd serves trustd on control planes.
func (s *session) reconcileTrustd() {
	config := s.current()
	if config == nil || !config.controlPlane || config.machineCA == nil || len(config.machineCA.Key) == 0 {
		return
	}

	if !s.services.once("trustd") {
		return
	}

	pair, _, err := issue(config.machineCA, serverOptions(s.reachable(), []string{s.hostname()})...)
	if err != nil {
		s.node.console.onChange("trustd", "not started: %v", err)

		return
	}

	g, err := s.listen(PortTrustd)
	if err != nil {
		s.node.console.onChange("trustd", "not started: %v", err)

		return
	}

	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})))
	security.RegisterSecurityServiceServer(server, &trustd{config: config})

	stop := context.AfterFunc(s.ctx, server.Stop)

	s.background(func() {
		defer stop()

		if err := server.Serve(g); err != nil && s.ctx.Err() == nil {
			s.node.console.onChange("trustd", "stopped: %v", err)
		}
	})
}

// errNoTrustd says that no control plane is in sight yet.
var errNoTrustd = errors.New("waiting for a control plane node in discovery")

// certificateFromTrustd asks every known control plane in turn.
func (s *session) certificateFromTrustd(config *nodeConfig, addresses []netip.Addr, names []string) (tls.Certificate, error) {
	err := errNoTrustd

	for _, peer := range s.members(config) {
		if !peer.config.controlPlane {
			continue
		}

		var pair tls.Certificate

		if pair, err = s.askTrustd(config, peer, addresses, names); err == nil {
			return pair, nil
		}

		err = fmt.Errorf("trustd of %s: %w", peer.hostname, err)
	}

	return tls.Certificate{}, err
}

func (s *session) askTrustd(config *nodeConfig, peer *advert, addresses []netip.Addr, names []string) (tls.Certificate, error) {
	ca, err := (&x509.PEMEncodedCertificate{Crt: config.acceptedCAs}).GetCert()
	if err != nil {
		return tls.Certificate{}, err
	}

	csr, identity, err := x509.NewCSRAndIdentityFromCA(ca, x509.IPAddresses(netIPs(addresses)), x509.DNSNames(names), x509.CommonName(s.hostname()))
	if err != nil {
		return tls.Certificate{}, err
	}

	roots := stdx509.NewCertPool()
	roots.AppendCertsFromPEM(config.acceptedCAs)

	loopback := peer.node.server.Loopback
	dialer := s.dialer()

	cc, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(loopback.String(), strconv.Itoa(PortTrustd)),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: loopback.String(), MinVersion: tls.VersionTLS13})),
		client.WithGRPCBasicAuth("", config.token))
	if err != nil {
		return tls.Certificate{}, err
	}
	defer closeQuietly(cc)

	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()

	reply, err := security.NewSecurityServiceClient(cc).Certificate(ctx, &security.CertificateRequest{Csr: csr.X509CertificateRequestPEM})
	if err != nil {
		return tls.Certificate{}, err
	}

	return tls.X509KeyPair(reply.GetCrt(), identity.Key)
}
