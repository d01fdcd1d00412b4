package talos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/gendata"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// BootstrapManifests returns the Kubernetes objects that a control plane renders
// from its machine config as one stream of documents, in the order in which Talos
// applies them: kube-proxy, CoreDNS, flannel, roles, the token of new kubelets, and
// the inline and external manifests of the config. They are what `talosctl
// upgrade-k8s` synchronises; the node itself only creates what never existed.
// NotYet while the node has rendered none, or not its last config; workers never do.
func (n *Node) BootstrapManifests(ctx context.Context) (secrets.Value, error) {
	const op = "read bootstrap manifests"
	list, err := call(ctx, n, op, repeatable, readTimeout, func(ctx context.Context) (safe.List[*k8s.Manifest], error) {
		return safe.StateList[*k8s.Manifest](ctx, n.api.COSI,
			resource.NewMetadata(k8s.ControlPlaneNamespaceName, k8s.ManifestType, "", resource.VersionUndefined))
	})
	if err != nil {
		return secrets.Value{}, err
	}
	if list.Len() == 0 {
		return secrets.Value{}, fault.New(fault.NotYet, op, "%s has rendered none yet", n.address)
	}
	cfg, err := call(ctx, n, op, repeatable, readTimeout, func(ctx context.Context) (*config.MachineConfig, error) {
		return getResource[*config.MachineConfig](ctx, n, config.ActiveID)
	})
	if err != nil {
		return secrets.Value{}, err
	}
	if cfg != nil && stale(list, imagesOf(cfg.Provider()).Proxy) {
		return secrets.Value{}, fault.New(fault.NotYet, op, "%s has not rendered its last config yet", n.address)
	}
	manifests := slices.SortedFunc(list.All(), func(a, b *k8s.Manifest) int {
		return cmp.Compare(a.Metadata().ID(), b.Metadata().ID())
	})
	var out bytes.Buffer
	for _, m := range manifests {
		for _, item := range m.TypedSpec().Items {
			body, err := json.Marshal(item.Object)
			if err != nil {
				return secrets.Value{}, fault.New(fault.Internal, op, "an object of manifest %s cannot be encoded", m.Metadata().ID())
			}
			out.WriteString("---\n")
			out.Write(body)
			out.WriteByte('\n')
		}
	}
	return secrets.NewValue(out.Bytes()), nil
}

// stale reports whether kube-proxy is rendered with another image than the config
// names: a node answers to a new config before it has rendered it.
func stale(list safe.List[*k8s.Manifest], proxy string) bool {
	for m := range list.All() {
		for _, item := range m.TypedSpec().Items {
			if item.Object["kind"] != "DaemonSet" || inside(item.Object, "metadata", "name") != any(proxyName) {
				continue
			}
			containers, _ := inside(item.Object, "spec", "template", "spec", "containers").([]any)
			for _, c := range containers {
				if inside(c, "name") == any(proxyName) && inside(c, "image") != any(proxy) {
					return true
				}
			}
		}
	}
	return false
}

const proxyName = "kube-proxy"

// inside returns what is at a path in an object, nil when there is nothing.
func inside(v any, path ...string) any {
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// BootstrapImages are the images of what a control plane renders.
type BootstrapImages struct {
	// Proxy is named by the machine config.
	Proxy string
	// CoreDNS and Flannel come with Talos unless the config says otherwise. They
	// are empty where no release but the node's own knows them.
	CoreDNS string
	Flannel string
}

// PredictBootstrapImages says which images a control plane with this config will
// render once it runs a version of Talos. The defaults of a release are known of
// the one that machinery belongs to and of no other: patch releases change them.
// Error: Internal, without content, when the config cannot be read.
func PredictBootstrapImages(machineConfig secrets.Value, version string) (BootstrapImages, error) {
	cfg, err := readConfig(machineConfig.Reveal())
	if err != nil {
		return BootstrapImages{}, err
	}
	out := BootstrapImages{Proxy: imagesOf(cfg).Proxy}
	const coreDNS = constants.CoreDNSImage + ":" + constants.DefaultCoreDNSVersion
	known := strings.TrimSpace(gendata.VersionTag) == version
	if c := cfg.K8sCoreDNSConfig(); c != nil && c.Enabled() && (known || c.Image() != coreDNS) {
		out.CoreDNS = c.Image()
	}
	if known && cfg.K8sFlannelCNIConfig() != nil {
		out.Flannel = flannelImage + ":" + constants.FlannelVersion
	}
	return out, nil
}

// flannelImage is where Talos takes flannel from (its pkg/images).
const flannelImage = "ghcr.io/siderolabs/flannel"
