package e2e

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
)

// zonesOf counts a group's machines by zone.
func (s *system) zonesOf(name, group string) map[string]int {
	s.t.Helper()
	out := map[string]int{}
	for _, m := range s.machinesOf(name) {
		if m.Tags[cluster.TagGroup] == group {
			out[m.Zone]++
		}
	}
	return out
}

// wantZones demands that the machines of each group are spread over the zones that
// the spec gives it, but for the group that one of them has no capacity for.
func (s *system) wantZones(spec cluster.Cluster) {
	s.t.Helper()
	wanted := map[string][]string{cluster.ControlPlaneGroup: spec.Spec.ControlPlane.Zones}
	for _, g := range spec.Spec.NodeGroups {
		wanted[g.Name] = g.Zones
	}
	for group, zones := range wanted {
		if len(zones) == 0 {
			zones = []string{spec.Spec.Cloud.Zone}
		}
		got, all := s.zonesOf(spec.Metadata.Name, group), 0
		for _, n := range got {
			all += n
		}
		if group == chosen.ScarceGroup {
			continue
		}
		for _, zone := range zones {
			all -= got[zone]
			for _, other := range zones {
				if got[zone] > got[other]+1 {
					s.t.Errorf("group %s is not balanced: %v", group, got)
				}
			}
		}
		if all != 0 {
			s.t.Errorf("group %s is to be in %v, and is in %v", group, zones, got)
		}
	}
}

// withoutCapacity grows and shrinks a group of which one zone takes no machine.
func (s *system) withoutCapacity(name string, nodes int, groups map[string]int) {
	group, ready := chosen.ScarceGroup, name+"/"+chosen.ScarceGroup
	_, zone, _ := strings.Cut(chosen.Scarce, "@")
	was := groups[group]
	look := func(size int) {
		s.t.Helper()
		s.wantNodes(name, nodes-was+size)
		if in := s.zonesOf(name, group); in[zone] != 0 {
			s.t.Errorf("machines in %v, and %s has no capacity", in, zone)
		}
	}
	look(was)
	if s.refused() == 0 {
		s.t.Error("no machine was refused for lack of capacity")
	}
	for _, size := range []int{was + 2, was - 1, was} {
		n := strconv.Itoa(size)
		s.ichor(codeOK, []string{ready + ": " + n + " of " + n + " ready"}, "scale", ready, "--to", n, "--wait")
		look(size)
	}
}

// refused counts the machines that the cloud did not make when it was asked.
func (s *system) refused() int {
	s.t.Helper()
	var requests []struct {
		Method, Path string
		Status       int
	}
	if err := s.Cloud(s.t.Context(), http.MethodGet, "_devcloud/requests", nil, &requests); err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, r := range requests {
		if r.Method+" "+r.Path == chosen.Routes.Machine && r.Status == http.StatusBadRequest {
			n++
		}
	}
	return n
}
