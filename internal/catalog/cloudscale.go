package catalog

import "strings"

// Cloudscale is cloudscale.ch. Sources: zones, GET /v1/regions; disk, smallest
// volume_size_gb of a server; spread, the limit of a server group. No limit of user
// data is documented; OpenStack, which cloudscale.ch runs, takes 64 KiB in base64, and
// a margin is kept. A zone is a region and a number, as the cloud controller has it.
// Marks: see [Marks].
func Cloudscale() Cloud {
	return Cloud{
		Name: "cloudscale", Zone: "lpg1", Zones: []string{"lpg1", "rma1"}, ZonalNetworks: true,
		RegionOf:    func(zone string) string { return strings.TrimRight(zone, "0123456789") },
		UserDataMax: 32 << 10, MinDiskGiB: 10, SpreadLimit: 4, NeedsController: true, Adopts: true,
		Marks: Marks{
			Platform: "openstack", ProviderID: "cloudscale://UUID",
			Controllers: []string{"cloudscale-cloud-controller-manager", "cloudscale-csi-plugin"},
			Secrets:     []string{"kube-system/cloudscale"},
			Fields: []MarkedField{{
				"NetworkRuleConfig[ichor-kubernetes-api].ingress", WordEndpoint,
				"a load balancer with an address of its own may connect from it; one that is a DNS name connects from the network of the nodes",
			}},
		},
	}
}
