package gate_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ichor-project/ichor/testsuite/devcloud/kube/gate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddr("127.0.0.1")

// echo answers each connection with what it gets, until it ends.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := io.Copy(conn, conn); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Logf("echo: %v", err)
			}
			if err := conn.Close(); err != nil {
				t.Errorf("echo: %v", err)
			}
		}
	}()
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return netip.MustParseAddrPort(listener.Addr().String())
}

func newGate(t *testing.T, target func() (netip.AddrPort, bool)) *gate.Gate {
	t.Helper()
	g, err := gate.Listen(loopback, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func dial(t *testing.T, g *gate.Gate) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(g.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return conn
}

func say(t *testing.T, conn *net.TCPConn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("echo of %q: %q, %v", text, got, err)
	}
}

// ends is whether the other side ended the connection.
func ends(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes from a connection that should have ended", n)
	}
}

func TestForwards(t *testing.T) {
	target := echo(t)
	g := newGate(t, func() (netip.AddrPort, bool) { return target, true })
	conn := dial(t, g)
	say(t, conn, "hello")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Errorf("after the end of our side: %q, %v", rest, err)
	}
}

func TestShutHoldsAndOpens(t *testing.T) {
	target := echo(t)
	g := newGate(t, func() (netip.AddrPort, bool) { return target, true })
	before := dial(t, g)
	say(t, before, "hello")

	g.SetOpen(false)
	g.SetOpen(false)
	if g.IsOpen() {
		t.Error("open")
	}
	ends(t, before)
	held := dial(t, g)
	if _, err := held.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := held.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := held.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a shut gate answered: %v", err)
	}
	if err := held.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	g.SetOpen(true)
	if _, err := io.ReadFull(held, got); err != nil || string(got) != "hello" {
		t.Errorf("after opening: %q, %v", got, err)
	}
}

func TestNoTargetEndsAtOnce(t *testing.T) {
	var up atomic.Bool
	target := echo(t)
	g := newGate(t, func() (netip.AddrPort, bool) { return target, up.Load() })
	ends(t, dial(t, g))
	up.Store(true)
	say(t, dial(t, g), "hello")
}

func TestTargetThatDoesNotListen(t *testing.T) {
	g := newGate(t, func() (netip.AddrPort, bool) { return netip.MustParseAddrPort("127.0.0.1:1"), true })
	ends(t, dial(t, g))
}

func TestCloseCutsAll(t *testing.T) {
	target := echo(t)
	g := newGate(t, func() (netip.AddrPort, bool) { return target, true })
	conn := dial(t, g)
	say(t, conn, "hello")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	ends(t, conn)
	if conn, err := net.Dial("tcp", g.Addr().String()); err == nil {
		t.Error("still listens", conn.Close())
	}
	if err := g.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}
