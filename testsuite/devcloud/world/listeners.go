package world

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/lb"
)

// Listener accepts connections for a pool.
type Listener struct {
	Meta
	Balancer, Pool, Protocol                    string
	Port                                        int
	Allowed                                     []netip.Prefix
	ClientDataMS, MemberConnectMS, MemberDataMS int
}

// ListenerSpec asks for a listener; zero values mean defaults, or unchanged in
// an update.
type ListenerSpec struct {
	MetaPatch
	Pool, Protocol                              string
	Port                                        int
	Allowed                                     *[]string
	ClientDataMS, MemberConnectMS, MemberDataMS int
}

// CreateListener adds a listener to the load balancer of a pool.
func (w *World) CreateListener(spec ListenerSpec) (Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := w.pools.get(spec.Pool)
	if err != nil {
		return Listener{}, invalid("pool", "Object with uuid=%s does not exist.", spec.Pool)
	}
	b, err := w.steady(p.Balancer)
	if err != nil {
		return Listener{}, err
	}
	switch {
	case spec.Name == nil || *spec.Name == "":
		return Listener{}, invalid("name", "This field is required.")
	case spec.Protocol != "tcp" && spec.Protocol != "udp":
		return Listener{}, invalid("protocol", "%q is not a valid choice.", spec.Protocol)
	case spec.Port < 1 || spec.Port > 65535:
		return Listener{}, invalid("protocol_port", "Ensure this value is between 1 and 65535.")
	}
	for _, l := range w.listeners.all() {
		if l.Balancer == b.UUID && l.Port == spec.Port && l.Protocol == spec.Protocol {
			return Listener{}, invalid("protocol_port", "The load balancer already listens on this port.")
		}
	}
	l := &Listener{
		Meta: w.newMeta(*spec.Name, b.Zone, spec.Tags), Balancer: b.UUID, Pool: p.UUID, Protocol: spec.Protocol, Port: spec.Port,
		ClientDataMS: 50000, MemberConnectMS: 5000, MemberDataMS: 50000,
	}
	if err := l.set(spec); err != nil {
		return Listener{}, err
	}
	w.listeners.add(l)
	w.record("load_balancer_listener_create", l.Meta)
	w.reconfigure(b)
	return *l, nil
}

func (l *Listener) set(spec ListenerSpec) error {
	if spec.Allowed != nil {
		allowed := []netip.Prefix{}
		for _, c := range *spec.Allowed {
			p, err := netip.ParsePrefix(c)
			if err != nil {
				return invalid("allowed_cidrs", "%q is not a valid CIDR.", c)
			}
			allowed = append(allowed, p)
		}
		l.Allowed = allowed
	}
	for _, v := range []struct {
		from int
		to   *int
	}{{spec.ClientDataMS, &l.ClientDataMS}, {spec.MemberConnectMS, &l.MemberConnectMS}, {spec.MemberDataMS, &l.MemberDataMS}} {
		if v.from != 0 {
			*v.to = v.from
		}
	}
	spec.apply(&l.Meta)
	return nil
}

// Listeners returns all listeners.
func (w *World) Listeners() []Listener { return all(w, &w.listeners) }

// Listener returns one listener.
func (w *World) Listener(id string) (Listener, error) { return find(w, &w.listeners, id) }

// UpdateListener changes name, tags, clients or timeouts.
func (w *World) UpdateListener(id string, spec ListenerSpec) error {
	return change(w, &w.listeners, id, "load_balancer_listener_update", func(l *Listener) error {
		if err := l.set(spec); err != nil {
			return err
		}
		w.reconfigureID(l.Balancer)
		return nil
	})
}

// DeleteListener removes a listener.
func (w *World) DeleteListener(id string) error {
	return change(w, &w.listeners, id, "load_balancer_listener_delete", func(l *Listener) error {
		w.listeners.remove(id)
		w.reconfigureID(l.Balancer)
		return nil
	})
}

func (w *World) reconfigureID(id string) {
	if b, err := w.balancers.get(id); err == nil {
		w.reconfigure(b)
	}
}

// reconfigure makes the forwarder of a running balancer do what the account
// says, and drops what the change has made obsolete.
func (w *World) reconfigure(b *LoadBalancer) {
	if b.deleting || b.Status == Changing {
		return
	}
	var c lb.Config
	for _, v := range b.VIPs {
		if v.Bind.IsValid() {
			c.Binds = append(c.Binds, v.Bind)
		}
	}
	for _, f := range w.floating.all() {
		if f.LoadBalancer == b.UUID && f.Prefix.Addr().Is4() {
			c.Binds = append(c.Binds, f.Prefix.Addr())
		}
	}
	for _, l := range w.listeners.all() {
		if l.Balancer == b.UUID && l.Protocol == "tcp" {
			c.Listeners = append(c.Listeners, lb.Listener{
				ID: l.UUID, Port: uint16(l.Port), Pool: l.Pool, Allowed: l.Allowed,
				ClientIdle: ms(l.ClientDataMS), Connect: ms(l.MemberConnectMS), MemberIdle: ms(l.MemberDataMS),
			})
		}
	}
	subnets := map[string]bool{}
	for _, p := range w.pools.all() {
		if p.Balancer == b.UUID {
			c.Pools = append(c.Pools, w.poolConfig(p, subnets))
		}
	}
	for s := range b.ports {
		if !subnets[s] {
			delete(b.ports, s)
		}
	}
	b.forward.Apply(c)
	w.assess(b)
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func (w *World) poolConfig(p *Pool, subnets map[string]bool) lb.Pool {
	out := lb.Pool{ID: p.UUID, Algorithm: p.Algorithm}
	for _, m := range w.monitors.all() {
		if m.Pool == p.UUID {
			out.Monitor = w.monitorConfig(m)
		}
	}
	for _, m := range w.members.all() {
		if m.Pool != p.UUID {
			continue
		}
		subnets[m.Subnet] = true
		switch {
		case out.Monitor == nil:
			m.Status = MemberNoMonitor
		case m.Status == MemberNoMonitor:
			m.Status = MemberUnknown
		}
		if m.Enabled {
			out.Members = append(out.Members, lb.Member{
				ID: m.UUID, Subnet: m.Subnet, Address: m.Address,
				Port: uint16(m.Port), MonitorPort: uint16(m.MonitorPort),
			})
		}
	}
	return out
}

// minInterval keeps fast clouds from spending all their time on health checks.
const minInterval = 100 * time.Millisecond

func (w *World) monitorConfig(m *Monitor) *lb.Monitor {
	out := &lb.Monitor{
		Type: m.Type, Up: m.Up, Down: m.Down,
		Interval: max(w.clock.Scale(time.Duration(m.DelayS)*time.Second), minInterval),
		// Answers of real programs do not become faster with the clock.
		Timeout: time.Duration(m.TimeoutS) * time.Second,
	}
	if m.HTTP != nil {
		out.Method, out.Path, out.Codes = m.HTTP.Method, m.HTTP.Path, slices.Clone(m.HTTP.Codes)
		if m.HTTP.Host != nil {
			out.Host = *m.HTTP.Host
		}
	}
	return out
}
