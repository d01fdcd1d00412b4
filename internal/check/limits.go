package check

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Cloud is what a spec is checked against before the account is asked.
type Cloud struct {
	// Name is the value of spec.cloud.provider.
	Name string
	// Zones lists the zones; empty when they are not known in advance.
	Zones []string
	// ZonalNetworks says that a private network exists in one zone only, so
	// that all machines of a cluster must be there.
	ZonalNetworks bool
	// RegionOf returns the region of a zone, or empty for what is none. Where it is
	// set, all zones of a cluster must have the same.
	RegionOf func(zone string) string
	// UserDataMax is the largest machine config in bytes; 0 for no limit.
	UserDataMax int
	// UserDataGzip says that UserDataMax is of what gzip makes of it.
	UserDataGzip bool
	// MinDiskGiB is the smallest root volume.
	MinDiskGiB int
	// SpreadLimit is how many machines one placement group holds; 0 when the
	// cloud has none. Larger groups of machines get several.
	SpreadLimit int
	// NetworkBits are the shortest and the longest prefix of a network that Ichor
	// makes; zero for any.
	NetworkBits [2]int
	// ZoneBits are by how many bits such a network is split for zones, and ZoneTaken
	// how many addresses of each part are not for machines.
	ZoneBits, ZoneTaken int
	// OpenEndpoint says that the cloud's load balancer admits everybody, whatever
	// spec.network.adminCIDRs are.
	OpenEndpoint bool
	// Spot says that the cloud rents machines that it may take back.
	Spot bool
	// Unbootable are prefixes of flavors on which Talos does not boot.
	Unbootable []string
	// Chain says that credentials may come from the worker's surroundings, as
	// "chain:" or "chain:PROFILE".
	Chain bool
	// NeedsController says that nodes stay tainted until a cloud controller
	// manager has run, and that nothing installs it by itself.
	NeedsController bool
	// Marks are in what its clusters differ from the same ones elsewhere.
	Marks Marks
}

// Clouds returns the clouds that Ichor knows, sorted by name.
func Clouds() []Cloud {
	return []Cloud{{
		// User data: the limit of an instance, before base64 (EC2, instance user
		// data). Spread: a placement group's in one zone (EC2, placement strategies).
		// Network: a VPC is at most a /16, and an eighth of it, a zone's subnet, at
		// least a /28, of which five addresses are reserved (VPC, CIDR blocks) and one
		// is the load balancer's. Disk: the size of the published images. Flavors:
		// Talos on AWS, prerequisites.
		Name: "aws", RegionOf: regionOf, UserDataMax: 16 << 10, UserDataGzip: true, MinDiskGiB: 10, SpreadLimit: 7,
		NetworkBits: [2]int{16, 25}, ZoneBits: 3, ZoneTaken: 6, OpenEndpoint: true, Spot: true, Unbootable: []string{"t2."}, Chain: true, NeedsController: true,
		Marks: awsMarks(),
	}, {
		// Zones: GET /v1/regions. Disk: smallest volume_size_gb of a server.
		// User data: no limit is documented; OpenStack, which cloudscale.ch runs,
		// takes 64 KiB in base64, and a margin is kept. Spread: the limit of a
		// server group.
		Name: "cloudscale", Zones: []string{"lpg1", "rma1"}, ZonalNetworks: true,
		UserDataMax: 32 << 10, MinDiskGiB: 10, SpreadLimit: 4, NeedsController: true,
		Marks: cloudscaleMarks(),
	}}
}

// Sizes of machine configs without patches, in bytes: rendered ones with ingress
// documents for a dozen and a half ranges have 10.8 and 4.5 KB; a test holds
// these to be enough.
const (
	controlPlaneConfig = 12 << 10
	workerConfig       = 6 << 10
)

// CloudNamed returns the cloud of a provider name among those that Ichor knows.
func CloudNamed(name string) (Cloud, bool) {
	for _, k := range Clouds() {
		if k.Name == name {
			return k, true
		}
	}
	return Cloud{}, false
}

func limits(c cluster.Cluster, opt Options, p *cluster.Problems) {
	clouds := opt.Clouds
	if clouds == nil {
		clouds = Clouds()
	}
	s := c.Spec
	i := slices.IndexFunc(clouds, func(k Cloud) bool { return k.Name == s.Cloud.Provider })
	if i < 0 {
		if s.Cloud.Provider != "" {
			names := make([]string, len(clouds))
			for i, k := range clouds {
				names[i] = k.Name
			}
			p.Add("spec.cloud.provider", "is not a cloud that this Ichor knows; it knows %s", strings.Join(names, ", "))
		}
		return
	}
	k := clouds[i]
	k.zones(s, p)
	k.network(s, p)
	k.machines(s, p)
	k.userData(s, opt.Bodies, p)
	if k.NeedsController && len(s.Manifests) == 0 && !patched(s) {
		p.Add("spec.manifests", "must bring a cloud controller manager: without it nodes on %s keep the taint uninitialized and never become ready", k.Name)
	}
}

func (k Cloud) zones(s cluster.Spec, p *cluster.Problems) {
	check := func(field, zone string) {
		switch {
		case zone == "":
		case len(k.Zones) > 0 && !slices.Contains(k.Zones, zone):
			p.Add(field, "%s has no such zone; it has %s", k.Name, strings.Join(k.Zones, ", "))
		case k.ZonalNetworks && zone != s.Cloud.Zone && s.Cloud.Zone != "":
			p.Add(field, "must be the zone of the cluster: private networks of %s do not span zones", k.Name)
		case k.RegionOf != nil && k.RegionOf(zone) == "":
			p.Add(field, "%q is not a zone of %s, which are named like eu-central-1a", zone, k.Name)
		case k.RegionOf != nil && k.RegionOf(s.Cloud.Zone) != "" && k.RegionOf(zone) != k.RegionOf(s.Cloud.Zone):
			p.Add(field, "is in the region %s, and the cluster in %s: one cluster lies in one region", k.RegionOf(zone), k.RegionOf(s.Cloud.Zone))
		}
	}
	check("spec.cloud.zone", s.Cloud.Zone)
	check("spec.controlPlane.zone", s.ControlPlane.Zone)
	for i, z := range s.ControlPlane.Zones {
		check(at("spec.controlPlane.zones", i), z)
	}
	for i, g := range s.NodeGroups {
		check(at("spec.nodeGroups", i)+".zone", g.Zone)
		for j, z := range g.Zones {
			check(at(at("spec.nodeGroups", i)+".zones", j), z)
		}
		for j, a := range g.Alternatives {
			field := at(at("spec.nodeGroups", i)+".alternatives", j)
			k.alternative(field+".zone", a.Zone, s.Cloud.Zone, p)
			if k.RegionOf != nil {
				check(field+".zone", a.Zone)
			}
			// The group's own zone is known to the spec's own validation.
			if (a.Flavor == "" || a.Flavor == g.Flavor) && g.Zone == "" && a.Zone != "" && a.Zone == s.Cloud.Zone {
				p.Add(field, "is what the group asks for anyway")
			}
		}
	}
}

// alternative checks where a group's machines may be made otherwise. All
// machines of a group are in the cluster's private network.
func (k Cloud) alternative(field, zone, home string, p *cluster.Problems) {
	switch {
	case zone == "":
	case len(k.Zones) > 0 && !slices.Contains(k.Zones, zone):
		p.Add(field, "%s has no such zone; it has %s", k.Name, strings.Join(k.Zones, ", "))
	case k.ZonalNetworks && home != "" && zone != home:
		p.Add(field, "must be the zone of the cluster: the group uses the cluster's private network, and private networks of %s do not span zones; give another flavor instead", k.Name)
	}
}

// regionOf is a zone's name without the letter at its end. Local and wavelength
// zones are named in another way, and have not what a cluster needs.
func regionOf(zone string) string {
	m := awsZone.FindStringSubmatch(zone)
	if m == nil {
		return ""
	}
	return m[1]
}

var awsZone = regexp.MustCompile(`^([a-z]{2}(?:-[a-z]+)+-[0-9]+)[a-z]$`)

// network checks the one that is made; the spec's own validation knows its form.
func (k Cloud) network(s cluster.Spec, p *cluster.Problems) {
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

func (k Cloud) machines(s cluster.Spec, p *cluster.Problems) {
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
func (k Cloud) userData(s cluster.Spec, have map[string][]byte, p *cluster.Problems) {
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
