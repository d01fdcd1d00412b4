package nimbus_test

import (
	"context"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/examples/nimbus"
	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/registry"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
)

// row is what is known of the cloud before anybody is asked.
var row = catalog.Cloud{
	Name: nimbus.Name, Zone: "north", Zones: []string{"north", "south"}, ZonalNetworks: true,
	UserDataMax: 32 << 10, MinDiskGiB: 10,
	Marks: catalog.Marks{Platform: "nocloud", ProviderID: "nimbus://MACHINE"},
}

// spec is one for Nimbus that differs from another cloud's where it must.
func spec(t *testing.T) cluster.Cluster {
	t.Helper()
	text, err := os.ReadFile("../demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := cluster.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	c.Spec.Cloud = cluster.Cloud{Provider: nimbus.Name, Zone: "north", Credentials: "env:NIMBUS_TOKEN"}
	return c
}

func TestRegistryOpensIt(t *testing.T) {
	clouds := registry.Clouds()
	clouds[nimbus.Name] = registry.Cloud{
		Cloud: row,
		Open: func(_ context.Context, a registry.Account, o registry.Options) (cloud.Provider, error) {
			return nimbus.New(nimbus.Options{
				Token: a.Credentials, BaseURL: "https://api.nimbus.example", Rate: o.Rate, Waits: o.Waits, Observe: a.Observe,
			})
		},
	}
	accounts := registry.New(registry.Options{Clouds: clouds, Secrets: token{}})
	p, account, err := accounts.Open(t.Context(), spec(t).Spec.Cloud)
	if err != nil || account == "" {
		t.Fatalf("account %q, %v", account, err)
	}
	if diff := cmp.Diff(nimbus.DefaultWaits().In(p.Capabilities()), p.Capabilities()); diff != "" {
		t.Errorf("waits (-the cloud's own +opened with):\n%s", diff)
	}
	caps := p.Capabilities()
	have := []any{caps.UserDataMax, caps.UserDataGzip, caps.SpreadLimit, caps.TalosPlatform}
	if diff := cmp.Diff(have, []any{row.UserDataMax, row.UserDataGzip, row.SpreadLimit, row.Marks.Platform}); diff != "" {
		t.Errorf("row (-provider +catalog):\n%s", diff)
	}
}

// token resolves every reference.
type token struct{}

func (token) Resolve(context.Context, secrets.Ref) (secrets.Value, error) {
	return secrets.NewValue([]byte("a-token")), nil
}

func TestSpecsMayNameIt(t *testing.T) {
	known := append(catalog.Clouds(), row)
	if p := check.Spec(spec(t), check.Options{Clouds: known}); len(p) > 0 {
		t.Errorf("a good spec: %v", p)
	}
	if p := check.Spec(spec(t), check.Options{}); !p.Has("spec.cloud.provider") {
		t.Errorf("a cloud that nobody registered: %v", p)
	}
	elsewhere := spec(t)
	elsewhere.Spec.Cloud.Zone = "east"
	if p := check.Spec(elsewhere, check.Options{Clouds: known}); !p.Has("spec.cloud.zone") {
		t.Errorf("a zone that there is not: %v", p)
	}
}
