package autoscaler

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/testsuite/autoscaler/certs"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
)

// certificates: who has none, or one of somebody else, or an old one, is refused
// and the log says why; the autoscaler refuses a provider of another name; a
// renewed certificate is used without a restart.
func certificates(s *system) {
	foreign, err := certs.NewAuthority("foreign")
	s.must(err)
	strange, err := foreign.Issue("autoscaler")
	s.must(err)
	old, err := s.trust.IssueUntil(time.Now().Add(-time.Hour), "autoscaler")
	s.must(err)
	for _, c := range []struct {
		reason string
		pair   *certs.Pair
	}{{"no client certificate", nil}, {"foreign CA", &strange}, {"expired", &old}} {
		before := strings.Count(s.log("provider"), c.reason)
		if err := s.greet(c.pair); status.Code(err) != codes.Unavailable {
			s.t.Errorf("%s: %v", c.reason, err)
		}
		s.until("the log says "+c.reason, func() bool { return strings.Count(s.log("provider"), c.reason) > before })
	}

	if _, err := describe(s.ctx(), oldWire, s.cloudConfigIn("here", s.listen)); err != nil {
		s.t.Errorf("before the renewal: %v", err)
	}
	was := s.serial()
	s.issue("provider", "provider", "127.0.0.1")
	s.until("the renewed certificate is used", func() bool { return s.serial() != was })
	if !s.provider.Running() {
		s.t.Error("the provider has ended")
	}
	for _, w := range wires {
		if _, err := describe(s.ctx(), w, s.cloudConfigIn("here", s.listen)); err != nil {
			s.t.Errorf("after the renewal: %v", err)
		}
	}

	s.issue("provider", "provider", "elsewhere.example.com")
	s.until("the wrong certificate is used", func() bool {
		_, err := describe(s.ctx(), oldWire, s.cloudConfigIn("here", s.listen))
		return err != nil
	})
	s.issue("provider", "provider", "127.0.0.1")
	s.until("the right one is used again", func() bool {
		_, err := describe(s.ctx(), newWire, s.cloudConfigIn("here", s.listen))
		return err == nil
	})
}

// greet makes one call with a client certificate, or with none.
func (s *system) greet(pair *certs.Pair) error {
	s.t.Helper()
	mine, err := s.trust.Issue("judge")
	s.must(err)
	config, err := s.trust.Config(mine)
	s.must(err)
	config.Certificates = nil
	if pair != nil {
		own, err := tls.X509KeyPair(pair.Cert, pair.Key)
		s.must(err)
		// The server names the authorities that it trusts; send it all the same.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	conn, err := grpc.NewClient("passthrough:///"+s.listen, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	s.must(err)
	_, err = wire.NewCloudProviderClient(conn).NodeGroups(s.ctx(), &wire.NodeGroupsRequest{})
	return errors.Join(err, conn.Close())
}

// serial is that of the certificate which the provider shows.
func (s *system) serial() string {
	s.t.Helper()
	mine, err := s.trust.Issue("judge")
	s.must(err)
	config, err := s.trust.Config(mine)
	s.must(err)
	config.ServerName = "127.0.0.1"
	conn, err := tls.Dial("tcp", s.listen, config)
	s.must(err)
	defer func() { s.noError(conn.Close()) }()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// log is what a process of the system has written so far.
func (s *system) log(name string) string {
	s.t.Helper()
	body, err := os.ReadFile(filepath.Clean(s.Log(name)))
	s.must(err)
	return string(body)
}
