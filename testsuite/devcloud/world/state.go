package world

// Item is a resource in a dump of the account.
type Item struct {
	UUID   string            `json:"uuid"`
	Name   string            `json:"name,omitempty"`
	Zone   string            `json:"zone,omitempty"`
	Status string            `json:"status,omitempty"`
	Tags   map[string]string `json:"tags"`
	// Address is where a server's guest or a load balancer listens.
	Address string `json:"address,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// State is a dump of the account. Server root volumes and auto-made subnets are
// left out of Count: they live and die with what they belong to.
type State struct {
	Servers       []Item `json:"servers"`
	ServerGroups  []Item `json:"server_groups"`
	Volumes       []Item `json:"volumes"`
	Snapshots     []Item `json:"snapshots"`
	Networks      []Item `json:"networks"`
	Subnets       []Item `json:"subnets"`
	FloatingIPs   []Item `json:"floating_ips"`
	Images        []Item `json:"custom_images"`
	Imports       []Item `json:"custom_image_imports"`
	LoadBalancers []Item `json:"load_balancers"`
	Pools         []Item `json:"load_balancer_pools"`
	Members       []Item `json:"load_balancer_members"`
	Listeners     []Item `json:"load_balancer_listeners"`
	Monitors      []Item `json:"load_balancer_health_monitors"`
	ObjectsUsers  []Item `json:"objects_users"`
	// Count is the number of resources somebody pays for or must clean up; it is
	// zero exactly when the account is empty.
	Count int `json:"count"`
}

// State returns a dump of the account.
func (w *World) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s State
	s.Servers = items(w.servers, func(v *Server, i *Item) { i.Status, i.Address, i.Detail = v.Status, v.Loopback.String(), v.Flavor.Slug })
	s.ServerGroups = items(w.groups, nil)
	s.Volumes = items(w.volumes, nil)
	s.Snapshots = items(w.snapshots, func(v *Snapshot, i *Item) { i.Status = v.Status })
	s.Networks = items(w.networks, nil)
	s.Subnets = items(w.subnets, func(v *Subnet, i *Item) { i.Detail = v.CIDR.String() })
	s.FloatingIPs = items(w.floating, func(v *FloatingIP, i *Item) { i.Address = v.Prefix.String() })
	s.Images = items(w.images, func(v *Image, i *Item) { i.Detail = v.Slug })
	s.Imports = items(w.imports, func(v *Import, i *Item) { i.Status, i.Detail = v.Status, v.ErrorMessage })
	s.LoadBalancers = items(w.balancers, func(v *LoadBalancer, i *Item) { i.Status, i.Address = v.Status, v.source().String() })
	s.Pools = items(w.pools, nil)
	s.Members = items(w.members, nil)
	s.Listeners = items(w.listeners, nil)
	s.Monitors = items(w.monitors, nil)
	s.ObjectsUsers = items(w.users, nil)
	for _, l := range [][]Item{
		s.Servers, s.ServerGroups, s.Snapshots, s.Networks, s.FloatingIPs, s.Images, s.LoadBalancers, s.Pools,
		s.Members, s.Listeners, s.Monitors, s.ObjectsUsers,
	} {
		s.Count += len(l)
	}
	for _, v := range w.volumes.all() {
		if !v.root {
			s.Count++
		}
	}
	for _, i := range w.imports.all() {
		if i.Status == "started" || i.Status == "in_progress" {
			s.Count++
		}
	}
	return s
}

func items[T entity](t table[T], more func(T, *Item)) []Item {
	out := []Item{}
	for _, v := range t.all() {
		m := v.meta()
		i := Item{UUID: m.UUID, Name: m.Name, Zone: m.Zone, Tags: m.Tags}
		if more != nil {
			more(v, &i)
		}
		out = append(out, i)
	}
	return out
}
