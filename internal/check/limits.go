package check

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
)

// limited is a cloud that a spec is checked against before the account is asked.
type limited catalog.Cloud

// Sizes of machine configs without patches, in bytes: rendered ones with ingress
// documents for a dozen and a half ranges have 10.8 and 4.5 KB; a test holds
// these to be enough.
const (
	controlPlaneConfig = 12 << 10
	workerConfig       = 6 << 10
)

func limits(c cluster.Cluster, opt Options, p *cluster.Problems) {
	s, clouds := c.Spec, opt.clouds()
	known, ok := catalog.In(clouds, s.Cloud.Provider)
	if !ok {
		if s.Cloud.Provider != "" {
			p.Add("spec.cloud.provider", "%s", catalog.Unknown(clouds))
		}
		return
	}
	k := limited(known)
	k.zones(s, p)
	k.network(s, p)
	k.machines(s, p)
	k.userData(s, opt.Bodies, p)
	if k.NeedsController && len(s.Manifests) == 0 && !patched(s) {
		p.Add("spec.manifests", "must bring a cloud controller manager: without it nodes on %s keep the taint uninitialized and never become ready", k.Name)
	}
}

func (k limited) zones(s cluster.Spec, p *cluster.Problems) {
	const apart = "must be the zone of the cluster: private networks of %s do not span zones"
	home, refused := s.Cloud.Zone, catalog.Cloud(k).RefuseZone
	check := func(field, zone, elsewhere string) {
		switch {
		case zone == "":
		case refused(zone) != "":
			p.Add(field, "%s", refused(zone))
		case k.ZonalNetworks && home != "" && zone != home:
			p.Add(field, elsewhere, k.Name)
		case k.Regional && refused(home) == "" && k.RegionOf(zone) != k.RegionOf(home):
			p.Add(field, "is in the region %s, and the cluster in %s: one cluster lies in one region", k.RegionOf(zone), k.RegionOf(home))
		}
	}
	check("spec.cloud.zone", home, apart)
	check("spec.controlPlane.zone", s.ControlPlane.Zone, apart)
	for i, z := range s.ControlPlane.Zones {
		check(at("spec.controlPlane.zones", i), z, apart)
	}
	for i, g := range s.NodeGroups {
		check(at("spec.nodeGroups", i)+".zone", g.Zone, apart)
		for j, z := range g.Zones {
			check(at(at("spec.nodeGroups", i)+".zones", j), z, apart)
		}
		for j, a := range g.Alternatives {
			field := at(at("spec.nodeGroups", i)+".alternatives", j)
			check(field+".zone", a.Zone, "must be the zone of the cluster: the group uses the cluster's private network, and private networks of %s do not span zones; give another flavor instead")
			// The group's own zone is known to the spec's own validation.
			if (a.Flavor == "" || a.Flavor == g.Flavor) && g.Zone == "" && a.Zone != "" && a.Zone == home {
				p.Add(field, "is what the group asks for anyway")
			}
		}
	}
}

// network checks the one that is made; the spec's own validation knows its form.
func (k limited) network(s cluster.Spec, p *cluster.Problems) {
	prefix, err := netip.ParsePrefix(s.Network.CIDR)
	if err != nil || k.NetworkBits == [2]int{} {
		return
	}
	if b := prefix.Bits(); b < k.NetworkBits[0] || b > k.NetworkBits[1] {
		p.Add("spec.network.cidr", "has a prefix of %d bits, and %s makes networks of %d to %d", b, k.Name, k.NetworkBits[0], k.NetworkBits[1])
		return
	}
	if k.ZoneBits == 0 {
		return
	}
	have := 1<<(prefix.Addr().BitLen()-prefix.Bits()-k.ZoneBits) - k.ZoneTaken
	need := perZone(s)
	for _, zone := range slices.Sorted(maps.Keys(need)) {
		if need[zone] > have {
			p.Add("spec.network.cidr", "is too small: it is split into %d parts, one for each zone, with %d addresses for machines; the spec needs up to %d in %s",
				1<<k.ZoneBits, have, need[zone], zone)
		}
	}
}

// perZone is how many machines a spec may have in each zone when all are where
// they are wanted first.
func perZone(s cluster.Spec) map[string]int {
	out := map[string]int{}
	add := func(machines int, zone string, zones []string) {
		if len(zones) == 0 {
			zones = []string{cmp.Or(zone, s.Cloud.Zone)}
		}
		for _, z := range zones {
			out[z] += (machines + len(zones) - 1) / len(zones)
		}
	}
	add(s.ControlPlane.Replicas, s.ControlPlane.Zone, s.ControlPlane.Zones)
	for _, g := range s.NodeGroups {
		add(g.Max, g.Zone, g.Zones)
	}
	return out
}

func (k limited) machines(s cluster.Spec, p *cluster.Problems) {
	boots := func(field, flavor string) {
		for _, prefix := range k.Unbootable {
			if strings.HasPrefix(flavor, prefix) {
				p.Add(field+".flavor", "Talos does not boot on %s*", prefix)
			}
		}
	}
	boots("spec.controlPlane", s.ControlPlane.Flavor)
	for i, g := range s.NodeGroups {
		boots(at("spec.nodeGroups", i), g.Flavor)
		for j, a := range g.Alternatives {
			boots(at(at("spec.nodeGroups", i)+".alternatives", j), a.Flavor)
		}
	}
	check := func(field string, disk int) {
		if disk >= cluster.MinDiskGiB && disk < k.MinDiskGiB {
			p.Add(field+".diskGiB", "must be at least %d on %s", k.MinDiskGiB, k.Name)
		}
	}
	check("spec.controlPlane", s.ControlPlane.DiskGiB)
	for i, g := range s.NodeGroups {
		check(at("spec.nodeGroups", i), g.DiskGiB)
		if g.Spot && !k.Spot {
			p.Add(at("spec.nodeGroups", i)+".spot", "%s rents no machines that it may take back", k.Name)
		}
	}
}

// userData estimates the machine configs. A patch adds at most about its own
// size; the exact size is checked again when a config is rendered.
func (k limited) userData(s cluster.Spec, have map[string][]byte, p *cluster.Problems) {
	if k.UserDataMax == 0 {
		return
	}
	sum := func(field string, n int) (total int) {
		for i := range n {
			total += len(have[at(field, i)])
		}
		return total
	}
	all := sum("spec.talos.patches", len(s.Talos.Patches))
	check := func(field string, base int, labels map[string]string, patches int) {
		size := base + all + sum(field+".patches", patches)
		for key, value := range labels {
			size += len(key) + len(value) + len("  : \n")
		}
		if k.UserDataGzip {
			size = size * gzipShare / 100
		}
		if size > k.UserDataMax {
			p.Add(field+".patches", "make a machine config of about %d bytes, and %s takes %d", size, k.Name, k.UserDataMax)
		}
	}
	check("spec.controlPlane", controlPlaneConfig, s.ControlPlane.Labels, len(s.ControlPlane.Patches))
	for i, g := range s.NodeGroups {
		check(at("spec.nodeGroups", i), workerConfig, g.Labels, len(g.Patches))
	}
}

// gzipShare is how much of a machine config gzip leaves, in percent: rendered ones
// have 39 to 44, and patches may hold more keys; a test holds this to be enough.
const gzipShare = 60

// patched reports whether a config patch could bring manifests along.
func patched(s cluster.Spec) bool { return len(s.Talos.Patches)+len(s.ControlPlane.Patches) > 0 }

// encodedSize is the size of what a workflow would be started with. Bodies on
// the caller's side are replaced by references before that.
func encodedSize(c cluster.Cluster, whole bool) int {
	if !whole {
		c = c.Normalise()
		for _, s := range c.Sources() {
			*s.Source = cluster.Source{Ref: cluster.BodyPrefix(c.Metadata.Name) + digestPlace, SHA256: digestPlace}
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return 0 // strings and numbers always encode
	}
	return len(b)
}

// digestPlace is as long as a digest.
var digestPlace = strings.Repeat("0", 64)

func at(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
