package talosnode

import (
	"net/netip"
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
)

// firewall is what the ingress documents of a config say.
type firewall struct {
	block bool
	rules []config.NetworkRule
}

func newFirewall(rules config.NetworkRuleConfig) firewall {
	if rules == nil {
		return firewall{}
	}

	return firewall{block: rules.DefaultAction() == nethelpers.DefaultActionBlock, rules: rules.Rules()}
}

// allows decides about one TCP connection from a source that is known by any
// of the given addresses. With the default action block, one matching rule is
// enough; with accept, every rule for the port shuts out whom it does not name.
func (f firewall) allows(port uint16, sources []netip.Addr) bool {
	allowed := !f.block

	for _, r := range f.rules {
		if r.Protocol() != nethelpers.ProtocolTCP || !covers(r.PortRanges(), port) {
			continue
		}

		named := slices.ContainsFunc(sources, func(a netip.Addr) bool { return within(r, a) })

		switch {
		case f.block && named:
			return true
		case !f.block && !named:
			return false
		}
	}

	return allowed
}

func covers(ranges [][2]uint16, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r [2]uint16) bool { return r[0] <= port && port <= r[1] })
}

func within(r config.NetworkRule, a netip.Addr) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(a) }

	return slices.ContainsFunc(r.Subnets(), contains) && !slices.ContainsFunc(r.ExceptSubnets(), contains)
}
