package account

// Item is a resource in a dump of the account.
type Item struct {
	ID      string            `json:"id"`
	Name    string            `json:"name,omitempty"`
	State   string            `json:"state,omitempty"`
	Zone    string            `json:"zone,omitempty"`
	Address string            `json:"address,omitempty"` // where a guest listens
	Detail  string            `json:"detail,omitempty"`
	Tags    map[string]string `json:"tags"`
}

// State is a dump of the account. Published images, terminated instances and
// what lives and dies with its VPC or its instance are left out of Count.
type State struct {
	Instances        []Item `json:"instances"`
	Volumes          []Item `json:"volumes"`
	Interfaces       []Item `json:"networkInterfaces"`
	VPCs             []Item `json:"vpcs"`
	InternetGateways []Item `json:"internetGateways"`
	Subnets          []Item `json:"subnets"`
	RouteTables      []Item `json:"routeTables"`
	SecurityGroups   []Item `json:"securityGroups"`
	PlacementGroups  []Item `json:"placementGroups"`
	Images           []Item `json:"images"`
	Snapshots        []Item `json:"snapshots"`
	// Count is zero exactly when the account is empty.
	Count int `json:"count"`
}

// State returns a dump of the account.
func (a *Account) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	var s State
	item := func(r Record) Item {
		return Item{ID: r.ID, Name: a.tags[r.ID]["Name"], Tags: a.tags[r.ID]}
	}
	s.Instances = items(&a.instances, func(i *Instance) (Item, bool) {
		v := item(i.Record)
		v.State, v.Zone, v.Detail = i.State, i.Zone, i.Type.Name
		if at := a.shown(i).Interfaces; len(at) > 0 {
			v.Address = at[0].Loopback.String()
		}
		return v, i.State != Terminated
	}, &s.Count)
	s.Volumes = items(&a.volumes, func(x *Volume) (Item, bool) {
		v := item(x.Record)
		v.State, v.Zone = x.State(), x.Zone
		return v, x.Instance == ""
	}, &s.Count)
	s.Interfaces = items(&a.interfaces, func(x *Interface) (Item, bool) {
		v := item(x.Record)
		v.Zone, v.Address, v.Detail = x.Zone, x.Loopback.String(), x.Private.String()
		return v, x.Instance == ""
	}, &s.Count)
	s.VPCs = items(&a.vpcs, func(x *VPC) (Item, bool) {
		v := item(x.Record)
		v.Detail = x.CIDR.String()
		return v, true
	}, &s.Count)
	s.InternetGateways = items(&a.gateways, func(x *InternetGateway) (Item, bool) {
		v := item(x.Record)
		v.Detail = x.VPC
		return v, true
	}, &s.Count)
	s.Subnets = items(&a.subnets, func(x *Subnet) (Item, bool) {
		v := item(x.Record)
		v.Zone, v.Detail = x.Zone, x.CIDR.String()
		return v, true
	}, &s.Count)
	s.RouteTables = items(&a.routeTables, func(x *RouteTable) (Item, bool) {
		v := item(x.Record)
		v.Detail = x.VPC
		return v, !x.Main
	}, &s.Count)
	s.SecurityGroups = items(&a.groups, func(x *SecurityGroup) (Item, bool) {
		v := item(x.Record)
		v.Detail = x.Name
		return v, !x.isDefault()
	}, &s.Count)
	s.PlacementGroups = items(&a.placements, func(x *PlacementGroup) (Item, bool) {
		v := item(x.Record)
		v.Detail = x.Name
		return v, true
	}, &s.Count)
	s.Images = items(&a.images, func(x *Image) (Item, bool) {
		v := item(x.Record)
		v.State, v.Detail = x.State, x.Name
		return v, x.Owner == AccountID
	}, &s.Count)
	s.Snapshots = items(&a.snapshots, func(x *Snapshot) (Item, bool) {
		v := item(x.Record)
		v.State = x.State
		return v, true
	}, &s.Count)
	return s
}

// items lists a table; f also says whether a resource counts. Published images
// are not listed.
func items[T entity](t *table[T], f func(T) (Item, bool), count *int) []Item {
	out := []Item{}
	for _, e := range t.all() {
		i, counts := f(e)
		if img, ok := any(e).(*Image); ok && img.Public {
			continue
		}
		if counts {
			*count++
		}
		out = append(out, i)
	}
	return out
}
