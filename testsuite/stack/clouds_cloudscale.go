package stack

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
)

var cloudscale = Cloud{
	Name: "cloudscale",
	Demo: "demo.yaml", Autoscale: "autoscale.yaml", Upgrade: "upgrade/demo.yaml",
	Zones: []string{"lpg1"}, Region: "lpg",
	Creates: []Create{
		{Route: "POST /v1/networks"},
		{Route: "POST /v1/subnets"},
		{Route: "POST /v1/custom-images/import"},
		{Route: "POST /v1/load-balancers"},
		{Route: "POST /v1/load-balancers/pools"},
		{Route: "POST /v1/load-balancers/listeners"},
		{Route: "POST /v1/load-balancers/health-monitors"},
		{Route: "POST /v1/server-groups"},
		{Route: "POST /v1/servers", Contains: "-cp-"},
		{Route: "POST /v1/load-balancers/pools/*/members"},
		{Route: "POST /v1/servers", Contains: "-general-"},
	},
	Routes: Routes{
		Machine: "POST /v1/servers", Import: "POST /v1/custom-images/import", LoadBalancer: "POST /v1/load-balancers",
		DeleteMachine: "DELETE /v1/servers/*", All: "* /v1/**",
	},
	Named: []string{
		Machines, "server groups", Networks, Subnets, LoadBalancers, "load balancer pools", "load balancer listeners",
		"load balancer health monitors", Images,
	},

	providerID: func(m Resource) string { return "cloudscale://" + m.ID },
	unauthorized: func(string) map[string]any {
		return map[string]any{"status": http.StatusUnauthorized, "body": `{"detail": "Invalid token."}`}
	},
	machine: "_devcloud/servers/",
	act: func(ctx context.Context, s *Stack, id string, what Action) error {
		path := "v1/servers/" + id
		switch what {
		case Delete:
			return s.Cloud(ctx, http.MethodDelete, path, nil, nil)
		case PowerOff:
			return s.Cloud(ctx, http.MethodPost, path+"/stop", nil, nil)
		default:
			return s.Cloud(ctx, http.MethodPost, path+"/start", nil, nil)
		}
	},
	twin: func(ctx context.Context, s *Stack, of Resource, name string, tags map[string]string) (string, error) {
		var made struct{ UUID string }
		err := s.Cloud(ctx, http.MethodPost, "v1/servers", map[string]any{
			"name": name, "flavor": of.Detail, "image": of.Tags[cluster.TagImage], "zone": of.Zone, "tags": tags,
		}, &made)
		return made.UUID, err
	},
	scarce: func(context.Context, *Stack, string) error {
		return errors.New("machines of a cluster live in one zone here")
	},
	credentials: func(secret func(string) string) (string, map[string]string) {
		return "env:CLOUDSCALE_API_TOKEN", map[string]string{"CLOUDSCALE_API_TOKEN": secret("the credentials")}
	},
	accept:  func(context.Context, *Stack, map[string]string) error { return nil }, // every token opens the account
	ground:  Ground{Credentials: "env:CLOUDSCALE_API_TOKEN", Zone: "rma1", Image: "flatcar", Flavor: "flex-8-2", TakesOver: true},
	prepare: func(context.Context, *Stack, *Ground) error { return nil },
	born:    "server_create", gone: "server_is_gone",
	kinds: func(kind string, r *Resource) bool {
		r.Kind = strings.ReplaceAll(strings.TrimPrefix(kind, "custom_"), "_", " ")
		switch kind {
		case "servers":
			r.Kind = Machines
		case "custom_image_imports":
			// One that has ended is no more than a log of itself.
			r.Kind = Imports
			return r.State == "started" || r.State == "in_progress"
		}
		return true
	},
}
