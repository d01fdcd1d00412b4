package world

import (
	"net/netip"
	"slices"
)

// Health of a member.
const (
	MemberUp        = "up"
	MemberDown      = "down"
	MemberUnknown   = "changing"
	MemberNoMonitor = "no_monitor"
)

// Pool is a set of members.
type Pool struct {
	Meta
	Balancer, Algorithm, Protocol string
}

// Member is one target of a pool.
type Member struct {
	Meta
	Balancer, Pool, Subnet string
	Address                netip.Addr
	Port, MonitorPort      int
	Enabled                bool
	Status                 string
}

var (
	algorithms    = []string{"round_robin", "source_ip", "least_connections"}
	poolProtocols = []string{"tcp", "proxy", "proxyv2", "udp"}
)

// CreatePool adds a pool to a load balancer.
func (w *World) CreatePool(name, balancer, algorithm, protocol string, tags map[string]string) (Pool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := w.steady(balancer)
	if IsKind(err, NotFound) {
		err = invalid("load_balancer", "Object with uuid=%s does not exist.", balancer)
	}
	if err != nil {
		return Pool{}, err
	}
	switch {
	case name == "":
		return Pool{}, invalid("name", "This field is required.")
	case !slices.Contains(algorithms, algorithm):
		return Pool{}, invalid("algorithm", "%q is not a valid choice.", algorithm)
	case !slices.Contains(poolProtocols, protocol):
		return Pool{}, invalid("protocol", "%q is not a valid choice.", protocol)
	}
	p := &Pool{Meta: w.newMeta(name, b.Zone, tags), Balancer: b.UUID, Algorithm: algorithm, Protocol: protocol}
	w.pools.add(p)
	w.record("load_balancer_pool_create", p.Meta)
	return *p, nil
}

// Pools returns all pools.
func (w *World) Pools() []Pool { return all(w, &w.pools) }

// Pool returns one pool.
func (w *World) Pool(id string) (Pool, error) { return find(w, &w.pools, id) }

// UpdatePool renames or retags a pool.
func (w *World) UpdatePool(id string, p MetaPatch) error {
	return change(w, &w.pools, id, "load_balancer_pool_update", func(v *Pool) error {
		p.apply(&v.Meta)
		return nil
	})
}

// DeletePool removes a pool with its members and monitor; listeners stay
// without one.
func (w *World) DeletePool(id string) error {
	return change(w, &w.pools, id, "load_balancer_pool_delete", func(p *Pool) error {
		w.dropPool(p)
		w.reconfigureID(p.Balancer)
		return nil
	})
}

func (w *World) dropPool(p *Pool) {
	for _, m := range w.members.all() {
		if m.Pool == p.UUID {
			w.members.remove(m.UUID)
		}
	}
	for _, m := range w.monitors.all() {
		if m.Pool == p.UUID {
			w.monitors.remove(m.UUID)
		}
	}
	for _, l := range w.listeners.all() {
		if l.Pool == p.UUID {
			l.Pool = ""
		}
	}
	w.pools.remove(p.UUID)
}

// MemberSpec asks for a member; zero ports and empty strings mean unchanged in
// an update.
type MemberSpec struct {
	MetaPatch
	Subnet, Address   string
	Port, MonitorPort int
	Enabled           *bool
}

// CreateMember adds a member to a pool.
func (w *World) CreateMember(pool string, spec MemberSpec) (Member, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := w.pools.get(pool)
	if err != nil {
		return Member{}, err
	}
	b, err := w.steady(p.Balancer)
	if err != nil {
		return Member{}, err
	}
	s, err := w.subnets.get(spec.Subnet)
	if err != nil || s.Zone != b.Zone {
		return Member{}, invalid("subnet", "Object with uuid=%s does not exist in zone %s.", spec.Subnet, b.Zone)
	}
	addr, err := netip.ParseAddr(spec.Address)
	if err != nil || !s.CIDR.Contains(addr) {
		return Member{}, invalid("address", "The address must be part of the subnet.")
	}
	if spec.Port < 1 || spec.Port > 65535 {
		return Member{}, invalid("protocol_port", "Ensure this value is between 1 and 65535.")
	}
	if spec.Name == nil || *spec.Name == "" {
		return Member{}, invalid("name", "This field is required.")
	}
	for _, m := range w.members.all() {
		if m.Pool == pool && m.Address == addr && m.Port == spec.Port {
			return Member{}, invalid("address", "The pool already has a member with this address and port.")
		}
	}
	if _, ok := b.ports[s.UUID]; !ok {
		own, err := freeIn(s, w.usedAddresses(s.UUID, nil))
		if err != nil {
			return Member{}, err
		}
		b.ports[s.UUID] = own
	}
	m := &Member{
		Meta: w.newMeta(*spec.Name, b.Zone, spec.Tags), Balancer: b.UUID, Pool: pool, Subnet: s.UUID, Address: addr,
		Port: spec.Port, MonitorPort: spec.MonitorPort, Enabled: spec.Enabled == nil || *spec.Enabled, Status: MemberNoMonitor,
	}
	w.members.add(m)
	w.record("load_balancer_pool_member_create", m.Meta)
	w.reconfigure(b)
	return *m, nil
}

// Members returns the members of a pool.
func (w *World) Members(pool string) ([]Member, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.pools.get(pool); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(copies(w.members.all()), func(m Member) bool { return m.Pool != pool }), nil
}

// Member returns one member of a pool.
func (w *World) Member(pool, id string) (Member, error) {
	m, err := find(w, &w.members, id)
	if err == nil && m.Pool != pool {
		return Member{}, errNotFound
	}
	return m, err
}

// UpdateMember changes name, tags, ports or whether the member takes part.
func (w *World) UpdateMember(pool, id string, spec MemberSpec) error {
	return change(w, &w.members, id, "load_balancer_pool_member_update", func(m *Member) error {
		if m.Pool != pool {
			return errNotFound
		}
		if spec.Port != 0 {
			m.Port = spec.Port
		}
		if spec.MonitorPort != 0 {
			m.MonitorPort = spec.MonitorPort
		}
		if spec.Enabled != nil {
			m.Enabled = *spec.Enabled
		}
		spec.apply(&m.Meta)
		w.reconfigureID(m.Balancer)
		return nil
	})
}

// DeleteMember removes a member.
func (w *World) DeleteMember(pool, id string) error {
	return change(w, &w.members, id, "load_balancer_pool_member_delete", func(m *Member) error {
		if m.Pool != pool {
			return errNotFound
		}
		w.members.remove(id)
		w.reconfigureID(m.Balancer)
		return nil
	})
}
