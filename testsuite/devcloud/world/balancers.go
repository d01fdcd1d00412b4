package world

import "net/netip"

// LoadBalancer forwards TCP to members.
type LoadBalancer struct {
	Meta
	Flavor string
	Status string
	VIPs   []VIP

	ports    map[string]netip.Addr // the balancer's own address in each member subnet
	deleting bool
}

// VIP is an address of a load balancer; Bind is where it listens, if anywhere.
type VIP struct {
	Addr   netip.Addr
	Subnet string // empty for public ones
	Bind   netip.Addr
}

// Pool is a set of members.
type Pool struct{ Meta }

// Member is one target of a pool.
type Member struct{ Meta }

// Listener accepts connections for a pool.
type Listener struct{ Meta }

// Monitor checks the members of a pool.
type Monitor struct{ Meta }

func (b *LoadBalancer) stop() {}

func (b *LoadBalancer) source() netip.Addr {
	for _, v := range b.VIPs {
		if v.Bind.IsValid() {
			return v.Bind
		}
	}
	return netip.Addr{}
}

func (b *LoadBalancer) identities() []netip.Addr { return nil }

func (w *World) forgetBalancer(*LoadBalancer) {}
