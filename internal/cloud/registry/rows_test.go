package registry_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

const intro = `# Clouds side by side

The same spec gives the same cluster on every cloud, but for ` + "`spec.cloud`" + `, flavors, and what
this page shows. It is made of what the providers and the validation say of themselves:
` + "`go generate ./internal/cloud/registry`" + ` writes it, and a test fails when it is out of date.
[` + "`ichor compare`" + `](cli.md) shows for two specs in what their clusters differ. What a node costs in
requests is [measured](benchmarks.md). [Another cloud](../guides/add-a-cloud.md) is a folder away.
`

// row is a fact of each cloud. What it means is the same for all of them, so that no
// sentence about one of them can become untrue.
type row struct {
	about string // fields of cloud.Capabilities, catalog.Cloud and catalog.Marks
	title string
	means string
	say   func(t *testing.T, c column) string
}

type section struct {
	title string
	rows  []row
}

// modes are what makes it safe to repeat a create.
var modes = map[cloud.IdempotencyMode]string{
	cloud.NativeToken: "a client token",
	cloud.UniqueName:  "unique names",
	cloud.TagScan:     "looking by tag",
}

var sections = []section{{"In the spec", []row{
	{"Zone", "`spec.cloud.zone`, for example", "", func(_ *testing.T, c column) string { return "`" + c.zone + "`" }},
	{"Zones ZoneForm Regional RegionOf", "Zones", "others are refused", func(_ *testing.T, c column) string {
		if c.limits.Regional {
			return "those of one region, `" + c.limits.RegionOf(c.zone) + "` for `" + c.zone + "`"
		}
		return words(c.limits.Zones)
	}},
	{"ZonalNetworks", "Machines of one cluster", "a private network reaches as far", func(_ *testing.T, c column) string {
		if c.limits.ZonalNetworks {
			return "in one zone"
		}
		return "in all zones of a region"
	}},
	{"Chain", "`spec.cloud.credentials`", "references that the worker resolves; with `chain:` nothing is stored", func(_ *testing.T, c column) string {
		return references(c.limits.Chain)
	}},
	{"NetworkBits", "`spec.network.cidr`", "of a network that Ichor makes", func(_ *testing.T, c column) string { return c.ranges() }},
	{"ZoneBits ZoneTaken", "… and its parts", "machines of a zone share one", func(_ *testing.T, c column) string {
		if c.limits.ZoneBits == 0 {
			return "one"
		}
		return fmt.Sprintf("%d, one for each zone; %d addresses of each are taken", 1<<c.limits.ZoneBits, c.limits.ZoneTaken)
	}},
	{"MinDiskGiB", "`diskGiB`, at least", "", func(_ *testing.T, c column) string { return gib(c.limits.MinDiskGiB) }},
	{"Unbootable", "Flavors that are refused", "Talos does not boot on those whose name begins so", func(_ *testing.T, c column) string {
		return words(c.limits.Unbootable)
	}},
	{"UserDataMax UserDataGzip", "Largest machine config", "it is the machine's user data; keep patches short", func(_ *testing.T, c column) string {
		if c.caps.UserDataGzip {
			return kib(c.caps.UserDataMax) + " when compressed"
		}
		return kib(c.caps.UserDataMax)
	}},
	{"NeedsController", "Cloud controller manager in `manifests`", "without it nodes stay tainted", func(_ *testing.T, c column) string {
		if c.limits.NeedsController {
			return "required"
		}
		return "not required"
	}},
}}, {"Machines", []row{
	{"Idempotency", "Never made twice by", "see [never twice](../explanation/never-twice.md)", func(_ *testing.T, c column) string { return modes[c.caps.Idempotency] }},
	{"", "After a create without an answer", "how long until the next one may be sent, when nothing was made", func(_ *testing.T, c column) string {
		if c.caps.Idempotency == cloud.NativeToken {
			return "the same is sent again"
		}
		return "absence is proven for " + span(c.caps.Settle+c.caps.AbsenceWindow)
	}},
	{"SpreadLimit", "Spread over hosts", "groups with `antiAffinity` get as many as they need", func(t *testing.T, c column) string { return c.placement(t) }},
	{"SpreadAtOnce", "… whose machines are made", "", func(_ *testing.T, c column) string {
		if c.caps.SpreadAtOnce {
			return "together"
		}
		return "one after the other: they would race for its places"
	}},
	{"Spot", "For less, but may be taken back", "", func(_ *testing.T, c column) string { return yes(c.caps.Spot) }},
	{"ProviderIDPrefix ProviderID", "Provider ID", "`spec.providerID` of the node", func(t *testing.T, c column) string {
		if !strings.HasPrefix(c.limits.Marks.ProviderID, c.caps.ProviderIDPrefix) {
			t.Errorf("%s: %q does not begin with %q", c.limits.Name, c.limits.Marks.ProviderID, c.caps.ProviderIDPrefix)
		}
		return "`" + c.limits.Marks.ProviderID + "`"
	}},
	{"NodesByProviderID", "The cloud controller finds a node by", "Ichor tells the node its provider ID where the name is not enough", func(_ *testing.T, c column) string {
		if c.caps.NodesByProviderID {
			return "its provider ID"
		}
		return "its name"
	}},
	{"", "Cloud controller of the examples", "", func(_ *testing.T, c column) string { return "`" + cmp.Or(c.controller, "none") + "`" }},
	{"Controllers", "Images of the vendor's controllers", "their names hold this", func(_ *testing.T, c column) string { return words(c.limits.Marks.Controllers) }},
	{"Secrets", "Secrets that those read", "as namespace/name", func(_ *testing.T, c column) string { return words(c.limits.Marks.Secrets) }},
	{"Firewall", "Traffic is filtered by", "", func(_ *testing.T, c column) string {
		if c.caps.Firewall {
			return "the cloud"
		}
		return "the nodes: Talos ingress rules"
	}},
	{"", "Labels that follow from the zone", "in the autoscaler's template of an empty group", func(_ *testing.T, c column) string {
		labels, ok := c.provider.(cloud.NodeLabels)
		if !ok {
			return "none"
		}
		var out []string
		for _, l := range labels.NodeLabels(c.zone) {
			out = append(out, l.Key+"="+l.Value)
		}
		return words(out)
	}},
	{"Adopts", "Machines made by others can be adopted", "for [clusters built by other means](../guides/standalone.md)", func(_ *testing.T, c column) string {
		return yes(c.limits.Adopts)
	}},
	{"Params", "`params` of their groups", "what machines of such clusters carry, in the cloud's words", func(_ *testing.T, c column) string {
		return words(c.limits.Params)
	}},
}}, {"Images", []row{
	{"TalosPlatform Platform ImageFormat", "From the Image Factory", "", func(_ *testing.T, c column) string {
		return "`" + c.caps.TalosPlatform + "-ARCH." + c.caps.ImageFormat + "`"
	}},
	{"", "Imported by Ichor", "once for each schematic, version and place, shared by all clusters of the account", func(_ *testing.T, c column) string {
		_, ok := c.provider.(cloud.Images)
		return yes(ok)
	}},
}}, {"Network and endpoint", []row{
	{"", "Made for a cluster, in this order", "each is a step of its own", func(t *testing.T, c column) string {
		return c.kinds(t, func(*cloud.InfrastructureSpec) {})
	}},
	{"", "… in a network that you bring along", "what you bring is checked and never deleted", func(t *testing.T, c column) string {
		return c.kinds(t, func(s *cloud.InfrastructureSpec) {
			s.CIDR, s.Existing = "", &cluster.ExistingNetwork{Network: "network-1", Subnet: "subnet-1", CIDR: "10.0.0.0/20"}
		})
	}},
	{"", "… with an endpoint of your own", "", func(t *testing.T, c column) string {
		return c.kinds(t, func(s *cloud.InfrastructureSpec) { s.LoadBalancer = nil })
	}},
	{"NamedEndpoint", "The load balancer has", "", func(_ *testing.T, c column) string {
		if c.limits.Marks.NamedEndpoint {
			return "a DNS name"
		}
		return "an address"
	}},
	{"OpenEndpoint", "The load balancer admits", "TLS and client certificates guard it in any case", func(_ *testing.T, c column) string {
		if c.limits.OpenEndpoint {
			return "everybody"
		}
		return "`spec.network.adminCIDRs` and the nodes"
	}},
	{"Resources", "Never made twice by", "", func(_ *testing.T, c column) string { return modes[cmp.Or(c.caps.Resources, c.caps.Idempotency)] }},
}}, {"Requests", []row{
	{"", "To list the machines of a cluster", "and one more for each further page", func(t *testing.T, c column) string { return c.listing(t) }},
	{"", "To look for machines, many at the same time", "waits for machines cost no more than that", func(t *testing.T, c column) string { return c.together(t) }},
}}, {"Waits", []row{
	{"Settle", "`--settle`", "how long a create without an answer is left alone before a look counts", func(_ *testing.T, c column) string { return span(c.caps.Settle) }},
	{"AbsenceWindow", "`--absence-window`", "least time between the looks that prove absence", func(_ *testing.T, c column) string { return span(c.caps.AbsenceWindow) }},
	{"CreateTimeout", "`--create-timeout`", "bound of one create request", func(_ *testing.T, c column) string { return span(c.caps.CreateTimeout) }},
	{"PostWindow", "`--post-window`", "how late in an attempt its create request may still be sent", func(_ *testing.T, c column) string { return span(c.caps.PostWindow) }},
	{"Poll", "`--cloud-poll`", "time between two looks at something that takes a while", func(_ *testing.T, c column) string { return span(c.caps.Poll) }},
}}}
