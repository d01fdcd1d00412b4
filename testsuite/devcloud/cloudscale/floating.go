package cloudscale

import "github.com/ichor-project/ichor/testsuite/devcloud/world"

func (a *API) floatingRoutes() {
	w := a.world
	a.handle("GET /v1/floating-ips", func(c call) (result, error) { return list(c, w.FloatingIPs(), a.floatingView) })
	a.handle("POST /v1/floating-ips", a.createFloating)
	a.handle("GET /v1/floating-ips/{id}", func(c call) (result, error) {
		f, err := w.FloatingIP(c.id())
		return one(c, f, err, a.floatingView)
	})
	a.handle("PATCH /v1/floating-ips/{id}", func(c call) (result, error) {
		var req struct {
			metaRequest
			Server       *string `json:"server"`
			LoadBalancer *string `json:"load_balancer"`
			ReversePtr   *string `json:"reverse_ptr"`
		}
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdateFloating(c.id(), world.FloatingPatch{
			Tags: req.Tags, Server: req.Server, LoadBalancer: req.LoadBalancer, ReversePtr: req.ReversePtr,
		}))
	})
	a.handle("DELETE /v1/floating-ips/{id}", func(c call) (result, error) { return done(w.DeleteFloating(c.id())) })
}

func (a *API) createFloating(c call) (result, error) {
	var req struct {
		metaRequest
		IPVersion    int    `json:"ip_version"`
		PrefixLength int    `json:"prefix_length"`
		Region       string `json:"region"`
		Type         string `json:"type"`
		Server       string `json:"server"`
		LoadBalancer string `json:"load_balancer"`
		ReversePtr   string `json:"reverse_ptr"`
	}
	if _, err := read(c, &req); err != nil {
		return result{}, err
	}
	f, err := a.world.CreateFloating(world.FloatingSpec{
		IPVersion: req.IPVersion, PrefixLength: req.PrefixLength, Region: req.Region, Type: req.Type,
		Server: req.Server, LoadBalancer: req.LoadBalancer, ReversePtr: req.ReversePtr, Tags: req.Tags,
	})
	return made(c, f, err, a.floatingView)
}

func (a *API) floatingView(c call, f world.FloatingIP) obj {
	version := 4
	if f.Prefix.Addr().Is6() {
		version = 6
	}
	v := obj{
		"href": c.href("floating-ips/%s", f.UUID), "network": f.Prefix.String(), "ip_version": version, "next_hop": nil,
		"region": nil, "server": nil, "load_balancer": nil, "type": f.Type, "reverse_ptr": f.ReversePtr,
		"tags": f.Tags, "created_at": timestamp(f.CreatedAt),
	}
	if f.NextHop != "" {
		v["next_hop"] = f.NextHop
	}
	if f.Region != "" {
		v["region"] = zoneStub(f.Region)
	}
	if f.Server != "" {
		v["server"] = serverStub(c, f.Server)
	}
	if f.LoadBalancer != "" {
		v["load_balancer"] = a.balancerStub(c, f.LoadBalancer)
	}
	return v
}
