package elb

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/lb"
)

// States of load balancers.
const (
	provisioning = "provisioning"
	active       = "active"
	failed       = "failed"
)

// freeAddresses is how many a subnet must have for a load balancer.
const freeAddresses = 8

// balancer is a network load balancer.
type balancer struct {
	arn, name, scheme, state, vpc string
	created                       time.Time
	places                        []place
	groups                        []string
	attributes, tags              map[string]string
	// address is where clients connect to and members see connections from.
	address netip.Addr
	forward *lb.Balancer
	applied lb.Config
}

// place is an interface of a balancer in one zone.
type place struct{ subnet, zone, eni string }

func (b *balancer) serves(zone string) bool {
	return slices.ContainsFunc(b.places, func(p place) bool { return p.zone == zone })
}

func (b *balancer) subnets() []string {
	var out []string
	for _, p := range b.places {
		out = append(out, p.subnet)
	}
	return sorted(out)
}

type createLoadBalancer struct {
	Name, Type, Scheme string
	IPAddressType      string `query:"IpAddressType"`
	Subnets            []string
	SubnetMappings     []struct {
		SubnetID string `query:"SubnetId"`
	}
	SecurityGroups []string
	Tags           []account.Tag
}

type state struct {
	Code   string `xml:"Code"`
	Reason string `xml:"Reason,omitempty"`
}

type zoneXML struct {
	ZoneName string `xml:"ZoneName"`
	SubnetID string `xml:"SubnetId"`
}

type balancerXML struct {
	LoadBalancerArn       string    `xml:"LoadBalancerArn"`
	DNSName               string    `xml:"DNSName"`
	CanonicalHostedZoneID string    `xml:"CanonicalHostedZoneId"`
	CreatedTime           string    `xml:"CreatedTime"`
	LoadBalancerName      string    `xml:"LoadBalancerName"`
	Scheme                string    `xml:"Scheme"`
	VPCID                 string    `xml:"VpcId"`
	State                 state     `xml:"State"`
	Type                  string    `xml:"Type"`
	AvailabilityZones     []zoneXML `xml:"AvailabilityZones>member"`
	SecurityGroups        []string  `xml:"SecurityGroups>member"`
	IPAddressType         string    `xml:"IpAddressType"`
}

type balancersXML struct {
	LoadBalancers []balancerXML `xml:"LoadBalancers>member"`
	NextMarker    string        `xml:"NextMarker,omitempty"`
}

func (b *balancer) xml() balancerXML {
	out := balancerXML{
		LoadBalancerArn: b.arn, DNSName: b.address.String(), CanonicalHostedZoneID: "Z3F0SRJ5LGBH90", CreatedTime: stamp(b.created),
		LoadBalancerName: b.name, Scheme: b.scheme, VPCID: b.vpc, State: state{Code: b.state}, Type: "network",
		SecurityGroups: b.groups, IPAddressType: "ipv4",
	}
	if b.state == failed {
		out.State.Reason = "The load balancer could not be set up"
	}
	for _, p := range b.places {
		out.AvailabilityZones = append(out.AvailabilityZones, zoneXML{p.zone, p.subnet})
	}
	return out
}

func (s *Service) createLoadBalancer(bend faults.Bend, in createLoadBalancer) (balancersXML, error) {
	if err := s.checkBalancer(&in); err != nil {
		return balancersXML{}, err
	}
	subnets := slices.Clone(in.Subnets)
	for _, m := range in.SubnetMappings {
		subnets = append(subnets, m.SubnetID)
	}
	for _, b := range s.balancers {
		if b.name != in.Name {
			continue
		}
		// Creating is idempotent for the same settings.
		if b.scheme == in.Scheme && slices.Equal(b.subnets(), sorted(subnets)) &&
			slices.Equal(sorted(b.groups), sorted(in.SecurityGroups)) && maps.Equal(b.tags, tagMap(in.Tags)) {
			return balancersXML{LoadBalancers: []balancerXML{b.xml()}}, nil
		}
		return balancersXML{}, query.Refuse("DuplicateLoadBalancerName",
			"A load balancer with the same name '%s' exists, but with different settings", in.Name)
	}
	if n := s.limits.LoadBalancers; n > 0 && len(s.balancers) >= n {
		return balancersXML{}, query.Refuse("TooManyLoadBalancers", "The maximum number of load balancers has been reached")
	}
	b := &balancer{
		arn: s.arn("loadbalancer", "net", in.Name), name: in.Name, scheme: in.Scheme, state: provisioning, created: time.Now(),
		groups: in.SecurityGroups, attributes: balancerDefaults(), tags: tagMap(in.Tags),
	}
	if err := s.place(b, subnets); err != nil {
		return balancersXML{}, err
	}
	s.forwarder(b)
	s.balancers = append(s.balancers, b)
	s.account.Note("CreateLoadBalancer", b.arn)
	s.provision(b, bend)
	return balancersXML{LoadBalancers: []balancerXML{b.xml()}}, nil
}

// checkBalancer refuses what is wrong by itself and fills in defaults.
func (s *Service) checkBalancer(in *createLoadBalancer) error {
	if err := checkName("Load balancer", in.Name); err != nil {
		return err
	}
	if in.Scheme == "" {
		in.Scheme = "internet-facing"
	}
	switch {
	case in.Type != "network":
		return invalid("devcloud has load balancers of type network only, not '%s'", in.Type)
	case in.Scheme != "internet-facing" && in.Scheme != "internal":
		return query.Refuse("InvalidScheme", "The scheme '%s' is not valid", in.Scheme)
	case in.IPAddressType != "" && in.IPAddressType != "ipv4":
		return invalid("devcloud has load balancers of address type ipv4 only")
	case len(in.Subnets) > 0 && len(in.SubnetMappings) > 0:
		return invalid("Only one of subnets and subnet mappings can be specified")
	case len(in.Subnets)+len(in.SubnetMappings) == 0:
		return invalid("At least one subnet must be specified")
	}
	return checkTags(in.Tags)
}

// place gives a balancer an interface in each subnet, all or none.
func (s *Service) place(b *balancer, ids []string) error {
	known := s.account.Omniscient().Subnets()
	var chosen []account.Subnet
	for _, id := range ids {
		i := slices.IndexFunc(known, func(n account.Subnet) bool { return n.ID == id })
		if i < 0 {
			return query.Refuse("SubnetNotFound", "The subnet ID '%s' does not exist", id)
		}
		n := known[i]
		for _, o := range chosen {
			switch {
			case o.Zone == n.Zone:
				return query.Refuse("InvalidConfigurationRequest", "A load balancer cannot be attached to multiple subnets in the same Availability Zone")
			case o.VPC != n.VPC:
				return query.Refuse("InvalidConfigurationRequest", "All subnets must belong to the same VPC: '%s'", o.VPC)
			}
		}
		if n.Free < freeAddresses {
			return query.Refuse("InvalidSubnet", "Not enough IP space available in %s. ELB requires at least %d free IP addresses in each subnet.", id, freeAddresses)
		}
		chosen = append(chosen, n)
	}
	b.vpc = chosen[0].VPC
	public := b.scheme == "internet-facing"
	if public && !slices.ContainsFunc(s.account.Omniscient().InternetGateways(), func(g account.InternetGateway) bool { return g.VPC == b.vpc }) {
		return query.Refuse("InvalidSubnet", "VPC %s has no internet gateway", b.vpc)
	}
	for _, n := range chosen {
		i, err := s.account.CreateInterface(account.InterfaceSpec{
			Subnet: n.ID, Public: public, Groups: b.groups, Loopback: b.address,
			Description: "ELB " + b.arn[strings.Index(b.arn, "net/"):],
		})
		if err != nil {
			s.release(b)
			return translate(err)
		}
		b.address = i.Loopback
		b.places = append(b.places, place{n.ID, n.Zone, i.ID})
	}
	return nil
}

// translate words a refusal of the account as ELB does.
func translate(err error) error {
	for code, as := range map[string]string{
		"InvalidSubnetID.NotFound": "SubnetNotFound", "InvalidGroup.NotFound": "InvalidSecurityGroup", "InvalidParameter": "InvalidSecurityGroup",
		"InsufficientFreeAddressesInSubnet": "InvalidSubnet",
	} {
		if query.IsCode(err, code) {
			return query.Refuse(as, "%v", err)
		}
	}
	return err
}

// release removes the interfaces of a balancer.
func (s *Service) release(b *balancer) {
	for _, p := range b.places {
		s.account.DeleteInterface(p.eni)
	}
}

// provision makes a balancer active later, unless a fault keeps it.
func (s *Service) provision(b *balancer, bend faults.Bend) {
	takes, becomes := s.lat.Provision, active
	if bend.Stuck {
		if bend.StuckFor == 0 {
			return
		}
		takes += bend.StuckFor
	}
	if bend.State != "" {
		becomes = failed
	}
	s.later(takes, func() {
		b.state = becomes
		s.account.Note("load_balancer_is_"+becomes, b.arn)
		s.settle()
	})
}

type describeLoadBalancers struct {
	LoadBalancerArns, Names []string
	Marker                  string
	PageSize                *int32
}

func (s *Service) describeLoadBalancers(bend faults.Bend, in describeLoadBalancers) (balancersXML, error) {
	var out []*balancer
	for _, b := range s.balancers {
		if (len(in.LoadBalancerArns) == 0 || slices.Contains(in.LoadBalancerArns, b.arn)) &&
			(len(in.Names) == 0 || slices.Contains(in.Names, b.name)) && !hidden(bend, b.created) {
			out = append(out, b)
		}
	}
	has := func(match func(*balancer) bool) bool { return slices.ContainsFunc(out, match) }
	for _, arn := range in.LoadBalancerArns {
		if !has(func(b *balancer) bool { return b.arn == arn }) {
			return balancersXML{}, query.Refuse("LoadBalancerNotFound", "Load balancer '%s' not found", arn)
		}
	}
	for _, name := range in.Names {
		if !has(func(b *balancer) bool { return b.name == name }) {
			return balancersXML{}, query.Refuse("LoadBalancerNotFound", "Load balancers '[%s]' not found", name)
		}
	}
	part, next, err := encoded(out, func(b *balancer) string { return b.arn }, in.PageSize, in.Marker, (*balancer).xml)
	return balancersXML{part, next}, err
}

// balancer finds one by its name.
func (s *Service) balancer(arn string) (*balancer, error) {
	i := slices.IndexFunc(s.balancers, func(b *balancer) bool { return b.arn == arn })
	if i < 0 {
		return nil, query.Refuse("LoadBalancerNotFound", "Load balancer '%s' not found", arn)
	}
	return s.balancers[i], nil
}

type ofBalancer struct {
	LoadBalancerArn string
}

// deleteLoadBalancer removes a balancer and its listeners; one that is not there
// is success. Its interfaces stay a while.
func (s *Service) deleteLoadBalancer(_ faults.Bend, in ofBalancer) (none, error) {
	b, err := s.balancer(in.LoadBalancerArn)
	if err != nil {
		return none{}, nil //nolint:nilerr // deleting what is gone succeeds
	}
	if b.attributes[deletionProtection] == "true" {
		return none{}, query.Refuse("OperationNotPermitted", "Load balancer '%s' cannot be deleted because deletion protection is enabled", b.arn)
	}
	s.balancers = slices.DeleteFunc(s.balancers, func(o *balancer) bool { return o == b })
	s.listeners = slices.DeleteFunc(s.listeners, func(l *listener) bool { return l.balancer == b })
	s.account.Note("DeleteLoadBalancer", b.arn)
	s.wg.Go(func() {
		b.forward.Close()
		// Even when the service ends meanwhile, the addresses are given back.
		_ = s.account.Clock().Sleep(s.ctx, s.lat.Release)
		s.release(b)
		s.account.Note("load_balancer_is_gone", b.arn)
	})
	return none{}, nil
}

type setSecurityGroups struct {
	LoadBalancerArn string
	SecurityGroups  []string
}

type securityGroupsXML struct {
	SecurityGroupIDs []string `xml:"SecurityGroupIds>member"`
}

// setSecurityGroups replaces the groups of a balancer that has some: one that
// was made without groups cannot get any later.
func (s *Service) setSecurityGroups(_ faults.Bend, in setSecurityGroups) (securityGroupsXML, error) {
	b, err := s.balancer(in.LoadBalancerArn)
	if err != nil {
		return securityGroupsXML{}, err
	}
	if len(b.groups) == 0 || len(in.SecurityGroups) == 0 {
		return securityGroupsXML{}, query.Refuse("InvalidConfigurationRequest",
			"You cannot add security groups to a Network Load Balancer that was created without any, nor remove all of them")
	}
	for n, p := range b.places {
		// Interfaces keep their groups for life here, so each gets a successor at
		// the same address.
		i, err := s.account.CreateInterface(account.InterfaceSpec{
			Subnet: p.subnet, Public: b.scheme == "internet-facing", Groups: in.SecurityGroups, Loopback: b.address,
			Description: "ELB " + b.arn[strings.Index(b.arn, "net/"):],
		})
		if err != nil {
			return securityGroupsXML{}, translate(err)
		}
		s.account.DeleteInterface(p.eni)
		b.places[n].eni = i.ID
	}
	b.groups = slices.Clone(in.SecurityGroups)
	return securityGroupsXML{b.groups}, nil
}
