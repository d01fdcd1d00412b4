package aws

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

func infrastructure() cloud.InfrastructureSpec {
	return cloud.InfrastructureSpec{
		Owner: cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}}, Zone: "eu-central-1a",
		Zones: []string{"eu-central-1a", "eu-central-1c"}, CIDR: "10.0.0.0/16", LoadBalancer: &cluster.LoadBalancer{}, AllowedCIDRs: []string{"192.0.2.0/24"},
	}
}

func TestPlanInfrastructure(t *testing.T) {
	p := open(t, &wire{})
	names := func(steps []cloud.Step) (out []string) {
		for _, s := range steps {
			text := s.Kind + " " + s.Key + " " + s.Name
			for _, x := range s.Params {
				text += " " + x.Key + "=" + x.Value
			}
			out = append(out, text)
		}
		return out
	}
	for _, tc := range []struct {
		name string
		edit func(*cloud.InfrastructureSpec)
		want []string
	}{
		{"own network", func(*cloud.InfrastructureSpec) {}, []string{
			"vpc vpc demo cidr=10.0.0.0/16", "internet-gateway gateway demo", "route-table routes demo",
			"subnet subnet/eu-central-1a demo-eu-central-1a cidr=10.0.0.0/19 zone=eu-central-1a",
			"subnet subnet/eu-central-1c demo-eu-central-1c cidr=10.0.64.0/19 zone=eu-central-1c",
			"security-group nodes demo-nodes-" + cloud.Fingerprint("u1")[:8] + " allowedCIDRs=192.0.2.0/24",
			"target-group targets " + endpointName("u1"), "load-balancer lb " + endpointName("u1"), "listener listener " + endpointName("u1"),
		}},
		{"one zone, endpoint given", func(s *cloud.InfrastructureSpec) { s.Zones, s.LoadBalancer = nil, nil }, []string{
			"vpc vpc demo cidr=10.0.0.0/16", "internet-gateway gateway demo", "route-table routes demo",
			"subnet subnet/eu-central-1a demo-eu-central-1a cidr=10.0.0.0/19 zone=eu-central-1a",
			"security-group nodes demo-nodes-" + cloud.Fingerprint("u1")[:8] + " allowedCIDRs=192.0.2.0/24",
		}},
		{"network brought along", func(s *cloud.InfrastructureSpec) {
			s.Zones, s.LoadBalancer, s.CIDR = nil, nil, ""
			s.Existing = &cluster.ExistingNetwork{Network: "vpc-1", Subnet: "subnet-1", CIDR: "10.1.0.0/24"}
		}, []string{
			"vpc vpc vpc-1 existing=vpc-1", "subnet subnet/eu-central-1a subnet-1 cidr=10.1.0.0/24 existing=subnet-1 zone=eu-central-1a",
			"security-group nodes demo-nodes-" + cloud.Fingerprint("u1")[:8] + " allowedCIDRs=192.0.2.0/24",
		}},
	} {
		s := infrastructure()
		tc.edit(&s)
		steps, err := p.PlanInfrastructure(s)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, names(steps)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	for name, edit := range map[string]func(*cloud.InfrastructureSpec){
		"no CIDR":          func(s *cloud.InfrastructureSpec) { s.CIDR = "" },
		"host bits":        func(s *cloud.InfrastructureSpec) { s.CIDR = "10.0.0.1/16" },
		"IPv6":             func(s *cloud.InfrastructureSpec) { s.CIDR = "2001:db8::/56" },
		"too large":        func(s *cloud.InfrastructureSpec) { s.CIDR = "10.0.0.0/15" },
		"too small":        func(s *cloud.InfrastructureSpec) { s.CIDR = "10.0.0.0/26" },
		"another region":   func(s *cloud.InfrastructureSpec) { s.Zones = []string{"eu-west-1a"} },
		"no zone":          func(s *cloud.InfrastructureSpec) { s.Zones = []string{"lpg1"} },
		"a local zone":     func(s *cloud.InfrastructureSpec) { s.Zones = []string{"us-west-2-lax-1a"} },
		"a ninth zone":     func(s *cloud.InfrastructureSpec) { s.Zones = []string{"eu-central-1i"} },
		"balancer's sort":  func(s *cloud.InfrastructureSpec) { s.LoadBalancer.Flavor = "lb-standard" },
		"existing, no VPC": func(s *cloud.InfrastructureSpec) { s.Existing = &cluster.ExistingNetwork{Subnet: "subnet-1"} },
		"existing, two zones": func(s *cloud.InfrastructureSpec) {
			s.Existing = &cluster.ExistingNetwork{Network: "vpc-1", Subnet: "subnet-1", CIDR: "10.0.0.0/24"}
		},
	} {
		s := infrastructure()
		edit(&s)
		if _, err := p.PlanInfrastructure(s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Parts of a network lie inside of it, apart from each other, and are of a size
// that the API takes.
func TestSubnets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(largestNetwork, smallestSubnet-zoneBits).Draw(t, "bits")
		addr := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 255).Draw(t, "b")), byte(rapid.IntRange(0, 255).Draw(t, "c")), byte(rapid.IntRange(0, 255).Draw(t, "d"))})
		network := netip.PrefixFrom(addr, bits).Masked()
		var parts []netip.Prefix
		for letter := 'a'; letter <= 'h'; letter++ {
			part, err := subnetCIDR(network, "eu-central-1"+string(letter))
			if err != nil {
				t.Fatal(err)
			}
			if part != part.Masked() || !inventory.Covers(network.String(), part.String()) || part.Bits() > smallestSubnet {
				t.Errorf("%s of %s", part, network)
			}
			for _, other := range parts {
				if other.Overlaps(part) {
					t.Errorf("%s overlaps %s", part, other)
				}
			}
			parts = append(parts, part)
		}
	})
}

func TestRegionOf(t *testing.T) {
	for zone, want := range map[string]string{
		"eu-central-1a": "eu-central-1", "us-gov-west-1b": "us-gov-west-1", "ap-southeast-10c": "ap-southeast-10",
		"": "", "eu-central-1": "", "lpg1": "", "us-west-2-lax-1a": "", "eu-central-1ab": "",
	} {
		got, err := RegionOf(zone)
		if got != want || (want == "") != fault.Is(err, fault.Invalid) {
			t.Errorf("RegionOf(%q) = %q, %v; want %q", zone, got, err, want)
		}
	}
}

// Names are unique in a region, and short enough.
func TestNames(t *testing.T) {
	p := open(t, &wire{})
	a, err := p.PlacementStep(cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}, Group: "workers"}, "eu-central-1a", 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.PlacementStep(cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u2"}, Group: "workers"}, "eu-central-1b", 1)
	if err != nil {
		t.Fatal(err)
	}
	if a.Name == b.Name || a.Key != b.Key || a.Key != "placement/workers/1" {
		t.Errorf("placement groups %+v, %+v", a, b)
	}
	if n := endpointName("u1"); len(n) > 32 || n == endpointName("u2") || strings.HasPrefix(n, "internal-") {
		t.Errorf("endpoint %q", n)
	}
}
