package aws

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
	"github.com/ichor-project/ichor/internal/fault"
)

// Parameters of steps.
const (
	paramZone     = inventory.ParamZone
	paramCIDR     = inventory.ParamCIDR
	paramExisting = inventory.ParamExisting
	paramAllowed  = "allowedCIDRs"
)

// zoneBits split a network by zones: into eight parts, by the letter of the
// zone, so that a zone that is added later changes nothing that exists.
const zoneBits = 3

// Sizes of networks and subnets that the API takes (EC2, VPC CIDR blocks).
const (
	largestNetwork = 16
	smallestSubnet = 28
)

// subnetCIDR is the part of a network that a zone has.
func subnetCIDR(network netip.Prefix, zone string) (netip.Prefix, error) {
	part := int(zone[len(zone)-1] - 'a')
	if part >= 1<<zoneBits {
		return netip.Prefix{}, fault.New(fault.Invalid, "plan infrastructure", "zone %q is beyond the eight that a network is split for", zone)
	}
	bits := network.Bits() + zoneBits
	base := network.Masked().Addr().As4()
	n := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	n += uint32(part) << (32 - bits)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), bits), nil
}

// PlanInfrastructure implements cloud.Infrastructure: the parts of a network
// unless it is brought along, the security group of the nodes, and the parts of
// a network load balancer unless the endpoint is given. Each step is one create.
func (p *Provider) PlanInfrastructure(spec cloud.InfrastructureSpec) ([]cloud.Step, error) {
	const op = "plan infrastructure"
	name := spec.Owner.Cluster.Name
	zones := spec.Zones
	if len(zones) == 0 {
		zones = []string{spec.Zone}
	}
	for _, z := range zones {
		region, err := RegionOf(z)
		if err != nil {
			return nil, err
		}
		if region != p.region {
			return nil, fault.New(fault.Invalid, op, "zone %q is not in the region %s; a cluster lies in one region", z, p.region)
		}
	}
	steps, err := networkSteps(spec, zones)
	if err != nil {
		return nil, err
	}
	nodes := name + "-nodes-" + cloud.Fingerprint(spec.Owner.Cluster.UID)[:8]
	steps = append(steps, inventory.Step(kindSecurityGroup, "nodes", nodes, "security group "+nodes, tag{Key: paramAllowed, Value: strings.Join(spec.AllowedCIDRs, ",")}))
	if spec.LoadBalancer == nil {
		return steps, nil
	}
	if f := spec.LoadBalancer.Flavor; f != "" && f != flavorNetwork {
		return nil, fault.New(fault.Invalid, op, "spec.endpoint.loadBalancer.flavor: %q is unknown; it is %q or nothing", f, flavorNetwork)
	}
	api := endpointName(spec.Owner.Cluster.UID)
	return append(steps,
		inventory.Step(kindTargetGroup, "targets", api, "target group of "+name),
		inventory.Step(kindLoadBalancer, "lb", api, "load balancer of "+name),
		inventory.Step(kindListener, "listener", api, "listener of "+name)), nil
}

// flavorNetwork is the one sort of load balancer that carries the Kubernetes API
// as it is.
const flavorNetwork = "network"

func networkSteps(spec cloud.InfrastructureSpec, zones []string) ([]cloud.Step, error) {
	const op = "plan infrastructure"
	name := spec.Owner.Cluster.Name
	if e := spec.Existing; e != nil {
		switch {
		case !plausibleID(e.Network):
			return nil, fault.New(fault.Invalid, op, "spec.network.existing.network: %q is not the id of a VPC", e.Network)
		case !plausibleID(e.Subnet):
			return nil, fault.New(fault.Invalid, op, "spec.network.existing.subnet: %q is not the id of a subnet", e.Subnet)
		case len(zones) > 1:
			return nil, fault.New(fault.Invalid, op, "spec.network.existing: one subnet serves one zone, and the cluster is in %s", strings.Join(zones, ", "))
		}
		return []cloud.Step{
			inventory.Step(kindVPC, "vpc", e.Network, "existing VPC "+e.Network, tag{Key: paramExisting, Value: e.Network}),
			inventory.Step(kindSubnet, "subnet/"+zones[0], e.Subnet, "existing subnet "+e.Subnet,
				tag{Key: paramCIDR, Value: e.CIDR}, tag{Key: paramExisting, Value: e.Subnet}, tag{Key: paramZone, Value: zones[0]}),
		}, nil
	}
	network, err := netip.ParsePrefix(spec.CIDR)
	if err != nil || !network.Addr().Is4() || network != network.Masked() {
		return nil, fault.New(fault.Invalid, op, "spec.network.cidr: %q is not an IPv4 network", spec.CIDR)
	}
	if network.Bits() < largestNetwork || network.Bits()+zoneBits > smallestSubnet {
		return nil, fault.New(fault.Invalid, op, "spec.network.cidr: %s must be a /%d to /%d: it is split into eight parts, one for each zone", network, largestNetwork, smallestSubnet-zoneBits)
	}
	steps := []cloud.Step{
		inventory.Step(kindVPC, "vpc", name, "VPC "+spec.CIDR, tag{Key: paramCIDR, Value: spec.CIDR}),
		inventory.Step(kindGateway, "gateway", name, "internet gateway "+name),
		inventory.Step(kindRouteTable, "routes", name, "route table "+name),
	}
	for _, z := range zones {
		part, err := subnetCIDR(network, z)
		if err != nil {
			return nil, err
		}
		steps = append(steps, inventory.Step(kindSubnet, "subnet/"+z, name+"-"+z, "subnet "+part.String()+" in "+z,
			tag{Key: paramCIDR, Value: part.String()}, tag{Key: paramZone, Value: z}))
	}
	return steps, nil
}

// PlacementStep implements cloud.Infrastructure. A shard is never larger than
// what one zone takes, so its group serves every zone.
func (p *Provider) PlacementStep(owner cloud.Owner, _ string, shard int) (cloud.Step, error) {
	// Names are unique in an account's region, those of clusters are not.
	name := fmt.Sprintf("%s-%s-%d-%s", owner.Cluster.Name, owner.Group, shard, cloud.Fingerprint(owner.Cluster.UID)[:8])
	key := fmt.Sprintf("placement/%s/%d", owner.Group, shard)
	return inventory.Step(kindPlacement, key, name, "placement group "+name), nil
}

// EndpointHost implements cloud.Infrastructure.
func (p *Provider) EndpointHost(have []cloud.Resource) string {
	return inventory.EndpointHost(have, kindLoadBalancer)
}
