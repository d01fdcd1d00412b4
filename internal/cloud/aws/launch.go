package aws

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Parameters of machines (MachineSpec.Params, Resource.Machine).
const (
	paramSecurityGroup = "securityGroup"
	// paramProfile is what machines may do in the account, by name or ARN; the
	// other one is for control planes where that differs.
	paramProfile             = "instanceProfile"
	paramControlPlaneProfile = "controlPlaneInstanceProfile"
)

// rootDevice is that of Talos' images.
const rootDevice = "/dev/xvda"

// hopLimit lets pods that are not in the host's network reach the metadata
// service, as the vendor's controllers do.
const hopLimit = 2

// clientToken is what the cloud deduplicates a create by: a digest of whose
// machine it is and of the attempt, and of nothing else. So whatever may change
// between a create and its repetition (the spec, rendered user data, this
// package), the cloud never makes a second machine of it: it answers with the
// first one, or refuses since the requests differ. It has the 64 characters that
// are allowed.
func clientToken(s cloud.MachineSpec) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{"ichor machine", s.Owner.Cluster.UID, s.ID, strconv.Itoa(s.Attempt)}, "\x00")))
	return hex.EncodeToString(sum[:])
}

func machineParam(s cloud.MachineSpec, key string) string {
	i := slices.IndexFunc(s.Params, func(t cluster.Tag) bool { return t.Key == key })
	if i < 0 {
		return ""
	}
	return s.Params[i].Value
}

// checkMachine refuses what cannot work before anything is sent.
func (p *Provider) checkMachine(req cloud.EnsureMachineRequest) error {
	s := req.Spec
	op := "create instance " + s.Name
	if err := req.Valid(op, p.Capabilities()); err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(s.Flavor, "t2."):
		return fault.New(fault.Invalid, op, "Talos does not boot on %s; use t3 or newer", s.Flavor)
	case len(s.Subnets) > 1:
		return fault.New(fault.Internal, op, "a machine has one interface, and %d subnets were given", len(s.Subnets))
	case len(s.Networks) > 0:
		return fault.New(fault.Invalid, op, "machines of this cloud are attached to subnets, not to networks")
	}
	return checkTags(op, s.Tags)
}

// fingerprint tells whether a machine was asked for with the same place and size.
func fingerprint(s cloud.MachineSpec) string {
	return cloud.Fingerprint("machine", s.Zone, s.Flavor, s.ImageID)
}

func machineTags(s cloud.MachineSpec) map[string]string {
	tags := identity(s.Owner, s.Name)
	for _, t := range s.Tags {
		tags[t.Key] = t.Value
	}
	tags[cluster.TagMachine] = s.ID
	tags[cluster.TagRole] = string(s.Role)
	tags[cloud.TagRequest] = fingerprint(s)
	return tags
}

// launchRequest is the one request that makes a machine. Tags go onto its volume
// and interface, too: people, bills and policies tell by them whose they are.
func launchRequest(s cloud.MachineSpec, userData []byte) *ec2.RunInstancesInput {
	tags := machineTags(s)
	in := &ec2.RunInstancesInput{
		MinCount: sdk.Int32(1), MaxCount: sdk.Int32(1), ClientToken: sdk.String(clientToken(s)),
		ImageId: sdk.String(s.ImageID), InstanceType: types.InstanceType(s.Flavor),
		UserData: sdk.String(base64.StdEncoding.EncodeToString(userData)),
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensStateRequired,
			HttpPutResponseHopLimit: sdk.Int32(hopLimit), InstanceMetadataTags: types.InstanceMetadataTagsStateDisabled,
		},
		TagSpecifications: []types.TagSpecification{
			tagsAt(types.ResourceTypeInstance, tags), tagsAt(types.ResourceTypeVolume, tags), tagsAt(types.ResourceTypeNetworkInterface, tags),
		},
	}
	if s.DiskGiB > 0 {
		in.BlockDeviceMappings = []types.BlockDeviceMapping{{
			DeviceName: sdk.String(rootDevice),
			Ebs: &types.EbsBlockDevice{
				VolumeSize: sdk.Int32(int32(s.DiskGiB)), VolumeType: types.VolumeTypeGp3, DeleteOnTermination: sdk.Bool(true),
			},
		}}
	}
	if s.Zone != "" || s.PlacementGroup != "" {
		in.Placement = &types.Placement{AvailabilityZone: optional(s.Zone), GroupName: optional(s.PlacementGroup)}
	}
	if len(s.Subnets) > 0 {
		in.SubnetId = sdk.String(s.Subnets[0])
	}
	if g := machineParam(s, paramSecurityGroup); g != "" {
		in.SecurityGroupIds = strings.Split(g, ",")
	}
	in.IamInstanceProfile = instanceProfile(s)
	if s.Spot {
		// It ends when the cloud wants it back, and is not asked for again: the
		// group replaces it, in another zone or flavor if need be.
		in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{
			MarketType: types.MarketTypeSpot,
			SpotOptions: &types.SpotMarketOptions{
				SpotInstanceType: types.SpotInstanceTypeOneTime, InstanceInterruptionBehavior: types.InstanceInterruptionBehaviorTerminate,
			},
		}
	}
	return in
}

func instanceProfile(s cloud.MachineSpec) *types.IamInstanceProfileSpecification {
	profile := machineParam(s, paramProfile)
	if own := machineParam(s, paramControlPlaneProfile); own != "" && s.Role == cluster.RoleControlPlane {
		profile = own
	}
	switch {
	case profile == "":
		return nil
	case strings.HasPrefix(profile, "arn:"):
		return &types.IamInstanceProfileSpecification{Arn: sdk.String(profile)}
	}
	return &types.IamInstanceProfileSpecification{Name: sdk.String(profile)}
}

// optional is nil for nothing: the API refuses empty values.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
