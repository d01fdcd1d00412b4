package world

import (
	"fmt"
	"net/netip"
)

// pool hands out loopback addresses. An address that was given back is used
// again only after the whole pool has been walked through, so that nobody takes
// a new machine for an old one.
type pool struct {
	prefix netip.Prefix
	next   int
	used   map[netip.Addr]bool
}

const poolSize = 250 * 254 // x.y.1.1 … x.y.250.254

func newPool(prefix string) (*pool, error) {
	if prefix == "" {
		prefix = "127.77"
	}
	p, err := netip.ParsePrefix(prefix + ".0.0/16")
	if err != nil {
		return nil, fmt.Errorf("loopback prefix %q: want the first two octets, such as 127.77: %w", prefix, err)
	}
	if !p.Addr().IsLoopback() || p.Contains(netip.MustParseAddr("127.0.0.1")) {
		return nil, fmt.Errorf("loopback prefix %q: must lie in 127.0.0.0/8 and not contain 127.0.0.1", prefix)
	}
	return &pool{prefix: p, used: map[netip.Addr]bool{}}, nil
}

func (p *pool) take() (netip.Addr, error) {
	for range poolSize {
		n := p.next
		p.next = (p.next + 1) % poolSize
		b := p.prefix.Addr().As4()
		b[2], b[3] = byte(1+n/254), byte(1+n%254)
		a := netip.AddrFrom4(b)
		if !p.used[a] {
			p.used[a] = true
			return a, nil
		}
	}
	return netip.Addr{}, refuse(NoStock, "no public address left")
}

func (p *pool) give(a netip.Addr) { delete(p.used, a) }

// TakeAddress hands out a loopback address of the pool to another cloud that
// shares it; GiveAddress takes it back.
func (w *World) TakeAddress() (netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pool.take()
}

// GiveAddress takes back what TakeAddress handed out.
func (w *World) GiveAddress(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pool.give(a)
}

// ipv6For derives a plausible public IPv6 address from a public IPv4 one. Nobody
// answers there.
func ipv6For(zone string, v4 netip.Addr) netip.Addr {
	b := netip.MustParseAddr("2a06:c01:1:1102::").As16()
	if zone == DefaultZone {
		b[7] = 4
	}
	f := v4.As4()
	copy(b[12:], f[:])
	b[8], b[9], b[10], b[11] = 0x5e, 0x28, 0xfe, 0xed
	return netip.AddrFrom16(b)
}

// freeIn returns an unused host address of a subnet, walking on from the last
// one it gave.
func freeIn(s *Subnet, used map[netip.Addr]bool) (netip.Addr, error) {
	a := s.cursor
	for range 1 << 20 {
		if a = a.Next(); !s.CIDR.Contains(a) || !s.CIDR.Contains(a.Next()) {
			a = s.CIDR.Addr().Next() // skip the broadcast address and the network's own
		}
		if !used[a] && a != s.Gateway {
			s.cursor = a
			return a, nil
		}
	}
	return netip.Addr{}, refuse(Quota, "subnet %s has no free address", s.CIDR)
}
