package access

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/ec2"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/elb"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/iam"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/lender"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

type site struct {
	Rights
	*account.Account
	elb *elb.Service
	vpc string
}

func start(t *testing.T) *site {
	t.Helper()
	a := account.New(account.Options{Clock: world.NewClock(1000), Addresses: lender.New(252)})
	b := elb.New(elb.Options{Account: a})
	t.Cleanup(func() {
		b.Close()
		a.Close()
	})
	vpc, err := a.Omniscient().CreateVPC("10.0.0.0/16", []account.Tag{{Key: "ichor/cluster", Value: "u1"}})
	if err != nil {
		t.Fatal(err)
	}
	linked := func(service string) bool { return service == "spot.amazonaws.com" }
	return &site{Rights{Account: a, Balanced: b.Tags, Linked: linked}, a, b, vpc.ID}
}

// Whatever the cloud serves needs something that is known here.
func TestEveryActionIsKnown(t *testing.T) {
	s := start(t)
	for name, server := range map[string]struct {
		actions []string
		needs   func(string, url.Values) []iam.Need
	}{
		"ec2":                  {keys(ec2.New(s.Account, nil).Actions), s.EC2},
		"elasticloadbalancing": {keys(s.elb.Server().Actions), s.Balancing},
	} {
		for _, a := range server.actions {
			if reads(a) {
				continue
			}
			form := url.Values{}
			for _, p := range []string{
				"VpcId", "SubnetId", "InternetGatewayId", "RouteTableId", "GroupId", "GroupName", "VolumeId", "SnapshotId", "ImageId", "Name",
				"LoadBalancerArn", "TargetGroupArn", "ListenerArn", "InstanceId.1", "ResourceId.1", "ResourceArns.member.1",
			} {
				form.Set(p, "x")
			}
			needs := server.needs(a, form)
			if a == "DisassociateRouteTable" {
				continue // of an association that is not there nothing is needed
			}
			for _, n := range needs {
				if n.Resource == "*" || !strings.HasPrefix(n.Action, name+":") && !strings.HasPrefix(n.Action, "iam:") {
					t.Errorf("%s needs %+v", a, n)
				}
			}
			if len(needs) == 0 {
				t.Errorf("%s needs nothing", a)
			}
		}
	}
}

func keys[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestNeeds(t *testing.T) {
	s := start(t)
	is := map[string][]string{"aws:ResourceTag/ichor/cluster": {"u1"}}
	asks := func(more ...string) map[string][]string {
		out := map[string][]string{"aws:RequestTag/ichor/cluster": {"u1"}, "aws:TagKeys": {"ichor/cluster"}}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = []string{more[i+1]}
		}
		return out
	}
	const tags = "&TagSpecification.1.Tag.1.Key=ichor/cluster&TagSpecification.1.Tag.1.Value=u1&TagSpecification.1.ResourceType="
	subnet := iam.Need{Action: "ec2:CreateSubnet", Resource: ec2ARN + "vpc/" + s.vpc, Context: is}
	for name, test := range map[string]struct {
		of           func(string, url.Values) []iam.Need
		action, form string
		want         []iam.Need
	}{
		"a list": {s.EC2, "DescribeInstances", "InstanceId.1=i-1", anything("ec2:DescribeInstances")},
		"a resource with tags in another": {s.EC2, "CreateSubnet", "VpcId=" + s.vpc + tags + "subnet", []iam.Need{
			{Action: "ec2:CreateSubnet", Resource: ec2ARN + "subnet/*", Context: asks()},
			{Action: "ec2:CreateTags", Resource: ec2ARN + "subnet/*", Context: asks("ec2:CreateAction", "CreateSubnet")},
			subnet,
		}},
		"a resource without tags": {s.EC2, "CreateSubnet", "VpcId=" + s.vpc, []iam.Need{
			{Action: "ec2:CreateSubnet", Resource: ec2ARN + "subnet/*", Context: map[string][]string{}}, subnet,
		}},
		"what is not there": {s.EC2, "DeleteVpc", "VpcId=vpc-1", []iam.Need{
			{Action: "ec2:DeleteVpc", Resource: ec2ARN + "vpc/vpc-1", Context: map[string][]string{}, Missing: true},
		}},
		"tags later": {s.EC2, "CreateTags", "ResourceId.1=" + s.vpc + "&Tag.1.Key=ichor/cluster&Tag.1.Value=u1", []iam.Need{
			{Action: "ec2:CreateTags", Resource: ec2ARN + "vpc/" + s.vpc, Context: asks("aws:ResourceTag/ichor/cluster", "u1")},
		}},
		"what is registered": {s.EC2, "RegisterImage", "Name=x&BlockDeviceMapping.1.Ebs.SnapshotId=snap-1", []iam.Need{
			{Action: "ec2:RegisterImage", Resource: mediaARN + "image/*", Context: map[string][]string{}},
			{Action: "ec2:RegisterImage", Resource: mediaARN + "snapshot/snap-1", Context: map[string][]string{}, Missing: true},
		}},
		"a listener": {s.Balancing, "CreateListener", "LoadBalancerArn=" + elbARN + "loadbalancer/net/x/1&Tags.member.1.Key=ichor/cluster&Tags.member.1.Value=u1", []iam.Need{
			{Action: "elasticloadbalancing:CreateListener", Resource: elbARN + "loadbalancer/net/x/1", Context: asks(), Missing: true},
			{Action: "elasticloadbalancing:AddTags", Resource: elbARN + "listener/net/x/1/*", Context: asks("elasticloadbalancing:CreateAction", "CreateListener")},
		}},
		"the first load balancer": {s.Balancing, "CreateLoadBalancer", "Name=x", []iam.Need{
			{Action: "elasticloadbalancing:CreateLoadBalancer", Resource: elbARN + "loadbalancer/net/x/*", Context: map[string][]string{}},
			{
				Action: "iam:CreateServiceLinkedRole", Context: map[string][]string{"iam:AWSServiceName": {"elasticloadbalancing.amazonaws.com"}},
				Resource: roleARN + "aws-service-role/elasticloadbalancing.amazonaws.com/AWSServiceRoleForElasticLoadBalancing",
			},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			form, err := url.ParseQuery(test.form)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, test.of(test.action, form)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A launch needs the right to all that it makes and uses.
func TestNeedsOfALaunch(t *testing.T) {
	s := start(t)
	form, err := url.ParseQuery("ImageId=ami-1&SubnetId=subnet-1&Placement.GroupName=spread&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2" +
		"&BlockDeviceMapping.1.Ebs.SnapshotId=snap-1&IamInstanceProfile.Arn=arn:aws:iam::123456789012:instance-profile/ichor-nodes" +
		"&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=b&InstanceMarketOptions.MarketType=spot")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range s.EC2("RunInstances", form) {
		got = append(got, n.Action+" "+n.Resource)
	}
	want := []string{
		"ec2:RunInstances " + ec2ARN + "instance/*", "ec2:CreateTags " + ec2ARN + "instance/*",
		"ec2:RunInstances " + ec2ARN + "network-interface/*", "ec2:RunInstances " + ec2ARN + "volume/*",
		"ec2:RunInstances " + mediaARN + "image/ami-1", "ec2:RunInstances " + ec2ARN + "subnet/subnet-1",
		"ec2:RunInstances " + ec2ARN + "placement-group/spread", "ec2:RunInstances " + ec2ARN + "security-group/sg-1",
		"ec2:RunInstances " + ec2ARN + "security-group/sg-2", "ec2:RunInstances " + mediaARN + "snapshot/snap-1",
		"iam:PassRole " + roleARN + "ichor-nodes",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNeedsOfBlocksAndObjects(t *testing.T) {
	s := start(t)
	first := func(n []iam.Need) string { return n[0].Action + " " + n[0].Resource }
	for want, got := range map[string][]iam.Need{
		"ebs:StartSnapshot " + mediaARN + "snapshot/*":         s.Blocks(http.MethodPost, "/snapshots", []byte(`{"Tags": [{"Key": "a", "Value": "b"}]}`)),
		"ebs:PutSnapshotBlock " + mediaARN + "snapshot/snap-1": s.Blocks(http.MethodPut, "/snapshots/snap-1/blocks/7", nil),
		"ebs:CompleteSnapshot " + mediaARN + "snapshot/snap-1": s.Blocks(http.MethodPost, "/snapshots/completion/snap-1", nil),
		"ebs:GET *":                                s.Blocks(http.MethodGet, "/snapshots/snap-1/blocks", nil),
		"s3:ListBucket arn:aws:s3:::box":           Storage(http.MethodGet, "/box", url.Values{"list-type": {"2"}}),
		"s3:GetObject arn:aws:s3:::box/a/b":        Storage(http.MethodHead, "/box/a/b", nil),
		"s3:PutObject arn:aws:s3:::box/a/b":        Storage(http.MethodPost, "/box/a/b", url.Values{"uploads": {""}}),
		"s3:DeleteObject arn:aws:s3:::box/a/b":     Storage(http.MethodDelete, "/box/a/b", nil),
		"s3:DELETE arn:aws:s3:::box":               Storage(http.MethodDelete, "/box", nil),
		"s3:GET arn:aws:s3:::box":                  Storage(http.MethodGet, "/box/", url.Values{"policy": {""}}),
		"s3:AbortMultipartUpload arn:aws:s3:::b/c": Storage(http.MethodDelete, "/b/c", url.Values{"uploadId": {"1"}}),
	} {
		if first(got) != want {
			t.Errorf("got %s, want %s", first(got), want)
		}
	}
	if tags := s.Blocks(http.MethodPost, "/snapshots", []byte(`{"Tags": [{"Key": "a", "Value": "b"}]}`)); len(tags) != 2 || tags[1].Action != "ec2:CreateTags" {
		t.Errorf("%+v", tags)
	}
}
