package aws_test

import (
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

func tcp(from, to int32, cidrs ...string) types.IpPermission {
	out := types.IpPermission{IpProtocol: p("tcp"), FromPort: &from, ToPort: &to}
	for _, c := range cidrs {
		out.IpRanges = append(out.IpRanges, types.IpRange{CidrIp: p(c), Description: p("of a test")})
	}
	return out
}

func fromGroup(id string) types.IpPermission {
	return types.IpPermission{IpProtocol: p("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &id}}}
}

func TestSecurityGroups(t *testing.T) {
	c := startWith(t, account.Settings{PageLimit: 1000, RulesPerGroup: 5})
	ctx := t.Context()
	n := c.network(t)
	authorize := func(perms ...types.IpPermission) error {
		_, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &n.group, IpPermissions: perms})
		return err
	}
	revoke := func(perms ...types.IpPermission) error {
		_, err := c.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &n.group, IpPermissions: perms})
		return err
	}
	made := must(c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: &n.group, IpPermissions: []types.IpPermission{fromGroup(n.group), tcp(6443, 6443, "192.0.2.77/24", "10.0.0.0/16")},
	}))(t)
	if len(made.SecurityGroupRules) != 3 || *made.SecurityGroupRules[1].CidrIpv4 != "192.0.2.0/24" {
		t.Errorf("made %d rules", len(made.SecurityGroupRules))
	}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"one of two exists":   {authorize(tcp(50000, 50000, "192.0.2.0/24"), tcp(6443, 6443, "192.0.2.0/24")), "InvalidPermission.Duplicate"},
		"no ports":            {authorize(types.IpPermission{IpProtocol: p("tcp"), IpRanges: []types.IpRange{{CidrIp: p("0.0.0.0/0")}}}), "InvalidParameterValue"},
		"ports the other way": {authorize(tcp(2, 1, "0.0.0.0/0")), "InvalidPermission.Malformed"},
		"no source":           {authorize(tcp(1, 2)), "MissingParameter"},
		"not a CIDR":          {authorize(tcp(1, 2, "everywhere")), "InvalidParameterValue"},
		"unknown source":      {authorize(fromGroup("sg-1")), "InvalidGroup.NotFound"},
		"too many":            {authorize(tcp(1, 1, "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")), "RulesPerSecurityGroupLimitExceeded"},
		"revoke another":      {revoke(tcp(6443, 6443, "10.9.0.0/16")), "InvalidPermission.NotFound"},
	} {
		if got, _ := code(test.err); got != test.want {
			t.Errorf("%s: got %v, want %s", name, test.err, test.want)
		}
	}
	_, err := c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: p("nodes"), Description: p("x"), VpcId: &n.vpc})
	refused(t, err, "InvalidGroup.Duplicate")
	second := *must(c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: p("second"), Description: p("x"), VpcId: &n.vpc}))(t).GroupId
	if err := authorize(fromGroup(second)); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &second})
	refused(t, err, "DependencyViolation")
	if err := revoke(fromGroup(second)); err != nil {
		t.Fatal(err)
	}
	must(c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &second}))(t)
	must(c.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{
		GroupId: &n.group, SecurityGroupRuleIds: []string{*made.SecurityGroupRules[2].SecurityGroupRuleId},
	}))(t)

	g := must(c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{n.group}}))(t).SecurityGroups[0]
	var got []string
	for _, perm := range g.IpPermissions {
		for _, r := range perm.IpRanges {
			got = append(got, *perm.IpProtocol+" "+*r.CidrIp)
		}
		for _, u := range perm.UserIdGroupPairs {
			got = append(got, *perm.IpProtocol+" "+*u.GroupId)
		}
	}
	if diff := cmp.Diff([]string{"-1 " + n.group, "tcp 192.0.2.0/24"}, got); diff != "" {
		t.Error(diff)
	}
	rules := must(c.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{Filters: []types.Filter{{Name: p("group-id"), Values: []string{n.group}}}}))(t)
	ingress := 0
	for _, r := range rules.SecurityGroupRules {
		if !*r.IsEgress {
			ingress++
		}
	}
	if ingress != 2 || len(rules.SecurityGroupRules) != 3 {
		t.Errorf("%d rules, %d of ingress", len(rules.SecurityGroupRules), ingress)
	}
}

// TestPackets shows which packets reach a machine.
func TestPackets(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	n := c.network(t)
	must(c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &n.group, IpPermissions: []types.IpPermission{
		fromGroup(n.group), tcp(6443, 6443, "127.0.0.1/32"), tcp(7000, 7000, "10.0.0.0/16"),
	}}))(t)
	launch := func(group string, public bool) (netip.Addr, netip.Addr) {
		i := c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) {
			in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{
				DeviceIndex: p(int32(0)), SubnetId: &n.subnets[0], Groups: []string{group}, AssociatePublicIpAddress: &public,
			}}
			in.SubnetId, in.SecurityGroupIds = nil, nil
		}))
		private := netip.MustParseAddr(*i.PrivateIpAddress)
		loopback, ok := c.account.Loopback(private)
		if !ok || public != (i.PublicIpAddress != nil) {
			t.Fatalf("%s: loopback %s, public %v", private, loopback, i.PublicIpAddress)
		}
		return loopback, private
	}
	defaults := must(c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
		{Name: p("vpc-id"), Values: []string{n.vpc}}, {Name: p("group-name"), Values: []string{"default"}},
	}}))(t)
	node, nodePrivate := launch(n.group, true)
	peer, _ := launch(n.group, false)
	stranger, strangerPrivate := launch(*defaults.SecurityGroups[0].GroupId, true)
	outside := netip.MustParseAddr("127.0.0.1")
	for name, test := range map[string]struct {
		from, to netip.Addr
		port     uint16
		want     bool
	}{
		"from outside, open port":           {outside, node, 6443, true},
		"from outside, another port":        {outside, node, 50000, false},
		"from outside, no public address":   {outside, peer, 6443, false},
		"among members of a group":          {peer, node, 2380, true},
		"to oneself":                        {node, node, 2380, true},
		"from another group":                {stranger, node, 2380, false},
		"from another group, by range":      {stranger, node, 7000, true},
		"to another group":                  {node, stranger, 7000, false},
		"to what is not of this cloud":      {node, outside, 7000, true},
		"from outside to a closed machine":  {outside, stranger, 6443, false},
		"from outside, who is not in range": {netip.MustParseAddr("127.0.0.2"), node, 6443, false},
	} {
		if got := c.account.Delivers(test.from, test.to, test.port); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := c.account.Identities(stranger); len(got) != 2 || got[0] != stranger || got[1] != strangerPrivate {
		t.Errorf("the machine is known as %v", got)
	}
	if at, err := c.account.Reach(stranger, n.vpc, netip.AddrPortFrom(nodePrivate, 7000)); err != nil || at != node {
		t.Errorf("reached %s, %v", at, err)
	}
	if at, err := c.account.Reach(stranger, n.vpc, netip.AddrPortFrom(nodePrivate, 7001)); err == nil {
		t.Errorf("reached %s", at)
	}
	must(c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{n.table}}))(t)
	table := must(c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: []string{n.table}}))(t).RouteTables[0]
	for _, a := range table.Associations {
		must(c.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: a.RouteTableAssociationId}))(t)
	}
	if c.account.Delivers(outside, node, 6443) {
		t.Error("packets arrive although nothing routes them")
	}
}

// TestInterfacesOfOthers shows what a load balancer's interfaces hold up.
func TestInterfacesOfOthers(t *testing.T) {
	c := start(t)
	n := c.network(t)
	eni, err := c.account.CreateInterface(account.InterfaceSpec{Subnet: n.subnets[1], Public: true, Description: "ELB net/x/1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteSubnet(t.Context(), &ec2.DeleteSubnetInput{SubnetId: &n.subnets[1]})
	refused(t, err, "DependencyViolation")
	_, err = c.DetachInternetGateway(t.Context(), &ec2.DetachInternetGatewayInput{InternetGatewayId: &n.gateway, VpcId: &n.vpc})
	refused(t, err, "DependencyViolation")
	out := must(c.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{eni.ID}}))(t).NetworkInterfaces[0]
	if !*out.RequesterManaged || *out.Description != "ELB net/x/1" || *out.Association.PublicIp != eni.Loopback.String() {
		t.Errorf("shown as %+v", out)
	}
	if n := c.account.State().Interfaces; len(n) != 1 {
		t.Errorf("%d interfaces", len(n))
	}
	c.account.DeleteInterface(eni.ID)
	must(c.DetachInternetGateway(t.Context(), &ec2.DetachInternetGatewayInput{InternetGatewayId: &n.gateway, VpcId: &n.vpc}))(t)
}
