// Package gate puts a TCP forwarder in front of a process, so that the address
// is known before the process runs, survives its restarts, and can be made to
// hang as a server does that has lost its datastore.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// holdFor bounds how long a connection to a shut gate is kept waiting: longer
// than the TLS handshake timeout of common clients (10 s in Go's), so that they
// see a timeout, as with a server that hangs.
const holdFor = 30 * time.Second

// dialTimeout is generous for loopback under load.
const dialTimeout = 5 * time.Second

// Gate forwards connections while it is open. While it is shut it accepts
// connections and leaves them unanswered.
type Gate struct {
	listener net.Listener
	address  netip.AddrPort
	target   func() (netip.AddrPort, bool)

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while the gate is open
	conns map[net.Conn]struct{}
}

// Listen makes an open gate on an ephemeral port of the address. It asks target
// for the address behind it at each connection; one without a target is closed
// at once, as by a host where nobody listens.
func Listen(address netip.Addr, target func() (netip.AddrPort, bool)) (*Gate, error) {
	listener, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	bound, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("gate: %w", err), listener.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &Gate{
		listener: listener, address: bound, target: target, ctx: ctx, cancel: cancel,
		open: make(chan struct{}), conns: map[net.Conn]struct{}{},
	}
	close(g.open)
	g.work.Go(g.accept)
	return g, nil
}

// Addr is where the gate listens.
func (g *Gate) Addr() netip.AddrPort { return g.address }

// IsOpen says whether the gate forwards.
func (g *Gate) IsOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.isOpen()
}

func (g *Gate) isOpen() bool {
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}

// SetOpen opens or shuts the gate. Shutting it cuts every connection; opening it
// lets those through that came since.
func (g *Gate) SetOpen(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case open == g.isOpen():
	case open:
		close(g.open)
	default:
		g.open = make(chan struct{})
		g.cut()
	}
}

// Cut ends every connection, as the death of the process behind would.
func (g *Gate) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut()
}

// Close ends the gate and every connection and waits until nothing of it runs.
func (g *Gate) Close() error {
	g.cancel()
	err := g.listener.Close()
	g.Cut()
	g.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (g *Gate) cut() {
	for conn := range g.conns {
		closeQuietly(conn)
	}
	clear(g.conns)
}

func (g *Gate) accept() {
	for {
		conn, err := g.listener.Accept()
		switch {
		case err == nil:
			g.work.Go(func() { g.serve(conn) })
		case g.ctx.Err() != nil:
			return
		default:
			// Out of descriptors, most likely: give others time to close some.
			select {
			case <-g.ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func (g *Gate) serve(client net.Conn) {
	defer closeQuietly(client)
	if !g.admit() {
		return
	}
	target, ok := g.target()
	if !ok {
		return
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	server, err := dialer.DialContext(g.ctx, "tcp", target.String())
	if err != nil {
		return
	}
	defer closeQuietly(server)
	if !g.track(client, server) {
		return
	}
	defer g.untrack(client, server)

	var copying sync.WaitGroup
	copying.Go(func() { pipe(server, client) })
	copying.Go(func() { pipe(client, server) })
	copying.Wait()
}

// admit waits until the gate is open.
func (g *Gate) admit() bool {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	timer := time.NewTimer(holdFor)
	defer timer.Stop()
	select {
	case <-open:
		return true
	case <-g.ctx.Done():
	case <-timer.C:
	}
	return false
}

func (g *Gate) track(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil || !g.isOpen() {
		return false
	}
	for _, conn := range conns {
		g.conns[conn] = struct{}{}
	}
	return true
}

func (g *Gate) untrack(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range conns {
		delete(g.conns, conn)
	}
}

// pipe copies one direction and passes the end of the stream on.
func pipe(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		// A broken stream must not look like a finished one to the other side.
		closeQuietly(to)
		closeQuietly(from)
		return
	}
	if half, ok := to.(*net.TCPConn); ok && half.CloseWrite() == nil {
		return
	}
	closeQuietly(to)
}

// closeQuietly closes a connection that may already be closed; there is nobody
// to tell and nothing to do if that fails.
func closeQuietly(conn net.Conn) {
	if err := conn.Close(); err != nil {
		return
	}
}
