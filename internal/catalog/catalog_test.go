package catalog_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
)

// TestRowsAreWhole asks of each cloud what everybody who reads the catalog takes for
// granted.
func TestRowsAreWhole(t *testing.T) {
	clouds := catalog.Clouds()
	if !slices.IsSortedFunc(clouds, func(a, b catalog.Cloud) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the clouds are not sorted by name")
	}
	for _, k := range clouds {
		if k.Name == "" || k.Marks.Platform == "" || k.Marks.ProviderID == "" {
			t.Errorf("a cloud without a name, a platform or provider IDs: %+v", k)
		}
		for _, zone := range append([]string{k.Zone}, k.Zones...) {
			if why := k.RefuseZone(zone); zone == "" || why != "" {
				t.Errorf("%s: its zone %q is refused: %s", k.Name, zone, why)
			}
		}
		if k.Regional && (k.RegionOf == nil || k.RegionOf(k.Zone) == "") {
			t.Errorf("%s: regions are accounts, and no zone has one", k.Name)
		}
		if !slices.IsSorted(k.Params) {
			t.Errorf("%s: parameters are not sorted: %v", k.Name, k.Params)
		}
		if got, ok := catalog.Named(k.Name); !ok || got.Name != k.Name {
			t.Errorf("%s is not found by its name", k.Name)
		}
	}
	if k, ok := catalog.Named("elsewhere"); ok || k.Name != "" {
		t.Errorf("a cloud that there is not: %+v", k)
	}
	want := "is not a cloud that this Ichor knows; it knows a, b"
	if got := catalog.Unknown([]catalog.Cloud{{Name: "a"}, {Name: "b"}}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestZones pins what the clouds' controllers make of zones, and which zones Ichor
// takes. The controller of AWS labels nodes with the region in which it runs, whatever
// kind of zone they are in; that of cloudscale.ch takes the number from the zone.
func TestZones(t *testing.T) {
	for _, tc := range []struct {
		cloud, zone, region, refused string
	}{
		{"aws", "eu-central-1a", "eu-central-1", ""},
		{"aws", "us-gov-west-1b", "us-gov-west-1", ""},
		{"aws", "ap-southeast-10c", "ap-southeast-10", ""},
		{"aws", "eusc-de-east-1a", "eusc-de-east-1", ""},
		{"aws", "us-west-2-lax-1a", "us-west-2", `"us-west-2-lax-1a" is not a zone of aws, which are named like eu-central-1a`},
		{"aws", "us-east-1-wl1-bos-wlz-1", "us-east-1", `"us-east-1-wl1-bos-wlz-1" is not a zone of aws, which are named like eu-central-1a`},
		{"aws", "eu-central-1", "eu-central-1", `"eu-central-1" is not a zone of aws, which are named like eu-central-1a`},
		{"aws", "eu-central-1aa", "eu-central-1", `"eu-central-1aa" is not a zone of aws, which are named like eu-central-1a`},
		{"aws", "EU-CENTRAL-1a", "", `"EU-CENTRAL-1a" is not a zone of aws, which are named like eu-central-1a`},
		{"aws", "lpg1", "", `"lpg1" is not a zone of aws, which are named like eu-central-1a`},
		{"aws", "", "", `"" is not a zone of aws, which are named like eu-central-1a`},
		{"cloudscale", "lpg1", "lpg", ""},
		{"cloudscale", "rma1", "rma", ""},
		{"cloudscale", "rma9", "rma", "cloudscale has no such zone; it has lpg1, rma1"},
		{"cloudscale", "", "", "cloudscale has no such zone; it has lpg1, rma1"},
		{"elsewhere", "north", "", ""},
	} {
		k, _ := catalog.Named(tc.cloud)
		var labels []cluster.Tag
		if tc.region != "" {
			labels = []cluster.Tag{{Key: "topology.kubernetes.io/region", Value: tc.region}}
		}
		if diff := cmp.Diff(labels, k.NodeLabels(tc.zone)); diff != "" {
			t.Errorf("labels of zone %q of %s (-want +got):\n%s", tc.zone, tc.cloud, diff)
		}
		if got := k.RefuseZone(tc.zone); got != tc.refused {
			t.Errorf("zone %q of %s: %q, want %q", tc.zone, tc.cloud, got, tc.refused)
		}
	}
}
