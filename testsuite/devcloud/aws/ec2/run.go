package ec2

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// disk is the Ebs part of a block device mapping.
type disk struct {
	VolumeSize          int
	VolumeType          string
	SnapshotID          string `query:"SnapshotId"`
	DeleteOnTermination *bool
	Encrypted           *bool
	Iops, Throughput    *int
	KmsKeyID            *string `query:"KmsKeyId"`
}

type mapping struct {
	DeviceName string
	Ebs        disk
}

func (m mapping) spec() account.DeviceSpec {
	return account.DeviceSpec{
		Device: m.DeviceName, Snapshot: m.Ebs.SnapshotID, Type: m.Ebs.VolumeType, SizeGB: m.Ebs.VolumeSize,
		Encrypted: m.Ebs.Encrypted != nil && *m.Ebs.Encrypted, Delete: m.Ebs.DeleteOnTermination,
	}
}

type askedInterface struct {
	DeviceIndex              int
	SubnetID                 string   `query:"SubnetId"`
	Groups                   []string `query:"SecurityGroupId"`
	AssociatePublicIPAddress *bool    `query:"AssociatePublicIpAddress"`
	PrivateIPAddress         string   `query:"PrivateIpAddress"`
	Description              string
	DeleteOnTermination      *bool
}

type askedMetadata struct {
	HTTPTokens              string `query:"HttpTokens"`
	HTTPPutResponseHopLimit *int   `query:"HttpPutResponseHopLimit"`
	HTTPEndpoint            string `query:"HttpEndpoint"`
	HTTPProtocolIPv6        string `query:"HttpProtocolIpv6"`
	InstanceMetadataTags    string
}

type runInstances struct {
	MinCount, MaxCount int
	ImageID            string `query:"ImageId"`
	InstanceType       string
	SubnetID           string   `query:"SubnetId"`
	SecurityGroupID    []string `query:"SecurityGroupId"`
	PrivateIPAddress   string   `query:"PrivateIpAddress"`
	UserData           string
	ClientToken        string
	KeyName            string
	EbsOptimized       *bool
	BlockDeviceMapping []mapping
	NetworkInterface   []askedInterface
	TagSpecification   []tagSpec
	MetadataOptions    askedMetadata
	IamInstanceProfile struct{ Name, Arn string }
	Placement          struct{ AvailabilityZone, GroupName, Tenancy string }
	Monitoring         struct{ Enabled bool }
	MarketOptions      struct {
		MarketType  string
		SpotOptions struct{ SpotInstanceType, MaxPrice, InstanceInterruptionBehavior string }
	} `query:"InstanceMarketOptions"`
	CreditSpecification struct {
		CPUCredits string `query:"CpuCredits"`
	}
	PrivateDNSNameOptions struct {
		HostnameType                                       string
		EnableResourceNameDNSARecord, EnableResourceNameV6 *bool
	} `query:"PrivateDnsNameOptions"`
	DisableAPITermination             *bool `query:"DisableApiTermination"`
	DisableAPIStop                    *bool `query:"DisableApiStop"`
	InstanceInitiatedShutdownBehavior string
}

func (f *face) runInstances(ctx context.Context, form url.Values) (any, error) {
	var in runInstances
	if err := query.Decode(form, &in); err != nil {
		return nil, err
	}
	spec, err := in.spec()
	if err != nil {
		return nil, err
	}
	form.Del("ClientToken")
	spec.Request = form.Encode()
	i, err := f.view(ctx, "RunInstances").Launch(spec)
	if err != nil {
		return nil, err
	}
	return f.reservation(i), nil
}

// spec checks what does not depend on the account.
func (in runInstances) spec() (account.LaunchSpec, error) {
	none := account.LaunchSpec{}
	switch {
	case in.ImageID == "":
		return none, query.Refuse("MissingParameter", "The request must contain the parameter ImageId")
	case in.MinCount < 1 || in.MaxCount < in.MinCount:
		return none, query.Refuse("InvalidParameterValue", "Value (%d) for parameter minCount is invalid.", in.MinCount)
	case in.MaxCount > 1:
		return none, query.Refuse("InvalidParameterValue", "This cloud launches one instance per request, not %d.", in.MaxCount)
	case in.KeyName != "":
		return none, query.Refuse("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", in.KeyName)
	case len(in.NetworkInterface) > 1 || len(in.NetworkInterface) == 1 && in.NetworkInterface[0].DeviceIndex != 0:
		return none, query.Refuse("InvalidParameterValue", "This cloud gives an instance one interface, with device index 0.")
	case len(in.NetworkInterface) == 1 && (in.SubnetID != "" || len(in.SecurityGroupID) > 0 || in.PrivateIPAddress != ""):
		return none, query.Refuse("InvalidParameterCombination",
			"Network interfaces and an instance-level subnet ID, security groups or address may not be specified on the same request")
	case !slices.Contains([]string{"", "spot"}, in.MarketOptions.MarketType):
		return none, query.Refuse("InvalidParameterValue", "Value (%s) for parameter marketType is invalid.", in.MarketOptions.MarketType)
	case in.MarketOptions.SpotOptions.SpotInstanceType == "persistent":
		return none, query.Refuse("InvalidParameterValue", "This cloud knows one-time Spot requests only.")
	case in.MarketOptions.MarketType == "" && in.MarketOptions.SpotOptions.SpotInstanceType+in.MarketOptions.SpotOptions.MaxPrice != "":
		return none, query.Refuse("InvalidParameterCombination", "Spot options need the market type spot")
	}
	data, err := base64.StdEncoding.DecodeString(in.UserData)
	if err != nil {
		return none, query.Refuse("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")
	}
	spec := account.LaunchSpec{
		Type: cmp.Or(in.InstanceType, "m1.small"), Image: in.ImageID, Subnet: in.SubnetID, Placement: in.Placement.GroupName,
		Zone: in.Placement.AvailabilityZone, Groups: in.SecurityGroupID, Private: in.PrivateIPAddress, UserData: data,
		Spot: in.MarketOptions.MarketType == "spot", Monitoring: in.Monitoring.Enabled, Tags: map[string][]account.Tag{},
		ClientToken: in.ClientToken,
	}
	if len(in.NetworkInterface) == 1 {
		n := in.NetworkInterface[0]
		spec.Subnet, spec.Groups, spec.Private, spec.Public, spec.Description = n.SubnetID, n.Groups, n.PrivateIPAddress, n.AssociatePublicIPAddress, n.Description
	}
	for _, m := range in.BlockDeviceMapping {
		spec.Devices = append(spec.Devices, m.spec())
	}
	for _, t := range in.TagSpecification {
		spec.Tags[t.ResourceType] = append(spec.Tags[t.ResourceType], t.Tag...)
	}
	if in.IamInstanceProfile.Name != "" && in.IamInstanceProfile.Arn != "" {
		return none, query.Refuse("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
	}
	_, name, _ := strings.Cut(in.IamInstanceProfile.Arn, ":instance-profile/")
	spec.Profile = cmp.Or(in.IamInstanceProfile.Name, name)
	spec.Metadata, err = in.metadata()
	return spec, err
}

// tagInMetadata is what the key of a tag must look like if instances are to see
// it.
var tagInMetadata = regexp.MustCompile(`^[0-9a-zA-Z\-_+=,.@:]{1,255}$`)

// metadata completes the options with the defaults of images that support the
// second version only.
func (in runInstances) metadata() (account.Metadata, error) {
	m := in.MetadataOptions
	out := account.Metadata{
		Endpoint: cmp.Or(m.HTTPEndpoint, "enabled"), Tokens: cmp.Or(m.HTTPTokens, "required"), Tags: cmp.Or(m.InstanceMetadataTags, "disabled"),
		IPv6: cmp.Or(m.HTTPProtocolIPv6, "disabled"), HopLimit: 2,
	}
	if m.HTTPPutResponseHopLimit != nil {
		out.HopLimit = *m.HTTPPutResponseHopLimit
	}
	if out.HopLimit < 1 || out.HopLimit > 64 {
		return out, query.Refuse("InvalidParameterValue", "Value (%d) for parameter HttpPutResponseHopLimit is invalid.", out.HopLimit)
	}
	for _, o := range []struct {
		value   string
		allowed [2]string
	}{
		{out.Endpoint, [2]string{"enabled", "disabled"}},
		{out.Tokens, [2]string{"required", "optional"}},
		{out.Tags, [2]string{"enabled", "disabled"}},
		{out.IPv6, [2]string{"enabled", "disabled"}},
	} {
		if !slices.Contains(o.allowed[:], o.value) {
			return out, query.Refuse("InvalidParameterValue", "Value (%s) for a metadata option is invalid.", o.value)
		}
	}
	if out.Tags == "enabled" {
		for _, s := range in.TagSpecification {
			for _, t := range s.Tag {
				if s.ResourceType == "instance" && !tagInMetadata.MatchString(t.Key) {
					return out, query.Refuse("InvalidParameterValue", "'%s' is not a valid tag key. Tag keys must match pattern "+
						"([0-9a-zA-Z\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')", t.Key)
				}
			}
		}
	}
	return out, nil
}
