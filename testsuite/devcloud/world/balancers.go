package world

import (
	"context"
	"net/netip"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/lb"
)

// Degraded is the status of a load balancer some of whose members are down.
const Degraded = "degraded"

// BalancerFlavor is the only size of load balancer.
const BalancerFlavor = "lb-standard"

// LoadBalancer forwards TCP to members.
type LoadBalancer struct {
	Meta
	Flavor string
	Status string
	VIPs   []VIP

	// ports holds the balancer's own address in each subnet with members; that
	// is what members see as the source of connections.
	ports    map[string]netip.Addr
	deleting bool
	forward  *lb.Balancer
}

// VIP is an address of a load balancer; Bind is where it listens, if anywhere.
type VIP struct {
	Addr   netip.Addr
	Subnet string // empty for public ones
	Bind   netip.Addr
}

// VIPSpec asks for an address in a private subnet.
type VIPSpec struct{ Subnet, Address string }

// CreateBalancer creates a load balancer, which becomes running later. Nil VIPs
// mean a public IPv4 and a public IPv6 address.
func (w *World) CreateBalancer(name, zone, flavor string, vips []VIPSpec, tags map[string]string) (LoadBalancer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	zone, err := pickZone(zone)
	if err != nil {
		return LoadBalancer{}, err
	}
	switch {
	case name == "":
		return LoadBalancer{}, invalid("name", "This field is required.")
	case flavor != BalancerFlavor:
		return LoadBalancer{}, invalid("flavor", "Object with slug=%s does not exist.", flavor)
	case over(w.limits.LoadBalancers, w.balancers.len()+1):
		return LoadBalancer{}, refuse(Quota, QuotaText)
	}
	b := &LoadBalancer{Meta: w.newMeta(name, zone, tags), Flavor: flavor, Status: Changing, ports: map[string]netip.Addr{}}
	if err := w.addVIPs(b, vips); err != nil {
		w.giveVIPs(b)
		return LoadBalancer{}, err
	}
	source := b.source()
	b.forward = lb.New(lb.Options{
		Source: source, Identities: w.Identities, Report: w.reportMember, Log: w.log,
		Reach: func(subnet string, to netip.AddrPort) (netip.Addr, error) { return w.reach(source, subnet, to) },
	})
	w.balancers.add(b)
	w.record("load_balancer_create", b.Meta)
	w.background(func(ctx context.Context) {
		if w.clock.Sleep(ctx, w.lat.LoadBalancer) != nil {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !b.deleting {
			b.Status = Running
			w.note("load_balancer_is_running", b.Meta)
			w.reconfigure(b)
		}
	})
	return *b, nil
}

func (w *World) addVIPs(b *LoadBalancer, specs []VIPSpec) error {
	bind, err := w.pool.take()
	if err != nil {
		return err
	}
	if specs == nil {
		b.VIPs = []VIP{{Addr: bind, Bind: bind}, {Addr: ipv6For(b.Zone, bind)}}
		return nil
	}
	if len(specs) != 1 {
		w.pool.give(bind)
		return invalid("vip_addresses", "Exactly one address in a private subnet is possible.")
	}
	b.VIPs = []VIP{{Subnet: specs[0].Subnet, Bind: bind}}
	s, err := w.subnets.get(specs[0].Subnet)
	if err != nil || s.Zone != b.Zone {
		return invalid("vip_addresses", "Subnet %s does not exist in zone %s.", specs[0].Subnet, b.Zone)
	}
	b.VIPs[0].Addr, err = w.claim(s, specs[0].Address, nil)
	return err
}

func (w *World) giveVIPs(b *LoadBalancer) {
	if a := b.source(); a.IsValid() {
		w.pool.give(a)
	}
}

// source is the loopback address that the balancer connects from.
func (b *LoadBalancer) source() netip.Addr {
	for _, v := range b.VIPs {
		if v.Bind.IsValid() {
			return v.Bind
		}
	}
	return netip.Addr{}
}

// identities returns what members see: the balancer's addresses in private
// subnets, never its public ones.
func (b *LoadBalancer) identities() []netip.Addr {
	var out []netip.Addr
	for _, v := range b.VIPs {
		if v.Subnet != "" {
			out = append(out, v.Addr)
		}
	}
	for _, a := range b.ports {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func (b *LoadBalancer) stop() { b.forward.Close() }

// Balancers returns all load balancers.
func (w *World) Balancers() []LoadBalancer { return all(w, &w.balancers) }

// Balancer returns one load balancer.
func (w *World) Balancer(id string) (LoadBalancer, error) { return find(w, &w.balancers, id) }

// UpdateBalancer renames or retags a load balancer.
func (w *World) UpdateBalancer(id string, p MetaPatch) error {
	return change(w, &w.balancers, id, "load_balancer_update", func(b *LoadBalancer) error {
		p.apply(&b.Meta)
		return nil
	})
}

// DeleteBalancer removes a load balancer with everything that belongs to it.
func (w *World) DeleteBalancer(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := w.steady(id)
	if err != nil {
		return err
	}
	w.dismantle(b)
	b.Status = Changing
	w.record("load_balancer_delete", b.Meta)
	w.background(func(ctx context.Context) {
		b.stop()
		if w.clock.Sleep(ctx, w.lat.LBDelete) != nil {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, err := w.balancers.get(id); err == nil {
			w.giveVIPs(b)
			w.balancers.remove(id)
			w.note("load_balancer_is_gone", b.Meta)
		}
	})
	return nil
}

// steady returns a load balancer that is not in a transition.
func (w *World) steady(id string) (*LoadBalancer, error) {
	b, err := w.balancers.get(id)
	if err != nil {
		return nil, err
	}
	if b.Status == Changing {
		return nil, refuse(Busy, ChangingText)
	}
	return b, nil
}

// dismantle removes what belongs to a balancer.
func (w *World) dismantle(b *LoadBalancer) {
	b.deleting = true
	for _, p := range w.pools.all() {
		if p.Balancer == b.UUID {
			w.dropPool(p)
		}
	}
	for _, l := range w.listeners.all() {
		if l.Balancer == b.UUID {
			w.listeners.remove(l.UUID)
		}
	}
	for _, f := range w.floating.all() {
		if f.LoadBalancer == b.UUID {
			f.LoadBalancer, f.NextHop = "", ""
		}
	}
}

func (w *World) forgetBalancer(b *LoadBalancer) {
	b.deleting = true
	w.giveVIPs(b)
}

// reportMember takes the result of a health check.
func (w *World) reportMember(id string, up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, err := w.members.get(id)
	if err != nil {
		return
	}
	m.Status = MemberDown
	if up {
		m.Status = MemberUp
	}
	if b, err := w.balancers.get(m.Balancer); err == nil {
		w.assess(b)
	}
}

// assess derives the status of a balancer from its members' health.
func (w *World) assess(b *LoadBalancer) {
	if b.Status == Changing {
		return
	}
	up, down := 0, 0
	for _, m := range w.members.all() {
		if m.Balancer == b.UUID && m.Enabled {
			switch m.Status {
			case MemberUp:
				up++
			case MemberDown:
				down++
			}
		}
	}
	switch {
	case down == 0:
		b.Status = Running
	case up == 0:
		b.Status = Failed
	default:
		b.Status = Degraded
	}
}
