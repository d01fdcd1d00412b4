package account

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// Interface is a network interface: of an instance, or of something that AWS
// runs for the account, such as a load balancer.
type Interface struct {
	Record
	VPC, Subnet, Zone string
	Private           netip.Addr
	// Loopback is where packets to the interface really go. If Public, it is the
	// public address as well.
	Loopback    netip.Addr
	Public      bool
	Groups      []string
	Description string
	// Instance is empty for interfaces of AWS' own.
	Instance            string
	DeleteOnTermination bool
}

// InterfaceSpec asks for an interface.
type InterfaceSpec struct {
	Subnet      string
	Private     string // empty means any
	Public      bool
	Groups      []string // empty means none
	Description string
	// Loopback is shared with the owner's other interfaces; the zero address
	// means a fresh one.
	Loopback netip.Addr
}

// CreateInterface makes an interface for something that AWS itself runs. It
// occupies its subnet, its groups and the VPC's gateway until DeleteInterface.
func (a *Account) CreateInterface(spec InterfaceSpec) (Interface, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, err := a.newInterface(spec)
	if err != nil {
		return Interface{}, err
	}
	return *i, nil
}

// DeleteInterface removes what CreateInterface made.
func (a *Account) DeleteInterface(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i, ok := a.interfaces.rows[id]; ok && i.Instance == "" {
		a.dropInterface(i)
	}
}

func (a *Account) newInterface(spec InterfaceSpec) (*Interface, error) {
	s, ok := a.subnets.rows[spec.Subnet]
	if !ok {
		return nil, query.Refuse("InvalidSubnetID.NotFound", "%s", describe("subnet ID", spec.Subnet))
	}
	for _, id := range spec.Groups {
		if g, ok := a.groups.rows[id]; !ok {
			return nil, query.Refuse("InvalidGroup.NotFound", "%s", describe("security group", id))
		} else if g.VPC != s.VPC {
			return nil, query.Refuse("InvalidParameter", "Security group %s and subnet %s belong to different networks.", id, s.ID)
		}
	}
	private, err := a.pick(s, spec.Private)
	if err != nil {
		return nil, err
	}
	if !spec.Loopback.IsValid() {
		if spec.Loopback, err = a.opts.Addresses.TakeAddress(); err != nil {
			return nil, query.Refuse("InsufficientAddressCapacity", "%v", err)
		}
	}
	i := &Interface{
		Record: newRecord("eni"), VPC: s.VPC, Subnet: s.ID, Zone: s.Zone, Private: private, Loopback: spec.Loopback,
		Public: spec.Public, Groups: slices.Clone(spec.Groups), Description: spec.Description, DeleteOnTermination: true,
	}
	a.interfaces.add(i)
	return i, nil
}

func (a *Account) dropInterface(i *Interface) {
	remove(a, &a.interfaces, i.ID)
	a.giveBack(i)
}

// giveBack returns the loopback address, unless another interface shares it.
func (a *Account) giveBack(i *Interface) {
	if !slices.ContainsFunc(a.interfaces.all(), func(o *Interface) bool { return o.ID != i.ID && o.Loopback == i.Loopback }) {
		a.opts.Addresses.GiveAddress(i.Loopback)
	}
}

// Interfaces returns the interfaces.
func (v View) Interfaces() []Interface {
	return list(v, func(a *Account) *table[*Interface] { return &a.interfaces })
}

// Identities implements guest.Network for the addresses of the account.
func (a *Account) Identities(source netip.Addr) []netip.Addr {
	source = source.Unmap()
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []netip.Addr
	for _, i := range a.interfaces.all() {
		if i.Loopback != source {
			continue
		}
		if i.Public && !slices.Contains(out, source) {
			out = append(out, source)
		}
		out = append(out, i.Private)
	}
	if len(out) == 0 {
		return []netip.Addr{source}
	}
	return out
}

// Owns says whether a loopback address belongs to an interface of the account.
func (a *Account) Owns(loopback netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at(loopback.Unmap())) > 0
}

// at returns the interfaces behind a loopback address.
func (a *Account) at(loopback netip.Addr) []*Interface {
	var out []*Interface
	for _, i := range a.interfaces.all() {
		if i.Loopback == loopback {
			out = append(out, i)
		}
	}
	return out
}

// Loopback implements guest.Network. Where two VPCs use the same address, the
// younger interface is found.
func (a *Account) Loopback(address netip.Addr) (netip.Addr, bool) {
	address = address.Unmap()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range slices.Backward(a.interfaces.all()) {
		if i.Private == address || i.Public && i.Loopback == address {
			return i.Loopback, true
		}
	}
	return netip.Addr{}, false
}

// Delivers implements guest.PacketFilter: security groups decide, and from
// outside the VPC only what has a public address and a way back is reached. A
// machine outside the account is never filtered.
func (a *Account) Delivers(source, machine netip.Addr, port uint16) bool {
	source, machine = source.Unmap(), machine.Unmap()
	a.mu.Lock()
	defer a.mu.Unlock()
	to := a.at(machine)
	if len(to) == 0 || source == machine {
		return true
	}
	from := a.at(source)
	for _, i := range to {
		if i.Instance == "" || a.admits(i, from, source, port) {
			return true
		}
	}
	return false
}

// admits decides about one interface. from are the interfaces of the sender;
// none of them means somebody outside the cloud.
func (a *Account) admits(to *Interface, from []*Interface, source netip.Addr, port uint16) bool {
	var names []netip.Addr // of the sender, as the interface sees it
	var groups []string
	for _, i := range from {
		if i.VPC == to.VPC {
			names, groups = append(names, i.Private), append(groups, i.Groups...)
		}
	}
	if to.Public && a.online(to.Subnet) {
		switch {
		case len(from) == 0:
			names = append(names, source)
		default:
			for _, i := range from {
				if i.Public {
					names = append(names, i.Loopback)
				}
			}
		}
	}
	for _, id := range to.Groups {
		g, ok := a.groups.rows[id]
		if ok && slices.ContainsFunc(g.Ingress, func(r Rule) bool { return r.admits(port, names, groups) }) {
			return true
		}
	}
	return false
}

func (r Rule) admits(port uint16, names []netip.Addr, groups []string) bool {
	if r.Protocol != "-1" && (r.Protocol != "tcp" && r.Protocol != "6" || int(port) < r.From || int(port) > r.To) {
		return false
	}
	return r.Group != "" && len(names) > 0 && slices.Contains(groups, r.Group) ||
		r.CIDR.IsValid() && slices.ContainsFunc(names, r.CIDR.Contains)
}

// Reach returns where a TCP connection from a loopback address to an address
// inside a VPC really goes, or why its packets do not arrive. It is what a load
// balancer's Options.Reach needs.
func (a *Account) Reach(source netip.Addr, vpc string, to netip.AddrPort) (netip.Addr, error) {
	i, m := a.holder(vpc, to.Addr())
	if i == nil {
		return netip.Addr{}, fmt.Errorf("nothing in %s has address %s", vpc, to.Addr())
	}
	if !a.Delivers(source, i.Loopback, to.Port()) {
		return netip.Addr{}, fmt.Errorf("no security group of %s lets the sender in at port %d", to.Addr(), to.Port())
	}
	if m != nil {
		g, _ := m.Current()
		if f, ok := g.(guest.Firewalled); ok && to.Port() != 0 && !f.Admits(source, to.Port()) {
			return netip.Addr{}, fmt.Errorf("%s drops packets from the sender", to)
		}
	}
	return i.Loopback, nil
}

func (a *Account) holder(vpc string, address netip.Addr) (*Interface, *guest.Machine) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range a.interfaces.all() {
		if i.VPC != vpc || i.Private != address {
			continue
		}
		c := *i
		if inst, ok := a.instances.rows[i.Instance]; ok {
			return &c, inst.machine
		}
		return &c, nil
	}
	return nil, nil
}
