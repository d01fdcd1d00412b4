package snapshot_test

import (
	"context"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/grpcprovider/snapshot"
	"github.com/ichor-project/ichor/internal/fault"
)

// gate is a connection to the server that can swallow the server's answers.
type gate struct {
	net.Listener
	shut atomic.Bool
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: l}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			var dialer net.Dialer
			out, err := dialer.DialContext(context.Background(), "tcp", to)
			if err != nil {
				_ = in.Close() // the client sees that as well
				return
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }() // ends with either side
			go func() { g.answers(in, out); _ = in.Close() }()
		}
	}()
	return g
}

// answers forwards what the server says. What it says while the gate is shut is
// lost, and the connection with it.
func (g *gate) answers(in io.Writer, out io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := out.Read(buf)
		if err != nil || g.shut.Load() {
			return
		}
		if _, err := in.Write(buf[:n]); err != nil {
			return
		}
	}
}

// The server takes the request and its answer is lost, again and again. The
// caller gets an error, and the request never counts, whoever looks.
func TestLostAnswersOnARealServer(t *testing.T) {
	s := start(t)
	stop := s.worker()
	s.begin(5)
	s.places()
	g := newGate(t, s.address)
	src := s.open(options(t, g.Addr().String()))
	if err := src.IncreaseSize(provider.WithRequestID(t.Context(), "counts"), group, 1); err != nil {
		t.Fatal(err)
	}
	stop()
	g.shut.Store(true)
	err := src.IncreaseSize(provider.WithRequestID(t.Context(), "lost"), group, 3)
	if !fault.Is(err, fault.Ambiguous) {
		t.Errorf("a request whose answer is lost: %v", err)
	}
	want := []string{"ichor://demo/worker/counts-0"}
	if got := shown(t, src); !slices.Equal(got, want) {
		t.Errorf("shown: %q", got)
	}
	if err := src.Refresh(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("refresh without answers: %v", err)
	}
	g.shut.Store(false)
	s.until("a refresh", func() bool { return src.Refresh(t.Context()) == nil })
	if n := src.Numbers(); n.Owed != 0 || n.Cancelled != 1 {
		t.Errorf("%+v", n)
	}
	for _, p := range []*snapshot.Source{src, s.open(s.options)} {
		if got := shown(t, p); !slices.Equal(got, want) {
			t.Errorf("shown: %q", got)
		}
	}
	s.worker()
	if got := s.places(); !slices.Equal(got, want) {
		t.Errorf("the entity has %q", got)
	}
	// Who begins finds the group by the index alone.
	s.until("the index", func() bool {
		_, ok := s.fresh(s.c, s.options).Group(group)
		return ok
	})
}
