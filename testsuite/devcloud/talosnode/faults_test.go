package talosnode_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

func TestHangAfterReboot(t *testing.T) {
	t.Parallel()

	l, _, s, c := single(t, "v1.14", "v1.14.1")
	n := l.Fleet.Node(s.UUID)
	n.Inject(talosnode.Faults{HangAfterReboot: true})

	if err := c.Reboot(call(t)); err != nil {
		t.Fatal(err)
	}

	nodetest.Logged(t, n, "kexec")

	ctx, cancel := contextFor(t, 200)
	defer cancel()

	if _, err := c.Version(ctx); err == nil {
		t.Error("a hanging machine answers")
	}

	n.Reboot()
	nodetest.Eventually(t, "after a hard reset", func() error { _, err := c.Version(call(t)); return err })
}

func TestLostResponses(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	s := l.Server("cp-0", nil)
	n := l.Boot(s)
	n.Inject(talosnode.Faults{LoseApplyResponse: true, LoseBootstrapResponse: true})

	m := nodetest.Maintenance(t, s.Loopback)
	nodetest.Eventually(t, "maintenance", func() error { _, err := m.Version(call(t)); return err })

	_, err := m.ApplyConfiguration(call(t), &machine.ApplyConfigurationRequest{Data: p.ControlPlane(), Mode: machine.ApplyConfigurationRequest_AUTO})
	if status.Code(err) != codes.Unavailable {
		t.Fatalf("apply: %v", err)
	}

	c := p.Dial(s.Loopback)
	nodetest.Eventually(t, "configured all the same", func() error { _, err := c.Version(call(t)); return err })

	if err := c.Bootstrap(call(t), &machine.BootstrapRequest{}); status.Code(err) != codes.Unavailable {
		t.Fatalf("bootstrap: %v", err)
	}

	nodetest.Eventually(t, "bootstrapped all the same", func() error {
		err := c.Bootstrap(call(t), &machine.BootstrapRequest{})
		if status.Code(err) == codes.AlreadyExists {
			return nil
		}

		return fmt.Errorf("second bootstrap: %w", err)
	})

	if got := len(l.Fleet.EtcdClusters()); got != 1 {
		t.Errorf("%d etcd clusters", got)
	}
}

func TestTimeNeverSyncs(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	s := l.Server("cp-0", p.ControlPlane())
	n := l.Boot(s)
	n.Inject(talosnode.Faults{NTPNeverSyncs: true})

	c := p.Dial(s.Loopback)
	nodetest.Eventually(t, "refusal", func() error {
		if err := c.Bootstrap(call(t), &machine.BootstrapRequest{}); status.Code(err) != codes.FailedPrecondition {
			return fmt.Errorf("bootstrap: %w", err)
		}

		return nil
	})

	n.Inject(talosnode.Faults{})
	bootstrap(t, c)
	ready(t, c)
}
