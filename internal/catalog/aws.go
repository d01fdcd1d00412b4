package catalog

import "regexp"

// AWS is Amazon EC2. Sources: user data, the limit of an instance, before base64
// (EC2, instance user data); spread, a placement group's in one zone (EC2, placement
// strategies); network, a VPC is at most a /16, and an eighth of it, a zone's subnet,
// at least a /28, of which five addresses are reserved (VPC, CIDR blocks) and one is
// the load balancer's; disk, the size of the published images; flavors, Talos on AWS,
// prerequisites. Marks: see [Marks].
func AWS() Cloud {
	return Cloud{
		Name: "aws", Zone: "eu-central-1a", ZoneForm: awsZone, RegionOf: awsRegion.FindString, Regional: true,
		UserDataMax: 16 << 10, UserDataGzip: true, MinDiskGiB: 10, SpreadLimit: 7,
		NetworkBits: [2]int{16, 25}, ZoneBits: 3, ZoneTaken: 6, OpenEndpoint: true, Spot: true,
		Unbootable: []string{"t2."}, Chain: true, NeedsController: true,
		Params: []string{"instanceProfile", "securityGroup"},
		Marks: Marks{
			Platform: "aws", ProviderID: "aws:///ZONE/INSTANCE", NamedEndpoint: true,
			Controllers: []string{"provider-aws/cloud-controller-manager", "aws-ebs-csi-driver"},
			Secrets:     []string{"kube-system/aws-secret"},
		},
	}
}

// All zones begin with their region. Availability Zones, the only ones where Ichor
// makes machines, add one letter; Local Zones (us-west-2-lax-1a) and Wavelength Zones
// (us-east-1-wl1-bos-wlz-1) add more, and have not what a cluster needs. The cloud
// controller labels nodes in any of them with the region in which it runs.
var (
	awsRegion = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}`)
	awsZone   = regexp.MustCompile(awsRegion.String() + `[a-z]$`)
)
