package account

import (
	"net/netip"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// RouteTable says where packets of its subnets go.
type RouteTable struct {
	Record
	VPC string
	// Main is what subnets without an association use; MainAssociation is the id
	// of that relation.
	Main            bool
	MainAssociation string
	Associations    []Association
	Routes          []Route // without the local one
}

// Association joins a subnet to a route table.
type Association struct{ ID, Subnet string }

// Route leads to an internet gateway. It is a black hole when the gateway is
// not attached any more.
type Route struct {
	Destination netip.Prefix
	Gateway     string
	Blackhole   bool
}

// CreateRouteTable makes a route table, the same one for the same client token.
func (v View) CreateRouteTable(vpc, clientToken string, tags []Tag) (RouteTable, error) {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if id, err := v.replay(clientToken, vpc, tags); err != nil {
		return RouteTable{}, err
	} else if r, ok := v.a.routeTables.rows[id]; ok {
		return v.a.routed(r), nil
	}
	if _, err := v.vpc(vpc); err != nil {
		return RouteTable{}, err
	}
	r := &RouteTable{Record: newRecord("rtb"), VPC: vpc}
	v.a.routeTables.add(r)
	v.a.setTags(r.ID, tags)
	v.keep(clientToken, r.ID, vpc, tags)
	v.a.note(v.Action, r.ID)
	return v.a.routed(r), nil
}

// routed copies a route table with the state of its routes.
func (a *Account) routed(r *RouteTable) RouteTable {
	c := *r
	c.Associations, c.Routes = slices.Clone(r.Associations), slices.Clone(r.Routes)
	for i := range c.Routes {
		g, ok := a.gateways.rows[c.Routes[i].Gateway]
		c.Routes[i].Blackhole = !ok || g.VPC != r.VPC
	}
	return c
}

// RouteTables returns the route tables.
func (v View) RouteTables() []RouteTable {
	out := list(v, func(a *Account) *table[*RouteTable] { return &a.routeTables })
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	for i := range out {
		out[i] = v.a.routed(&out[i])
	}
	return out
}

func (v View) routeTable(id string) (*RouteTable, error) {
	return find(v, &v.a.routeTables, "InvalidRouteTableID.NotFound", "routeTable ID", id)
}

// CreateRoute adds a route to an internet gateway.
func (v View) CreateRoute(table, destination, gateway string) error {
	to, err := netip.ParsePrefix(destination)
	if err != nil || !to.Addr().Is4() {
		return query.Refuse("InvalidParameterValue", "Value (%s) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.", destination)
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	r, err := v.routeTable(table)
	if err != nil {
		return err
	}
	g, err := v.gateway(gateway)
	if err != nil {
		return err
	}
	if g.VPC != r.VPC {
		return query.Refuse("InvalidParameterValue", "route table %s and network gateway %s belong to different networks", table, gateway)
	}
	if slices.ContainsFunc(r.Routes, func(x Route) bool { return x.Destination == to.Masked() }) {
		return query.Refuse("RouteAlreadyExists", "The route identified by %s already exists.", to.Masked())
	}
	r.Routes = append(r.Routes, Route{Destination: to.Masked(), Gateway: gateway})
	v.a.note(v.Action, table)
	return nil
}

// AssociateRouteTable joins a subnet to a route table. Joining it again to the
// same one answers with the association that exists.
func (v View) AssociateRouteTable(table, subnet string) (string, error) {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	r, err := v.routeTable(table)
	if err != nil {
		return "", err
	}
	s, err := v.subnet(subnet)
	if err != nil {
		return "", err
	}
	if s.VPC != r.VPC {
		return "", query.Refuse("InvalidParameterValue", "Route table %s and subnet %s belong to different networks", table, subnet)
	}
	for _, other := range v.a.routeTables.all() {
		for _, x := range other.Associations {
			switch {
			case x.Subnet == subnet && other == r:
				return x.ID, nil
			case x.Subnet == subnet:
				return "", query.Refuse("Resource.AlreadyAssociated",
					"the specified association for route table %s conflicts with an existing association", table)
			}
		}
	}
	x := Association{NewID("rtbassoc"), subnet}
	r.Associations = append(r.Associations, x)
	v.a.note(v.Action, table)
	return x.ID, nil
}

// DisassociateRouteTable ends an association; the subnet falls back to the main
// route table.
func (v View) DisassociateRouteTable(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	for _, r := range v.a.routeTables.all() {
		if r.MainAssociation == id {
			return query.Refuse("InvalidParameterValue", "cannot disassociate the main route table association %s", id)
		}
		if n := slices.IndexFunc(r.Associations, func(x Association) bool { return x.ID == id }); n >= 0 {
			r.Associations = slices.Delete(slices.Clone(r.Associations), n, n+1)
			v.a.note(v.Action, r.ID)
			return nil
		}
	}
	return query.Refuse("InvalidAssociationID.NotFound", "%s", describe("association ID", id))
}

// Associated returns the route table of an association and its subnet, if it has
// one; nothing if there is no such association.
func (a *Account) Associated(id string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.routeTables.all() {
		if r.MainAssociation == id {
			return []string{r.ID}
		}
		for _, x := range r.Associations {
			if x.ID == id {
				return []string{r.ID, x.Subnet}
			}
		}
	}
	return nil
}

// DeleteRouteTable removes a route table that no subnet is joined to.
func (v View) DeleteRouteTable(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	r, err := v.routeTable(id)
	if err != nil {
		return err
	}
	if r.Main || len(r.Associations) > 0 {
		return dependency("The routeTable '%s' has dependencies and cannot be deleted.", id)
	}
	remove(v.a, &v.a.routeTables, id)
	v.a.note(v.Action, id)
	return nil
}

// online says whether packets of a subnet reach the Internet and come back.
func (a *Account) online(subnet string) bool {
	s, ok := a.subnets.rows[subnet]
	if !ok {
		return false
	}
	var main, own *RouteTable
	for _, r := range a.routeTables.all() {
		if r.VPC == s.VPC && r.Main {
			main = r
		}
		if slices.ContainsFunc(r.Associations, func(x Association) bool { return x.Subnet == subnet }) {
			own = r
		}
	}
	if own == nil {
		own = main
	}
	return own != nil && slices.ContainsFunc(a.routed(own).Routes, func(r Route) bool {
		return r.Destination.Bits() == 0 && !r.Blackhole
	})
}
