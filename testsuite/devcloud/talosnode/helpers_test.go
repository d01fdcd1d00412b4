package talosnode_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock runs a simulated minute in 30 milliseconds.
type clock struct{}

const speed = 2000

func (clock) Scale(d time.Duration) time.Duration { return d / speed }

func (c clock) Sleep(ctx context.Context, d time.Duration) error {
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

// kubernetes records what the nodes ask for; everything is ready at once.
type kubernetes struct {
	mu       sync.Mutex
	controls []guest.ControlPlane
	kubelets []guest.Kubelet
	dropped  []string
	backend  netip.AddrPort
	quorum   map[string]bool
}

func (k *kubernetes) StartControlPlane(_ context.Context, spec guest.ControlPlane) (guest.RunningControlPlane, error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.controls = append(k.controls, spec)

	return &running{k: k, name: spec.NodeName}, nil
}

func (k *kubernetes) StartKubelet(spec guest.Kubelet) guest.RunningKubelet {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.kubelets = append(k.kubelets, spec)

	return &running{k: k, name: spec.NodeName}
}

func (k *kubernetes) DropCluster(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()

	k.dropped = append(k.dropped, name)
}

func (k *kubernetes) kubelet(name string) (guest.Kubelet, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()

	for _, s := range k.kubelets {
		if s.NodeName == name {
			return s, true
		}
	}

	return guest.Kubelet{}, false
}

func (k *kubernetes) control(name string) (guest.ControlPlane, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()

	for _, s := range k.controls {
		if s.NodeName == name {
			return s, true
		}
	}

	return guest.ControlPlane{}, false
}

type running struct {
	k    *kubernetes
	name string
}

func (r *running) Backend() netip.AddrPort { return r.k.backend }
func (r *running) Ready() bool             { return true }
func (r *running) Registered() bool        { return true }
func (r *running) LastError() string       { return "" }
func (r *running) Stop()                   {}

func (r *running) SetQuorum(ok bool) {
	r.k.mu.Lock()
	defer r.k.mu.Unlock()

	if r.k.quorum == nil {
		r.k.quorum = map[string]bool{}
	}

	r.k.quorum[r.name] = ok
}

var nextAddress atomic.Uint32

// lab is one emulated cloud.
type lab struct {
	t       *testing.T
	fleet   *talosnode.Fleet
	network *network
	kube    *kubernetes
	// prefix keeps parallel test processes apart: the ports are fixed.
	prefix  byte
	subnet  byte
	servers int
}

func newLab(t *testing.T) *lab {
	t.Helper()

	l := &lab{
		t: t, network: &network{known: map[netip.Addr][]netip.Addr{}}, kube: &kubernetes{},
		prefix: byte(130 + os.Getpid()%120), subnet: byte(nextAddress.Add(1)),
	}
	l.fleet = talosnode.New(talosnode.Options{Clock: clock{}, Network: l.network, Kubernetes: l.kube})
	t.Cleanup(l.fleet.Close)

	return l
}

// server describes a machine with a public and a private address.
func (l *lab) server(name string, userData []byte, change ...func(*guest.Server)) guest.Server {
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

func (l *lab) boot(s guest.Server) *talosnode.Node {
	l.t.Helper()
	l.fleet.Boot(s)

	return l.fleet.Node(s.UUID)
}

// pki is a cluster's secrets and how to render configs from them.
type pki struct {
	t        *testing.T
	bundle   *secrets.Bundle
	contract *config.VersionContract
	input    *generate.Input
}

func newPKI(t *testing.T, contract string, options ...generate.Option) *pki {
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

	return &pki{t: t, bundle: bundle, contract: vc, input: in}
}

func (p *pki) config(typ machine.Type, patches ...string) []byte {
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

func (p *pki) controlPlane(patches ...string) []byte {
	return p.config(machine.TypeControlPlane, patches...)
}

func (p *pki) worker(patches ...string) []byte { return p.config(machine.TypeWorker, patches...) }

// dial makes a client of one node with a certificate of the bundle.
func (p *pki) dial(at netip.Addr, roles ...role.Role) *client.Client {
	p.t.Helper()

	if len(roles) == 0 {
		roles = []role.Role{role.Admin}
	}

	pem, err := p.bundle.GenerateTalosAPIClientCertificate(role.MakeSet(roles...))
	if err != nil {
		p.t.Fatal(err)
	}

	return dialTLS(p.t, at, &tls.Config{
		Certificates: []tls.Certificate{keyPair(p.t, pem)},
		RootCAs:      pool(p.t, p.bundle.Certs.OS.Crt),
		MinVersion:   tls.VersionTLS13,
	})
}

func keyPair(t *testing.T, pem *x509.PEMEncodedCertificateAndKey) tls.Certificate {
	t.Helper()

	c, err := tls.X509KeyPair(pem.Crt, pem.Key)
	if err != nil {
		t.Fatal(err)
	}

	return c
}

func dialTLS(t *testing.T, at netip.Addr, conf *tls.Config) *client.Client {
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

func maintenance(t *testing.T, at netip.Addr) *client.Client {
	t.Helper()

	return dialTLS(t, at, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) //nolint:gosec // as talosctl --insecure
}

// eventually polls a condition; the deadline only bounds a broken test.
func eventually(t *testing.T, what string, ok func() error) {
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

// logged waits for a console line that contains a text.
func logged(t *testing.T, n *talosnode.Node, text string) {
	t.Helper()
	eventually(t, "console", func() error {
		for _, line := range n.Log() {
			if strings.Contains(line, text) {
				return nil
			}
		}

		return fmt.Errorf("no %q in:\n%s", text, strings.Join(n.Log(), "\n"))
	})
}

func listening(at netip.Addr, port uint16) bool {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(at, port).String(), time.Second)
	if err != nil {
		return false
	}

	return c.Close() == nil
}
