package cloudscale

import "github.com/ichor-project/ichor/testsuite/devcloud/world"

func (a *API) networkRoutes() {
	w := a.world
	a.handle("GET /v1/networks", func(c call) (result, error) { return list(c, w.Networks(), a.networkView) })
	a.handle("POST /v1/networks", a.createNetwork)
	a.handle("GET /v1/networks/{id}", func(c call) (result, error) {
		n, err := w.Network(c.id())
		return one(c, n, err, a.networkView)
	})
	a.handle("PATCH /v1/networks/{id}", func(c call) (result, error) {
		var req struct {
			metaRequest
			MTU *int `json:"mtu"`
		}
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdateNetwork(c.id(), req.patch(), req.MTU))
	})
	a.handle("DELETE /v1/networks/{id}", func(c call) (result, error) { return done(w.DeleteNetwork(c.id())) })

	a.handle("GET /v1/subnets", func(c call) (result, error) { return list(c, w.Subnets(), a.subnetView) })
	a.handle("POST /v1/subnets", a.createSubnet)
	a.handle("GET /v1/subnets/{id}", func(c call) (result, error) {
		s, err := w.Subnet(c.id())
		return one(c, s, err, a.subnetView)
	})
	a.handle("PATCH /v1/subnets/{id}", a.updateSubnet)
	a.handle("DELETE /v1/subnets/{id}", func(c call) (result, error) { return done(w.DeleteSubnet(c.id())) })
}

func (a *API) createNetwork(c call) (result, error) {
	var req struct {
		metaRequest
		Zone string `json:"zone"`
		MTU  int    `json:"mtu"`
		Auto *bool  `json:"auto_create_ipv4_subnet"`
	}
	if _, err := read(c, &req); err != nil {
		return result{}, err
	}
	n, err := a.world.CreateNetwork(deref(req.Name), req.Zone, req.MTU, req.Auto == nil || *req.Auto, req.Tags)
	return made(c, n, err, a.networkView)
}

func (a *API) networkView(c call, n world.Network) obj {
	subnets := []obj{}
	for _, id := range n.Subnets {
		if s, err := a.world.Subnet(id); err == nil {
			subnets = append(subnets, subnetStub(c, id, s.CIDR.String()))
		}
	}
	return obj{
		"href": c.href("networks/%s", n.UUID), "uuid": n.UUID, "name": n.Name, "mtu": n.MTU, "subnets": subnets,
		"zone": zoneStub(n.Zone), "tags": n.Tags, "created_at": timestamp(n.CreatedAt),
	}
}

func (a *API) createSubnet(c call) (result, error) {
	var req struct {
		metaRequest
		CIDR    string    `json:"cidr"`
		Network string    `json:"network"`
		Gateway string    `json:"gateway_address"`
		DNS     *[]string `json:"dns_servers"`
	}
	if _, err := read(c, &req, "dns_servers"); err != nil {
		return result{}, err
	}
	s, err := a.world.CreateSubnet(world.SubnetSpec{
		Network: req.Network, CIDR: req.CIDR, Gateway: req.Gateway, DNS: deref(req.DNS), Tags: req.Tags,
	})
	return made(c, s, err, a.subnetView)
}

func (a *API) updateSubnet(c call) (result, error) {
	var req struct {
		metaRequest
		Gateway *string   `json:"gateway_address"`
		DNS     *[]string `json:"dns_servers"`
	}
	fields, err := read(c, &req, "dns_servers")
	if err != nil {
		return result{}, err
	}
	return done(a.world.UpdateSubnet(c.id(), world.SubnetPatch{
		Tags: req.Tags, Gateway: req.Gateway, SetDNS: fields.has("dns_servers"), DNS: deref(req.DNS),
	}))
}

func (a *API) subnetView(c call, s world.Subnet) obj {
	n, err := a.world.Network(s.Network)
	if err != nil {
		n.UUID = s.Network // deleted between the two reads
	}
	dns := s.DNS
	if dns == nil {
		dns = world.DefaultDNS()
	}
	v := obj{
		"href": c.href("subnets/%s", s.UUID), "uuid": s.UUID, "cidr": s.CIDR.String(), "network": networkStub(c, n.UUID, n.Name),
		"gateway_address": nil, "dns_servers": dns, "tags": s.Tags,
	}
	if s.Gateway.IsValid() {
		v["gateway_address"] = s.Gateway.String()
	}
	return v
}
