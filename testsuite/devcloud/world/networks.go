package world

import (
	"fmt"
	"net/netip"
	"slices"
)

// PublicNetwork is how requests name the Internet.
const PublicNetwork = "public"

// DefaultDNS are the cloud's resolvers, used where a subnet names none.
func DefaultDNS() []string { return []string{"5.102.144.101", "5.102.144.102"} }

// Network is a private layer-2 network.
type Network struct {
	Meta
	MTU     int
	Subnets []string
}

// Subnet is an IPv4 range of a network.
type Subnet struct {
	Meta
	Network string
	CIDR    netip.Prefix
	Gateway netip.Addr // zero for none
	DNS     []string   // nil means DefaultDNS

	cursor netip.Addr
}

// CreateNetwork creates a network and, if asked, a /24 in it.
func (w *World) CreateNetwork(name, zone string, mtu int, autoSubnet bool, tags map[string]string) (Network, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	zone, err := pickZone(zone)
	if err != nil {
		return Network{}, err
	}
	if name == "" {
		return Network{}, invalid("name", "This field is required.")
	}
	if mtu == 0 {
		mtu = 9000
	}
	if err := checkMTU(mtu); err != nil {
		return Network{}, err
	}
	if over(w.limits.Networks, w.networks.len()+1) {
		return Network{}, refuse(Quota, QuotaText)
	}
	n := &Network{Meta: w.newMeta(name, zone, tags), MTU: mtu}
	w.networks.add(n)
	if autoSubnet {
		c := w.unusedRange()
		w.addSubnet(n, &Subnet{CIDR: c, Gateway: c.Addr().Next()}, nil)
	}
	w.record("network_create", n.Meta)
	return *n, nil
}

func checkMTU(mtu int) error {
	if mtu < 1280 || mtu > 9000 {
		return invalid("mtu", "Ensure this value is between 1280 and 9000.")
	}
	return nil
}

// unusedRange returns a /24 that no subnet overlaps.
func (w *World) unusedRange() netip.Prefix {
	for n := range 1 << 16 {
		c := netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", 100+n/256%100, n%256))
		if !slices.ContainsFunc(w.subnets.all(), func(s *Subnet) bool { return s.CIDR.Overlaps(c) }) {
			return c
		}
	}
	return netip.MustParsePrefix("10.255.255.0/24")
}

func (w *World) addSubnet(n *Network, s *Subnet, tags map[string]string) {
	s.Meta = w.newMeta("", n.Zone, tags)
	s.Network = n.UUID
	s.cursor = s.CIDR.Addr().Next()
	w.subnets.add(s)
	n.Subnets = append(slices.Clone(n.Subnets), s.UUID)
}

// Networks returns all networks.
func (w *World) Networks() []Network {
	w.mu.Lock()
	defer w.mu.Unlock()
	return copies(w.networks.all())
}

// Network returns one network.
func (w *World) Network(id string) (Network, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.networks.get(id)
	if err != nil {
		return Network{}, err
	}
	return *n, nil
}

// UpdateNetwork changes name, tags or MTU.
func (w *World) UpdateNetwork(id string, p MetaPatch, mtu *int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.networks.get(id)
	if err != nil {
		return err
	}
	if mtu != nil {
		if err := checkMTU(*mtu); err != nil {
			return err
		}
		n.MTU = *mtu
	}
	p.apply(&n.Meta)
	w.record("network_update", n.Meta)
	return nil
}

// DeleteNetwork removes a network with its subnets unless something is attached.
func (w *World) DeleteNetwork(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.networks.get(id)
	if err != nil {
		return err
	}
	for _, s := range w.servers.all() {
		if !s.deleting && slices.ContainsFunc(s.Interfaces, func(i Interface) bool { return i.Network == id }) {
			return refuse(InUse, "The network is still in use by server %s.", s.UUID)
		}
	}
	for _, s := range n.Subnets {
		if err := w.subnetFree(s); err != nil {
			return err
		}
	}
	for _, s := range n.Subnets {
		w.subnets.remove(s)
	}
	w.networks.remove(id)
	w.record("network_delete", n.Meta)
	return nil
}

// subnetFree refuses while an address of the subnet is in use.
func (w *World) subnetFree(id string) error {
	if len(w.usedAddresses(id, nil)) > 0 {
		return refuse(InUse, "The subnet is still in use.")
	}
	return nil
}

// SubnetSpec asks for a subnet. Gateway "" means the first address.
type SubnetSpec struct {
	Network, CIDR, Gateway string
	DNS                    []string // nil means the cloud's resolvers
	Tags                   map[string]string
}

// CreateSubnet adds a range to a network.
func (w *World) CreateSubnet(spec SubnetSpec) (Subnet, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.networks.get(spec.Network)
	if err != nil {
		return Subnet{}, invalid("network", "Object with uuid=%s does not exist.", spec.Network)
	}
	c, err := netip.ParsePrefix(spec.CIDR)
	if err != nil || c != c.Masked() || !c.Addr().Is4() || c.Bits() > 29 {
		return Subnet{}, invalid("cidr", "Enter a valid IPv4 network.")
	}
	for _, id := range n.Subnets {
		if s, err := w.subnets.get(id); err == nil && s.CIDR.Overlaps(c) {
			return Subnet{}, invalid("cidr", "The range overlaps another subnet of the network.")
		}
	}
	s := &Subnet{CIDR: c, Gateway: c.Addr().Next()}
	if spec.Gateway != "" {
		if s.Gateway, err = gatewayIn(c, spec.Gateway); err != nil {
			return Subnet{}, err
		}
	}
	if s.DNS, err = checkDNS(spec.DNS); err != nil {
		return Subnet{}, err
	}
	w.addSubnet(n, s, spec.Tags)
	w.record("subnet_create", s.Meta)
	return *s, nil
}

func gatewayIn(c netip.Prefix, gateway string) (netip.Addr, error) {
	a, err := netip.ParseAddr(gateway)
	if err != nil || !c.Contains(a) {
		return netip.Addr{}, invalid("gateway_address", "The gateway must be an address of the subnet.")
	}
	return a, nil
}

func checkDNS(dns []string) ([]string, error) {
	for _, d := range dns {
		if a, err := netip.ParseAddr(d); err != nil || a.IsUnspecified() {
			return nil, invalid("dns_servers", "%q is not a valid IP address.", d)
		}
	}
	return dns, nil
}

// Subnets returns all subnets.
func (w *World) Subnets() []Subnet {
	w.mu.Lock()
	defer w.mu.Unlock()
	return copies(w.subnets.all())
}

// Subnet returns one subnet.
func (w *World) Subnet(id string) (Subnet, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.subnets.get(id)
	if err != nil {
		return Subnet{}, err
	}
	return *s, nil
}

// SubnetPatch changes a subnet; nil means unchanged, and SetDNS with nil DNS
// restores the cloud's resolvers.
type SubnetPatch struct {
	Tags    map[string]string
	Gateway *string
	SetDNS  bool
	DNS     []string
}

// UpdateSubnet applies a patch.
func (w *World) UpdateSubnet(id string, p SubnetPatch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.subnets.get(id)
	if err != nil {
		return err
	}
	if p.Gateway != nil {
		if s.Gateway, err = gatewayIn(s.CIDR, *p.Gateway); err != nil {
			return err
		}
	}
	if p.SetDNS {
		dns, err := checkDNS(p.DNS)
		if err != nil {
			return err
		}
		s.DNS = dns
	}
	MetaPatch{Tags: p.Tags}.apply(&s.Meta)
	w.record("subnet_update", s.Meta)
	return nil
}

// DeleteSubnet removes a subnet in which no address is used.
func (w *World) DeleteSubnet(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.subnets.get(id)
	if err != nil {
		return err
	}
	if err := w.subnetFree(id); err != nil {
		return err
	}
	if n, err := w.networks.get(s.Network); err == nil {
		n.Subnets = without(n.Subnets, id)
	}
	w.subnets.remove(id)
	w.record("subnet_delete", s.Meta)
	return nil
}
