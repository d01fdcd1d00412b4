package talosnode_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

func TestRoles(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	s := l.Server("cp-0", p.ControlPlane())
	l.Boot(s)
	bootstrap(t, p.Dial(s.Loopback))

	calls := map[string]func(context.Context, *client.Client) error{
		"version": func(ctx context.Context, c *client.Client) error { _, err := c.Version(ctx); return err },
		"machine status": func(ctx context.Context, c *client.Client) error {
			_, err := machineStatus(ctx, c)

			return err
		},
		"machine config": func(ctx context.Context, c *client.Client) error {
			_, err := safe.StateGetByID[*config.MachineConfig](ctx, c.COSI, config.ActiveID)

			return err
		},
		"restart kubelet": func(ctx context.Context, c *client.Client) error {
			_, err := c.ServiceRestart(ctx, "kubelet")

			return err
		},
		"kubeconfig": func(ctx context.Context, c *client.Client) error { _, err := c.Kubeconfig(ctx); return err },
		"bootstrap": func(ctx context.Context, c *client.Client) error {
			err := c.Bootstrap(ctx, &machine.BootstrapRequest{})
			if status.Code(err) == codes.AlreadyExists {
				return nil
			}

			return err
		},
		"etcd members": func(ctx context.Context, c *client.Client) error {
			_, err := c.EtcdMemberList(ctx, &machine.EtcdMemberListRequest{})

			return err
		},
		"write a resource": func(ctx context.Context, c *client.Client) error {
			// The client wraps the error, which hides its code.
			err := c.COSI.Create(ctx, runtime.NewBootID())
			if err != nil && strings.Contains(err.Error(), "PermissionDenied") {
				return status.Error(codes.PermissionDenied, "refused")
			}

			return err
		},
	}

	allowed := map[role.Role]string{
		role.Admin:      "version, machine status, machine config, restart kubelet, kubeconfig, bootstrap, etcd members",
		role.Operator:   "version, machine status, restart kubelet, etcd members",
		role.Reader:     "version, machine status, etcd members",
		role.EtcdBackup: "etcd members",
		// A node's own role counts for nothing without what it vouches for.
		role.Impersonator: "",
	}

	for r, list := range allowed {
		c := p.Dial(s.Loopback, r)

		for name, do := range calls {
			err := do(call(t), c)
			want := codes.PermissionDenied

			for _, ok := range strings.Split(list, ", ") {
				if ok == name {
					want = codes.OK
				}
			}

			if status.Code(err) != want {
				t.Errorf("%s as %s: %v, want %s", name, r, err, want)
			}
		}
	}
}

func TestStrangerIsNotLetIn(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	stranger := nodetest.NewPKI(t, "v1.14")
	s := l.Server("cp-0", p.ControlPlane())
	n := l.Boot(s)
	nodetest.Logged(t, n, "serving on")

	pem, err := stranger.Bundle.GenerateTalosAPIClientCertificate(role.MakeSet(role.Admin))
	if err != nil {
		t.Fatal(err)
	}

	pair, err := tls.X509KeyPair(pem.Crt, pem.Key)
	if err != nil {
		t.Fatal(err)
	}

	for name, conf := range map[string]*tls.Config{
		"certificate of another CA": {RootCAs: nodetest.Pool(t, p.Bundle.Certs.OS.Crt), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13},
		"no certificate":            {RootCAs: nodetest.Pool(t, p.Bundle.Certs.OS.Crt), MinVersion: tls.VersionTLS13},
		"server of another CA":      {RootCAs: nodetest.Pool(t, stranger.Bundle.Certs.OS.Crt), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13},
	} {
		if _, err := nodetest.DialTLS(t, s.Loopback, conf).Version(call(t)); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestForwarding(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	cp := l.Server("cp-0", p.ControlPlane())
	w := l.Server("w-0", p.Worker())
	l.Boot(cp)
	nodetest.Logged(t, l.Boot(w), "serving on")

	c := p.Dial(cp.Loopback)
	for _, target := range []string{w.Loopback.String(), w.Private[0].String(), "w-0", cp.Private[0].String()} {
		nodetest.Eventually(t, "forward to "+target, func() error {
			_, err := c.Version(client.WithNode(call(t), target))

			return err
		})
	}

	// The other node decides by the caller's roles, not by its peer's.
	err := p.Dial(cp.Loopback, role.Reader).Reboot(client.WithNode(call(t), w.Loopback.String()))
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("reboot as reader: %v", err)
	}

	_, err = p.Dial(w.Loopback).Version(client.WithNode(call(t), cp.Loopback.String()))
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("forwarding by a worker: %v", err)
	}

	if _, err = p.Dial(w.Loopback).Version(client.WithNode(call(t), w.Loopback.String())); err != nil {
		t.Errorf("worker to itself: %v", err)
	}

	if err := p.Dial(w.Loopback).Bootstrap(call(t), &machine.BootstrapRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("bootstrap of a worker: %v", err)
	}
}

func TestMaintenanceIsForReaders(t *testing.T) {
	for _, version := range []string{"v1.13.5", "v1.14.1"} {
		l := nodetest.New(t)
		p := nodetest.NewPKI(t, version)
		s := l.Server("cp-0", nil, func(s *guest.Server) { s.Image.TalosVersion = version })
		l.Boot(s)

		c := nodetest.Maintenance(t, s.Loopback)
		nodetest.Eventually(t, "maintenance", func() error { _, err := c.Version(call(t)); return err })

		for name, err := range map[string]error{
			"reboot":    c.Reboot(call(t)),
			"reset":     c.Reset(call(t), false, false),
			"bootstrap": c.Bootstrap(call(t), &machine.BootstrapRequest{}),
		} {
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s in maintenance: %v", name, err)
			}
		}

		_, err := c.ApplyConfiguration(call(t), &machine.ApplyConfigurationRequest{Data: []byte("nonsense: {")})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("nonsense: %v", err)
		}

		_, err = c.ApplyConfiguration(call(t), &machine.ApplyConfigurationRequest{
			Data: p.ControlPlane(), Mode: machine.ApplyConfigurationRequest_AUTO,
		})
		if err != nil {
			t.Fatal(err)
		}

		bootstrap(t, p.Dial(s.Loopback))
		ready(t, p.Dial(s.Loopback))
	}
}

func TestGeneratedClientConfiguration(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	s := l.Server("cp-0", p.ControlPlane())
	nodetest.Logged(t, l.Boot(s), "serving on")

	reply, err := p.Dial(s.Loopback).GenerateClientConfiguration(call(t), &machine.GenerateClientConfigurationRequest{
		Roles: []string{string(role.Reader)}, CrtTtl: durationpb.New(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}

	conf, err := clientconfig.FromBytes(reply.GetMessages()[0].GetTalosconfig())
	if err != nil {
		t.Fatal(err)
	}

	conf.Contexts[conf.Context].Endpoints = []string{s.Loopback.String()}

	c, err := client.New(t.Context(), client.WithConfig(conf))
	if err != nil {
		t.Fatal(err)
	}

	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()

	if _, err := c.Version(call(t)); err != nil {
		t.Error(err)
	}

	if err := c.Reboot(call(t)); status.Code(err) != codes.PermissionDenied {
		t.Errorf("reboot as reader: %v", err)
	}
}
