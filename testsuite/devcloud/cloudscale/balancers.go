package cloudscale

import "github.com/ichor-project/ichor/testsuite/devcloud/world"

func (a *API) balancerRoutes() {
	w := a.world
	const base = "/v1/load-balancers"
	a.handle("GET "+base, func(c call) (result, error) { return list(c, w.Balancers(), a.balancerView) })
	a.handle("POST "+base, a.createBalancer)
	a.handle("GET "+base+"/{id}", func(c call) (result, error) {
		b, err := w.Balancer(c.id())
		return one(c, b, err, a.balancerView)
	})
	a.handle("PATCH "+base+"/{id}", func(c call) (result, error) {
		var req metaRequest
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdateBalancer(c.id(), req.patch()))
	})
	a.handle("DELETE "+base+"/{id}", func(c call) (result, error) { return done(w.DeleteBalancer(c.id())) })

	a.handle("GET "+base+"/pools", func(c call) (result, error) { return list(c, w.Pools(), a.poolView) })
	a.handle("POST "+base+"/pools", a.createPool)
	a.handle("GET "+base+"/pools/{id}", func(c call) (result, error) {
		p, err := w.Pool(c.id())
		return one(c, p, err, a.poolView)
	})
	a.handle("PATCH "+base+"/pools/{id}", func(c call) (result, error) {
		var req metaRequest
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdatePool(c.id(), req.patch()))
	})
	a.handle("DELETE "+base+"/pools/{id}", func(c call) (result, error) { return done(w.DeletePool(c.id())) })
	a.memberRoutes(base + "/pools/{pool}/members")
	a.listenerRoutes(base + "/listeners")
	a.monitorRoutes(base + "/health-monitors")
}

func (a *API) createBalancer(c call) (result, error) {
	var req struct {
		metaRequest
		Zone   string            `json:"zone"`
		Flavor string            `json:"flavor"`
		VIPs   *[]addressRequest `json:"vip_addresses"`
	}
	if _, err := read(c, &req); err != nil {
		return result{}, err
	}
	var vips []world.VIPSpec
	if req.VIPs != nil {
		vips = []world.VIPSpec{}
		for _, v := range *req.VIPs {
			vips = append(vips, world.VIPSpec(v))
		}
	}
	b, err := a.world.CreateBalancer(deref(req.Name), req.Zone, req.Flavor, vips, req.Tags)
	return made(c, b, err, a.balancerView)
}

func (a *API) balancerView(c call, b world.LoadBalancer) obj {
	vips := []obj{}
	for _, v := range b.VIPs {
		o := obj{"version": 4, "address": v.Addr.String(), "subnet": subnetStub(c, publicSubnet4, "")}
		if v.Addr.Is6() {
			o["version"], o["subnet"] = 6, subnetStub(c, publicSubnet6, "")
		}
		if s, err := a.world.Subnet(v.Subnet); err == nil {
			o["subnet"] = subnetStub(c, s.UUID, s.CIDR.String())
		}
		vips = append(vips, o)
	}
	return obj{
		"href": c.href("load-balancers/%s", b.UUID), "uuid": b.UUID, "name": b.Name, "status": b.Status,
		"flavor": obj{"slug": b.Flavor, "name": "LB-Standard"}, "vip_addresses": vips,
		"zone": zoneStub(b.Zone), "tags": b.Tags, "created_at": timestamp(b.CreatedAt),
	}
}

func (a *API) balancerStub(c call, id string) obj {
	o := obj{"href": c.href("load-balancers/%s", id), "uuid": id}
	if b, err := a.world.Balancer(id); err == nil {
		o["name"] = b.Name
	}
	return o
}

func (a *API) createPool(c call) (result, error) {
	var req struct {
		metaRequest
		Balancer  string `json:"load_balancer"`
		Algorithm string `json:"algorithm"`
		Protocol  string `json:"protocol"`
	}
	if _, err := read(c, &req); err != nil {
		return result{}, err
	}
	p, err := a.world.CreatePool(deref(req.Name), req.Balancer, req.Algorithm, req.Protocol, req.Tags)
	return made(c, p, err, a.poolView)
}

func (a *API) poolView(c call, p world.Pool) obj {
	return obj{
		"href": c.href("load-balancers/pools/%s", p.UUID), "uuid": p.UUID, "name": p.Name, "algorithm": p.Algorithm,
		"protocol": p.Protocol, "load_balancer": a.balancerStub(c, p.Balancer), "tags": p.Tags, "created_at": timestamp(p.CreatedAt),
	}
}

// poolStub is null for a listener without a pool.
func (a *API) poolStub(c call, id string) any {
	p, err := a.world.Pool(id)
	if err != nil {
		return nil
	}
	return obj{"href": c.href("load-balancers/pools/%s", id), "uuid": id, "name": p.Name}
}

type memberRequest struct {
	metaRequest
	Enabled     *bool  `json:"enabled"`
	Port        int    `json:"protocol_port"`
	MonitorPort int    `json:"monitor_port"`
	Address     string `json:"address"`
	Subnet      string `json:"subnet"`
}

func (r memberRequest) spec() world.MemberSpec {
	return world.MemberSpec{
		MetaPatch: r.patch(), Subnet: r.Subnet, Address: r.Address, Port: r.Port, MonitorPort: r.MonitorPort, Enabled: r.Enabled,
	}
}

func (a *API) memberRoutes(base string) {
	w := a.world
	a.handle("GET "+base, func(c call) (result, error) {
		members, err := w.Members(c.PathValue("pool"))
		if err != nil {
			return result{}, err
		}
		return list(c, members, a.memberView)
	})
	a.handle("POST "+base, func(c call) (result, error) {
		var req memberRequest
		if _, err := read(c, &req, "monitor_port"); err != nil {
			return result{}, err
		}
		m, err := w.CreateMember(c.PathValue("pool"), req.spec())
		return made(c, m, err, a.memberView)
	})
	a.handle("GET "+base+"/{id}", func(c call) (result, error) {
		m, err := w.Member(c.PathValue("pool"), c.id())
		return one(c, m, err, a.memberView)
	})
	a.handle("PATCH "+base+"/{id}", func(c call) (result, error) {
		var req memberRequest
		fields, err := read(c, &req, "monitor_port")
		if err != nil {
			return result{}, err
		}
		for _, f := range []string{"address", "subnet"} {
			if fields.has(f) {
				return result{}, fieldError(f, "This field cannot be changed.")
			}
		}
		return done(w.UpdateMember(c.PathValue("pool"), c.id(), req.spec()))
	})
	a.handle("DELETE "+base+"/{id}", func(c call) (result, error) {
		return done(w.DeleteMember(c.PathValue("pool"), c.id()))
	})
}

func (a *API) memberView(c call, m world.Member) obj {
	v := obj{
		"href": c.href("load-balancers/pools/%s/members/%s", m.Pool, m.UUID), "uuid": m.UUID, "name": m.Name, "enabled": m.Enabled,
		"protocol_port": m.Port, "monitor_port": nil, "address": m.Address.String(), "monitor_status": m.Status,
		"pool": a.poolStub(c, m.Pool), "load_balancer": a.balancerStub(c, m.Balancer), "tags": m.Tags, "created_at": timestamp(m.CreatedAt),
		"subnet": subnetStub(c, m.Subnet, ""),
	}
	if m.MonitorPort != 0 {
		v["monitor_port"] = m.MonitorPort
	}
	if s, err := a.world.Subnet(m.Subnet); err == nil {
		v["subnet"] = subnetStub(c, s.UUID, s.CIDR.String())
	}
	return v
}

type listenerRequest struct {
	metaRequest
	Pool          string    `json:"pool"`
	Protocol      string    `json:"protocol"`
	Port          int       `json:"protocol_port"`
	Allowed       *[]string `json:"allowed_cidrs"`
	ClientData    int       `json:"timeout_client_data_ms"`
	MemberConnect int       `json:"timeout_member_connect_ms"`
	MemberData    int       `json:"timeout_member_data_ms"`
}

func (r listenerRequest) spec() world.ListenerSpec {
	return world.ListenerSpec{
		MetaPatch: r.patch(), Pool: r.Pool, Protocol: r.Protocol, Port: r.Port, Allowed: r.Allowed,
		ClientDataMS: r.ClientData, MemberConnectMS: r.MemberConnect, MemberDataMS: r.MemberData,
	}
}

func (a *API) listenerRoutes(base string) {
	w := a.world
	a.handle("GET "+base, func(c call) (result, error) { return list(c, w.Listeners(), a.listenerView) })
	a.handle("POST "+base, func(c call) (result, error) {
		var req listenerRequest
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		l, err := w.CreateListener(req.spec())
		return made(c, l, err, a.listenerView)
	})
	a.handle("GET "+base+"/{id}", func(c call) (result, error) {
		l, err := w.Listener(c.id())
		return one(c, l, err, a.listenerView)
	})
	a.handle("PATCH "+base+"/{id}", func(c call) (result, error) {
		var req listenerRequest
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdateListener(c.id(), req.spec()))
	})
	a.handle("DELETE "+base+"/{id}", func(c call) (result, error) { return done(w.DeleteListener(c.id())) })
}

func (a *API) listenerView(c call, l world.Listener) obj {
	allowed := []string{}
	for _, p := range l.Allowed {
		allowed = append(allowed, p.String())
	}
	return obj{
		"href": c.href("load-balancers/listeners/%s", l.UUID), "uuid": l.UUID, "name": l.Name, "pool": a.poolStub(c, l.Pool),
		"load_balancer": a.balancerStub(c, l.Balancer), "protocol": l.Protocol, "protocol_port": l.Port, "allowed_cidrs": allowed,
		"timeout_client_data_ms": l.ClientDataMS, "timeout_member_connect_ms": l.MemberConnectMS,
		"timeout_member_data_ms": l.MemberDataMS, "tags": l.Tags, "created_at": timestamp(l.CreatedAt),
	}
}

type monitorRequest struct {
	metaRequest
	Pool     string `json:"pool"`
	Type     string `json:"type"`
	DelayS   int    `json:"delay_s"`
	TimeoutS int    `json:"timeout_s"`
	Up       int    `json:"up_threshold"`
	Down     int    `json:"down_threshold"`
	HTTP     *struct {
		Codes   []string `json:"expected_codes"`
		Method  string   `json:"method"`
		Path    string   `json:"url_path"`
		Version string   `json:"version"`
		Host    *string  `json:"host"`
	} `json:"http"`
}

func (r monitorRequest) spec() world.MonitorSpec {
	s := world.MonitorSpec{
		MetaPatch: r.patch(), Pool: r.Pool, Type: r.Type, DelayS: r.DelayS, TimeoutS: r.TimeoutS, Up: r.Up, Down: r.Down,
	}
	if r.HTTP != nil {
		s.HTTP = &world.MonitorHTTP{
			Codes: r.HTTP.Codes, Method: r.HTTP.Method, Path: r.HTTP.Path, Version: r.HTTP.Version, Host: r.HTTP.Host,
		}
	}
	return s
}

func (a *API) monitorRoutes(base string) {
	w := a.world
	a.handle("GET "+base, func(c call) (result, error) { return list(c, w.Monitors(), a.monitorView) })
	a.handle("POST "+base, func(c call) (result, error) {
		var req monitorRequest
		if _, err := read(c, &req, "http"); err != nil {
			return result{}, err
		}
		m, err := w.CreateMonitor(req.spec())
		return made(c, m, err, a.monitorView)
	})
	a.handle("GET "+base+"/{id}", func(c call) (result, error) {
		m, err := w.Monitor(c.id())
		return one(c, m, err, a.monitorView)
	})
	a.handle("PATCH "+base+"/{id}", func(c call) (result, error) {
		var req monitorRequest
		if _, err := read(c, &req, "http"); err != nil {
			return result{}, err
		}
		return done(w.UpdateMonitor(c.id(), req.spec()))
	})
	a.handle("DELETE "+base+"/{id}", func(c call) (result, error) { return done(w.DeleteMonitor(c.id())) })
}

func (a *API) monitorView(c call, m world.Monitor) obj {
	v := obj{
		"href": c.href("load-balancers/health-monitors/%s", m.UUID), "uuid": m.UUID, "pool": a.poolStub(c, m.Pool),
		"load_balancer": a.balancerStub(c, m.Balancer), "delay_s": m.DelayS, "timeout_s": m.TimeoutS, "up_threshold": m.Up,
		"down_threshold": m.Down, "type": m.Type, "http": nil, "tags": m.Tags, "created_at": timestamp(m.CreatedAt),
	}
	if h := m.HTTP; h != nil {
		v["http"] = obj{"expected_codes": h.Codes, "method": h.Method, "url_path": h.Path, "version": h.Version, "host": h.Host}
	}
	return v
}
