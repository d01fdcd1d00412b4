package world

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// attach turns requested interfaces into attached ones. Addresses that self
// already has in a subnet are kept.
func (w *World) attach(specs []InterfaceSpec, zone string, self *Server) ([]Interface, error) {
	var out []Interface
	for _, spec := range specs {
		if spec.Network == PublicNetwork {
			if slices.ContainsFunc(out, Interface.Public) {
				return nil, invalid("interfaces", "Only one public interface is possible.")
			}
			out = append(out, Interface{})
			continue
		}
		i, err := w.attachPrivate(spec, zone, self)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	if len(out) == 0 {
		return nil, invalid("interfaces", "At least one interface is required.")
	}
	return out, nil
}

func (w *World) attachPrivate(spec InterfaceSpec, zone string, self *Server) (Interface, error) {
	if spec.Network == "" && len(spec.Addresses) > 0 {
		s, err := w.subnets.get(spec.Addresses[0].Subnet)
		if err != nil {
			return Interface{}, invalid("interfaces", "Object with uuid=%s does not exist.", spec.Addresses[0].Subnet)
		}
		spec.Network = s.Network
	}
	n, err := w.networks.get(spec.Network)
	if err != nil {
		return Interface{}, invalid("interfaces", "Object with uuid=%s does not exist.", spec.Network)
	}
	if n.Zone != zone {
		return Interface{}, invalid("interfaces", "Network %s is not in zone %s.", n.UUID, zone)
	}
	if !spec.HasAddrs {
		for _, s := range n.Subnets {
			spec.Addresses = append(spec.Addresses, AddressSpec{Subnet: s})
		}
	}
	i := Interface{Network: n.UUID}
	for _, a := range spec.Addresses {
		s, err := w.subnets.get(a.Subnet)
		if err != nil || s.Network != n.UUID {
			return Interface{}, invalid("interfaces", "Subnet %s is not part of network %s.", a.Subnet, n.UUID)
		}
		addr, err := w.claim(s, a.Address, self)
		if err != nil {
			return Interface{}, err
		}
		i.Addresses = append(i.Addresses, Address{Subnet: s.UUID, Addr: addr})
	}
	return i, nil
}

// claim returns the wanted address of a subnet, the one that self already has,
// or any free one.
func (w *World) claim(s *Subnet, want string, self *Server) (netip.Addr, error) {
	used := w.usedAddresses(s.UUID, self)
	if want != "" {
		a, err := netip.ParseAddr(want)
		switch {
		case err != nil || !s.CIDR.Contains(a):
			return netip.Addr{}, invalid("interfaces", "%s is not an address of subnet %s.", want, s.CIDR)
		case used[a]:
			return netip.Addr{}, invalid("interfaces", "Address %s is already in use.", want)
		}
		return a, nil
	}
	if self != nil {
		for _, i := range self.Interfaces {
			for _, a := range i.Addresses {
				if a.Subnet == s.UUID {
					return a.Addr, nil
				}
			}
		}
	}
	return freeIn(s, used)
}

// usedAddresses returns the addresses of a subnet that servers and load
// balancers hold, leaving out one server.
func (w *World) usedAddresses(subnet string, except *Server) map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for _, s := range w.servers.all() {
		if s.deleting || s == except {
			continue
		}
		for _, i := range s.Interfaces {
			for _, a := range i.Addresses {
				if a.Subnet == subnet {
					used[a.Addr] = true
				}
			}
		}
	}
	for _, b := range w.balancers.all() {
		if b.deleting {
			continue
		}
		for _, v := range b.VIPs {
			if v.Subnet == subnet {
				used[v.Addr] = true
			}
		}
		if a, ok := b.ports[subnet]; ok {
			used[a] = true
		}
	}
	return used
}

// Identities implements guest.Network.
func (w *World) Identities(source netip.Addr) []netip.Addr {
	source = source.Unmap()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers.all() {
		if s.Loopback != source {
			continue
		}
		var out []netip.Addr
		for _, i := range s.Interfaces {
			if i.Public() {
				out = append(out, s.Loopback)
				if s.IPv6.IsValid() {
					out = append(out, s.IPv6)
				}
			}
			for _, a := range i.Addresses {
				out = append(out, a.Addr)
			}
		}
		return out
	}
	for _, b := range w.balancers.all() {
		if b.source() == source {
			return b.identities()
		}
	}
	return []netip.Addr{source}
}

// Loopback implements guest.Network. Where two networks use the same range, the
// younger server is found; load balancers look inside their own subnet.
func (w *World) Loopback(address netip.Addr) (netip.Addr, bool) {
	address = address.Unmap()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range slices.Backward(w.servers.all()) {
		if s.deleting {
			continue
		}
		for _, i := range s.Interfaces {
			if i.Public() && (s.Loopback == address || s.IPv6 == address) {
				return s.Loopback, true
			}
			if slices.ContainsFunc(i.Addresses, func(a Address) bool { return a.Addr == address }) {
				return s.Loopback, true
			}
		}
	}
	for _, b := range slices.Backward(w.balancers.all()) {
		for _, v := range b.VIPs {
			if !b.deleting && v.Addr == address {
				return v.Bind, v.Bind.IsValid()
			}
		}
	}
	for _, f := range w.floating.all() {
		if f.Prefix.Contains(address) && f.Prefix.Addr().Is4() {
			return address, true
		}
	}
	return netip.Addr{}, false
}

// reach returns the loopback address of the server that holds an address of a
// subnet, unless its packet filter keeps a source out.
func (w *World) reach(source netip.Addr, subnet string, to netip.AddrPort) (netip.Addr, error) {
	s := w.holder(subnet, to.Addr())
	if s == nil {
		return netip.Addr{}, fmt.Errorf("no server has address %s", to.Addr())
	}
	g, _ := s.machine.Current()
	if f, ok := g.(guest.Firewalled); ok && to.Port() != 0 && !f.Admits(source, to.Port()) {
		return netip.Addr{}, fmt.Errorf("%s drops packets from the load balancer", to)
	}
	return s.Loopback, nil
}

// holder returns the server that holds an address of a subnet.
func (w *World) holder(subnet string, address netip.Addr) *Server {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.servers.all() {
		if s.deleting {
			continue
		}
		for _, i := range s.Interfaces {
			if slices.Contains(i.Addresses, Address{Subnet: subnet, Addr: address}) {
				return s
			}
		}
	}
	return nil
}
