package registry

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

// TestCatalogIsThatOfTheProviders holds what is said of clouds without asking them to
// what their providers say of themselves.
func TestCatalogIsThatOfTheProviders(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	accounts := New(Options{Secrets: values{"env:TOKEN": "a-token"}})
	names := []string{}
	for _, k := range catalog.Clouds() {
		names = append(names, k.Name)
		account := cluster.Cloud{Provider: k.Name, Zone: k.Zone, Credentials: "env:TOKEN"}
		if k.Chain {
			account.Credentials = "chain:"
		}
		p, _, err := accounts.Open(t.Context(), account)
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
			continue
		}
		caps := p.Capabilities()
		_, adopts := p.(cloud.Adopter)
		if diff := cmp.Diff(
			[]any{caps.UserDataMax, caps.UserDataGzip, caps.SpreadLimit, caps.Spot, caps.TalosPlatform, adopts},
			[]any{k.UserDataMax, k.UserDataGzip, k.SpreadLimit, k.Spot, k.Marks.Platform, k.Adopts},
		); diff != "" {
			t.Errorf("%s (-provider +catalog):\n%s", k.Name, diff)
		}
		if !strings.HasPrefix(k.Marks.ProviderID, caps.ProviderIDPrefix) {
			t.Errorf("%s: the catalog has provider IDs like %s, the provider's begin with %s", k.Name, k.Marks.ProviderID, caps.ProviderIDPrefix)
		}
		var have []cluster.Tag
		if l, ok := p.(cloud.NodeLabels); ok {
			have = l.NodeLabels(k.Zone)
		}
		if diff := cmp.Diff(k.NodeLabels(k.Zone), have); diff != "" {
			t.Errorf("%s: labels by zone (-catalog +provider):\n%s", k.Name, diff)
		}
	}
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(Clouds()))); diff != "" {
		t.Errorf("clouds (-catalog, sorted +registry):\n%s", diff)
	}
}
