package talos_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/talos"
)

// wire forwards one machine API. Once it is cut, requests still arrive, answers do
// not: the caller's connection breaks with the first of them.
type wire struct {
	address string
	cut     atomic.Bool
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(target, "0"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		mu.Lock()
		for _, c := range open {
			_ = c.Close() // most are closed already
		}
		mu.Unlock()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			caller, err := l.Accept()
			if err != nil {
				return
			}
			node, err := net.Dial("tcp", net.JoinHostPort(target, "50000"))
			if err != nil {
				_ = caller.Close() // as a node that does not listen
				continue
			}
			mu.Lock()
			open = append(open, caller, node)
			mu.Unlock()
			wg.Go(func() {
				// The node keeps its side when the caller's has broken.
				if _, err := io.Copy(node, caller); err == nil && !w.cut.Load() {
					_ = node.Close() // the caller hung up
				}
			})
			wg.Go(func() { w.answer(caller, node) })
		}
	})
	return w
}

func (w *wire) answer(caller, node net.Conn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := node.Read(buf)
		if w.cut.Load() {
			_ = caller.Close() // once is enough
		} else if n > 0 {
			if _, err := caller.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = caller.Close() // the node hung up
			return
		}
	}
}

// lose makes a call whose answer is lost, on a connection that worked until then.
func (m *machines) lose(i int, what string, kind fault.Kind, work func(*talos.Node) error) {
	m.t.Helper()
	w := newWire(m.t, m.servers[i].Loopback.String())
	n, err := talos.Dial(m.t.Context(), talos.DialOptions{Bundle: m.bundle, Address: w.address})
	if err == nil {
		_, err = n.Version(m.t.Context())
	}
	if err != nil {
		m.t.Fatal(err)
	}
	w.cut.Store(true)
	if err := work(n); fault.KindOf(err) != kind {
		m.t.Errorf("%s: got %s, want %s: %v", what, fault.KindOf(err), kind, err)
	}
	if err := n.Close(); err != nil {
		m.t.Error(err)
	}
}

// TestLostAnswers loses the answer of each call that must not be repeated blindly,
// and finds out what happened by looking.
func TestLostAnswers(t *testing.T) {
	m := newMachines(t, "v1.13.5", 1)
	image := installer(newSchematic, "v1.14.1")
	install := func(n *talos.Node) error { return n.Install(t.Context(), image, nil) }
	m.must(0, "pull", func(n *talos.Node) error { return n.Pull(t.Context(), image, talos.SystemImage, nil) })
	m.lose(0, "install", fault.Unavailable, install)
	await(t, "install again", func(context.Context) (bool, string, error) {
		err := m.on(0, install) // Conflict while the first one goes on
		return err == nil, "", err
	})

	before := m.facts(0)
	m.lose(0, "reboot", fault.Ambiguous, func(n *talos.Node) error { return n.Reboot(t.Context(), talos.RebootDefault) })
	after := m.awaitReady(0, func(f talos.Facts) bool { return f.BootID != before.BootID })
	if after.Version != "v1.14.1" {
		t.Errorf("after the reboot: %s", after.Version)
	}
	m.lose(0, "rollback", fault.Ambiguous, func(n *talos.Node) error { return n.Rollback(t.Context()) })
	if back := m.awaitReady(0, func(f talos.Facts) bool { return f.BootID != after.BootID }); back.Version != "v1.13.5" {
		t.Errorf("after the rollback: %s", back.Version)
	}
}

func TestLostAnswerBefore113(t *testing.T) {
	m := newMachines(t, "v1.12.8", 1)
	before := m.facts(0)
	m.lose(0, "upgrade", fault.Ambiguous, func(n *talos.Node) error {
		return n.UpgradeWhole(t.Context(), installer(newSchematic, "v1.13.5"))
	})
	if after := m.awaitReady(0, func(f talos.Facts) bool { return f.BootID != before.BootID }); after.Version != "v1.13.5" {
		t.Errorf("after the upgrade: %s", after.Version)
	}
}

// A member whose leaving was not answered is gone or not; looking tells.
func TestLostAnswerOfLeaving(t *testing.T) {
	m := newMachines(t, "v1.14.1", 3)
	out := (m.leader() + 1) % 3
	peer := (out + 1) % 3
	// Nothing can be asked over this connection any more, so not even what was
	// asked first is known.
	m.lose(out, "leave", fault.Unavailable, func(n *talos.Node) error { return n.EtcdLeave(t.Context()) })
	m.must(out, "leave", func(n *talos.Node) error { return n.EtcdLeave(t.Context()) })
	m.awaitVoters(peer, 2)
	if h := m.health(out); h.Running {
		t.Errorf("the member that left still runs: %+v", h)
	}
	other := 3 - out - peer
	dead := m.health(other).Local.MemberID
	m.nodes[other].PowerOff()
	m.refused(peer, "removal that would leave no quorum", fault.Unavailable, "no leader", func(n *talos.Node) error {
		return n.EtcdRemove(t.Context(), dead)
	})
}
