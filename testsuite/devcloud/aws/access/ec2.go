package access

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/iam"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// ec2Form has the parameters of EC2's requests that name resources.
type ec2Form struct {
	TagSpecification []struct {
		ResourceType string
		Tag          []account.Tag
	}
	Tag                []account.Tag
	ResourceID         []string `query:"ResourceId"`
	InstanceID         []string `query:"InstanceId"`
	SecurityGroupID    []string `query:"SecurityGroupId"`
	VpcID              string   `query:"VpcId"`
	SubnetID           string   `query:"SubnetId"`
	GatewayID          string   `query:"InternetGatewayId"`
	RouteTableID       string   `query:"RouteTableId"`
	GroupID            string   `query:"GroupId"`
	GroupName          string
	VolumeID           string `query:"VolumeId"`
	SnapshotID         string `query:"SnapshotId"`
	ImageID            string `query:"ImageId"`
	AssociationID      string `query:"AssociationId"`
	IamInstanceProfile struct{ Name, Arn string }
	Placement          struct{ GroupName string }
	InstanceMarket     struct{ MarketType string } `query:"InstanceMarketOptions"`
	NetworkInterface   []struct {
		SubnetID string   `query:"SubnetId"`
		Groups   []string `query:"SecurityGroupId"`
	}
	BlockDeviceMapping []struct {
		Ebs struct {
			SnapshotID string `query:"SnapshotId"`
		}
	}
}

// made returns the tags that a request gives to what it makes of a kind.
func (f *ec2Form) made(kind string) map[string]string {
	var out []account.Tag
	for _, s := range f.TagSpecification {
		if s.ResourceType == kind {
			out = append(out, s.Tag...)
		}
	}
	return tagMap(out)
}

func (f *ec2Form) snapshots() (out []string) {
	for _, m := range f.BlockDeviceMapping {
		out = append(out, m.Ebs.SnapshotID)
	}
	return out
}

// ec2Action is what an action makes, and on what it acts.
type ec2Action struct {
	makes string
	on    func(*ec2Form) []string
}

func one(field func(*ec2Form) string) func(*ec2Form) []string {
	return func(f *ec2Form) []string { return []string{field(f)} }
}

// Resources that are named by a parameter.
var (
	vpc       = one(func(f *ec2Form) string { return f.VpcID })
	subnet    = one(func(f *ec2Form) string { return f.SubnetID })
	table     = one(func(f *ec2Form) string { return f.RouteTableID })
	group     = one(func(f *ec2Form) string { return f.GroupID })
	instances = func(f *ec2Form) []string { return f.InstanceID }
)

// ec2Actions are all that write, but for those that have a function of their own.
var ec2Actions = map[string]ec2Action{
	"CreateVpc":                     {makes: "vpc"},
	"CreateInternetGateway":         {makes: "internet-gateway"},
	"CreatePlacementGroup":          {makes: "placement-group"},
	"CreateRouteTable":              {makes: "route-table", on: vpc},
	"CreateSecurityGroup":           {makes: "security-group", on: vpc},
	"CreateSubnet":                  {makes: "subnet", on: vpc},
	"RegisterImage":                 {makes: "image", on: (*ec2Form).snapshots},
	"AssociateRouteTable":           {on: func(f *ec2Form) []string { return []string{f.RouteTableID, f.SubnetID} }},
	"AttachInternetGateway":         {on: func(f *ec2Form) []string { return []string{f.GatewayID, f.VpcID} }},
	"DetachInternetGateway":         {on: func(f *ec2Form) []string { return []string{f.GatewayID, f.VpcID} }},
	"AuthorizeSecurityGroupIngress": {on: group},
	"RevokeSecurityGroupIngress":    {on: group},
	"CreateRoute":                   {on: table},
	"DeleteInternetGateway":         {on: one(func(f *ec2Form) string { return f.GatewayID })},
	"DeletePlacementGroup":          {on: one(func(f *ec2Form) string { return f.GroupName })},
	"DeleteRouteTable":              {on: table},
	"DeleteSecurityGroup":           {on: group},
	"DeleteSnapshot":                {on: one(func(f *ec2Form) string { return f.SnapshotID })},
	"DeleteSubnet":                  {on: subnet},
	"DeleteVolume":                  {on: one(func(f *ec2Form) string { return f.VolumeID })},
	"DeleteVpc":                     {on: vpc},
	"DeregisterImage":               {on: one(func(f *ec2Form) string { return f.ImageID })},
	"ModifySubnetAttribute":         {on: subnet},
	"ModifyVpcAttribute":            {on: vpc},
	"StartInstances":                {on: instances},
	"StopInstances":                 {on: instances},
	"TerminateInstances":            {on: instances},
}

// EC2 returns what a request to EC2 needs; nothing if it cannot be read, which the
// service refuses.
func (r Rights) EC2(action string, form url.Values) (out []iam.Need) {
	name := "ec2:" + action
	if reads(action) {
		return anything(name)
	}
	var f ec2Form
	if query.Pick(form, &f) != nil {
		return nil
	}
	switch action {
	case "RunInstances":
		return r.launch(&f)
	case "CreateTags", "DeleteTags":
		for _, id := range f.ResourceID {
			out = append(out, r.onExisting(name, id, requested(tagMap(f.Tag))))
		}
		return out
	case "DisassociateRouteTable":
		for _, id := range r.Account.Associated(f.AssociationID) {
			out = append(out, r.onExisting(name, id, nil))
		}
		return out
	}
	a, known := ec2Actions[action]
	if !known {
		return anything(name)
	}
	if a.makes != "" {
		out = onNew("ec2", action, arn(a.makes, cmp.Or(f.name(a.makes), "*")), f.made(a.makes))
	}
	if a.on != nil {
		for _, id := range a.on(&f) {
			if id != "" { // else the service says what is missing
				out = append(out, r.onExisting(name, id, nil))
			}
		}
	}
	return out
}

// name is that of what a request makes, if it does not get an id.
func (f *ec2Form) name(kind string) string {
	if kind == "placement-group" {
		return f.GroupName
	}
	return ""
}

// launch is what RunInstances needs: what it makes, with the tags for each, what
// that is made of and in, and the role that it hands on. An image's snapshot is
// not asked for, nor is a request for Spot without tags.
func (r Rights) launch(f *ec2Form) []iam.Need {
	const action = "RunInstances"
	var out []iam.Need
	for _, kind := range []string{"instance", "network-interface", "volume"} {
		out = append(out, onNew("ec2", action, arn(kind, "*"), f.made(kind))...)
	}
	if tags := f.made("spot-instances-request"); len(tags) > 0 {
		out = append(out, onNew("ec2", action, arn("spot-instances-request", "*"), tags)...)
	}
	on := append([]string{f.ImageID, f.SubnetID, f.Placement.GroupName}, f.SecurityGroupID...)
	for _, n := range f.NetworkInterface {
		on = append(append(on, n.SubnetID), n.Groups...)
	}
	for _, id := range append(on, f.snapshots()...) {
		if id != "" {
			out = append(out, r.onExisting("ec2:"+action, id, nil))
		}
	}
	if f.InstanceMarket.MarketType == "spot" {
		out = append(out, r.serviceRole("spot.amazonaws.com", "AWSServiceRoleForEC2Spot")...)
	}
	// A profile's role has its name here.
	_, profile, _ := strings.Cut(f.IamInstanceProfile.Arn, ":instance-profile/")
	if profile = cmp.Or(f.IamInstanceProfile.Name, profile); profile != "" {
		out = append(out, iam.Need{
			Action: "iam:PassRole", Resource: roleARN + profile, Context: context{"iam:PassedToService": {"ec2.amazonaws.com"}},
		})
	}
	return out
}
