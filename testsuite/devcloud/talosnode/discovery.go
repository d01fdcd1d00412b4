package talosnode

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// members returns the running nodes that discovery shows to a node with this
// config: those with the same cluster identity, both with discovery on, once
// the discovery delay has passed.
func (s *session) members(config *nodeConfig) []*advert {
	var out []*advert

	if !config.discovery || config.clusterID == "" {
		return nil
	}

	for _, p := range s.fleet.peers(s.node) {
		if p.config.discovery && p.config.clusterID == config.clusterID && p.config.clusterSecret == config.clusterSecret &&
			s.elapsed(p.since, s.timings().Discovery) {
			out = append(out, p)
		}
	}

	slices.SortFunc(out, func(a, b *advert) int { return strings.Compare(a.hostname, b.hostname) })

	return out
}

// reconcileDiscovery tells others about this node and publishes what they say.
func (s *session) reconcileDiscovery() {
	config := s.current()
	if config == nil {
		return
	}

	s.advertise(config)
	s.publishMembers(config)
}

// advertise replaces the advert when it has changed, and then makes everybody
// look.
func (s *session) advertise(config *nodeConfig) {
	next := &advert{
		node:      s.node,
		hostname:  s.hostname(),
		nodename:  s.nodename(config),
		addresses: s.addresses(),
		config:    config,
		since:     time.Now(),
		etcd:      s.runningEtcd(),
		version:   s.slot.version,
	}

	if before := s.advert.Load(); before != nil {
		if before.config == config && before.etcd == next.etcd && before.hostname == next.hostname {
			return
		}

		next.since = before.since
	}

	s.advert.Store(next)
	s.fleet.changes.Add(1)
	s.fleet.nudge()
}

// nodename is the name that the Kubernetes node gets.
func (s *session) nodename(config *nodeConfig) string {
	name := s.hostname()
	if config.kubernetes == nil || !config.kubernetes.registerWithFQDN {
		name, _, _ = strings.Cut(name, ".")
	}

	return strings.ToLower(name)
}

// reaches says whether this node can open a connection to a port of another
// one: over a common kind of network, through the other one's ingress rules.
func (s *session) reaches(p *advert, port uint16) bool {
	return s.canTalk(s.node, p.node, p.config, port)
}

// reachedBy is the other direction.
func (s *session) reachedBy(p *advert, config *nodeConfig, port uint16) bool {
	return s.canTalk(p.node, s.node, config, port)
}

func (s *session) canTalk(from, to *Node, config *nodeConfig, port uint16) bool {
	network := s.fleet.opts.Network
	sources := network.Identities(from.server.Loopback)

	if !to.server.Public && (len(from.server.Private) == 0 || len(to.server.Private) == 0) {
		return false
	}

	return config.firewall.allows(port, sources)
}

// privateAddress is where etcd peers and kubelets reach a node.
func (s *session) preferredAddress() netip.Addr {
	if all := s.addresses(); len(all) > 0 {
		return all[0]
	}

	return s.node.server.Loopback
}
