package world

import (
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/lb"
)

// Monitor checks the members of a pool.
type Monitor struct {
	Meta
	Balancer, Pool, Type       string
	DelayS, TimeoutS, Up, Down int
	HTTP                       *MonitorHTTP
}

// MonitorHTTP is what a monitor asks of a web server. It is replaced, never
// changed.
type MonitorHTTP struct {
	Codes                 []string
	Method, Path, Version string
	Host                  *string
}

// MonitorSpec asks for a monitor; zero values mean defaults, or unchanged in an
// update.
type MonitorSpec struct {
	MetaPatch
	Pool, Type                 string
	DelayS, TimeoutS, Up, Down int
	HTTP                       *MonitorHTTP
}

// CreateMonitor adds a monitor to a pool that has none.
func (w *World) CreateMonitor(spec MonitorSpec) (Monitor, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := w.pools.get(spec.Pool)
	if err != nil {
		return Monitor{}, invalid("pool", "Object with uuid=%s does not exist.", spec.Pool)
	}
	b, err := w.steady(p.Balancer)
	if err != nil {
		return Monitor{}, err
	}
	if !slices.Contains([]string{lb.TCP, lb.Ping, lb.HTTP, lb.HTTPS, lb.TLSHello}, spec.Type) {
		return Monitor{}, invalid("type", "%q is not a valid choice.", spec.Type)
	}
	for _, m := range w.monitors.all() {
		if m.Pool == p.UUID {
			return Monitor{}, invalid("pool", "The pool already has a health monitor.")
		}
	}
	m := &Monitor{
		Meta: w.newMeta("", b.Zone, spec.Tags), Balancer: b.UUID, Pool: p.UUID, Type: spec.Type,
		DelayS: 2, TimeoutS: 1, Up: 2, Down: 3,
	}
	if m.web() {
		m.HTTP = &MonitorHTTP{Codes: []string{"200"}, Method: "GET", Path: "/", Version: "1.1"}
	}
	if err := m.set(spec); err != nil {
		return Monitor{}, err
	}
	w.monitors.add(m)
	w.record("load_balancer_health_monitor_create", m.Meta)
	w.reconfigure(b)
	return *m, nil
}

func (m *Monitor) web() bool { return m.Type == lb.HTTP || m.Type == lb.HTTPS }

func (m *Monitor) set(spec MonitorSpec) error {
	for _, v := range []struct {
		from int
		to   *int
	}{{spec.DelayS, &m.DelayS}, {spec.TimeoutS, &m.TimeoutS}, {spec.Up, &m.Up}, {spec.Down, &m.Down}} {
		if v.from != 0 {
			*v.to = v.from
		}
	}
	if m.TimeoutS >= m.DelayS {
		return invalid("timeout_s", "The timeout must be shorter than the delay.")
	}
	if spec.HTTP != nil {
		if !m.web() {
			return invalid("http", "Only monitors of type http and https have this attribute.")
		}
		m.HTTP = m.HTTP.merged(*spec.HTTP)
	}
	MetaPatch{Tags: spec.Tags}.apply(&m.Meta)
	return nil
}

func (h MonitorHTTP) merged(o MonitorHTTP) *MonitorHTTP {
	if o.Codes != nil {
		h.Codes = o.Codes
	}
	if o.Method != "" {
		h.Method = o.Method
	}
	if o.Path != "" {
		h.Path = o.Path
	}
	if o.Version != "" {
		h.Version = o.Version
	}
	if o.Host != nil {
		h.Host = o.Host
	}
	return &h
}

// Monitors returns all health monitors.
func (w *World) Monitors() []Monitor { return all(w, &w.monitors) }

// Monitor returns one health monitor.
func (w *World) Monitor(id string) (Monitor, error) { return find(w, &w.monitors, id) }

// UpdateMonitor applies a specification's set fields.
func (w *World) UpdateMonitor(id string, spec MonitorSpec) error {
	return change(w, &w.monitors, id, "load_balancer_health_monitor_update", func(m *Monitor) error {
		c := *m
		if err := c.set(spec); err != nil {
			return err
		}
		*m = c
		w.reconfigureID(m.Balancer)
		return nil
	})
}

// DeleteMonitor removes a health monitor; the members count as healthy then.
func (w *World) DeleteMonitor(id string) error {
	return change(w, &w.monitors, id, "load_balancer_health_monitor_delete", func(m *Monitor) error {
		w.monitors.remove(id)
		w.reconfigureID(m.Balancer)
		return nil
	})
}
