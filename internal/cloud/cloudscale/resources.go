package cloudscale

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// lbFlavor is the API's only load balancer flavor so far.
const lbFlavor = "lb-standard"

// PlanInfrastructure implements cloud.Infrastructure: network and subnet unless
// they are brought along, and the parts of a load balancer unless the endpoint
// is given. Each step is one POST.
func (p *Provider) PlanInfrastructure(spec cloud.InfrastructureSpec) ([]cloud.Step, error) {
	const op = "plan infrastructure"
	name := spec.Owner.Cluster.Name
	var steps []cloud.Step
	if e := spec.Existing; e != nil {
		if !plausibleID(e.Subnet) {
			return nil, fault.New(fault.Invalid, op, "spec.network.existing.subnet: %q is not the id of a subnet", e.Subnet)
		}
		steps = append(steps, inventory.Step(kindSubnet, "subnet", e.Subnet, "existing subnet "+e.Subnet,
			tag(paramCIDR, e.CIDR), tag(paramExisting, e.Subnet)))
	} else {
		if c, err := netip.ParsePrefix(spec.CIDR); err != nil || !c.Addr().Is4() || c != c.Masked() {
			return nil, fault.New(fault.Invalid, op, "spec.network.cidr: %q is not an IPv4 network", spec.CIDR)
		}
		steps = append(steps,
			inventory.Step(kindNetwork, "network", name, "network "+name, tag(paramZone, spec.Zone)),
			inventory.Step(kindSubnet, "subnet", name, "subnet "+spec.CIDR, tag(paramCIDR, spec.CIDR)))
	}
	if spec.LoadBalancer == nil {
		return steps, nil
	}
	api := name + "-api"
	return append(steps,
		inventory.Step(kindLoadBalancer, "lb", api, "load balancer "+api,
			tag(paramFlavor, cmp.Or(spec.LoadBalancer.Flavor, lbFlavor)), tag(paramZone, spec.Zone)),
		inventory.Step(kindPool, "pool", api, "pool "+api),
		inventory.Step(kindListener, "listener", api, "listener "+api, tag(paramAllowed, strings.Join(spec.AllowedCIDRs, ","))),
		inventory.Step(kindMonitor, "monitor", api, "health monitor "+api)), nil
}

func tag(key, value string) cluster.Tag { return cluster.Tag{Key: key, Value: value} }

// PlacementStep implements cloud.Infrastructure.
func (p *Provider) PlacementStep(owner cloud.Owner, zone string, shard int) (cloud.Step, error) {
	name := fmt.Sprintf("%s-%s-%d", owner.Cluster.Name, owner.Group, shard)
	// No other key has a slash, so no group can be named like another step.
	key := fmt.Sprintf("placement/%s/%d", owner.Group, shard)
	return inventory.Step(kindServerGroup, key, name, "server group "+name, tag(paramZone, zone)), nil
}

func resourceTags(kind string, req cloud.EnsureResourceRequest) map[string]string {
	tags := req.Owner.Tags()
	tags[cluster.TagKind], tags[cluster.TagKey] = kind, req.Step.Key
	return tags
}

// EndpointHost implements cloud.Infrastructure.
func (p *Provider) EndpointHost(have []cloud.Resource) string {
	return inventory.EndpointHost(have, kindLoadBalancer)
}
