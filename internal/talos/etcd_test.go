package talos_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
)

// TestMembership changes who is a member of etcd and who leads it.
func TestMembership(t *testing.T) {
	m := newMachines(t, "v1.14.1", 3)
	forfeit := func(n *talos.Node) error { return n.EtcdForfeit(t.Context()) }
	leader := m.leader()
	m.must(leader, "forfeit", forfeit)
	next := m.leader()
	if next == leader {
		t.Fatal("the leader did not hand over")
	}
	m.must(leader, "forfeit by who does not lead", forfeit)
	if m.leader() != next {
		t.Error("leadership moved once more")
	}

	// A dead member is removed through a peer, and a second time.
	dead := (next + 1) % 3
	healthy := (next + 2) % 3
	id := m.health(dead).Local.MemberID
	m.nodes[dead].PowerOff()
	remove := func(n *talos.Node) error { return n.EtcdRemove(t.Context(), id) }
	m.must(next, "remove", remove)
	m.refused(next, "remove again", fault.NotFound, "", remove)
	m.awaitVoters(next, 2)

	// Without quorum the rest still says what it knows, and changes nothing.
	m.nodes[next].PowerOff()
	await(t, "loss of quorum", func(ctx context.Context) (bool, string, error) {
		h, err := talos.ProbeEtcdHealth(ctx, m.dial(healthy))
		return h.Running && h.Local.Leader == 0 && len(h.Members) == 2 && len(h.Local.Errors) > 0 && len(h.Alarms) == 0, "", err
	})
	m.refused(healthy, "forfeit without quorum", fault.Unavailable, "no leader", forfeit)
	m.refused(healthy, "leave without quorum", fault.Unavailable, "no leader", func(n *talos.Node) error { return n.EtcdLeave(t.Context()) })
	m.refused(healthy, "remove without quorum", fault.Unavailable, "no leader", func(n *talos.Node) error { return n.EtcdRemove(t.Context(), m.health(healthy).Local.MemberID) })
	m.nodes[next].PowerOn()
	m.awaitVoters(healthy, 2)

	leave := func(n *talos.Node) error { return n.EtcdLeave(t.Context()) }
	m.must(next, "leave", leave)
	m.must(next, "leave again", leave)
	m.awaitVoters(healthy, 1)
	await(t, "the member that left", func(ctx context.Context) (bool, string, error) {
		h, err := talos.ProbeEtcdHealth(ctx, m.dial(next))
		return !h.Running, "", err
	})
	m.refused(healthy, "forfeit by the only one", fault.Unsafe, "only one member", forfeit)
}

// TestRecover takes a snapshot, loses every control plane and begins anew from it.
func TestRecover(t *testing.T) {
	m := newMachines(t, "v1.14.1", 3)
	var snapshot bytes.Buffer
	m.must(1, "snapshot", func(n *talos.Node) error { return n.EtcdSnapshot(t.Context(), &snapshot) })
	full := errors.New("disk full")
	m.refused(1, "snapshot to nowhere", fault.Internal, "disk full", func(n *talos.Node) error {
		return n.EtcdSnapshot(t.Context(), failingWriter{full})
	})
	restore := func(data []byte) func(*talos.Node) error {
		return func(n *talos.Node) error { return n.EtcdRecover(t.Context(), bytes.NewReader(data)) }
	}
	m.refused(0, "recovery of who has lost nothing", fault.Unsafe, "etcd data already", restore(snapshot.Bytes()))
	before := m.lab.Fleet.EtcdClusters()[0].Datastore()

	for _, n := range m.nodes {
		n.Destroy()
	}
	m.servers, m.nodes = nil, nil
	m.boot("v1.14.1")
	await(t, "machine API", func(ctx context.Context) (bool, string, error) {
		f, err := talos.ProbeFacts(ctx, m.dial(0))
		return f.Version != "", "", err
	})
	damaged := bytes.Clone(snapshot.Bytes())
	damaged[100] ^= 1
	m.refused(0, "damaged", fault.Invalid, "checksum", restore(damaged))
	m.refused(0, "cut off", fault.Invalid, "cut off", restore(damaged[:len(damaged)-40]))
	m.refused(0, "empty", fault.Invalid, "empty", restore(nil))
	if m.health(0).Running {
		t.Fatal("etcd runs without a recovery")
	}

	m.nodes[0].Inject(talosnode.Faults{LoseBootstrapResponse: true})
	await(t, "recovery with a lost answer", func(context.Context) (bool, string, error) {
		err := m.on(0, restore(snapshot.Bytes()))
		if fault.Is(err, fault.Ambiguous) {
			return true, "", nil
		}
		return false, "", err
	})
	m.awaitVoters(0, 1)
	m.refused(0, "once more", fault.Unsafe, "recovered before", restore(snapshot.Bytes()))
	if after := m.lab.Fleet.EtcdClusters(); len(after) == 0 || after[len(after)-1].Datastore() != before {
		t.Error("the recovered cluster has not the content of the old one")
	}
	m.boot("v1.14.1")
	m.awaitVoters(0, 2)

	worker := m.lab.Server("demo-w-1", render(t, m.bundle, m.rendered, "demo-w-1", func(r *talos.RenderRequest) {
		r.Role, r.Group = cluster.RoleWorker, "w"
		r.Spec.NodeGroups = []cluster.NodeGroup{{Name: "w"}}
	}).Reveal(), image("v1.14.1"))
	m.servers = append(m.servers, worker)
	m.nodes = append(m.nodes, m.lab.Boot(worker))
	last := len(m.servers) - 1
	await(t, "machine API of the worker", func(ctx context.Context) (bool, string, error) {
		f, err := talos.ProbeFacts(ctx, m.dial(last))
		return f.Version != "", "", err
	})
	if h := m.health(last); h.Running {
		t.Errorf("a worker runs etcd: %+v", h)
	}
	if f := m.facts(last); f.Kubelet == "" || f.APIServer != "" {
		t.Errorf("images of a worker: %+v", f.Images)
	}
	m.refused(last, "recovery of a worker", fault.Invalid, "", restore(snapshot.Bytes()))
	m.refused(last, "snapshot of a worker", fault.Invalid, "", func(n *talos.Node) error { return n.EtcdSnapshot(t.Context(), &snapshot) })
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
