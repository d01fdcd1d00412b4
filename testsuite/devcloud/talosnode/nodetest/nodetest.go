// Package nodetest is a small emulated cloud for tests of and with devcloud's
// Talos nodes: a fast clock, a network and a Kubernetes that is always ready.
package nodetest

import (
	"context"
	"crypto/tls"
	stdx509 "crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/siderolabs/crypto/x509"

	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
)

// Clock is a clock that runs Speed times as fast as a wall clock.
type Clock struct{ Speed int }

// speed makes a simulated minute last 30 milliseconds.
const speed = 2000

// Scale implements guest.Clock.
func (c Clock) Scale(d time.Duration) time.Duration { return d / time.Duration(max(c.Speed, 1)) }

// Sleep implements guest.Clock.
func (c Clock) Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(c.Scale(d)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// network knows the addresses of the servers that a test booted.
type network struct {
	mu    sync.Mutex
	known map[netip.Addr][]netip.Addr
}

func (n *network) Identities(source netip.Addr) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()

	if ids, ok := n.known[source]; ok {
		return ids
	}

	return []netip.Addr{source}
}

func (n *network) Loopback(address netip.Addr) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	for l, ids := range n.known {
		for _, id := range ids {
			if id == address {
				return l, true
			}
		}
	}

	return netip.Addr{}, false
}

var nextAddress atomic.Uint32

// Lab is one emulated cloud.
type Lab struct {
	t       *testing.T
	network *network

	Fleet *talosnode.Fleet
	Kube  *Kubernetes
	// prefix keeps parallel test processes apart: the ports are fixed.
	prefix  byte
	subnet  byte
	servers int
}

// Option changes how a Lab is made.
type Option func(*talosnode.Options)

// WithKubernetes replaces the Kubernetes that is always ready, and slows the
// clock down to what real programs can follow.
func WithKubernetes(k guest.Kubernetes, clock Clock) Option {
	return func(o *talosnode.Options) { o.Kubernetes, o.Clock = k, clock }
}

// New makes a cloud that ends with the test.
func New(t *testing.T, options ...Option) *Lab {
	t.Helper()

	l := &Lab{
		t: t, network: &network{known: map[netip.Addr][]netip.Addr{}}, Kube: &Kubernetes{},
		prefix: byte(130 + os.Getpid()%120), subnet: byte(nextAddress.Add(1)),
	}

	o := talosnode.Options{Clock: Clock{Speed: speed}, Network: l.network, Kubernetes: l.Kube}
	for _, change := range options {
		change(&o)
	}

	l.Fleet = talosnode.New(o)
	t.Cleanup(l.Fleet.Close)

	return l
}

// Server describes a machine with a public and a private address.
func (l *Lab) Server(name string, userData []byte, change ...func(*guest.Server)) guest.Server {
	l.servers++

	s := guest.Server{
		UUID: fmt.Sprintf("00000000-0000-4000-8000-%012d", l.servers), Name: name, Zone: "lpg1", Flavor: "flex-4-2",
		VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20, Public: true,
		Loopback: netip.AddrFrom4([4]byte{127, l.prefix, l.subnet, byte(l.servers)}),
		Private:  []netip.Addr{netip.AddrFrom4([4]byte{10, 11, 0, byte(l.servers)})},
		UserData: userData,
		Image: guest.Image{
			UUID: "image", Schematic: "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba", TalosVersion: "v1.14.1",
			Platform: "openstack", Arch: "amd64", UserDataHandling: "pass-through", Firmware: "uefi",
		},
	}
	for _, c := range change {
		c(&s)
	}

	l.network.mu.Lock()
	l.network.known[s.Loopback] = append([]netip.Addr{s.Loopback}, s.Private...)
	l.network.mu.Unlock()

	return s
}

// Boot powers a server on.
func (l *Lab) Boot(s guest.Server) *talosnode.Node {
	l.t.Helper()
	l.Fleet.Boot(s)

	return l.Fleet.Node(s.UUID)
}

// PKI is a cluster's secrets and how to render configs from them.
type PKI struct {
	t     *testing.T
	input *generate.Input

	Bundle *secrets.Bundle
}

// NewPKI makes new secrets for a version contract such as "v1.14".
func NewPKI(t *testing.T, contract string, options ...generate.Option) *PKI {
	t.Helper()

	vc, err := config.ParseContractFromVersion(contract)
	if err != nil {
		t.Fatal(err)
	}

	bundle, err := secrets.NewBundle(secrets.NewFixedClock(time.Now()), vc, secrets.WithECDSAServiceAccountKey())
	if err != nil {
		t.Fatal(err)
	}

	in, err := generate.NewInput("demo", "https://10.11.0.200:6443", "1.36.3",
		append([]generate.Option{generate.WithVersionContract(vc), generate.WithSecretsBundle(bundle)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}

	return &PKI{t: t, Bundle: bundle, input: in}
}

// Config renders a machine config with strategic merge patches.
func (p *PKI) Config(typ machine.Type, patches ...string) []byte {
	p.t.Helper()

	provider, err := p.input.Config(typ)
	if err != nil {
		p.t.Fatal(err)
	}

	loaded, err := configpatcher.LoadPatches(patches)
	if err != nil {
		p.t.Fatal(err)
	}

	out, err := configpatcher.Apply(configpatcher.WithConfig(provider), loaded)
	if err != nil {
		p.t.Fatal(err)
	}

	raw, err := out.Bytes()
	if err != nil {
		p.t.Fatal(err)
	}

	return raw
}

// ControlPlane renders a control plane's config.
func (p *PKI) ControlPlane(patches ...string) []byte {
	return p.Config(machine.TypeControlPlane, patches...)
}

// Worker renders a worker's config.
func (p *PKI) Worker(patches ...string) []byte { return p.Config(machine.TypeWorker, patches...) }

// Dial makes a client of one node with a certificate of the bundle.
func (p *PKI) Dial(at netip.Addr, roles ...role.Role) *client.Client {
	p.t.Helper()

	if len(roles) == 0 {
		roles = []role.Role{role.Admin}
	}

	pem, err := p.Bundle.GenerateTalosAPIClientCertificate(role.MakeSet(roles...))
	if err != nil {
		p.t.Fatal(err)
	}

	return DialTLS(p.t, at, &tls.Config{
		Certificates: []tls.Certificate{keyPair(p.t, pem)},
		RootCAs:      Pool(p.t, p.Bundle.Certs.OS.Crt),
		MinVersion:   tls.VersionTLS13,
	})
}

// Pool returns a certificate pool.
func Pool(t *testing.T, pem []byte) *stdx509.CertPool {
	t.Helper()

	p := stdx509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate")
	}

	return p
}

func keyPair(t *testing.T, pem *x509.PEMEncodedCertificateAndKey) tls.Certificate {
	t.Helper()

	c, err := tls.X509KeyPair(pem.Crt, pem.Key)
	if err != nil {
		t.Fatal(err)
	}

	return c
}

// DialTLS makes a client of one node with the given TLS settings.
func DialTLS(t *testing.T, at netip.Addr, conf *tls.Config) *client.Client {
	t.Helper()

	c, err := client.New(t.Context(), client.WithEndpoints(at.String()), client.WithTLSConfig(conf))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})

	return c
}

// Maintenance makes a client that verifies nothing, as talosctl --insecure.
func Maintenance(t *testing.T, at netip.Addr) *client.Client {
	t.Helper()

	return DialTLS(t, at, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
}

// Eventually polls a condition; the deadline only bounds a broken test.
func Eventually(t *testing.T, what string, ok func() error) {
	t.Helper()

	deadline := time.Now().Add(30 * time.Second)

	for {
		err := ok()
		if err == nil {
			return
		}

		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}

		time.Sleep(10 * time.Millisecond)
	}
}

// Logged waits for a console line that contains a text.
func Logged(t *testing.T, n *talosnode.Node, text string) {
	t.Helper()
	Eventually(t, "console", func() error {
		for _, line := range n.Log() {
			if strings.Contains(line, text) {
				return nil
			}
		}

		return fmt.Errorf("no %q in:\n%s", text, strings.Join(n.Log(), "\n"))
	})
}

// Listening says whether anything answers on a port.
func Listening(at netip.Addr, port uint16) bool {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(at, port).String(), time.Second)
	if err != nil {
		return false
	}

	return c.Close() == nil
}
