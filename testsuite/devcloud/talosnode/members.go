package talosnode

import (
	"slices"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
)

// memberView is what of discovery has been published; only the session's loop
// uses it.
type memberView struct {
	changes   uint64
	published map[string]*advert
}

// publishMembers publishes the node itself and what discovery shows.
func (s *session) publishMembers(c *nodeConfig) {
	changes := s.fleet.changes.Load()
	if !c.discovery || changes == s.seen.changes {
		return
	}

	if s.seen.published == nil {
		s.seen.published = map[string]*advert{}
	}

	peers := s.members(c)
	for _, p := range append([]*advert{s.advert.Load()}, peers...) {
		if s.seen.published[p.hostname] != p {
			s.seen.published[p.hostname] = p
			s.publishMember(p)
		}
	}

	// Nodes that discovery does not show yet will be due later.
	if !s.pendingMembers(c, peers) {
		s.seen.changes = changes
	}

	s.forgetMembers(peers)
}

// pendingMembers says whether some peer is still inside its discovery delay.
func (s *session) pendingMembers(c *nodeConfig, peers []*advert) bool {
	n := 0

	for _, p := range s.fleet.peers(s.node) {
		if p.config.clusterID == c.clusterID && p.config.discovery {
			n++
		}
	}

	return n != len(peers)
}

func (s *session) publishMember(p *advert) {
	publish(s, cluster.NewMember(cluster.NamespaceName, p.hostname), func(r *cluster.Member) {
		spec := r.TypedSpec()
		spec.NodeID = p.node.read().nodeID
		spec.Addresses = p.addresses
		spec.Hostname = p.hostname
		spec.MachineType = p.config.machineType
		spec.OperatingSystem = "Talos (" + p.version + ")"

		if p.config.controlPlane {
			spec.ControlPlane = &cluster.ControlPlane{APIServerPort: PortKubernetes}
		}
	})
}

// forgetMembers drops nodes that are gone, after as long as the discovery
// service remembers them.
func (s *session) forgetMembers(peers []*advert) {
	if !s.elapsed(s.booted, discoveryTTL) {
		return
	}

	for name, p := range s.seen.published {
		if p.node == s.node || slices.Contains(peers, p) {
			continue
		}

		delete(s.seen.published, name)

		err := s.cosi.Destroy(s.ctx, cluster.NewMember(cluster.NamespaceName, name).Metadata())
		if err != nil && s.ctx.Err() == nil {
			s.node.console.onChange("resources", "%v", err)
		}
	}
}

// discoveryTTL is how long the discovery service keeps what it was told
// (siderolabs/talos#5794).
const discoveryTTL = 30 * time.Minute
