package talosnode_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// single boots a ready cluster of one.
func single(t *testing.T, contract, version string) (*nodetest.Lab, *nodetest.PKI, guest.Server, *client.Client) {
	t.Helper()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, contract)
	s := l.Server("cp-0", p.ControlPlane(), func(s *guest.Server) { s.Image.TalosVersion = version })
	l.Boot(s)

	c := p.Dial(s.Loopback)
	bootstrap(t, c)
	ready(t, c)

	return l, p, s, c
}

func bootID(ctx context.Context, c *client.Client) (string, error) {
	r, err := c.Read(ctx, "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}

	b, err := io.ReadAll(r)

	return string(b), errors.Join(err, r.Close())
}

// rebooted waits for another boot id.
func rebooted(t *testing.T, c *client.Client, before string) {
	t.Helper()
	nodetest.Eventually(t, "reboot", func() error {
		id, err := bootID(call(t), c)
		if err == nil && id == before {
			err = errors.New("same boot id")
		}

		return err
	})
}

func currentBoot(t *testing.T, c *client.Client) string {
	t.Helper()

	id, err := bootID(call(t), c)
	if err != nil {
		t.Fatal(err)
	}

	return id
}

const newInstaller = "factory.talos.dev/openstack-installer/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:v1.14.2"

func pull(t *testing.T, c *client.Client, image string) {
	t.Helper()

	stream, err := c.ImageClient.Pull(call(t), &machine.ImageServicePullRequest{
		Containerd: &common.ContainerdInstance{Driver: common.ContainerDriver_CRI, Namespace: common.ContainerdNamespace_NS_SYSTEM},
		ImageRef:   image,
	})
	if err != nil {
		t.Fatal(err)
	}

	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func upgrade(t *testing.T, c *client.Client, image string) (int32, error) {
	t.Helper()

	stream, err := c.LifecycleClient.Upgrade(call(t), &machine.LifecycleServiceUpgradeRequest{
		Source: &machine.InstallArtifactsSource{ImageName: image},
	})
	if err != nil {
		return 0, err
	}

	code := int32(-1)

	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return code, nil
		} else if err != nil {
			return 0, err
		}

		if p, ok := reply.GetProgress().GetResponse().(*machine.LifecycleServiceInstallProgress_ExitCode); ok {
			code = p.ExitCode
		}
	}
}

func system(t *testing.T, c *client.Client) (version, schematic string) {
	t.Helper()

	reply, err := c.Version(call(t))
	if err != nil {
		t.Fatal(err)
	}

	list, err := safe.StateListAll[*runtime.ExtensionStatus](call(t), c.COSI)
	if err != nil {
		t.Fatal(err)
	}

	for e := range list.All() {
		if e.TypedSpec().Metadata.Name == "schematic" {
			schematic = e.TypedSpec().Metadata.Version
		}
	}

	return reply.GetMessages()[0].GetVersion().GetTag(), schematic
}

func TestUpgradeRebootRollback(t *testing.T) {
	t.Parallel()

	l, _, s, c := single(t, "v1.14", "v1.14.1")

	if _, err := upgrade(t, c, newInstaller); status.Code(err) != codes.Internal {
		t.Errorf("upgrade without pull: %v", err)
	}

	pull(t, c, newInstaller)

	l.Fleet.Node(s.UUID).Inject(talosnode.Faults{InstallExitCode: 7})

	if code, err := upgrade(t, c, newInstaller); code != 7 || err != nil {
		t.Errorf("failing installer: %d, %v", code, err)
	}

	l.Fleet.Node(s.UUID).Inject(talosnode.Faults{})

	if code, err := upgrade(t, c, newInstaller); code != 0 || err != nil {
		t.Fatalf("upgrade: %d, %v", code, err)
	}

	if v, _ := system(t, c); v != "v1.14.1" {
		t.Errorf("the running system changed to %s before the reboot", v)
	}

	before := currentBoot(t, c)
	if err := c.Reboot(call(t)); err != nil {
		t.Fatal(err)
	}

	rebooted(t, c, before)
	ready(t, c)

	if v, schematic := system(t, c); v != "v1.14.2" || !strings.HasPrefix(schematic, "aaaa") {
		t.Errorf("after the upgrade: %s %s", v, schematic)
	}

	before = currentBoot(t, c)
	if err := c.Rollback(call(t)); err != nil {
		t.Fatal(err)
	}

	rebooted(t, c, before)

	if v, _ := system(t, c); v != "v1.14.1" {
		t.Errorf("after the rollback: %s", v)
	}

	ready(t, c)
}

// TestSameVersionTwice upgrades to what runs already, as a new schematic or a
// repeated activity does: the running slot must never be written.
func TestSameVersionTwice(t *testing.T) {
	t.Parallel()

	_, _, _, c := single(t, "v1.14", "v1.14.1")
	pull(t, c, newInstaller)

	for range 2 {
		if code, err := upgrade(t, c, newInstaller); code != 0 || err != nil {
			t.Fatal(code, err)
		}
	}

	before := currentBoot(t, c)
	if err := c.Reboot(call(t)); err != nil {
		t.Fatal(err)
	}

	rebooted(t, c, before)

	if code, err := upgrade(t, c, newInstaller); code != 0 || err != nil {
		t.Fatal(code, err)
	}

	before = currentBoot(t, c)
	if err := c.Rollback(call(t)); err != nil {
		t.Fatal(err)
	}

	rebooted(t, c, before)

	if v, _ := system(t, c); v != "v1.14.2" {
		t.Errorf("runs %s", v)
	}
}

func TestUpgradePathIsChecked(t *testing.T) {
	t.Parallel()

	_, _, _, c := single(t, "v1.14", "v1.14.1")

	image := "factory.talos.dev/openstack-installer/x:v1.9.0"
	pull(t, c, image)

	if code, err := upgrade(t, c, image); code != 4 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

func TestFallbackToTheOldSlot(t *testing.T) {
	t.Parallel()

	l, _, s, c := single(t, "v1.14", "v1.14.1")
	pull(t, c, newInstaller)

	if code, err := upgrade(t, c, newInstaller); code != 0 || err != nil {
		t.Fatal(code, err)
	}

	l.Fleet.Node(s.UUID).Inject(talosnode.Faults{BootOldSlot: true})

	before := currentBoot(t, c)
	if err := c.Reboot(call(t)); err != nil {
		t.Fatal(err)
	}

	rebooted(t, c, before)
	ready(t, c)

	if v, _ := system(t, c); v != "v1.14.1" {
		t.Errorf("runs %s", v)
	}
}

func TestResetReadsUserDataAgain(t *testing.T) {
	t.Parallel()

	l, _, s, c := single(t, "v1.14", "v1.14.1")
	before := currentBoot(t, c)

	if err := c.Reset(call(t), false, true); err != nil {
		t.Fatal(err)
	}

	rebooted(t, c, before)
	bootstrap(t, c)
	ready(t, c)

	if got := len(l.Kube.Dropped()); got != 1 {
		t.Errorf("%d datastores dropped", got)
	}

	before = currentBoot(t, c)
	if err := c.Reset(call(t), true, true); err != nil {
		t.Fatal(err)
	}

	// The last member cannot leave: the sequence fails and the node stays.
	nodetest.Logged(t, l.Fleet.Node(s.UUID), "leaving etcd")

	if currentBoot(t, c) != before {
		t.Error("it rebooted")
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()

	_, _, _, c := single(t, "v1.14", "v1.14.1")

	seen := map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())

	defer cancel()

	err := c.EventsWatch(ctx, func(ch <-chan client.Event) {
		for e := range ch {
			switch m := e.Payload.(type) {
			case *machine.MachineStatusEvent:
				if m.GetStage() == machine.MachineStatusEvent_RUNNING && m.GetStatus().GetReady() {
					seen["ready"] = true
				}
			case *machine.ServiceStateEvent:
				seen[m.GetService()] = true
			}

			if seen["ready"] && seen["etcd"] && seen["kubelet"] {
				cancel()
			}
		}
	}, client.WithTailEvents(-1))
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}

	if !seen["ready"] || !seen["etcd"] {
		t.Errorf("seen %v", seen)
	}
}
