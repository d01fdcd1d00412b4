package devcloud

import (
	"net/netip"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// networks is what machines of either cloud know of both: it implements
// guest.Network and guest.PacketFilter.
type networks struct {
	world *world.World
	aws   *account.Account
}

var (
	_ guest.Network      = networks{}
	_ guest.PacketFilter = networks{}
)

// Identities implements guest.Network.
func (n networks) Identities(source netip.Addr) []netip.Addr {
	if n.aws.Owns(source) {
		return n.aws.Identities(source)
	}
	return n.world.Identities(source)
}

// Loopback implements guest.Network. Where both clouds use the same private
// address, the one of AWS is found.
func (n networks) Loopback(address netip.Addr) (netip.Addr, bool) {
	if a, ok := n.aws.Loopback(address); ok {
		return a, true
	}
	return n.world.Loopback(address)
}

// Delivers implements guest.PacketFilter.
func (n networks) Delivers(source, machine netip.Addr, port uint16) bool {
	return n.aws.Delivers(source, machine, port)
}
