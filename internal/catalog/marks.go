package catalog

import "slices"

// Marks are what a cloud leaves on a cluster, so that the same cluster on two clouds
// differs in them and in nothing else. A cloud declares its own; whatever differs
// beside them between two clouds is a mistake of Ichor. Sources of what is declared:
// the platforms and their names in Talos' machinery (constants, Platform…), the forms
// of provider IDs and the images of controllers in the projects of those.
type Marks struct {
	// Platform is Talos' name of the cloud. Images and installers carry it.
	Platform string
	// ProviderID is the form of node.spec.providerID, which the cloud's controller
	// expects.
	ProviderID string
	// NamedEndpoint says that a load balancer here is reached by a DNS name; else it
	// has an address.
	NamedEndpoint bool
	// Controllers are parts of the names of images that only this cloud's clusters
	// run. Secrets are the Kubernetes Secrets, as namespace/name, that those need.
	Controllers, Secrets []string
	// Fields are those of the nodes that this cloud forces beside those that every
	// cloud does.
	Fields []MarkedField
}

// Forced are the fields of the nodes that the cloud forces.
func (m Marks) Forced() []MarkedField { return slices.Concat(carried(), m.Fields) }

// MarkedField is a field that holds a cloud's word. What else the field holds is the
// same on every cloud.
type MarkedField struct {
	// Field is a path in a machine config: "machine.install.image" in the main
	// document, "KubeClusterConfig.endpoint" or "NetworkRuleConfig[NAME].ingress" in
	// others. "installer" and "schematic" are what upgrades pull.
	Field string
	Word  Word
	// Why is for people.
	Why string
}

// Word is what of a cloud a field holds.
type Word string

// Words of clouds.
const (
	// WordPlatform is Marks.Platform.
	WordPlatform Word = "platform"
	// WordEndpoint is the host of the load balancer.
	WordEndpoint Word = "endpoint"
)

// carried are the fields that hold a platform or an endpoint wherever there is one.
// Paths with a kind of document are those of the config contract v1.14, the others
// those of v1.13.
func carried() []MarkedField {
	const (
		installs = "an installer writes the kernel arguments of the platform that it was made for"
		host     = "the cloud names the load balancer of the Kubernetes API when it makes it"
		cert     = "the certificate is for the host of the load balancer"
	)
	return []MarkedField{
		{"installer", WordPlatform, installs},
		{"machine.install.image", WordPlatform, installs},
		{"cluster.controlPlane.endpoint", WordEndpoint, host},
		{"KubeClusterConfig.endpoint", WordEndpoint, host},
		{"KubeServiceAccountConfig.issuer.issuerURL", WordEndpoint, "service accounts' tokens are issued by the Kubernetes API under its own URL"},
		{"machine.certSANs", WordEndpoint, cert},
		{"cluster.apiServer.certSANs", WordEndpoint, cert},
		{"KubeAPIServerConfig.certExtraSANs", WordEndpoint, cert},
	}
}
