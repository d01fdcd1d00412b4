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
	everywhere := func(field, flavor, zone string, zones []string) {
		if len(zones) == 0 {
			zones = []string{zone}
		}
		for _, z := range zones {
			check(field, flavor, z)
		}
	}
	arch := func(flavor string) string {
		if i := slices.Index(names, flavor); i >= 0 {
			return flavors[i].Arch
		}
		return ""
	}
	everywhere("spec.controlPlane.flavor", spec.ControlPlane.Flavor, spec.ControlPlane.Zone, spec.ControlPlane.Zones)
	for i, g := range spec.NodeGroups {
		everywhere(fmt.Sprintf("spec.nodeGroups[%d].flavor", i), g.Flavor, g.Zone, g.Zones)
		out = append(out, lacksDriver(i, g, spec, flavors)...)
		for j, a := range g.Alternatives {
			field, flavor := fmt.Sprintf("spec.nodeGroups[%d].alternatives[%d].flavor", i, j), cmp.Or(a.Flavor, g.Flavor)
			check(field, flavor, cmp.Or(a.Zone, g.Zone))
			if have, want := arch(flavor), arch(g.Flavor); have != "" && want != "" && have != want {
				out = append(out, fmt.Sprintf("%s: flavor %q is %s and the group's own is %s: one group has one image", field, flavor, have, want))
			}
		}
	}
	return out
}

// lacksDriver names a group whose machines have GPUs that nothing in its image
// drives. Of a schematic only the Image Factory knows what is in it.
func lacksDriver(i int, g cluster.NodeGroup, spec cluster.Spec, flavors []cloud.Flavor) problemList {
	f := slices.IndexFunc(flavors, func(f cloud.Flavor) bool { return f.Name == g.Flavor })
	os := spec.TalosOf(g.Name)
	if f < 0 || flavors[f].GPUs == 0 || !strings.Contains(strings.ToLower(flavors[f].GPUName), "nvidia") || g.Image != "" || os.Schematic != "" {
		return nil
	}
	has := func(part string) bool {
		return slices.ContainsFunc(os.Extensions, func(e string) bool { return strings.Contains(e, part) })
	}
	if has("nvidia") && has("nvidia-container-toolkit") && (has("nvidia-open-gpu-kernel-modules") || has("nonfree-kmod-nvidia")) {
		return nil
	}
	return problemList{fmt.Sprintf("spec.nodeGroups[%d].extensions: flavor %q has %s, and the image has no driver for it: "+
		"list siderolabs/nvidia-open-gpu-kernel-modules-lts and siderolabs/nvidia-container-toolkit-lts, or another pair of them", i, g.Flavor, flavors[f].GPUName)}
}

func refOf(s cluster.KubeSecret) secrets.Ref { return secrets.Ref(s.From) }
