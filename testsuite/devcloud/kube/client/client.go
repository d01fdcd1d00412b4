// Package client makes Kubernetes clients whose connections come from a given
// address and can all be ended.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// dialTimeout is plenty for a loopback connection: longer means that a packet
// filter dropped it, which is better said soon.
const dialTimeout = 3 * time.Second

var errClosed = errors.New("client: closed")

// Options says who connects where.
type Options struct {
	// Server is https://host:port.
	Server string
	// CA is the PEM of the authority that the server's certificate has to come
	// from.
	CA []byte
	// Token or Cert and Key (PEM) authenticate.
	Token     string
	Cert, Key []byte
	// Source is the address connections come from; the kernel chooses if unset.
	Source netip.Addr
	// TLS replaces the trust in CA.
	TLS       *tls.Config
	UserAgent string
}

// Client is a client with its connections.
type Client struct {
	kubernetes.Interface
	transport *http.Transport

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// New makes a client; it connects when first used.
func New(opts Options) (*Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if opts.TLS != nil {
		config = opts.TLS.Clone()
	} else {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(opts.CA) {
			return nil, errors.New("client: the authority is not a PEM certificate")
		}
	}
	if len(opts.Cert) > 0 {
		pair, err := tls.X509KeyPair(opts.Cert, opts.Key)
		if err != nil {
			return nil, fmt.Errorf("client: certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	c := &Client{conns: map[net.Conn]struct{}{}}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if opts.Source.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(opts.Source, 0))
	}
	c.transport = utilnet.SetTransportDefaults(&http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return c.track(conn)
		},
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 10 * time.Second,
		// Never through a proxy of the environment.
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	})
	clients, err := kubernetes.NewForConfig(&rest.Config{
		Host: opts.Server, BearerToken: opts.Token, Transport: c.transport, UserAgent: opts.UserAgent,
		QPS: 100, Burst: 200, WarningHandler: rest.NoWarnings{},
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"},
	})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c.Interface = clients
	return c, nil
}

// Close ends all connections; requests in flight fail.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	for conn := range conns {
		_ = conn.Close() // it may be closed already, and nobody is left to tell
	}
	c.transport.CloseIdleConnections()
}

func (c *Client) track(conn net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.Join(errClosed, conn.Close())
	}
	tracked := &trackedConn{Conn: conn, client: c}
	c.conns[tracked] = struct{}{}
	return tracked, nil
}

type trackedConn struct {
	net.Conn
	client *Client
}

func (t *trackedConn) Close() error {
	t.client.mu.Lock()
	delete(t.client.conns, t)
	t.client.mu.Unlock()
	return t.Conn.Close()
}
