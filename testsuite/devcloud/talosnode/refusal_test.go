package talosnode_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/netip"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// What a machine that will not become a node does instead.
const (
	dark        = "dark"        // nothing listens
	inMainten   = "maintenance" // the machine API waits for a config
	certMissing = "no apid"     // configured, but without a certificate
)

// TestRefusals boots machines from bytes that must not lead to a node.
func TestRefusals(t *testing.T) {
	t.Parallel()

	good := nodetest.NewPKI(t, "v1.14")
	other := nodetest.NewPKI(t, "v1.14")

	tests := []struct {
		name   string
		data   []byte
		change func(*guest.Server)
		want   string
		log    string
	}{
		{name: "no user data", want: inMainten, log: "user data is empty"},
		{name: "cloud-config", data: []byte("#cloud-config\nusers: []\n"), want: inMainten, log: "#cloud-config"},
		{
			name: "extend-cloud-config", data: good.ControlPlane(), want: inMainten, log: "extend-cloud-config",
			change: func(s *guest.Server) { s.Image.UserDataHandling = "extend-cloud-config" },
		},
		{
			name: "bios", data: good.ControlPlane(), want: dark, log: "firmware type bios",
			change: func(s *guest.Server) { s.Image.Firmware = "bios" },
		},
		{
			name: "not Talos", data: good.ControlPlane(), want: dark, log: "not Talos Linux",
			change: func(s *guest.Server) { s.Image.TalosVersion = "" },
		},
		{name: "not YAML", data: []byte("{{{"), want: inMainten, log: "failed to parse config"},
		{name: "unknown document", data: []byte("apiVersion: v1alpha1\nkind: NoSuchConfig\n"), want: inMainten, log: "NoSuchConfig"},
		{name: "partial config", data: []byte("apiVersion: v1alpha1\nkind: HostnameConfig\nhostname: x\n"), want: inMainten, log: "no v1alpha1 document"},
		{
			name: "contract 1.14 on Talos 1.13", data: good.ControlPlane(), want: inMainten, log: "not registered in Talos v1.13.5",
			change: func(s *guest.Server) { s.Image.TalosVersion = "v1.13.5" },
		},
		{name: "old and new form of one field", data: good.ControlPlane("machine: {nodeLabels: {a: b}}"), want: inMainten, log: "failed to validate config"},
		{name: "worker with another machine CA", data: other.Worker(sharedIdentity(good)), want: certMissing, log: "unknown authority"},
		{name: "worker with a wrong machine token", data: good.Worker("machine: {token: aaaaaa.bbbbbbbbbbbbbbbb}"), want: certMissing, log: "invalid token"},
		{name: "worker of another cluster", data: other.Worker(), want: certMissing, log: "waiting for a control plane"},
	}

	l := nodetest.New(t)
	cp := l.Server("cp-0", good.ControlPlane())
	l.Boot(cp)
	bootstrap(t, good.Dial(cp.Loopback))

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			change := tt.change
			if change == nil {
				change = func(*guest.Server) {}
			}

			s := l.Server("bad", tt.data, change)
			n := l.Boot(s)

			defer n.Destroy()

			nodetest.Logged(t, n, tt.log)

			switch tt.want {
			case inMainten:
				c := nodetest.Maintenance(t, s.Loopback)
				nodetest.Eventually(t, "maintenance", func() error {
					spec, err := machineStatus(call(t), c)
					if err == nil && spec.Stage != runtime.MachineStageMaintenance {
						err = fmt.Errorf("stage %s", spec.Stage)
					}

					return err
				})
			default:
				if nodetest.Listening(s.Loopback, 50000) {
					t.Error("the machine API listens")
				}
			}

			if _, joined := l.Kube.Kubelet("bad"); joined && tt.want != certMissing {
				t.Error("a kubelet started")
			}
		})
	}
}

// sharedIdentity makes a config show up in the discovery of another cluster.
func sharedIdentity(p *nodetest.PKI) string {
	return fmt.Sprintf("apiVersion: v1alpha1\nkind: DiscoveryIdentityConfig\nclusterID: %s\nclusterSecret: %s\n", p.Bundle.Cluster.ID, p.Bundle.Cluster.Secret)
}

func TestGzipUserData(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")

	var buf bytes.Buffer

	w := gzip.NewWriter(&buf)
	if _, err := w.Write(p.ControlPlane()); err != nil {
		t.Fatal(err)
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	s := l.Server("cp-0", buf.Bytes())
	l.Boot(s)
	bootstrap(t, p.Dial(s.Loopback))
}

// TestControlPlaneDoesNotJoin boots control planes that see a cluster and must
// stay out of it.
func TestControlPlaneDoesNotJoin(t *testing.T) {
	t.Parallel()

	good := nodetest.NewPKI(t, "v1.14")

	tests := []struct {
		name   string
		data   func() []byte
		change func(*guest.Server)
		log    string
	}{
		{name: "another etcd CA", log: "etcd CA differs", data: func() []byte {
			other := nodetest.NewPKI(t, "v1.14")
			other.Bundle.Certs.OS = good.Bundle.Certs.OS
			other.Bundle.Cluster = good.Bundle.Cluster

			return other.ControlPlane()
		}},
		{name: "another cluster identity", log: "waiting for bootstrap", data: func() []byte {
			other := nodetest.NewPKI(t, "v1.14")
			other.Bundle.Certs = good.Bundle.Certs

			return other.ControlPlane()
		}},
		{name: "etcd ports closed", log: "not reachable", data: func() []byte {
			return good.ControlPlane("apiVersion: v1alpha1\nkind: NetworkDefaultActionConfig\ningress: block\n",
				rule("api", "50000", "127.0.0.0/8"))
		}},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := nodetest.New(t)
			first := l.Server("cp-0", good.ControlPlane())
			l.Boot(first)

			c := good.Dial(first.Loopback)
			bootstrap(t, c)

			n := l.Boot(l.Server("cp-1", tt.data()))
			nodetest.Logged(t, n, tt.log)
			voters(t, c, 1)
		})
	}
}

func rule(name, port, subnet string) string {
	return fmt.Sprintf("apiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: %s\nportSelector: {ports: [%s], protocol: tcp}\ningress: [{subnet: %s}]\n", name, port, subnet)
}

func TestMissingEtcdCA(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	s := l.Server("cp-0", p.ControlPlane("cluster: {etcd: {$patch: delete}}"))
	n := l.Boot(s)

	nodetest.Logged(t, n, "etcd CA is missing")

	if err := p.Dial(s.Loopback).Bootstrap(call(t), nil); status.Code(err) != codes.InvalidArgument {
		t.Errorf("bootstrap: %v", err)
	}
}

// TestIngressRules closes the machine API for an outsider and keeps it open for
// a machine of the private network.
func TestIngressRules(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	s := l.Server("cp-0", p.ControlPlane("apiVersion: v1alpha1\nkind: NetworkDefaultActionConfig\ningress: block\n",
		rule("apid", "50000", "10.11.0.0/24"), rule("trustd", "50001", "10.11.0.0/24")))
	n := l.Boot(s)

	nodetest.Logged(t, n, "serving on")

	outside := netip.MustParseAddr("127.0.0.1")
	inside := l.Server("w-0", p.Worker())

	for _, tt := range []struct {
		source netip.Addr
		port   uint16
		want   bool
	}{
		{outside, 50000, false},
		{outside, 6443, false},
		{inside.Loopback, 50000, true},
		{inside.Loopback, 6443, false},
		{s.Loopback, 6443, true},
	} {
		if got := n.Admits(tt.source, tt.port); got != tt.want {
			t.Errorf("from %s to %d: %v, want %v", tt.source, tt.port, got, tt.want)
		}
	}

	c := p.Dial(s.Loopback)
	ctx, cancel := contextFor(t, 300)

	defer cancel()

	if _, err := c.Version(ctx); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a dropped connection answered: %v", err)
	}

	nodetest.Logged(t, n, "dropped connection from [127.0.0.1] to port 50000")

	w := l.Boot(inside)
	nodetest.Logged(t, w, "serving on")
}

// TestPrivateOnly keeps a machine without a public interface out of reach.
func TestPrivateOnly(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	s := l.Server("cp-0", p.ControlPlane(), func(s *guest.Server) { s.Public = false })
	n := l.Boot(s)

	nodetest.Logged(t, n, "serving on")

	if n.Admits(netip.MustParseAddr("127.0.0.1"), 50000) {
		t.Error("reachable from outside")
	}

	if !n.Admits(l.Server("w-0", nil).Loopback, 50000) {
		t.Error("not reachable from its network")
	}
}
