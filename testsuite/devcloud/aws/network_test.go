package aws_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

// TestTakingDown deletes a network in every wrong order, and then in the right
// one.
func TestTakingDown(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	n := c.network(t)
	id := *c.run(t, c.spec(t, n)).InstanceId
	c.reaches(t, id, "running")

	deleteVPC := func() error { _, err := c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &n.vpc}); return err }
	deleteSubnet := func(i int) error {
		_, err := c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &n.subnets[i]})
		return err
	}
	deleteTable := func() error {
		_, err := c.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: &n.table})
		return err
	}
	deleteGroup := func() error {
		_, err := c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &n.group})
		return err
	}
	detach := func() error {
		_, err := c.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: &n.gateway, VpcId: &n.vpc})
		return err
	}
	deleteGateway := func() error {
		_, err := c.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: &n.gateway})
		return err
	}
	for name, do := range map[string]func() error{
		"VPC with everything": deleteVPC, "subnet with an interface": func() error { return deleteSubnet(0) }, "joined route table": deleteTable,
		"group in use": deleteGroup, "gateway with mapped addresses": detach, "attached gateway": deleteGateway,
	} {
		if got, _ := code(do()); got != "DependencyViolation" {
			t.Errorf("%s: %s", name, got)
		}
	}
	must(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))(t)
	if got, _ := code(deleteGroup()); got != "DependencyViolation" {
		t.Errorf("group of an instance that is shutting down: %s", got)
	}
	c.reaches(t, id, "terminated")

	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"group", deleteGroup},
		{"subnet a", func() error { return deleteSubnet(0) }},
		{"subnet b", func() error { return deleteSubnet(1) }},
		{"subnet c", func() error { return deleteSubnet(2) }},
		{"route table, whose associations went with the subnets", deleteTable},
		{"detach", detach},
		{"gateway", deleteGateway},
		{"VPC", deleteVPC},
	} {
		if step.name != "VPC" && step.name != "gateway" {
			if got, _ := code(deleteVPC()); got != "DependencyViolation" {
				t.Errorf("VPC before %s: %s", step.name, got)
			}
		}
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	if s := c.account.State(); s.Count != 0 || len(s.RouteTables)+len(s.SecurityGroups) != 0 {
		t.Errorf("left behind: %+v", s)
	}
	for want, do := range map[string]func() error{
		"InvalidVpcID.NotFound": deleteVPC, "InvalidSubnetID.NotFound": func() error { return deleteSubnet(0) },
		"InvalidRouteTableID.NotFound": deleteTable, "InvalidGroup.NotFound": deleteGroup, "InvalidInternetGatewayID.NotFound": deleteGateway,
	} {
		if got, _ := code(do()); got != want {
			t.Errorf("again: %s, want %s", got, want)
		}
	}
}

func TestNetworkRules(t *testing.T) {
	c := startWith(t, account.Settings{PageLimit: 1000, VPCs: 2})
	ctx := t.Context()
	n := c.network(t)
	other := *must(c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("10.1.0.0/16")}))(t).Vpc.VpcId
	loose := *must(c.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{}))(t).InternetGateway.InternetGatewayId
	groups := must(c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
		{Name: p("vpc-id"), Values: []string{n.vpc}}, {Name: p("group-name"), Values: []string{"default"}},
	}}))(t)
	main := must(c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{
		{Name: p("vpc-id"), Values: []string{n.vpc}}, {Name: p("association.main"), Values: []string{"true"}},
	}}))(t).RouteTables[0]
	subnet := func(cidr, zone string) error {
		_, err := c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &n.vpc, CidrBlock: &cidr, AvailabilityZone: &zone})
		return err
	}
	table := *must(c.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: &n.vpc}))(t).RouteTable.RouteTableId
	for name, test := range map[string]struct {
		do   func() error
		want string
	}{
		"one VPC too many": {func() error { _, err := c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("10.2.0.0/16")}); return err }, "VpcLimitExceeded"},
		"VPC too large":    {func() error { _, err := c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("10.0.0.0/8")}); return err }, "InvalidVpc.Range"},
		"not a CIDR":       {func() error { _, err := c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("net")}); return err }, "InvalidParameterValue"},
		"subnet overlaps":  {func() error { return subnet("10.0.2.128/25", zones[0]) }, "InvalidSubnet.Conflict"},
		"subnet outside":   {func() error { return subnet("10.3.0.0/24", zones[0]) }, "InvalidSubnet.Range"},
		"subnet too small": {func() error { return subnet("10.0.9.0/29", zones[0]) }, "InvalidSubnet.Range"},
		"unknown zone":     {func() error { return subnet("10.0.9.0/24", "eu-central-1d") }, "InvalidParameterValue"},
		"second gateway": {func() error {
			_, err := c.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: &loose, VpcId: &n.vpc})
			return err
		}, "InvalidParameterValue"},
		"gateway twice": {func() error {
			_, err := c.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: &n.gateway, VpcId: &other})
			return err
		}, "Resource.AlreadyAssociated"},
		"detach from another": {func() error {
			_, err := c.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: &n.gateway, VpcId: &other})
			return err
		}, "Gateway.NotAttached"},
		"route twice": {func() error {
			_, err := c.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &n.table, DestinationCidrBlock: p("0.0.0.0/0"), GatewayId: &n.gateway})
			return err
		}, "RouteAlreadyExists"},
		"route to a loose gateway": {func() error {
			_, err := c.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &table, DestinationCidrBlock: p("0.0.0.0/0"), GatewayId: &loose})
			return err
		}, "InvalidParameterValue"},
		"subnet joined twice": {func() error {
			_, err := c.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: &table, SubnetId: &n.subnets[0]})
			return err
		}, "Resource.AlreadyAssociated"},
		"unknown association": {func() error {
			_, err := c.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: p("rtbassoc-1")})
			return err
		}, "InvalidAssociationID.NotFound"},
		"main association": {func() error {
			_, err := c.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: main.Associations[0].RouteTableAssociationId})
			return err
		}, "InvalidParameterValue"},
		"main route table": {func() error {
			_, err := c.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: main.RouteTableId})
			return err
		}, "DependencyViolation"},
		"default group": {func() error {
			_, err := c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: groups.SecurityGroups[0].GroupId})
			return err
		}, "CannotDelete"},
		"subnet by id": {func() error {
			_, err := c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{"subnet-1"}})
			return err
		}, "InvalidSubnetID.NotFound"},
		"id of another kind": {func() error {
			_, err := c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{n.vpc}})
			return err
		}, "InvalidSubnetID.Malformed"},
		"unknown filter": {func() error {
			_, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{{Name: p("color"), Values: []string{"x"}}}})
			return err
		}, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, test.do(), test.want) })
	}
}

func TestRouteTables(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	n := c.network(t)
	in := &ec2.CreateRouteTableInput{VpcId: &n.vpc, ClientToken: p("once")}
	first := *must(c.CreateRouteTable(ctx, in))(t).RouteTable.RouteTableId
	if again := *must(c.CreateRouteTable(ctx, in))(t).RouteTable.RouteTableId; again != first {
		t.Errorf("the same token made %s and %s", first, again)
	}
	in.TagSpecifications = []types.TagSpecification{{ResourceType: "route-table", Tags: []types.Tag{{Key: p("a"), Value: p("b")}}}}
	_, err := c.CreateRouteTable(ctx, in)
	refused(t, err, "IdempotentParameterMismatch")

	table := must(c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{n.table}}))(t).RouteTables[0]
	var routes []string
	for _, r := range table.Routes {
		routes = append(routes, *r.DestinationCidrBlock+" "+*r.GatewayId+" "+string(r.State))
	}
	if diff := cmp.Diff([]string{"10.0.0.0/16 local active", "0.0.0.0/0 " + n.gateway + " active"}, routes); diff != "" {
		t.Error(diff)
	}
	must(c.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: &n.gateway, VpcId: &n.vpc}))(t)
	table = must(c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{n.table}}))(t).RouteTables[0]
	if table.Routes[1].State != "blackhole" {
		t.Errorf("a route without its gateway is %s", table.Routes[1].State)
	}
	for _, a := range table.Associations {
		must(c.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: a.RouteTableAssociationId}))(t)
	}
	must(c.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: &n.table}))(t)
}

func TestVPCAttributes(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	n := c.network(t)
	has := func(a types.VpcAttributeName) bool {
		out := must(c.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &n.vpc, Attribute: a}))(t)
		if a == types.VpcAttributeNameEnableDnsSupport {
			return *out.EnableDnsSupport.Value
		}
		return *out.EnableDnsHostnames.Value
	}
	if !has("enableDnsSupport") || has("enableDnsHostnames") {
		t.Error("a new VPC resolves names and gives none")
	}
	must(c.ModifyVpcAttribute(ctx, &ec2.ModifyVpcAttributeInput{VpcId: &n.vpc, EnableDnsHostnames: &types.AttributeBooleanValue{Value: p(true)}}))(t)
	if !has("enableDnsHostnames") {
		t.Error("the attribute was not changed")
	}
	_, err := c.ModifyVpcAttribute(ctx, &ec2.ModifyVpcAttributeInput{
		VpcId: &n.vpc, EnableDnsHostnames: &types.AttributeBooleanValue{Value: p(true)}, EnableDnsSupport: &types.AttributeBooleanValue{Value: p(true)},
	})
	refused(t, err, "InvalidParameterCombination")
}

// TestSubnetIsFull fills the smallest subnet.
func TestSubnetIsFull(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	n := c.network(t)
	s := must(c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &n.vpc, CidrBlock: p("10.0.9.0/28"), AvailabilityZone: &zones[0]}))(t).Subnet
	used := map[string]bool{}
	for i := range 11 {
		free := must(c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{*s.SubnetId}}))(t).Subnets[0].AvailableIpAddressCount
		if *free != int32(11-i) {
			t.Errorf("%d addresses are free, want %d", *free, 11-i)
		}
		made := c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) { in.SubnetId = s.SubnetId }))
		used[*made.PrivateIpAddress] = true
		if made.PublicIpAddress != nil {
			t.Error("a subnet that gives no public addresses gave one")
		}
	}
	for i := range 4 {
		if used[fmt.Sprintf("10.0.9.%d", i)] {
			t.Errorf("AWS keeps 10.0.9.%d", i)
		}
	}
	if len(used) != 11 || used["10.0.9.15"] {
		t.Errorf("gave %v", used)
	}
	_, err := c.RunInstances(ctx, c.spec(t, n, func(in *ec2.RunInstancesInput) { in.SubnetId = s.SubnetId }))
	refused(t, err, "InsufficientFreeAddressesInSubnet")
}
