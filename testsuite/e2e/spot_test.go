package e2e

import (
	"encoding/xml"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// pin runs a test on one cloud, whichever the suite runs on, because no other has
// what it is about.
func pin(t *testing.T, name string) {
	t.Helper()
	c, err := stack.Named(name)
	if err == nil {
		err = stack.Missing(bin, c)
	}
	if err != nil {
		t.Fatal(err)
	}
	was := chosen
	chosen = c
	t.Cleanup(func() { chosen = was })
}

// TestSpotIsTakenBack has AWS take back machines of a group that rents them for
// less. The group makes one machine for each, also where the zone has no capacity
// left, and where the answer to the launch is lost.
func TestSpotIsTakenBack(t *testing.T) {
	pin(t, "aws")
	s := start(t, map[string]string{"ICHOR_RECONCILE_INTERVAL": "2s", "ICHOR_DRAIN_DEADLINE": "2s", "ICHOR_GROUP_BACKOFF": "3s"})
	spec, two := s.spec(scaled), 2
	g := &spec.Spec.NodeGroups[0]
	g.Name, g.Spot, g.Min, g.Max, g.Count = "worker", true, 1, 3, &two
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	s.wantGroup(2)
	s.wantSpot()
	before := s.inventory()
	workers := func() map[string]int { return s.zonesOf(scaled, "worker") }
	if diff := cmp.Diff(map[string]int{chosen.Zones[0]: 1, chosen.Zones[1]: 1}, workers()); diff != "" {
		t.Errorf("workers by zone (-want +got):\n%s", diff)
	}

	t.Run("replaced", func(t *testing.T) { s.on(t).takeBack(chosen.Zones[0]) })
	t.Run("the answer to the launch is lost", func(t *testing.T) {
		s := s.on(t)
		s.fault(map[string]any{"route": chosen.Routes.Machine, "effect": "commit-then-drop"})
		s.takeBack(chosen.Zones[0])
		if n := s.clearFaults(); n != 1 {
			t.Errorf("%d answers were lost, want 1", n)
		}
	})
	t.Run("no capacity", func(t *testing.T) {
		s := s.on(t)
		if err := s.SetAWS(t.Context(), "capacity", map[string]int{g.Flavor + "@" + chosen.Zones[0]: 0}); err != nil {
			t.Fatal(err)
		}
		s.takeBack(chosen.Zones[0])
		if diff := cmp.Diff(map[string]int{chosen.Zones[1]: 2}, workers()); diff != "" {
			t.Errorf("workers by zone (-want +got):\n%s", diff)
		}
	})
	s.wantSpot()
	after := s.inventory()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("what the account has by kind, before and after (-before +after):\n%s", diff)
	}
	s.ichor(codeOK, []string{`Cluster "scale" is deleted`, "3 machines"}, "delete", scaled)
	s.wantEmpty()
	if n := s.births(); n != 6 {
		t.Errorf("%d machines were ever made; want 3, and one for each that was taken back", n)
	}
}

// takeBack has the cloud take back the group's machine in a zone, and demands that
// one other takes its place.
func (s *system) takeBack(zone string) {
	s.t.Helper()
	var victim stack.Resource
	for _, m := range s.machines() {
		if m.Zone == zone {
			victim = m
		}
	}
	if victim.ID == "" {
		s.t.Fatalf("no worker is in %s: %v", zone, s.machines())
	}
	made, others := s.births(), s.machines()
	delete(others, chosen.ProviderID(victim))
	if err := s.ByHand(s.t.Context(), victim, stack.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	s.until("another machine is ready", func() bool {
		ready := 0
		for _, m := range s.members() {
			if m.Phase == workflows.MemberReady && m.ProviderID != chosen.ProviderID(victim) {
				ready++
			}
		}
		return ready == 2
	})
	s.wantGroup(2)
	s.wantNodes(scaled, 3)
	if n := s.births() - made; n != 1 {
		s.t.Errorf("%d machines were made for one", n)
	}
	for id := range others {
		if _, ok := s.machines()[id]; !ok {
			s.t.Errorf("%s is gone, and nobody took it back", id)
		}
	}
}

// births counts the machines of the cluster that were ever made.
func (s *system) births() int {
	s.t.Helper()
	b, err := s.Births(s.t.Context(), scaled+"-")
	if err != nil {
		s.t.Fatal(err)
	}
	return b.Created
}

// inventory counts what the account has by kind.
func (s *system) inventory() map[string]int {
	s.t.Helper()
	out := map[string]int{}
	for _, r := range s.account().Resources {
		out[r.Kind]++
	}
	return out
}

// wantSpot demands of AWS itself that the group's machines, and no others, are spot
// instances, and that each machine has the role of its kind.
func (s *system) wantSpot() {
	s.t.Helper()
	raw, err := s.EC2(s.t.Context(), "DescribeInstances", url.Values{"Filter.1.Name": {"instance-state-name"}, "Filter.1.Value.1": {"running"}})
	if err != nil {
		s.t.Fatal(err)
	}
	type instance struct {
		ID        string `xml:"instanceId"`
		Lifecycle string `xml:"instanceLifecycle"`
		Profile   string `xml:"iamInstanceProfile>arn"`
	}
	var got struct {
		Instances []instance `xml:"reservationSet>item>instancesSet>item"`
	}
	if err := xml.Unmarshal(raw, &got); err != nil {
		s.t.Fatal(err)
	}
	want := map[string]instance{}
	for _, m := range s.machinesOf(scaled) {
		i := instance{m.ID, "spot", stack.Profile}
		if m.Tags[cluster.TagGroup] == cluster.ControlPlaneGroup {
			i = instance{m.ID, "", stack.PlaneProfile}
		}
		want[m.ID] = i
	}
	have := map[string]instance{}
	for _, i := range got.Instances {
		_, i.Profile, _ = strings.Cut(i.Profile, ":instance-profile/")
		have[i.ID] = i
	}
	if diff := cmp.Diff(want, have); diff != "" {
		s.t.Errorf("instances (-want +got):\n%s", diff)
	}
}
