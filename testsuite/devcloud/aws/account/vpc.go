package account

import (
	"net/netip"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// VPC is a network.
type VPC struct {
	Record
	CIDR                    netip.Prefix
	DNSSupport, DNSHostname bool
}

// parseBlock reads the CIDR block of a VPC or subnet, in canonical form.
func parseBlock(text, code string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() {
		return p, query.Refuse("InvalidParameterValue", "Value (%s) for parameter cidrBlock is invalid. This is not a valid CIDR block.", text)
	}
	if p.Bits() < 16 || p.Bits() > 28 {
		return p, query.Refuse(code, "The CIDR '%s' is invalid.", text)
	}
	return p.Masked(), nil
}

// CreateVPC makes a VPC with its main route table and its default group.
func (v View) CreateVPC(cidr string, tags []Tag) (VPC, error) {
	block, err := parseBlock(cidr, "InvalidVpc.Range")
	if err != nil {
		return VPC{}, err
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if n := v.a.settings.VPCs; n > 0 && len(v.a.vpcs.order) >= n {
		return VPC{}, query.Refuse("VpcLimitExceeded", "The maximum number of VPCs has been reached.")
	}
	vpc := &VPC{Record: newRecord("vpc"), CIDR: block, DNSSupport: true}
	v.a.vpcs.add(vpc)
	v.a.setTags(vpc.ID, tags)
	main := &RouteTable{Record: newRecord("rtb"), VPC: vpc.ID, Main: true, MainAssociation: NewID("rtbassoc")}
	v.a.routeTables.add(main)
	v.a.groups.add(newGroup("default", "default VPC security group", vpc.ID))
	v.a.note(v.Action, vpc.ID)
	return *vpc, nil
}

// VPCs returns the VPCs.
func (v View) VPCs() []VPC { return list(v, func(a *Account) *table[*VPC] { return &a.vpcs }) }

func (v View) vpc(id string) (*VPC, error) {
	return find(v, &v.a.vpcs, "InvalidVpcID.NotFound", "vpc ID", id)
}

// VPCAttribute is what ModifyVpcAttribute changes, exactly one thing at a time.
type VPCAttribute struct{ DNSSupport, DNSHostnames *bool }

// ModifyVPC changes an attribute.
func (v View) ModifyVPC(id string, to VPCAttribute) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	vpc, err := v.vpc(id)
	if err != nil {
		return err
	}
	switch {
	case (to.DNSSupport == nil) == (to.DNSHostnames == nil):
		return query.Refuse("InvalidParameterCombination", "Exactly one attribute may be modified in one request")
	case to.DNSSupport != nil:
		vpc.DNSSupport = *to.DNSSupport
	default:
		vpc.DNSHostname = *to.DNSHostnames
	}
	v.a.note(v.Action, id)
	return nil
}

// DeleteVPC removes an empty VPC with its main route table and default group.
func (v View) DeleteVPC(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	vpc, err := v.vpc(id)
	if err != nil {
		return err
	}
	a := v.a
	if slices.ContainsFunc(a.subnets.all(), func(s *Subnet) bool { return s.VPC == id }) ||
		slices.ContainsFunc(a.gateways.all(), func(g *InternetGateway) bool { return g.VPC == id }) ||
		slices.ContainsFunc(a.routeTables.all(), func(r *RouteTable) bool { return r.VPC == id && !r.Main }) ||
		slices.ContainsFunc(a.interfaces.all(), func(i *Interface) bool { return i.VPC == id }) ||
		slices.ContainsFunc(a.groups.all(), func(g *SecurityGroup) bool { return g.VPC == id && !g.isDefault() }) {
		return dependency("The vpc '%s' has dependencies and cannot be deleted.", id)
	}
	for _, r := range a.routeTables.all() {
		if r.VPC == id {
			remove(a, &a.routeTables, r.ID)
		}
	}
	for _, g := range a.groups.all() {
		if g.VPC == id {
			remove(a, &a.groups, g.ID)
		}
	}
	remove(a, &a.vpcs, vpc.ID)
	a.note(v.Action, id)
	return nil
}

func dependency(format string, args ...any) error {
	return query.Refuse("DependencyViolation", format, args...)
}

// InternetGateway joins a VPC to the Internet while VPC names one.
type InternetGateway struct {
	Record
	VPC string
}

// CreateInternetGateway makes a gateway that is not attached.
func (v View) CreateInternetGateway(tags []Tag) InternetGateway {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	g := &InternetGateway{Record: newRecord("igw")}
	v.a.gateways.add(g)
	v.a.setTags(g.ID, tags)
	v.a.note(v.Action, g.ID)
	return *g
}

// InternetGateways returns the gateways.
func (v View) InternetGateways() []InternetGateway {
	return list(v, func(a *Account) *table[*InternetGateway] { return &a.gateways })
}

func (v View) gateway(id string) (*InternetGateway, error) {
	return find(v, &v.a.gateways, "InvalidInternetGatewayID.NotFound", "internetGateway ID", id)
}

// AttachInternetGateway attaches a gateway that has no VPC to a VPC that has no
// gateway.
func (v View) AttachInternetGateway(id, vpc string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	g, err := v.gateway(id)
	if err != nil {
		return err
	}
	if _, err := v.vpc(vpc); err != nil {
		return err
	}
	if g.VPC != "" {
		return query.Refuse("Resource.AlreadyAssociated", "resource %s is already attached to network %s", id, g.VPC)
	}
	if slices.ContainsFunc(v.a.gateways.all(), func(g *InternetGateway) bool { return g.VPC == vpc }) {
		return query.Refuse("InvalidParameterValue", "Network %s already has an internet gateway attached", vpc)
	}
	g.VPC = vpc
	v.a.note(v.Action, id)
	return nil
}

// DetachInternetGateway detaches a gateway from a VPC without public addresses.
func (v View) DetachInternetGateway(id, vpc string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	g, err := v.gateway(id)
	if err != nil {
		return err
	}
	if _, err := v.vpc(vpc); err != nil {
		return err
	}
	if g.VPC != vpc {
		return query.Refuse("Gateway.NotAttached", "resource %s is not attached to network %s", id, vpc)
	}
	if slices.ContainsFunc(v.a.interfaces.all(), func(i *Interface) bool { return i.VPC == vpc && i.Public }) {
		return dependency("Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", vpc)
	}
	g.VPC = ""
	v.a.note(v.Action, id)
	return nil
}

// DeleteInternetGateway removes a gateway that is not attached.
func (v View) DeleteInternetGateway(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	g, err := v.gateway(id)
	if err != nil {
		return err
	}
	if g.VPC != "" {
		return dependency("The internetGateway '%s' has dependencies and cannot be deleted.", id)
	}
	remove(v.a, &v.a.gateways, id)
	v.a.note(v.Action, id)
	return nil
}
