// Package catalog describes the clouds that Ichor knows, as far as that can be said
// without asking any: what they take and what they call things. It is the one table
// of this; whatever has to know how a cloud differs reads it here. What a cloud does
// is in its provider, which internal/cloud/registry opens.
package catalog

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Cloud is what is known of a cloud before the account is asked.
type Cloud struct {
	// Name is the value of spec.cloud.provider.
	Name string
	// Zone is the name of one, for people.
	Zone string
	// Zones lists the zones; empty when they are not known in advance.
	Zones []string
	// ZoneForm matches the whole name of any zone. Nil where they are listed, or
	// where any name may be one.
	ZoneForm *regexp.Regexp
	// RegionOf returns the region of a zone as the cloud's controller names it in
	// topology.kubernetes.io/region, or empty for a name that has none. Nil where the
	// controller names no regions.
	RegionOf func(zone string) string
	// Regional says that each region is an account of its own: all zones of a
	// cluster are in one.
	Regional bool
	// ZonalNetworks says that a private network exists in one zone only, so
	// that all machines of a cluster must be there.
	ZonalNetworks bool
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
	// Adopts says that machines which others made can become members of a group.
	Adopts bool
	// Params are the cloud's words for what machines of a group may carry, where no
	// cluster's infrastructure says so; sorted.
	Params []string
	// Marks are in what its clusters differ from the same ones elsewhere.
	Marks Marks
}

// Clouds returns the clouds that Ichor knows, sorted by name. To add one is to add it
// here, and to the registry, which opens it.
func Clouds() []Cloud { return []Cloud{AWS(), Cloudscale()} }

// Named returns the cloud of a provider name.
func Named(name string) (Cloud, bool) { return In(Clouds(), name) }

// In returns the cloud of a provider name among some.
func In(clouds []Cloud, name string) (Cloud, bool) {
	if i := slices.IndexFunc(clouds, func(k Cloud) bool { return k.Name == name }); i >= 0 {
		return clouds[i], true
	}
	return Cloud{}, false
}

// Unknown says why a name is not that of one of some clouds.
func Unknown(clouds []Cloud) string {
	names := make([]string, len(clouds))
	for i, k := range clouds {
		names[i] = k.Name
	}
	return "is not a cloud that this Ichor knows; it knows " + strings.Join(names, ", ")
}

// RefuseZone says why Ichor makes no machines in a zone of this name, or is empty.
func (k Cloud) RefuseZone(zone string) string {
	switch {
	case len(k.Zones) > 0 && !slices.Contains(k.Zones, zone):
		return fmt.Sprintf("%s has no such zone; it has %s", k.Name, strings.Join(k.Zones, ", "))
	case k.ZoneForm != nil && !k.ZoneForm.MatchString(zone):
		return fmt.Sprintf("%q is not a zone of %s, which are named like %s", zone, k.Name, k.Zone)
	}
	return ""
}

// NodeLabels are the labels that the cloud's controller gives to nodes by their zone
// alone, sorted by key.
func (k Cloud) NodeLabels(zone string) []cluster.Tag {
	if k.RegionOf == nil || k.RegionOf(zone) == "" {
		return nil
	}
	return []cluster.Tag{{Key: "topology.kubernetes.io/region", Value: k.RegionOf(zone)}}
}
