package talos_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// Schematics as the Image Factory names them.
const (
	oldSchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"
	newSchematic = "ce4c980550dd2ab1b17bbf2b08801c7eb59418eafe8f279833297925d67c7515"
)

func installer(schematic, version string) string {
	return "factory.talos.dev/openstack-installer/" + schematic + ":" + version
}

// machines are one emulated cloud with control planes of one cluster.
type machines struct {
	t      *testing.T
	lab    *nodetest.Lab
	bundle secrets.Value
	// rendered is the version that configs are rendered for; older nodes take
	// them too.
	rendered string
	nodes    []*talosnode.Node
	servers  []guest.Server
}

// newMachines boots control planes of a version and waits until all vote.
func newMachines(t *testing.T, version string, count int) *machines {
	t.Helper()
	m := &machines{t: t, lab: nodetest.New(t), rendered: version}
	if strings.HasPrefix(version, "v1.12.") {
		m.rendered = "v1.13.5" // the oldest contract that is rendered; 1.12 knows all of it
	}
	contract, err := talos.Contract(m.rendered)
	if err != nil {
		t.Fatal(err)
	}
	m.bundle = bundle(t, contract)
	for i := range count {
		m.boot(version)
		if i > 0 {
			continue
		}
		await(t, "bootstrap", func(ctx context.Context) (bool, string, error) {
			return true, "", m.on(0, func(n *talos.Node) error {
				_, err := n.Bootstrap(ctx)
				return err
			})
		})
	}
	m.awaitVoters(0, count)
	for i := range count {
		m.awaitReady(i, func(talos.Facts) bool { return true })
	}
	return m
}

func (m *machines) name(i int) string { return "demo-cp-" + string(rune('1'+i)) }

func (m *machines) config(i int, change ...func(*talos.RenderRequest)) secrets.Value {
	m.t.Helper()
	return render(m.t, m.bundle, m.rendered, m.name(i), change...)
}

func (m *machines) boot(version string) {
	i := len(m.servers)
	s := m.lab.Server(m.name(i), m.config(i).Reveal(), image(version))
	m.servers = append(m.servers, s)
	m.nodes = append(m.nodes, m.lab.Boot(s))
}

func (m *machines) dial(i int) talos.DialOptions {
	return talos.DialOptions{Bundle: m.bundle, Address: m.servers[i].Loopback.String()}
}

// on dials, works and closes, as the worker does.
func (m *machines) on(i int, work func(*talos.Node) error) error {
	n, err := talos.Dial(m.t.Context(), m.dial(i))
	if err != nil {
		return err
	}
	return errors.Join(work(n), n.Close())
}

func (m *machines) must(i int, what string, work func(*talos.Node) error) {
	m.t.Helper()
	if err := m.on(i, work); err != nil {
		m.t.Fatalf("%s: %s: %v", what, fault.KindOf(err), err)
	}
}

// refused checks that work fails with a kind and says why.
func (m *machines) refused(i int, what string, kind fault.Kind, text string, work func(*talos.Node) error) {
	m.t.Helper()
	err := m.on(i, work)
	if fault.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		m.t.Errorf("%s: got %s, want %s with %q: %v", what, fault.KindOf(err), kind, text, err)
	}
}

func (m *machines) facts(i int) talos.Facts {
	m.t.Helper()
	f, err := talos.ProbeFacts(m.t.Context(), m.dial(i))
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

// awaitReady waits until a node is ready and as wanted.
func (m *machines) awaitReady(i int, wanted func(talos.Facts) bool) talos.Facts {
	m.t.Helper()
	var got talos.Facts
	await(m.t, m.name(i)+" ready", func(ctx context.Context) (bool, string, error) {
		f, err := talos.ProbeFacts(ctx, m.dial(i))
		got = f
		return err == nil && f.Stage == "running" && f.Ready && wanted(f), f.Version + " " + f.Schematic + " " + f.Stage, err
	})
	return got
}

func (m *machines) health(i int) talos.EtcdHealth {
	m.t.Helper()
	h, err := talos.ProbeEtcdHealth(m.t.Context(), m.dial(i))
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

func (m *machines) awaitVoters(i, count int) {
	m.t.Helper()
	await(m.t, "voters", func(ctx context.Context) (bool, string, error) {
		h, err := talos.ProbeEtcdHealth(ctx, m.dial(i))
		voters := 0
		for _, member := range h.Members {
			if !member.Learner {
				voters++
			}
		}
		return h.Running && h.Local.Leader != 0 && voters == count && len(h.Members) == count, "", err
	})
}

// leader returns the machine that leads etcd.
func (m *machines) leader() int {
	m.t.Helper()
	h := m.health(0)
	for _, member := range h.Members {
		if member.ID == h.Local.Leader {
			return slices.IndexFunc(m.servers, func(s guest.Server) bool { return s.Name == member.Hostname })
		}
	}
	m.t.Fatal("nobody leads")
	return -1
}
