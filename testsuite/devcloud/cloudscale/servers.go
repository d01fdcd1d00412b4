package cloudscale

import (
	"net/netip"

	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

func (a *API) serverRoutes() {
	w := a.world
	a.handle("GET /v1/servers", func(c call) (result, error) { return list(c, w.Servers(), a.serverView) })
	a.handle("POST /v1/servers", a.createServer)
	a.handle("GET /v1/servers/{id}", func(c call) (result, error) {
		s, err := w.Server(c.id())
		return one(c, s, err, a.serverView)
	})
	a.handle("PATCH /v1/servers/{id}", a.updateServer)
	a.handle("DELETE /v1/servers/{id}", func(c call) (result, error) { return done(w.DeleteServer(c.id())) })
	a.handle("POST /v1/servers/{id}/start", func(c call) (result, error) { return done(w.StartServer(c.id())) })
	a.handle("POST /v1/servers/{id}/stop", func(c call) (result, error) { return done(w.StopServer(c.id())) })
	a.handle("POST /v1/servers/{id}/reboot", func(c call) (result, error) { return done(w.RebootServer(c.id())) })

	a.handle("GET /v1/server-groups", func(c call) (result, error) { return list(c, w.Groups(), groupView) })
	a.handle("POST /v1/server-groups", a.createGroup)
	a.handle("GET /v1/server-groups/{id}", func(c call) (result, error) {
		g, err := w.Group(c.id())
		return one(c, g, err, groupView)
	})
	a.handle("PATCH /v1/server-groups/{id}", func(c call) (result, error) {
		var req metaRequest
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdateGroup(c.id(), req.patch()))
	})
	a.handle("DELETE /v1/server-groups/{id}", func(c call) (result, error) { return done(w.DeleteGroup(c.id())) })
}

type interfaceRequest struct {
	Network   string            `json:"network"`
	Addresses *[]addressRequest `json:"addresses"`
}

type addressRequest struct {
	Subnet  string `json:"subnet"`
	Address string `json:"address"`
}

func interfaceSpecs(in []interfaceRequest) []world.InterfaceSpec {
	out := []world.InterfaceSpec{}
	for _, i := range in {
		s := world.InterfaceSpec{Network: i.Network}
		if i.Addresses != nil {
			s.HasAddrs = true
			for _, a := range *i.Addresses {
				s.Addresses = append(s.Addresses, world.AddressSpec(a))
			}
		}
		out = append(out, s)
	}
	return out
}

func (a *API) createServer(c call) (result, error) {
	var req struct {
		metaRequest
		Zone             string              `json:"zone"`
		Flavor           string              `json:"flavor"`
		Image            string              `json:"image"`
		VolumeSizeGB     int                 `json:"volume_size_gb"`
		BulkVolumeSizeGB int                 `json:"bulk_volume_size_gb"`
		Volumes          []volumeSizeRequest `json:"volumes"`
		Interfaces       *[]interfaceRequest `json:"interfaces"`
		SSHKeys          []string            `json:"ssh_keys"`
		UsePublic        *bool               `json:"use_public_network"`
		UseIPv6          *bool               `json:"use_ipv6"`
		ServerGroups     []string            `json:"server_groups"`
		UserData         string              `json:"user_data"`
	}
	fields, err := read(c, &req)
	if err != nil {
		return result{}, err
	}
	for _, f := range []string{"name", "flavor", "image"} {
		if !fields.has(f) {
			return result{}, fieldError(f, "This field is required.")
		}
	}
	if req.UsePublic != nil && !*req.UsePublic && req.Interfaces == nil {
		return result{}, fieldError("use_public_network", "Deprecated, use interfaces.")
	}
	spec := world.ServerSpec{
		Name: deref(req.Name), Zone: req.Zone, Flavor: req.Flavor, Image: req.Image, Tags: req.Tags,
		RootGB: req.VolumeSizeGB, NoIPv6: req.UseIPv6 != nil && !*req.UseIPv6, Groups: req.ServerGroups,
		UserData: []byte(req.UserData),
		Quirk:    world.Quirk{Stuck: c.bend.Stuck, StuckFor: c.bend.StuckFor, Status: c.bend.State, WrongZone: c.bend.WrongZone},
	}
	for _, v := range req.Volumes {
		spec.Volumes = append(spec.Volumes, world.VolumeSpec{SizeGB: v.SizeGB, Type: v.Type})
	}
	if req.BulkVolumeSizeGB > 0 {
		spec.Volumes = append(spec.Volumes, world.VolumeSpec{SizeGB: req.BulkVolumeSizeGB, Type: "bulk"})
	}
	if req.Interfaces != nil {
		spec.Interfaces = interfaceSpecs(*req.Interfaces)
	}
	s, err := a.world.CreateServer(spec)
	return made(c, s, err, a.serverView)
}

type volumeSizeRequest struct {
	SizeGB int    `json:"size_gb"`
	Type   string `json:"type"`
}

func (a *API) updateServer(c call) (result, error) {
	var req struct {
		metaRequest
		Flavor     *string             `json:"flavor"`
		Interfaces *[]interfaceRequest `json:"interfaces"`
	}
	fields, err := read(c, &req)
	if err != nil {
		return result{}, err
	}
	if err := single(fields, "server"); err != nil {
		return result{}, err
	}
	p := world.ServerPatch{Name: req.Name, Tags: req.Tags, Flavor: req.Flavor}
	if req.Interfaces != nil {
		p.Interfaces = interfaceSpecs(*req.Interfaces)
	}
	return done(a.world.UpdateServer(c.id(), p))
}

func (a *API) serverView(c call, s world.Server) obj {
	v := obj{
		"href": c.href("servers/%s", s.UUID), "uuid": s.UUID, "name": s.Name, "status": s.Status,
		"zone": zoneStub(s.Zone), "tags": s.Tags, "created_at": timestamp(s.CreatedAt),
		"flavor": obj{"slug": s.Flavor.Slug, "name": s.Flavor.Name, "vcpu_count": s.Flavor.VCPUs, "memory_gb": s.Flavor.MemoryGB},
		"image": obj{
			"slug": s.Image.Slug, "name": s.Image.Name, "operating_system": s.Image.OperatingSystem,
			"default_username": s.Image.Username,
		},
		"ssh_fingerprints": []string{}, "ssh_host_keys": []string{}, "anti_affinity_with": []obj{},
	}
	volumes := []obj{}
	for _, id := range s.VolumeIDs {
		if vol, err := a.world.Volume(id); err == nil {
			uuid := id
			if s.Status == world.Changing {
				uuid = "" // volumes are allocated while the server is made
			}
			volumes = append(volumes, obj{"type": vol.Type, "device_path": "", "size_gb": vol.SizeGB, "uuid": uuid})
		}
	}
	v["volumes"] = volumes
	ifaces := []obj{}
	for _, i := range s.Interfaces {
		ifaces = append(ifaces, a.interfaceView(c, s, i))
	}
	v["interfaces"] = ifaces
	groups := []obj{}
	for _, id := range s.Groups {
		if g, err := a.world.Group(id); err == nil {
			groups = append(groups, obj{"href": c.href("server-groups/%s", id), "uuid": id, "name": g.Name})
		}
	}
	v["server_groups"] = groups
	return v
}

// The public network is not a resource of the account; these ids are constant.
const (
	publicNetworkID = "2db69ba3-1864-4608-853a-0771b6885a3a"
	publicSubnet4   = "0f3ad1d3-21a5-4e3c-8d0b-6f4a4f7c1c10"
	publicSubnet6   = "3fb7ea5f-2a5b-4a94-b4dc-4f1b6ed22b26"
)

func (a *API) interfaceView(c call, s world.Server, i world.Interface) obj {
	addrs := []obj{}
	if i.Public() {
		cidr4 := netip.PrefixFrom(s.Loopback, 24).Masked()
		addrs = append(addrs, obj{
			"version": 4, "address": s.Loopback.String(), "prefix_length": 24, "gateway": cidr4.Addr().Next().String(),
			"reverse_ptr": s.Name, "subnet": subnetStub(c, publicSubnet4, cidr4.String()),
		})
		if s.IPv6.IsValid() {
			cidr6 := netip.PrefixFrom(s.IPv6, 64).Masked()
			addrs = append(addrs, obj{
				"version": 6, "address": s.IPv6.String(), "prefix_length": 128, "gateway": "fe80::1",
				"reverse_ptr": s.Name, "subnet": subnetStub(c, publicSubnet6, cidr6.String()),
			})
		}
		return obj{"type": "public", "network": networkStub(c, publicNetworkID, "Public"), "addresses": addrs}
	}
	for _, ad := range i.Addresses {
		sub, err := a.world.Subnet(ad.Subnet)
		if err != nil {
			continue
		}
		v := obj{
			"version": 4, "address": ad.Addr.String(), "prefix_length": sub.CIDR.Bits(), "gateway": "",
			"reverse_ptr": "", "subnet": subnetStub(c, sub.UUID, sub.CIDR.String()),
		}
		if sub.Gateway.IsValid() {
			v["gateway"] = sub.Gateway.String()
		}
		addrs = append(addrs, v)
	}
	n, err := a.world.Network(i.Network)
	if err != nil {
		n.UUID = i.Network // being deleted together with the server
	}
	return obj{"type": "private", "network": networkStub(c, n.UUID, n.Name), "addresses": addrs}
}

func networkStub(c call, id, name string) obj {
	return obj{"href": c.href("networks/%s", id), "uuid": id, "name": name}
}

func subnetStub(c call, id, cidr string) obj {
	return obj{"href": c.href("subnets/%s", id), "uuid": id, "cidr": cidr}
}

func (a *API) createGroup(c call) (result, error) {
	var req struct {
		metaRequest
		Zone string `json:"zone"`
		Type string `json:"type"`
	}
	if _, err := read(c, &req); err != nil {
		return result{}, err
	}
	g, err := a.world.CreateGroup(deref(req.Name), req.Type, req.Zone, req.Tags)
	return made(c, g, err, groupView)
}

func groupView(c call, g world.ServerGroup) obj {
	servers := []obj{}
	for _, id := range g.Servers {
		servers = append(servers, serverStub(c, id))
	}
	return obj{
		"href": c.href("server-groups/%s", g.UUID), "uuid": g.UUID, "name": g.Name, "type": g.Type,
		"zone": zoneStub(g.Zone), "tags": g.Tags, "servers": servers,
	}
}

func serverStub(c call, id string) obj {
	return obj{"href": c.href("servers/%s", id), "uuid": id}
}
