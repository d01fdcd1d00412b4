package talosnode_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

func TestScaleControlPlaneDown(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")

	var (
		servers []guest.Server
		clients []*client.Client
	)

	for i := range 3 {
		s := l.Server(fmt.Sprintf("cp-%d", i), p.ControlPlane())
		l.Boot(s)

		servers = append(servers, s)
		clients = append(clients, p.Dial(s.Loopback))
	}

	bootstrap(t, clients[0])
	voters(t, clients[0], 3)

	if err := clients[2].EtcdLeaveCluster(call(t), &machine.EtcdLeaveClusterRequest{}); err != nil {
		t.Fatal(err)
	}

	l.Fleet.Node(servers[2].UUID).Destroy()
	voters(t, clients[0], 2)

	// A dead member blocks the removal of a living one, and can be removed
	// itself only while there is quorum.
	l.Fleet.Node(servers[1].UUID).Destroy()
	nodetest.Eventually(t, "quorum loss", func() error {
		_, err := clients[0].EtcdMemberList(call(t), &machine.EtcdMemberListRequest{})
		if err == nil || !strings.Contains(err.Error(), "no leader") {
			return fmt.Errorf("member list: %w", err)
		}

		return nil
	})

	local, err := clients[0].EtcdMemberList(call(t), &machine.EtcdMemberListRequest{QueryLocal: true})
	if err != nil || len(local.GetMessages()[0].GetMembers()) != 2 {
		t.Errorf("local list: %v, %v", local, err)
	}
}

func TestSnapshotAndRecover(t *testing.T) {
	t.Parallel()

	l, p, s, c := single(t, "v1.14", "v1.14.1")

	r, err := c.EtcdSnapshot(call(t), &machine.EtcdSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}

	snapshot, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}

	datastore := l.Fleet.EtcdClusters()[0].Datastore()

	fresh := l.Server("cp-1", p.ControlPlane("apiVersion: v1alpha1\nkind: DiscoveryServiceConfig\n$patch: delete\n"))
	l.Fleet.Node(s.UUID).PowerOff()
	l.Boot(fresh)

	again := p.Dial(fresh.Loopback)
	nodetest.Eventually(t, "upload", func() error {
		_, err := again.EtcdRecover(call(t), bytes.NewReader(snapshot))

		return err
	})

	if err := again.Bootstrap(call(t), &machine.BootstrapRequest{RecoverEtcd: true}); err != nil {
		t.Fatal(err)
	}

	clusters := l.Fleet.EtcdClusters()
	if len(clusters) != 2 || clusters[1].Datastore() != datastore {
		t.Errorf("recovered on %v", clusters)
	}
}

// The objects come back as they were, through streams of many messages.
func TestSnapshotCarriesTheObjects(t *testing.T) {
	t.Parallel()

	l, p, s, c := single(t, "v1.14", "v1.14.1")

	objects := make([]byte, 1<<20)
	if _, err := rand.Read(objects); err != nil {
		t.Fatal(err)
	}

	l.Kube.SetObjects(objects)

	r, err := c.EtcdSnapshot(call(t), &machine.EtcdSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}

	snapshot, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}

	fresh := l.Server("cp-1", p.ControlPlane("apiVersion: v1alpha1\nkind: DiscoveryServiceConfig\n$patch: delete\n"))
	l.Fleet.Node(s.UUID).Destroy()
	l.Boot(fresh)

	again := p.Dial(fresh.Loopback)
	node := client.WithNode(call(t), fresh.Loopback.String())

	nodetest.Eventually(t, "upload", func() error {
		_, err := again.EtcdRecover(node, bytes.NewReader(snapshot))

		return err
	})

	if err := again.Bootstrap(node, &machine.BootstrapRequest{RecoverEtcd: true}); err != nil {
		t.Fatal(err)
	}

	if got := l.Kube.Restored(l.Fleet.EtcdClusters()[0].Datastore()); !bytes.Equal(got, objects) {
		t.Errorf("%d of %d bytes came back", len(got), len(objects))
	}
}

func TestSecondBootstrapIsVisible(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	alone := "apiVersion: v1alpha1\nkind: DiscoveryServiceConfig\nname: default\n$patch: delete\n"

	for i := range 2 {
		s := l.Server(fmt.Sprintf("cp-%d", i), p.ControlPlane(alone))
		l.Boot(s)
		bootstrap(t, p.Dial(s.Loopback))
	}

	if got := len(l.Fleet.EtcdClusters()); got != 2 {
		t.Errorf("%d etcd clusters", got)
	}
}

func TestLearnerNeverPromotes(t *testing.T) {
	t.Parallel()

	l, p, _, c := single(t, "v1.14", "v1.14.1")
	s := l.Server("cp-1", p.ControlPlane())
	n := l.Boot(s)
	n.Inject(talosnode.Faults{LearnerNeverPromotes: true})

	nodetest.Eventually(t, "learner", func() error {
		list, err := c.EtcdMemberList(call(t), &machine.EtcdMemberListRequest{})
		if err != nil {
			return err
		}

		if got := len(list.GetMessages()[0].GetMembers()); got != 2 {
			return fmt.Errorf("%d members", got)
		}

		return nil
	})
	voters(t, c, 1)

	n.Inject(talosnode.Faults{})
	voters(t, c, 2)
}
