package cluster

import (
	"net/netip"
	"strconv"
)

func itoa(i int) string { return strconv.Itoa(i) }

// Prefixes shorter than these mean the world rather than somebody's network: no
// holder of addresses has more than an IPv4 /8 or an IPv6 /16.
const (
	worldBits4 = 8
	worldBits6 = 16
)

// prefixOf parses a range and says why it is not usable.
func prefixOf(s string) (netip.Prefix, string) {
	if s == "" {
		return netip.Prefix{}, "is required, for example 10.200.0.0/24"
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			return netip.Prefix{}, "needs a prefix length; a single address is " + netip.PrefixFrom(a, a.BitLen()).String()
		}
		return netip.Prefix{}, "is not a range in CIDR notation"
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, "is an IPv4 range in IPv6 notation; write it as IPv4"
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, "has host bits set; did you mean " + m.String() + "?"
	}
	return p, ""
}

// world reports whether a range is open to practically everybody.
func world(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < worldBits4
	}
	return p.Bits() < worldBits6
}

// hosts is how many addresses a subnet has for machines: all but the network,
// the broadcast and the gateway address.
func hosts(p netip.Prefix) int {
	bits := min(p.Addr().BitLen()-p.Bits(), 30)
	return max(1<<bits-3, 0)
}

// Limits of the ranges of Kubernetes.
const (
	// podsPerNodeBits is the size of the range that kube-controller-manager
	// hands to each node by default (/24).
	podsPerNodeBits = 24
	// maxServiceBits: kube-apiserver accepts at most 20 host bits.
	maxServiceBits = 20
	// maxPodSubnets: kube-controller-manager accepts at most 16 bits between
	// the pod range and a node's range.
	maxPodSubnets = 16
)

func (n Network) validate(machines int, p *Problems) {
	var private netip.Prefix
	field := "spec.network.cidr"
	var why string
	switch {
	case n.Existing != nil && n.CIDR != "":
		p.Add("spec.network.cidr", "cannot be combined with existing; the range belongs into existing.cidr")
	case n.Existing != nil:
		field = "spec.network.existing.cidr"
		if n.Existing.Network == "" {
			p.Add("spec.network.existing.network", "is required: the cloud's id of the network")
		}
		if n.Existing.Subnet == "" {
			p.Add("spec.network.existing.subnet", "is required: the cloud's id of the subnet")
		}
		private, why = prefixOf(n.Existing.CIDR)
	default:
		private, why = prefixOf(n.CIDR)
	}
	switch {
	case why != "":
		p.Add(field, "%s", why)
	case private.IsValid() && (!private.Addr().Is4() || private.Addr().IsLoopback() || private.Addr().IsMulticast() || private.Addr().IsLinkLocalUnicast()):
		p.Add(field, "must be an IPv4 range for a private network")
		private = netip.Prefix{}
	case private.IsValid() && hosts(private) < machines+reservedAddresses:
		p.Add(field, "is too small: it has %d addresses, and the spec needs up to %d for %d machines", hosts(private), machines+reservedAddresses, machines)
	}

	admins := n.validateAdmins(p)
	pods := n.validatePods(machines, p)
	services := n.validateServices(p)
	disjoint(p, "spec.network.podCIDR", pods, field, private)
	disjoint(p, "spec.network.serviceCIDR", services, field, private)
	disjoint(p, "spec.network.serviceCIDR", services, "spec.network.podCIDR", pods)
	for _, a := range admins {
		disjoint(p, a.field, a.prefix, "spec.network.podCIDR", pods)
		disjoint(p, a.field, a.prefix, "spec.network.serviceCIDR", services)
	}
}

// reservedAddresses of the private subnet are for the load balancer's pair of
// addresses, for one machine that replaces another and for one surge machine of
// the control plane.
const reservedAddresses = 4

type fieldPrefix struct {
	field  string
	prefix netip.Prefix
}

// validateAdmins returns the usable ranges that are not the whole world.
func (n Network) validateAdmins(p *Problems) []fieldPrefix {
	if len(n.AdminCIDRs) == 0 {
		p.Add("spec.network.adminCIDRs", "is required: list the ranges that may reach the machine API and the Kubernetes API, the worker's own address among them")
	}
	var out []fieldPrefix
	seen := map[netip.Prefix]int{}
	for i, s := range n.AdminCIDRs {
		field := index("spec.network.adminCIDRs", i)
		prefix, why := prefixOf(s)
		if why != "" {
			p.Add(field, "%s", why)
			continue
		}
		first, twice := seen[prefix]
		switch {
		case twice:
			p.Add(field, "is listed twice, first as spec.network.adminCIDRs[%d]", first)
			continue
		case world(prefix) && !n.AllowWorld:
			p.Add(field, "opens the machine API and the Kubernetes API to the world; narrow it, or set spec.network.allowWorld: true if that is meant")
		case prefix.Addr().IsMulticast():
			p.Add(field, "is a multicast range, from which nobody connects")
		case !world(prefix):
			out = append(out, fieldPrefix{field, prefix})
		}
		seen[prefix] = i
	}
	return out
}

func (n Network) validatePods(machines int, p *Problems) netip.Prefix {
	const field = "spec.network.podCIDR"
	pods, why := prefixOf(or(n.PodCIDR, DefaultPodCIDR))
	bits := podsPerNodeBits - pods.Bits()
	switch {
	case why != "":
		p.Add(field, "%s", why)
	case !pods.Addr().Is4():
		p.Add(field, "must be an IPv4 range")
	case bits < 0 || 1<<min(bits, 20) < machines:
		p.Add(field, "is too small: every node takes a /%d of it, and the spec allows %d machines", podsPerNodeBits, machines)
	case bits > maxPodSubnets:
		p.Add(field, "is too large: Kubernetes takes at most a /%d", podsPerNodeBits-maxPodSubnets)
	default:
		return pods
	}
	return netip.Prefix{}
}

func (n Network) validateServices(p *Problems) netip.Prefix {
	const field = "spec.network.serviceCIDR"
	services, why := prefixOf(or(n.ServiceCIDR, DefaultServiceCIDR))
	switch {
	case why != "":
		p.Add(field, "%s", why)
	case !services.Addr().Is4():
		p.Add(field, "must be an IPv4 range")
	case 32-services.Bits() > maxServiceBits:
		p.Add(field, "is too large: Kubernetes takes at most a /%d", 32-maxServiceBits)
	case services.Bits() > 28:
		// The cluster's DNS service takes the tenth address.
		p.Add(field, "is too small: at least a /28 is needed")
	default:
		return services
	}
	return netip.Prefix{}
}

// disjoint notes that two ranges overlap; invalid ones overlap with nothing.
func disjoint(p *Problems, field string, a netip.Prefix, other string, b netip.Prefix) {
	if a.IsValid() && b.IsValid() && a.Overlaps(b) {
		p.Add(field, "%s overlaps with %s of %s", a, b, other)
	}
}
