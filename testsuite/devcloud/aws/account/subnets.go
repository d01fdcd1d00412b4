package account

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// Subnet is a part of a VPC in one zone.
type Subnet struct {
	Record
	VPC, Zone string
	CIDR      netip.Prefix
	// MapPublic gives instances a public address unless they decline it.
	MapPublic bool
	// Free is the number of addresses that are left.
	Free int
}

// reserved is how many addresses of a subnet AWS keeps: the first four and the
// last.
const reserved = 5

// CreateSubnet makes a subnet; zone may be a zone's name or its id, empty means
// the first.
func (v View) CreateSubnet(vpcID, cidr, zone string, tags []Tag) (Subnet, error) {
	block, err := parseBlock(cidr, "InvalidSubnet.Range")
	if err != nil {
		return Subnet{}, err
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	vpc, err := v.vpc(vpcID)
	if err != nil {
		return Subnet{}, err
	}
	z, ok := zoneBy(zone)
	if !ok {
		var names []string
		for _, z := range Zones() {
			names = append(names, z.Name)
		}
		return Subnet{}, query.Refuse("InvalidParameterValue",
			"Value (%s) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: %s.",
			zone, strings.Join(names, ", "))
	}
	if !vpc.CIDR.Contains(block.Addr()) || block.Bits() < vpc.CIDR.Bits() {
		return Subnet{}, query.Refuse("InvalidSubnet.Range", "The CIDR '%s' is invalid.", cidr)
	}
	for _, s := range v.a.subnets.all() {
		if s.VPC == vpcID && s.CIDR.Overlaps(block) {
			return Subnet{}, query.Refuse("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", cidr)
		}
	}
	s := &Subnet{Record: newRecord("subnet"), VPC: vpcID, Zone: z.Name, CIDR: block}
	v.a.subnets.add(s)
	v.a.setTags(s.ID, tags)
	v.a.note(v.Action, s.ID)
	return v.a.counted(s), nil
}

// counted fills in how many addresses are left.
func (a *Account) counted(s *Subnet) Subnet {
	c := *s
	c.Free = s.size() - len(a.addressesIn(s.ID))
	return c
}

func (s *Subnet) size() int { return 1<<(32-s.CIDR.Bits()) - reserved }

// Subnets returns the subnets.
func (v View) Subnets() []Subnet {
	out := list(v, func(a *Account) *table[*Subnet] { return &a.subnets })
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	for i := range out {
		out[i] = v.a.counted(&out[i])
	}
	return out
}

func (v View) subnet(id string) (*Subnet, error) {
	return find(v, &v.a.subnets, "InvalidSubnetID.NotFound", "subnet ID", id)
}

// ModifySubnet decides about public addresses on launch.
func (v View) ModifySubnet(id string, mapPublic *bool) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	s, err := v.subnet(id)
	if err != nil {
		return err
	}
	if mapPublic == nil {
		return query.Refuse("MissingParameter", "The request must contain an attribute to modify")
	}
	s.MapPublic = *mapPublic
	v.a.note(v.Action, id)
	return nil
}

// DeleteSubnet removes a subnet without interfaces; its association goes too.
func (v View) DeleteSubnet(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if _, err := v.subnet(id); err != nil {
		return err
	}
	if slices.ContainsFunc(v.a.interfaces.all(), func(i *Interface) bool { return i.Subnet == id }) {
		return dependency("The subnet '%s' has dependencies and cannot be deleted.", id)
	}
	for _, r := range v.a.routeTables.all() {
		r.Associations = slices.DeleteFunc(slices.Clone(r.Associations), func(x Association) bool { return x.Subnet == id })
	}
	remove(v.a, &v.a.subnets, id)
	v.a.note(v.Action, id)
	return nil
}

func (a *Account) addressesIn(subnet string) map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for _, i := range a.interfaces.all() {
		if i.Subnet == subnet {
			used[i.Private] = true
		}
	}
	return used
}

// pick chooses a private address at random, as AWS does, so that two VPCs of the
// same range seldom use the same one at a time.
func (a *Account) pick(s *Subnet, want string) (netip.Addr, error) {
	used := a.addressesIn(s.ID)
	if want != "" {
		addr, err := netip.ParseAddr(want)
		switch {
		case err != nil:
			return addr, query.Refuse("InvalidParameterValue", "invalid value for parameter address: %s", want)
		case !s.usable(addr):
			return addr, query.Refuse("InvalidParameterValue", "Address %s does not fall within the subnet's address range", want)
		case used[addr]:
			return addr, query.Refuse("InvalidIPAddress.InUse", "Address %s is in use.", want)
		}
		return addr, nil
	}
	if len(used) >= s.size() {
		return netip.Addr{}, query.Refuse("InsufficientFreeAddressesInSubnet",
			"The specified subnet does not have enough free addresses to satisfy the request.")
	}
	elsewhere := map[netip.Addr]bool{}
	for _, i := range a.interfaces.all() {
		elsewhere[i.Private] = true
	}
	start := rand.IntN(s.size()) // an address is no secret
	var second netip.Addr
	for n := range s.size() {
		addr := nth(s.CIDR.Addr(), 4+(start+n)%s.size())
		if !elsewhere[addr] {
			return addr, nil
		}
		if !used[addr] && !second.IsValid() {
			second = addr
		}
	}
	return second, nil
}

func (s *Subnet) usable(a netip.Addr) bool {
	last := nth(s.CIDR.Addr(), s.size()+reserved-1)
	return s.CIDR.Contains(a) && a != last && nth(s.CIDR.Addr(), 4).Compare(a) <= 0
}

// nth returns the address that lies n after another.
func nth(a netip.Addr, n int) netip.Addr {
	b := a.As4()
	sum := int(b[0])<<24 + int(b[1])<<16 + int(b[2])<<8 + int(b[3]) + n
	return netip.AddrFrom4([4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}
