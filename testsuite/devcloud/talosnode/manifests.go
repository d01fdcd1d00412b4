package talosnode

import (
	"strings"

	"github.com/cosi-project/runtime/pkg/state"
	"sigs.k8s.io/yaml"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
)

// manifest is one resource of what a control plane renders for Kubernetes.
type manifest struct {
	id      string
	objects []map[string]any
}

// coreDNS is what a release of Talos brings by itself, as flannel is.
//
// Source: constants of pkg/machinery v1.13.5, v1.13.9 and v1.14.1.
func (v talosVersion) coreDNS() string {
	switch {
	case v.atLeast(14):
		return constants.DefaultCoreDNSVersion
	case v.tag == "v1.13.9":
		return "v1.14.6"
	}

	return "v1.14.2"
}

func (v talosVersion) flannel() string {
	switch {
	case v.atLeast(14):
		return constants.FlannelVersion
	case v.tag == "v1.13.9":
		return "0.28.8"
	}

	return "v0.28.5"
}

// readManifests reads out of the config what of the manifests depends on it.
func (c *nodeConfig) readManifests(k *kubernetesConfig) {
	if p := c.provider.K8sProxyConfig(); p != nil && p.Enabled() {
		k.proxyImage = p.Image()
	}

	if d := c.provider.K8sCoreDNSConfig(); d != nil && d.Enabled() {
		k.coreDNSImage = d.Image()
	}

	if n := c.provider.K8sNetworkConfig(); n != nil {
		for _, a := range k8s.DNSServiceAddrs(n.ServiceCIDRs()) {
			k.dnsAddress = a.String()

			break
		}
	}
}

// manifests are what a control plane of this config renders for Kubernetes, in
// the order and under the names in which Talos does, with less in each object.
// Inline and external manifests of the config are left out.
func (s *session) manifests(c *nodeConfig) []manifest {
	k := c.kubernetes
	if k == nil || !c.controlPlane {
		return nil
	}

	fill := strings.NewReplacer("PROXY_IMAGE", k.proxyImage, "DNS_IMAGE", s.coreDNSImage(k), "DNS_ADDRESS", k.dnsAddress,
		"FLANNEL_IMAGE", "ghcr.io/siderolabs/flannel:"+s.version.flannel(), "POD_CIDR", strings.Join(k.podCIDRs, ","), "ENDPOINT", c.endpoint)

	var out []manifest

	add := func(id, text string) {
		m := manifest{id: id}

		for doc := range strings.SplitSeq(text, "\n---\n") {
			var object map[string]any

			if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
				s.node.console.onChange("manifests", "%s: %v", id, err)
			} else if len(object) > 0 {
				m.objects = append(m.objects, object)
			}
		}

		out = append(out, m)
	}

	if id, secret, ok := strings.Cut(k.bootstrapToken, "."); ok {
		add("00-kubelet-bootstrapping-token", strings.NewReplacer("TOKEN_ID", id, "TOKEN_SECRET", secret).Replace(tokenManifest))
	}

	add("01-csr-roles", csrManifest)

	if k.flannel {
		add("05-flannel", fill.Replace(flannelManifest))
	}

	if k.proxyImage != "" {
		add("10-kube-proxy", fill.Replace(proxyManifest))
	}

	if k.coreDNSImage != "" {
		add("11-core-dns", fill.Replace(coreDNSManifest))
		add("11-core-dns-svc", fill.Replace(coreDNSServiceManifest))
	}

	add("11-kube-config-in-cluster", fill.Replace(kubeconfigManifest))

	return out
}

// coreDNSImage is the release's own unless the config names another. Machinery
// answers with the default of its own release.
func (s *session) coreDNSImage(k *kubernetesConfig) string {
	if k.coreDNSImage == constants.CoreDNSImage+":"+constants.DefaultCoreDNSVersion {
		return constants.CoreDNSImage + ":" + s.version.coreDNS()
	}

	return k.coreDNSImage
}

// publishManifests publishes what the node renders now and takes back what it no
// longer does.
func (s *session) publishManifests(c *nodeConfig) {
	rendered := map[string]bool{}

	for _, m := range s.manifests(c) {
		rendered[m.id] = true

		publish(s, k8s.NewManifest(k8s.ControlPlaneNamespaceName, m.id), func(r *k8s.Manifest) {
			r.TypedSpec().Items = nil
			for _, o := range m.objects {
				r.TypedSpec().Items = append(r.TypedSpec().Items, k8s.SingleManifest{Object: o})
			}
		})
	}

	list, err := s.cosi.List(s.ctx, k8s.NewManifest(k8s.ControlPlaneNamespaceName, "").Metadata())
	if err != nil {
		return
	}

	for _, r := range list.Items {
		if rendered[r.Metadata().ID()] {
			continue
		}

		if err := s.cosi.Destroy(s.ctx, r.Metadata()); err != nil && !state.IsNotFoundError(err) && s.ctx.Err() == nil {
			s.node.console.onChange("resources", "%v", err)
		}
	}
}

// objects are all that the node renders, flat.
func (s *session) objects(c *nodeConfig) []map[string]any {
	var out []map[string]any
	for _, m := range s.manifests(c) {
		out = append(out, m.objects...)
	}

	return out
}
