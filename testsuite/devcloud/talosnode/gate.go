package talosnode

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// gate is a listener behind the node's ingress firewall. Refused sources get
// what a dropped packet gives them: silence.
type gate struct {
	net.Listener
	allow func(source netip.Addr) bool

	mu     sync.Mutex
	held   map[net.Conn]*time.Timer
	live   map[*gateConn]struct{}
	closed bool
	frozen atomic.Bool
}

// holdRefused is how long a dropped connection stays silent before it is
// closed, in real time: longer than any sane dial timeout.
const holdRefused = 30 * time.Second

func newGate(address netip.AddrPort, allow func(netip.Addr) bool) (*gate, error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
	if err != nil {
		return nil, err
	}

	return &gate{Listener: l, allow: allow, held: map[net.Conn]*time.Timer{}, live: map[*gateConn]struct{}{}}, nil
}

// Accept returns the next connection that the rules let in.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}

		if !g.allow(sourceOf(conn)) {
			g.hold(conn)

			continue
		}

		c := &gateConn{Conn: conn, gate: g}

		g.mu.Lock()
		g.live[c] = struct{}{}
		g.mu.Unlock()

		return c, nil
	}
}

func sourceOf(conn net.Conn) netip.Addr {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}

	return tcp.AddrPort().Addr().Unmap()
}

func (g *gate) hold(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()

	if g.closed {
		closeQuietly(conn)

		return
	}

	g.held[conn] = time.AfterFunc(holdRefused, func() {
		g.mu.Lock()
		delete(g.held, conn)
		g.mu.Unlock()
		closeQuietly(conn)
	})
}

// Close stops listening and drops what was held. Connections that were let in
// belong to their server.
func (g *gate) Close() error {
	g.mu.Lock()
	g.closed = true

	for conn, timer := range g.held {
		timer.Stop()
		closeQuietly(conn)
	}

	clear(g.held)
	g.mu.Unlock()

	return g.Listener.Close()
}

// freeze makes all open connections silent and keeps their sockets open, also
// when their server closes them, until release: a machine that hangs sends no
// FIN.
func (g *gate) freeze() { g.frozen.Store(true) }

// release closes what freeze kept open.
func (g *gate) release() {
	g.frozen.Store(false)

	g.mu.Lock()
	conns := make([]*gateConn, 0, len(g.live))
	for c := range g.live {
		conns = append(conns, c)
	}
	g.mu.Unlock()

	for _, c := range conns {
		closeQuietly(c)
	}
}

// gateConn is a connection that can be frozen.
type gateConn struct {
	net.Conn
	gate *gate
}

func (c *gateConn) Write(b []byte) (int, error) {
	if c.gate.frozen.Load() {
		return len(b), nil
	}

	return c.Conn.Write(b)
}

func (c *gateConn) Close() error {
	if c.gate.frozen.Load() {
		// The server must believe that the connection is closed, its reader
		// above all, while the peer sees nothing.
		return c.SetReadDeadline(time.Unix(1, 0))
	}

	c.gate.mu.Lock()
	delete(c.gate.live, c)
	c.gate.mu.Unlock()

	return c.Conn.Close()
}

// closeQuietly is for connections nobody uses any more.
func closeQuietly(c interface{ Close() error }) {
	// The peer has gone or will notice; there is nobody to tell.
	_ = c.Close()
}
