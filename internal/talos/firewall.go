package talos

import (
	"net/netip"
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	netdoc "github.com/siderolabs/talos/pkg/machinery/config/types/network"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"

	"github.com/ichor-project/ichor/internal/cluster"
)

// network is what the configs need to know of the cluster's networks.
type network struct {
	subnet, pods, services netip.Prefix
	admins, balancers      []netip.Prefix
}

// Ports that machinery has no constant for.
const (
	ciliumVXLANPort = 8472  // Cilium's and Linux' default VXLAN port
	nodePortFirst   = 30000 // kube-apiserver's default --service-node-port-range
	nodePortLast    = 32767
)

// firewall returns the ingress firewall of a role: everything is blocked but
// what is listed here. Not every cloud has security groups, so nodes protect
// themselves. Talos itself lets through loopback, established connections,
// rate-limited ICMP and traffic among pods and services.
//
// Pods appear as a source beside the private network because a pod that talks to
// its own node (CoreDNS to kube-apiserver, metrics-server to the kubelet) comes
// from its pod address. Node ports are open to the private network because the
// firewall acts before kube-proxy: with them closed, no Service of type
// LoadBalancer gets traffic from the cloud's balancer.
func (n network) firewall(role cluster.Role) []config.Document {
	block := netdoc.NewDefaultActionConfigV1Alpha1()
	block.Ingress = nethelpers.DefaultActionBlock
	docs := []config.Document{block}
	rule := func(name string, proto nethelpers.Protocol, ports []netdoc.PortRange, sources ...netip.Prefix) {
		r := netdoc.NewRuleConfigV1Alpha1()
		r.MetaName = name
		r.PortSelector.Protocol = proto
		r.PortSelector.Ports = ports
		for _, p := range unique(sources) {
			r.Ingress = append(r.Ingress, netdoc.IngressRule{Subnet: p})
		}
		docs = append(docs, r)
	}
	inside := n.subnet
	tcp, udp := nethelpers.ProtocolTCP, nethelpers.ProtocolUDP

	rule("ichor-machine-api", tcp, ports(constants.ApidPort), append([]netip.Prefix{inside}, n.admins...)...)
	rule("ichor-kubelet", tcp, ports(constants.KubeletPort), inside, n.pods)
	rule("ichor-vxlan", udp, ports(constants.FlannelDefaultBackendPort, ciliumVXLANPort), inside)
	rule("ichor-nodeport-tcp", tcp, []netdoc.PortRange{{Lo: nodePortFirst, Hi: nodePortLast}}, inside)
	rule("ichor-nodeport-udp", udp, []netdoc.PortRange{{Lo: nodePortFirst, Hi: nodePortLast}}, inside)
	if role != cluster.RoleControlPlane {
		return docs
	}
	rule("ichor-kubernetes-api", tcp, ports(constants.DefaultControlPlanePort),
		slices.Concat([]netip.Prefix{inside, n.pods}, n.balancers, n.admins)...)
	rule("ichor-trustd", tcp, ports(constants.TrustdPort), inside)
	// The HTTP port exists since Talos 1.14. A cluster keeps its rules when it
	// is upgraded to 1.14, so they name it from the start.
	rule("ichor-etcd", tcp, []netdoc.PortRange{
		{Lo: constants.EtcdClientPort, Hi: constants.EtcdPeerPort},
		{Lo: constants.EtcdClientHTTPPort, Hi: constants.EtcdClientHTTPPort},
	}, inside)
	return docs
}

func ports(numbers ...uint16) []netdoc.PortRange {
	out := make([]netdoc.PortRange, 0, len(numbers))
	for _, p := range numbers {
		out = append(out, netdoc.PortRange{Lo: p, Hi: p})
	}
	return out
}

// unique keeps the first of equal prefixes and the order.
func unique(in []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range in {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
