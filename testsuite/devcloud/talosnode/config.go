package talosnode

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/state"

	"github.com/siderolabs/crypto/x509"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// cloudMode is the runtime mode of Talos on clouds: already installed, not a
// container.
type cloudMode struct{}

func (cloudMode) String() string        { return "cloud" }
func (cloudMode) RequiresInstall() bool { return false }
func (cloudMode) InContainer() bool     { return false }

// nodeConfig is a machine config and what the stand-in needs of it, read once.
type nodeConfig struct {
	provider config.Provider
	raw      []byte
	warnings []string

	machineType  machine.Type
	controlPlane bool

	machineCA   *x509.PEMEncodedCertificateAndKey // with a key on control planes
	acceptedCAs []byte                            // PEM
	token       string
	certSANs    []string

	clusterID, clusterSecret string
	clusterName              string
	endpoint                 string
	endpointHost             string
	discovery                bool

	etcdCA *x509.PEMEncodedCertificateAndKey

	kubernetes *kubernetesConfig // nil when left out

	hostname         string // from a HostnameConfig; else the metadata's
	timeSyncDisabled bool
	firewall         firewall
}

// kubernetesConfig is the part of the config about Kubernetes.
type kubernetesConfig struct {
	caCert, caKey             []byte
	aggregatorCert, aggregKey []byte
	serviceAccount            []byte
	bootstrapToken            string
	apiServerImage            string
	certSANs                  []string
	podCIDRs, serviceCIDRs    []string
	flannel                   bool
	proxyImage, coreDNSImage  string // empty when it does not run
	dnsAddress                string
	components                []componentConfig

	kubeletImage     string
	labels           map[string]string
	taints           []guest.Taint
	registerWithFQDN bool
	nodeSubnets      []string
	providerID       string
	externalCloud    bool
	skipRegistration bool
}

// errNoUserData says that the metadata service has nothing for Talos.
var errNoUserData = errors.New("no machine configuration was found")

// decodeUserData undoes what the OpenStack platform of Talos undoes, and
// refuses what it refuses.
func decodeUserData(data []byte, handling string) ([]byte, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("%w: user data is empty", errNoUserData)
	}

	// The metadata service of an image imported with extend-cloud-config
	// answers with its own cloud-config around what the user sent.
	if handling == "extend-cloud-config" {
		return nil, fmt.Errorf("%w: user data starts with #cloud-config (the image was imported with user_data_handling extend-cloud-config)", errNoUserData)
	}

	if http.DetectContentType(data) == "application/x-gzip" {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("user data: %w", err)
		}

		if data, err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("user data: %w", err)
		}
	}

	if bytes.HasPrefix(data, []byte("#cloud-config")) {
		return nil, fmt.Errorf("%w: user data starts with #cloud-config", errNoUserData)
	}

	return data, nil
}

// errIncomplete says that a config is valid but has no v1alpha1 document, so
// that the machine stays in maintenance.
var errIncomplete = errors.New("machine configuration is incomplete: no v1alpha1 document")

// parseConfig loads and validates a machine config as a node of the given
// version does.
func parseConfig(ctx context.Context, raw []byte, version talosVersion, st state.State) (*nodeConfig, error) {
	provider, err := configloader.NewFromBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("failed to parse config: %w", err)
	}

	if err := version.knows(provider); err != nil {
		return nil, err
	}

	warnings, err := provider.ValidateAsClient(cloudMode{})
	if err != nil {
		return nil, fmt.Errorf("failed to validate config: %w", err)
	}

	runtimeWarnings, err := provider.ValidateAtRuntime(ctx, st, cloudMode{})
	if err != nil {
		return nil, fmt.Errorf("failed to validate config: %w", err)
	}

	if !provider.CompleteForBoot() {
		return nil, errIncomplete
	}

	c := &nodeConfig{provider: provider, raw: raw, warnings: append(warnings, runtimeWarnings...)}
	c.readMachine()
	c.readCluster()

	return c, c.readKubernetes()
}

func (c *nodeConfig) readMachine() {
	m := c.provider.Machine()
	security := m.Security()

	c.machineType = m.Type()
	c.controlPlane = c.machineType.IsControlPlane()
	c.machineCA = security.IssuingCA()
	c.token = security.Token()
	c.certSANs = security.CertSANs()

	if c.machineCA != nil {
		c.acceptedCAs = append(c.acceptedCAs, c.machineCA.Crt...)
	}

	for _, ca := range security.AcceptedCAs() {
		c.acceptedCAs = append(append(c.acceptedCAs, '\n'), ca.Crt...)
	}

	c.firewall = newFirewall(c.provider.NetworkRules())

	if h := c.provider.NetworkHostnameConfig(); h != nil {
		c.hostname = h.Hostname()
	}

	if t := c.provider.NetworkTimeSyncConfig(); t != nil {
		c.timeSyncDisabled = t.Disabled()
	}
}

func (c *nodeConfig) readCluster() {
	if id := c.provider.DiscoveryIdentityConfig(); id != nil {
		c.clusterID, c.clusterSecret = id.ClusterID(), id.ClusterSecret()
	}

	c.discovery = len(c.provider.DiscoveryServiceConfigs()) > 0

	if cluster := c.provider.Cluster(); cluster != nil && c.controlPlane {
		if etcd := cluster.Etcd(); etcd != nil {
			if ca := etcd.CA(); ca != nil && len(ca.Crt) > 0 {
				c.etcdCA = ca
			}
		}
	}

	if k := c.provider.K8sClusterConfig(); k != nil {
		c.clusterName = k.ClusterName()

		if u := k.ClusterEndpoint(); u != nil {
			c.endpoint, c.endpointHost = u.String(), u.Hostname()
		}
	}
}

func (c *nodeConfig) readKubernetes() error {
	kubelet := c.provider.K8sKubeletConfig()
	if kubelet == nil {
		return nil
	}

	k := &kubernetesConfig{kubeletImage: kubelet.Image(), labels: map[string]string{}}

	if id, ok := kubelet.ExtraConfig()["providerID"].(string); ok {
		k.providerID = id
	}

	if cluster := c.provider.Cluster(); cluster != nil {
		k.bootstrapToken = cluster.Token().ID() + "." + cluster.Token().Secret()
		k.externalCloud = cluster.ExternalCloudProvider() != nil && cluster.ExternalCloudProvider().Enabled()
	}

	if node := c.provider.K8sNodeConfig(); node != nil {
		k.labels = maps.Clone(node.Labels())
		k.registerWithFQDN = node.RegisterWithFQDN()
		k.skipRegistration = node.SkipNodeRegistration()
		k.taints = append(taintsOf(node.Taints()), registerTaints(kubelet.ExtraConfig())...)

		if ip := node.NodeIP(); ip != nil {
			k.nodeSubnets = ip.ValidSubnets()
		}
	}

	if ca := c.provider.K8sAPIServerCAConfig(); ca != nil {
		for _, accepted := range ca.AcceptedCAs() {
			k.caCert = append(append(k.caCert, accepted.Crt...), '\n')
		}

		if own := ca.IssuingCA(); own != nil {
			k.caCert, k.caKey = own.Crt, own.Key
		}
	}

	if c.controlPlane {
		c.readControlPlane(k)
	}

	c.kubernetes = k

	return nil
}

func (c *nodeConfig) readControlPlane(k *kubernetesConfig) {
	if ca := c.provider.K8sAggregatorCAConfig(); ca != nil && ca.IssuingCA() != nil {
		k.aggregatorCert, k.aggregKey = ca.IssuingCA().Crt, ca.IssuingCA().Key
	}

	if sa := c.provider.K8sServiceAccountConfig(); sa != nil && sa.IssuingKey() != nil {
		k.serviceAccount = sa.IssuingKey().Key
	}

	if api := c.provider.K8sAPIServerConfig(); api != nil {
		k.apiServerImage = api.Image()
		k.certSANs = api.CertSANs()
	}

	if network := c.provider.K8sNetworkConfig(); network != nil {
		k.podCIDRs = prefixStrings(network.PodCIDRs())
		k.serviceCIDRs = prefixStrings(network.ServiceCIDRs())
	}

	k.flannel = c.provider.K8sFlannelCNIConfig() != nil
	c.readManifests(k)
	c.readComponents(k)
}

func prefixStrings(prefixes []netip.Prefix) []string {
	out := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		out = append(out, p.String())
	}

	return out
}

// registerTaints are those that the kubelet itself registers with, as its own
// configuration names them.
func registerTaints(extra map[string]any) []guest.Taint {
	list, ok := extra["registerWithTaints"].([]any)
	if !ok {
		return nil
	}

	var out []guest.Taint

	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			text := func(key string) string { s, _ := m[key].(string); return s }
			out = append(out, guest.Taint{Key: text("key"), Value: text("value"), Effect: text("effect")})
		}
	}

	return out
}

// taintsOf splits "value:Effect", the form of the config.
func taintsOf(in map[string]string) []guest.Taint {
	out := make([]guest.Taint, 0, len(in))

	for _, key := range slices.Sorted(maps.Keys(in)) {
		value, effect, found := strings.Cut(in[key], ":")
		if !found {
			value, effect = "", value
		}

		out = append(out, guest.Taint{Key: key, Value: value, Effect: effect})
	}

	return out
}

// imageTag is the version in an image reference: "v1.36.3" of
// "registry.k8s.io/kube-apiserver:v1.36.3@sha256:…".
func imageTag(image string) string {
	image, _, _ = strings.Cut(image, "@")

	i := strings.LastIndexByte(image, ':')
	if i < 0 || strings.ContainsRune(image[i:], '/') {
		return ""
	}

	return image[i+1:]
}
