package lb

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// defaultConnect bounds one connection attempt to a member when the listener
// says nothing.
const defaultConnect = 5 * time.Second

// forward connects a client with a member of the pool that it may reach.
func (b *Balancer) forward(client net.Conn, port uint16) error {
	l, pool, err := b.listener(port)
	if err != nil {
		return err
	}
	from, err := netip.ParseAddrPort(client.RemoteAddr().String())
	if err != nil {
		return err
	}
	if !b.allowed(l, from.Addr()) {
		return fmt.Errorf("client is not in the allowed CIDRs of listener %s", l.ID)
	}
	member, target, err := b.connect(pool, l, from.Addr())
	if err != nil {
		return err
	}
	if !b.track(target) {
		return net.ErrClosed
	}
	defer b.untrack(target)
	b.count(member.ID, 1)
	defer b.count(member.ID, -1)
	done := make(chan struct{})
	b.wg.Go(func() {
		defer close(done)
		pipe(target, client, l.ClientIdle)
	})
	pipe(client, target, l.MemberIdle)
	<-done
	return nil
}

func (b *Balancer) allowed(l Listener, source netip.Addr) bool {
	if len(l.Allowed) == 0 {
		return true
	}
	for _, id := range b.opts.Identities(source) {
		if slices.ContainsFunc(l.Allowed, func(p netip.Prefix) bool { return p.Contains(id) }) {
			return true
		}
	}
	return false
}

// connect tries the members of a pool in the order of its algorithm.
func (b *Balancer) connect(pool Pool, l Listener, client netip.Addr) (Member, net.Conn, error) {
	members := b.order(pool, client)
	if len(members) == 0 {
		return Member{}, nil, fmt.Errorf("pool %s has no healthy member", pool.ID)
	}
	if pool.Preserve {
		c, err := b.dialAs(client, members[0], l.Connect)
		return members[0], c, err
	}
	var errs []error
	for _, m := range members {
		c, err := b.dial(b.ctx, m, m.Port, l.Connect)
		if err == nil {
			return m, c, nil
		}
		errs = append(errs, err)
	}
	return Member{}, nil, errors.Join(errs...)
}

// order returns the healthy members, the preferred one first.
func (b *Balancer) order(pool Pool, client netip.Addr) []Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	var up []Member
	for _, m := range pool.Members {
		if pool.Monitor == nil || b.checks[m.ID] != nil && b.checks[m.ID].up {
			up = append(up, m)
		}
	}
	if len(up) == 0 && pool.FailOpen {
		up = pool.Members
	}
	if len(up) == 0 {
		return nil
	}
	first := 0
	switch pool.Algorithm {
	case SourceIP:
		h := fnv.New32a()
		a := client.As16()
		if _, err := h.Write(a[:]); err == nil {
			first = int(h.Sum32() % uint32(len(up)))
		}
	case LeastConnections:
		for i, m := range up {
			if b.load[m.ID] < b.load[up[first].ID] {
				first = i
			}
		}
	default:
		first = b.turn[pool.ID] % len(up)
		b.turn[pool.ID]++
	}
	return append(slices.Clone(up[first:]), up[:first]...)
}

func (b *Balancer) count(member string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.load[member] += n; b.load[member] == 0 {
		delete(b.load, member)
	}
}

// dial connects to a member from the balancer's own address.
func (b *Balancer) dial(ctx context.Context, m Member, port uint16, timeout time.Duration) (net.Conn, error) {
	at, err := b.opts.Reach(m.Subnet, netip.AddrPortFrom(m.Address, port))
	if err != nil {
		return nil, err
	}
	return connect(ctx, b.opts.Source, netip.AddrPortFrom(at, port), timeout)
}

// dialAs connects to a member from the address of a client.
func (b *Balancer) dialAs(client netip.Addr, m Member, timeout time.Duration) (net.Conn, error) {
	client = client.Unmap()
	at, err := b.opts.ReachFrom(client, m.Subnet, netip.AddrPortFrom(m.Address, m.Port))
	if err != nil {
		return nil, err
	}
	if at == client {
		return nil, fmt.Errorf("member %s is the client itself", m.ID)
	}
	return connect(b.ctx, client, netip.AddrPortFrom(at, m.Port), timeout)
}

func connect(ctx context.Context, from netip.Addr, to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = defaultConnect
	}
	d := net.Dialer{Timeout: timeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	return d.DialContext(ctx, "tcp", to.String())
}

// pipe copies one direction until its end, then tells the receiver. An idle
// sender ends the connection.
func pipe(dst, src net.Conn, idle time.Duration) {
	_, err := io.Copy(dst, &idleReader{src, idle})
	if err != nil {
		// Either side is broken: end the other direction, too.
		_ = src.Close() // closed again, with its error logged, by the owner
		_ = dst.Close() // likewise
		return
	}
	if t, ok := dst.(*net.TCPConn); ok {
		_ = t.CloseWrite() // fails when the receiver has gone, which its own direction notices
	}
}

// idleReader gives up when nothing arrives for a while.
type idleReader struct {
	net.Conn
	idle time.Duration
}

func (r *idleReader) Read(p []byte) (int, error) {
	if r.idle > 0 {
		if err := r.SetReadDeadline(time.Now().Add(r.idle)); err != nil {
			return 0, err
		}
	}
	return r.Conn.Read(p)
}
