package talosnode

import (
	"context"
	"io"
	"net"
	"sync"
)

// forwardAPI puts the node's port 6443 with its ingress rules in front of the
// API server.
func (s *session) forwardAPI() {
	if !s.services.once("kube-apiserver") {
		return
	}

	g, err := s.listen(PortKubernetes)
	if err != nil {
		s.node.console.onChange("kube-apiserver", "port %d: %v", PortKubernetes, err)

		return
	}

	s.background(func() {
		for {
			conn, err := g.Accept()
			if err != nil {
				return
			}

			s.background(func() { s.relay(conn) })
		}
	})
}

// relay copies both ways until either side ends or the machine does.
func (s *session) relay(in net.Conn) {
	defer closeQuietly(in)

	if !s.apiServerUp() {
		return
	}

	s.mu.Lock()
	control := s.kube.control
	s.mu.Unlock()

	var d net.Dialer

	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()

	out, err := d.DialContext(ctx, "tcp", control.Backend().String())
	if err != nil {
		return
	}
	defer closeQuietly(out)

	stop := context.AfterFunc(s.ctx, func() {
		closeQuietly(in)
		closeQuietly(out)
	})
	defer stop()

	var wg sync.WaitGroup

	wg.Go(func() { transfer(out, in) })
	transfer(in, out)
	closeQuietly(in)
	wg.Wait()
}

// transfer copies one direction and passes on that it ended.
func transfer(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		closeQuietly(to)

		return
	}

	if half, ok := to.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() == nil {
			return
		}
	}

	closeQuietly(to)
}
