package layers

import "strings"

// module is the module path of the product.
const module = "github.com/ichor-project/ichor"

// layer is one row of the import table.
type layer struct {
	// path of the package below the module. A trailing "/..." takes the packages
	// below it as well; the first row that matches decides.
	path string
	// may lists what the row may import of this module, in the notation of path.
	may []string
	// never lists import path prefixes that it may not reach, not even through
	// others.
	never []string
}

// Outside systems, as import path prefixes.
var (
	temporal   = []string{"go.temporal.io/"}
	kubernetes = []string{"k8s.io/"}
	talos      = []string{"github.com/siderolabs/"}
	clouds     = []string{"github.com/aws/aws-sdk-go-v2", "github.com/cloudscale-ch/"}
	stores     = []string{"gocloud.dev"}
)

// below is what a package of level 2 finds under itself.
var below = []string{"internal/catalog", "internal/cloud", "internal/cluster", "internal/fault", "internal/plan", "internal/secrets"}

// table is section 2 of the architecture. A product package without a row fails
// the test: whoever adds one decides where it belongs.
var table = []layer{
	{path: "internal/cluster", never: join(temporal, kubernetes, talos, clouds, stores)},
	{path: "docs/reference", never: join(temporal, kubernetes, talos, clouds, stores)},
	{path: "internal/fault", never: join(temporal, kubernetes, talos, clouds, stores)},

	{path: "internal/secrets", never: join(temporal, kubernetes, talos, clouds, stores)},
	{
		path:  "internal/plan",
		may:   []string{"internal/cluster", "internal/fault"},
		never: join(temporal, kubernetes, talos, clouds, stores),
	},
	{path: "internal/catalog", may: []string{"internal/cluster"}, never: join(temporal, kubernetes, talos, clouds, stores)},
	{
		path:  "internal/cloud",
		may:   []string{"internal/cluster", "internal/fault", "internal/secrets"},
		never: join(temporal, kubernetes, talos, clouds, stores),
	},

	{
		path:  "internal/cloud/registry",
		may:   []string{"internal/catalog", "internal/cloud/...", "internal/cluster", "internal/fault", "internal/secrets"},
		never: join(temporal, talos),
	},
	{path: "internal/cloud/cloudtest", may: below, never: join(temporal, kubernetes, talos, clouds, stores)},
	{path: "internal/cloud/exchange", may: below, never: join(temporal, kubernetes, talos, clouds, stores)},
	{path: "internal/cloud/inventory", may: below, never: join(temporal, kubernetes, talos, clouds, stores)},
	{path: "internal/cloud/...", may: append([]string{"internal/cloud/exchange", "internal/cloud/inventory"}, below...), never: join(temporal, kubernetes, talos)},
	// What people copy from obeys what they will have to.
	{path: "examples/nimbus", may: append([]string{"internal/cloud/exchange"}, below...), never: join(temporal, kubernetes, talos, clouds, stores)},
	{path: "internal/talos", may: below, never: join(temporal, clouds)},
	{path: "internal/kube", may: below, never: join(temporal, clouds)},
	{path: "internal/check", may: below, never: join(temporal, clouds)},
	{
		path:  "internal/compare",
		may:   []string{"internal/catalog", "internal/check", "internal/cluster", "internal/fault", "internal/secrets", "internal/talos"},
		never: join(temporal, clouds, stores),
	},
	{path: "internal/secrets/...", may: below, never: join(temporal, talos)},
	{path: "internal/codec", may: []string{"internal/fault", "internal/secrets"}, never: join(kubernetes, talos, clouds, stores)},
	{path: "internal/telemetry", may: []string{"internal/fault", "internal/secrets"}, never: join(kubernetes, talos, clouds, stores)},
	{path: "internal/externalgrpc/...", never: join(temporal, talos, clouds, stores)},
	{path: "activities", may: below, never: join(kubernetes, talos, clouds, stores)},

	{
		path:  "workflows",
		may:   []string{"activities", "internal/cloud", "internal/cluster", "internal/fault", "internal/plan"},
		never: join(kubernetes, talos, clouds, stores),
	},

	{path: "worker", may: []string{"activities", "workflows", "internal/..."}},
	{
		path: "starter",
		may: []string{
			"docs/reference", "workflows", "internal/catalog", "internal/check", "internal/cloud", "internal/cluster", "internal/codec", "internal/compare", "internal/fault",
			"internal/plan", "internal/secrets/...", "internal/talos", "internal/telemetry",
		},
		// The store may speak S3 and KMS, so only the services of machines are named.
		never: []string{"github.com/aws/aws-sdk-go-v2/service/ec2", "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancing", "github.com/cloudscale-ch/"},
	},
	{
		path: "grpcprovider/standalone",
		may:  []string{"activities", "workflows", "internal/catalog", "internal/cluster", "internal/fault", "internal/secrets/..."},
		// Its files name clouds and clusters; it reaches none of them.
		never: append([]string{"github.com/cloudscale-ch/"}, join(kubernetes, talos)...),
	},
	{
		path:  "grpcprovider/snapshot",
		may:   []string{"grpcprovider/provider", "workflows", "internal/cloud", "internal/cluster", "internal/fault", "internal/plan"},
		never: join(kubernetes, talos, clouds, stores),
	},
	{path: "grpcprovider/provider", may: []string{"workflows"}, never: join(kubernetes, talos, clouds, stores)},
	{
		path:  "grpcprovider/server",
		may:   []string{"grpcprovider/provider", "workflows", "internal/catalog", "internal/cluster", "internal/externalgrpc", "internal/fault"},
		never: join(talos, clouds, stores),
	},
	{path: "grpcprovider/mtls", may: []string{"internal/fault"}, never: join(temporal, kubernetes, talos, clouds, stores)},
	{
		path: "grpcprovider",
		may: []string{
			"grpcprovider/...", "workflows", "internal/cloud/...", "internal/cluster", "internal/codec", "internal/externalgrpc/...",
			"internal/fault", "internal/secrets/...", "internal/telemetry",
		},
		never: talos,
	},
}

// rowOf returns the row that decides about a package of the module.
func rowOf(path string) (layer, bool) {
	for _, row := range table {
		if matches(row.path, path) {
			return row, true
		}
	}
	return layer{}, false
}

// allows reports whether the row may import a package of the module.
func (l layer) allows(path string) bool {
	for _, m := range l.may {
		if matches(m, path) {
			return true
		}
	}
	return false
}

// matches reports whether path is pattern or, for a pattern that ends in
// "/...", lies below it.
func matches(pattern, path string) bool {
	base, tree := strings.CutSuffix(pattern, "/...")
	return path == base || tree && strings.HasPrefix(path, base+"/")
}

// join concatenates lists of prefixes.
func join(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
