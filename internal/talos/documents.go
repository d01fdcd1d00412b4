package talos

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	coreconfig "github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/container"
	"github.com/siderolabs/talos/pkg/machinery/config/types/k8s"
	netdoc "github.com/siderolabs/talos/pkg/machinery/config/types/network"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// adapt adds to a generated config what all Ichor clusters have in common.
//
// All nodes wait for an external cloud controller, because Talos never sets a
// provider ID. Kubelet and etcd use the private network only: with public
// addresses too, Talos might choose one of those.
func adapt(cfg coreconfig.Provider, contract *coreconfig.VersionContract, net network, role cluster.Role) (coreconfig.Provider, error) {
	subnets := []string{net.subnet.String()}
	clusterSection := map[string]any{"externalCloudProvider": map[string]any{"enabled": true}}
	if role == cluster.RoleControlPlane {
		clusterSection["etcd"] = map[string]any{"advertisedSubnets": subnets}
	}
	patch := map[string]any{"cluster": clusterSection}
	nodeIP := map[string]any{"validSubnets": subnets}
	if !contract.MultidocKubernetesConfigSupported() {
		patch["machine"] = map[string]any{"kubelet": map[string]any{"nodeIP": nodeIP}}
		return merge(cfg, patch)
	}
	cfg, err := merge(cfg, patch)
	if err != nil {
		return nil, err
	}
	return merge(cfg, map[string]any{"apiVersion": "v1alpha1", "kind": k8s.KubeNodeConfig, "nodeIP": nodeIP})
}

// merge applies one document of our own as a strategic merge patch. Documents
// are written as YAML because the fields of older contracts are deprecated in
// the Go types.
func merge(cfg coreconfig.Provider, doc map[string]any) (coreconfig.Provider, error) {
	body, err := yaml.Marshal(doc)
	if err != nil {
		return nil, err
	}
	patch, err := configloader.NewFromBytes(body, configloader.WithNoValidation())
	if err != nil {
		return nil, err
	}
	return configpatcher.StrategicMerge(cfg, configpatcher.NewStrategicMergePatch(patch))
}

// timeSync asks for plain NTP from the server that Talos uses by default. The
// default of Talos 1.14 adds NTS, whose key exchange needs TCP port 4460 and
// holds up the boot where a network blocks it. Older versions do not know the
// switch.
func timeSync(talos semver.Version) config.Document {
	doc := netdoc.NewTimeSyncConfigV1Alpha1()
	doc.TimeNTP = &netdoc.NTPConfig{Servers: []string{constants.DefaultNTPServer}}
	if talos.GE(semver.Version{Major: 1, Minor: 14}) {
		off := false
		doc.TimeNTP.UseNTS = &off
	}
	return doc
}

// identity is what makes a config that of one node.
type identity struct {
	name   string
	labels map[string]string
	taints []cluster.Taint
	// field is where labels and taints come from.
	field    string
	contract *coreconfig.VersionContract
	// subnet is the private network, set on control planes: they carry the
	// manifest of Flannel.
	subnet netip.Prefix
}

func (req RenderRequest) identity(contract *coreconfig.VersionContract) (identity, error) {
	const op = "render machine config"
	id := identity{name: req.NodeName, contract: contract}
	if !dnsLabel(id.name) {
		return id, fault.New(fault.Invalid, op, "node name %q is not a DNS label: cloud controllers match names without domain", id.name)
	}
	if req.Role == cluster.RoleControlPlane {
		net, err := req.network()
		id.labels, id.field, id.subnet = req.Spec.ControlPlane.Labels, "spec.controlPlane", net.subnet
		return id, err
	}
	i := slices.IndexFunc(req.Spec.NodeGroups, func(g cluster.NodeGroup) bool { return g.Name == req.Group })
	if i < 0 {
		return id, fault.New(fault.Invalid, op, "the spec has no node group %q", req.Group)
	}
	g := req.Spec.NodeGroups[i]
	id.labels, id.taints, id.field = g.Labels, g.Taints, fmt.Sprintf("spec.nodeGroups[%d]", i)
	for _, key := range slices.Sorted(maps.Keys(id.labels)) {
		if restrictedLabel(key) {
			return id, fault.New(fault.Invalid, op, "%s.labels: %q cannot be set by a worker itself: Kubernetes' NodeRestriction refuses it", id.field, key)
		}
	}
	return id, nil
}

// apply writes the identity over whatever patches said about host name: the
// cloud controller finds the node by it.
//
// Taints go into the kubelet's registration, not into Talos' node taints:
// Talos applies those with the kubelet's own credentials, and Kubernetes forbids
// a worker to change its taints once it is registered.
func (id identity) apply(cfg coreconfig.Provider) (coreconfig.Provider, error) {
	cfg, err := withHostname(cfg, id.name)
	if err != nil {
		return nil, err
	}
	if id.subnet.IsValid() {
		if cfg, err = withFlannelInside(cfg, id.contract, id.subnet); err != nil {
			return nil, err
		}
	}
	labels, taints := len(id.labels) > 0, len(id.taints) > 0
	registration := map[string]any{"registerWithTaints": registerWith(id.taints)}
	if !id.contract.MultidocKubernetesConfigSupported() {
		section := map[string]any{}
		if labels {
			section["nodeLabels"] = id.labels
		}
		if taints {
			section["kubelet"] = map[string]any{"extraConfig": registration}
		}
		if len(section) == 0 {
			return cfg, nil
		}
		return merge(cfg, map[string]any{"machine": section})
	}
	if labels {
		if cfg, err = merge(cfg, map[string]any{"apiVersion": "v1alpha1", "kind": k8s.KubeNodeConfig, "labels": id.labels}); err != nil {
			return nil, err
		}
	}
	if taints {
		cfg, err = merge(cfg, map[string]any{"apiVersion": "v1alpha1", "kind": k8s.KubeletConfig, "config": registration})
	}
	return cfg, err
}

// withHostname sets a static host name in place of a generated one; a merge
// would leave both and a node refuses that.
func withHostname(cfg coreconfig.Provider, name string) (coreconfig.Provider, error) {
	docs := cfg.Clone().Documents()
	var host *netdoc.HostnameConfigV1Alpha1
	for _, doc := range docs {
		if h, ok := doc.(*netdoc.HostnameConfigV1Alpha1); ok {
			host = h
		}
	}
	if host == nil {
		host = netdoc.NewHostnameConfigV1Alpha1()
		docs = append(docs, host)
	}
	host.ConfigAuto, host.ConfigHostname = nil, name
	return container.New(docs...)
}

// withFlannelInside keeps Flannel's traffic in the private network; by itself it
// takes the interface of the default route, which is the public one, where the
// firewall drops it. Flannel is pointed at the network's own address: that is
// routed through the private interface and belongs to no node. A patch that
// chooses an interface, or another CNI, is left alone.
func withFlannelInside(cfg coreconfig.Provider, contract *coreconfig.VersionContract, subnet netip.Prefix) (coreconfig.Provider, error) {
	flannel := cfg.K8sFlannelCNIConfig()
	if flannel == nil || slices.ContainsFunc(flannel.ExtraArgs(), func(arg string) bool { return strings.HasPrefix(strings.TrimLeft(arg, "-"), "iface") }) {
		return cfg, nil
	}
	args := []string{"--iface-can-reach=" + subnet.Addr().String()}
	if contract.MultidocKubernetesConfigSupported() {
		return merge(cfg, map[string]any{"apiVersion": "v1alpha1", "kind": k8s.KubeFlannelCNIConfig, "extraArgs": args})
	}
	cni := map[string]any{"name": constants.FlannelCNI, "flannel": map[string]any{"extraArgs": args}}
	return merge(cfg, map[string]any{"cluster": map[string]any{"network": map[string]any{"cni": cni}}})
}

// registerWith writes taints in the form of a kubelet configuration
// (KubeletConfiguration v1beta1, registerWithTaints).
func registerWith(taints []cluster.Taint) []any {
	list := make([]any, 0, len(taints))
	for _, t := range taints {
		item := map[string]any{"key": t.Key, "effect": t.Effect}
		if t.Value != "" {
			item["value"] = t.Value
		}
		list = append(list, item)
	}
	return list
}

// selfSetLabels are the labels in Kubernetes' own domains that a kubelet may
// set on its node (NodeRestriction admission, Kubernetes reference
// documentation).
var selfSetLabels = []string{
	"kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os",
	"beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type",
	"failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
	"topology.kubernetes.io/region", "topology.kubernetes.io/zone",
}

// restrictedLabel reports whether a worker may not set a label on itself.
func restrictedLabel(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok || slices.Contains(selfSetLabels, key) {
		return false
	}
	within := func(parent string) bool { return domain == parent || strings.HasSuffix(domain, "."+parent) }
	if within("kubelet.kubernetes.io") || within("node.kubernetes.io") {
		return false
	}
	return within("kubernetes.io") || within("k8s.io")
}

func dnsLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}
