package activities

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
)

// problemList is a set of field problems that only the account can know.
type problemList []string

func (p problemList) Error() string { return strings.Join(p, "; ") }

// unknownFlavors names every flavor that the account does not offer in the zone
// where the spec wants it.
func unknownFlavors(spec cluster.Spec, flavors []cloud.Flavor) problemList {
	var out problemList
	names := make([]string, 0, len(flavors))
	for _, f := range flavors {
		names = append(names, f.Name)
	}
	check := func(field, flavor, zone string) {
		if zone == "" {
			zone = spec.Cloud.Zone
		}
		i := slices.Index(names, flavor)
		switch {
		case i < 0:
			out = append(out, fmt.Sprintf("%s: the cloud has no flavor %q; it has %s", field, flavor, strings.Join(names, ", ")))
		case len(flavors[i].Zones) > 0 && !slices.Contains(flavors[i].Zones, zone):
			out = append(out, fmt.Sprintf("%s: flavor %q is not offered in zone %q, only in %s", field, flavor, zone, strings.Join(flavors[i].Zones, ", ")))
		}
	}
	check("spec.controlPlane.flavor", spec.ControlPlane.Flavor, spec.ControlPlane.Zone)
	for i, g := range spec.NodeGroups {
		check(fmt.Sprintf("spec.nodeGroups[%d].flavor", i), g.Flavor, g.Zone)
		for j, a := range g.Alternatives {
			check(fmt.Sprintf("spec.nodeGroups[%d].alternatives[%d].flavor", i, j), cmp.Or(a.Flavor, g.Flavor), cmp.Or(a.Zone, g.Zone))
		}
	}
	return out
}

func refOf(s cluster.KubeSecret) secrets.Ref { return secrets.Ref(s.From) }
