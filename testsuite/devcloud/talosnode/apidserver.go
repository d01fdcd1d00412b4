package talosnode

import (
	"context"
	"crypto/tls"
	stdx509 "crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/apid"
)

// apidState is the running apid and how it was made.
type apidState struct {
	server *apid.Server
	gate   *gate
	config *nodeConfig // nil in maintenance
	done   chan struct{}
}

// reconcileAPID keeps the right apid running: none while a worker waits for
// its certificate.
func (s *session) reconcileAPID() {
	s.mu.Lock()
	config, running := s.config, s.apid
	s.mu.Unlock()

	if running != nil && running.config == config {
		return
	}

	if running != nil && running.config != nil && sameIdentity(running.config, config) {
		running.config = config

		return
	}

	s.stopAPID()

	var err error

	switch {
	case config == nil:
		err = s.startMaintenanceAPID()
	case config.controlPlane && (config.machineCA == nil || len(config.machineCA.Key) == 0):
		s.node.console.onChange("apid", "machine.ca has no key in the machine configuration")

		return
	case !config.controlPlane && !s.apidRetry.due(s):
		return
	default:
		var pair tls.Certificate

		pair, err = s.nodeCertificate(config)
		if err == nil {
			err = s.startRunningAPID(config, pair)
		}
	}

	if err != nil {
		s.node.console.onChange("apid", "not started: %v", err)

		return
	}

	s.node.console.onChange("apid", "serving on %s, maintenance %v", net.JoinHostPort(s.node.server.Loopback.String(), strconv.Itoa(PortAPID)), config == nil)
}

// sameIdentity says that two configs lead to the same apid.
func sameIdentity(a, b *nodeConfig) bool {
	return a != nil && b != nil && a.controlPlane == b.controlPlane && a.token == b.token &&
		string(a.acceptedCAs) == string(b.acceptedCAs) && slices.Equal(a.certSANs, b.certSANs) && a.hostname == b.hostname
}

func (s *session) startMaintenanceAPID() error {
	conf, err := maintenanceTLS(s.reachable())
	if err != nil {
		return err
	}

	return s.serveAPID(apid.Config{TLS: conf, Maintenance: true, Local: s.local, IsLocal: s.isLocal}, nil)
}

// nodeCertificate gets the server certificate of apid: signed here on control
// planes, by trustd of one of them on workers.
func (s *session) nodeCertificate(config *nodeConfig) (tls.Certificate, error) {
	addresses, names := sans(config, s.reachable(), s.hostname())

	if config.controlPlane {
		pair, _, err := issue(config.machineCA, serverOptions(addresses, names)...)

		return pair, err
	}

	return s.certificateFromTrustd(config, addresses, names)
}

// reachable are all addresses under which anybody may know this node.
func (s *session) reachable() []netip.Addr {
	return append([]netip.Addr{s.node.server.Loopback}, s.node.server.Private...)
}

func (s *session) startRunningAPID(config *nodeConfig, pair tls.Certificate) error {
	conf, err := mutualTLS(pair, config.acceptedCAs)
	if err != nil {
		return err
	}

	return s.serveAPID(apid.Config{
		TLS:        conf,
		Forwarding: config.controlPlane,
		Local:      s.local,
		IsLocal:    s.isLocal,
		Remote:     func(node string) (*grpc.ClientConn, error) { return s.dialNode(config, node) },
	}, config)
}

func (s *session) serveAPID(conf apid.Config, config *nodeConfig) error {
	g, err := s.listen(PortAPID)
	if err != nil {
		return err
	}

	st := &apidState{server: apid.New(conf), gate: g, config: config, done: make(chan struct{})}

	s.background(func() {
		defer close(st.done)

		if err := st.server.Serve(g); err != nil && s.ctx.Err() == nil {
			s.node.console.onChange("apid", "stopped: %v", err)
		}
	})

	s.mu.Lock()
	s.apid = st
	s.mu.Unlock()

	return nil
}

func (s *session) stopAPID() {
	s.mu.Lock()
	running := s.apid
	s.apid = nil
	s.mu.Unlock()

	if running == nil {
		return
	}

	running.server.Stop()
	<-running.done
}

func (s *session) isLocal(node string) bool {
	if node == s.hostname() {
		return true
	}

	a, err := netip.ParseAddr(node)

	return err == nil && slices.Contains(s.reachable(), a)
}

// dialNode connects to the apid of another node the way apid does: as an
// impersonator with a certificate of the machine CA.
func (s *session) dialNode(config *nodeConfig, node string) (*grpc.ClientConn, error) {
	address, err := netip.ParseAddr(node)
	if err != nil {
		for _, p := range s.members(config) {
			if p.hostname == node || p.nodename == node {
				address = p.addresses[0]
			}
		}

		if !address.IsValid() {
			return nil, status.Errorf(codes.Unavailable, "lookup %s: no such host", node)
		}
	}

	loopback, ok := s.fleet.opts.Network.Loopback(address)
	if !ok {
		return nil, status.Errorf(codes.Unavailable, "dial %s: no route to host", address)
	}

	pair, _, err := issue(config.machineCA, clientOptions(role.MakeSet(role.Impersonator))...)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	pool := stdx509.NewCertPool()
	pool.AppendCertsFromPEM(config.acceptedCAs)

	dialer := s.dialer()

	return grpc.NewClient("passthrough:///"+net.JoinHostPort(loopback.String(), strconv.Itoa(PortAPID)),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{pair},
			RootCAs:      pool,
			ServerName:   address.String(),
			MinVersion:   tls.VersionTLS13,
		})))
}
