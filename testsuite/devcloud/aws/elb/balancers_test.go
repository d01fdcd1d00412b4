package elb_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/elb"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

func (s *site) newBalancer(change func(*sdk.CreateLoadBalancerInput)) (string, error) {
	in := &sdk.CreateLoadBalancerInput{
		Name: aws.String("demo"), Type: types.LoadBalancerTypeEnumNetwork, Scheme: types.LoadBalancerSchemeEnumInternetFacing, Subnets: s.subnets,
		Tags: []types.Tag{{Key: aws.String("cluster"), Value: aws.String("u1")}},
	}
	if change != nil {
		change(in)
	}
	out, err := s.CreateLoadBalancer(s.t.Context(), in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.LoadBalancers[0].LoadBalancerArn), nil
}

func TestLoadBalancerLife(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	var first *sdk.CreateLoadBalancerInput
	arn, err := s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { first = in })
	check(t, err)
	// The same settings give the same load balancer, in whatever order.
	again, err := s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.Subnets = []string{s.subnets[1], s.subnets[0]} })
	if err != nil || again != arn {
		t.Errorf("again: %s, %v", again, err)
	}
	_, err = s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.Subnets = s.subnets[:1] })
	wantCode(t, err, "DuplicateLoadBalancerName")
	_, err = s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.Tags = nil })
	wantCode(t, err, "DuplicateLoadBalancerName")
	eventually(t, "active", func() bool { return s.state(arn) == types.LoadBalancerStateEnumActive })
	first.Name = aws.String("second")
	fresh, err := s.CreateLoadBalancer(ctx, first)
	check(t, err)
	if got := fresh.LoadBalancers[0].State.Code; got != types.LoadBalancerStateEnumProvisioning {
		t.Errorf("a new load balancer is %s", got)
	}

	out, err := s.DescribeLoadBalancers(ctx, &sdk.DescribeLoadBalancersInput{Names: []string{"demo"}})
	check(t, err)
	lb := out.LoadBalancers[0]
	zones := []string{aws.ToString(lb.AvailabilityZones[0].ZoneName), aws.ToString(lb.AvailabilityZones[1].ZoneName)}
	if aws.ToString(lb.VpcId) != s.vpc || lb.Type != types.LoadBalancerTypeEnumNetwork || lb.CreatedTime == nil ||
		!strings.HasPrefix(aws.ToString(lb.DNSName), "127.251.") || !slices.Equal(zones, []string{account.Region + "a", account.Region + "b"}) {
		t.Errorf("described as %+v", lb)
	}
	_, err = s.DescribeLoadBalancers(ctx, &sdk.DescribeLoadBalancersInput{Names: []string{"other"}})
	wantCode(t, err, "LoadBalancerNotFound")

	for range 2 {
		_, err = s.DeleteLoadBalancer(ctx, &sdk.DeleteLoadBalancerInput{LoadBalancerArn: aws.String(arn)})
		wantCode(t, err, "")
	}
	_, err = s.DescribeLoadBalancers(ctx, &sdk.DescribeLoadBalancersInput{LoadBalancerArns: []string{arn}})
	wantCode(t, err, "LoadBalancerNotFound")

	want := []string{"CreateLoadBalancer", "load_balancer_is_active", "DeleteLoadBalancer", "load_balancer_is_gone"}
	var life []string
	eventually(t, "its life in the timeline", func() bool {
		life = nil
		for _, e := range s.account.Timeline() {
			if e.Subject == arn {
				life = append(life, e.Name)
			}
		}
		return len(life) >= len(want)
	})
	if !slices.Equal(life, want) {
		t.Errorf("the timeline says %v, want %v", life, want)
	}
}

func TestLoadBalancersThatAreRefused(t *testing.T) {
	s := start(t)
	v := s.account.Omniscient()
	lonely := must(v.CreateVPC("10.9.0.0/16", nil))(t)
	far := must(v.CreateSubnet(lonely.ID, "10.9.0.0/24", account.Region+"c", nil))(t)
	small := must(v.CreateSubnet(s.vpc, "10.0.9.0/28", account.Region+"c", nil))(t)
	twin := must(v.CreateSubnet(s.vpc, "10.0.8.0/24", account.Region+"a", nil))(t)
	for range 4 {
		must(s.account.CreateInterface(account.InterfaceSpec{Subnet: small.ID}))(t)
	}
	for name, tt := range map[string]struct {
		change func(*sdk.CreateLoadBalancerInput)
		code   string
	}{
		"name":                 {func(in *sdk.CreateLoadBalancerInput) { in.Name = aws.String("under_score") }, "ValidationError"},
		"long name":            {func(in *sdk.CreateLoadBalancerInput) { in.Name = aws.String(strings.Repeat("a", 33)) }, "ValidationError"},
		"internal name":        {func(in *sdk.CreateLoadBalancerInput) { in.Name = aws.String("internal-x") }, "ValidationError"},
		"application":          {func(in *sdk.CreateLoadBalancerInput) { in.Type = types.LoadBalancerTypeEnumApplication }, "ValidationError"},
		"scheme":               {func(in *sdk.CreateLoadBalancerInput) { in.Scheme = "sideways" }, "InvalidScheme"},
		"no subnet":            {func(in *sdk.CreateLoadBalancerInput) { in.Subnets = nil }, "ValidationError"},
		"unknown subnet":       {func(in *sdk.CreateLoadBalancerInput) { in.Subnets = []string{"subnet-0"} }, "SubnetNotFound"},
		"no gateway":           {func(in *sdk.CreateLoadBalancerInput) { in.Subnets = []string{far.ID} }, "InvalidSubnet"},
		"two VPCs":             {func(in *sdk.CreateLoadBalancerInput) { in.Subnets = []string{s.subnets[0], far.ID} }, "InvalidConfigurationRequest"},
		"two subnets of zone":  {func(in *sdk.CreateLoadBalancerInput) { in.Subnets = []string{s.subnets[0], twin.ID} }, "InvalidConfigurationRequest"},
		"few addresses":        {func(in *sdk.CreateLoadBalancerInput) { in.Subnets = []string{small.ID} }, "InvalidSubnet"},
		"unknown group":        {func(in *sdk.CreateLoadBalancerInput) { in.SecurityGroups = []string{"sg-0"} }, "InvalidSecurityGroup"},
		"reserved tag":         {func(in *sdk.CreateLoadBalancerInput) { in.Tags[0].Key = aws.String("aws:x") }, "ValidationError"},
		"one tag twice":        {func(in *sdk.CreateLoadBalancerInput) { in.Tags = append(in.Tags, in.Tags[0]) }, "DuplicateTagKeys"},
		"what is not modelled": {func(in *sdk.CreateLoadBalancerInput) { in.CustomerOwnedIpv4Pool = aws.String("x") }, "UnknownParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.newBalancer(tt.change)
			wantCode(t, err, tt.code)
		})
	}
	if n := len(s.account.Omniscient().Interfaces()); n != 4 {
		t.Errorf("refused load balancers left %d interfaces", n-4)
	}
	s.elb.SetLimits(elb.Limits{LoadBalancers: 1})
	s.balancer("first")
	_, err := s.newBalancer(nil)
	wantCode(t, err, "TooManyLoadBalancers")
}

// A load balancer holds its subnets, its groups and the gateway until a while
// after it was deleted.
func TestLoadBalancerBlocksDeletion(t *testing.T) {
	s := start(t)
	v := s.account.Omniscient()
	front := must(v.CreateSecurityGroup("front", "front", s.vpc, nil))(t)
	arn, err := s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.SecurityGroups = []string{front.ID} })
	check(t, err)
	igw := v.InternetGateways()[0].ID
	blocked := func() bool {
		all := []error{v.DeleteSubnet(s.subnets[0]), v.DeleteSecurityGroup(front.ID), v.DetachInternetGateway(igw, s.vpc)}
		for _, err := range all {
			if !query.IsCode(err, "DependencyViolation") {
				return false
			}
		}
		return true
	}
	if !blocked() {
		t.Error("a part of its network was deleted under a load balancer")
	}
	_, err = s.DeleteLoadBalancer(t.Context(), &sdk.DeleteLoadBalancerInput{LoadBalancerArn: aws.String(arn)})
	check(t, err)
	eventually(t, "interfaces go", func() bool { return len(v.Interfaces()) == 0 })
	check(t, v.DeleteSubnet(s.subnets[0]))
	check(t, v.DeleteSecurityGroup(front.ID))
	check(t, v.DetachInternetGateway(igw, s.vpc))
	if n := s.addresses.Lent(); n != 0 {
		t.Errorf("%d addresses are still lent", n)
	}
}

func TestPaging(t *testing.T) {
	s := start(t)
	want := []string{"one", "two", "three"}
	for _, name := range want {
		_, err := s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.Name = aws.String(name) })
		check(t, err)
	}
	var got []string
	pages := sdk.NewDescribeLoadBalancersPaginator(s.Client, &sdk.DescribeLoadBalancersInput{PageSize: aws.Int32(2)})
	for n := 0; pages.HasMorePages(); n++ {
		out, err := pages.NextPage(t.Context())
		check(t, err)
		if want := []int{2, 1}[n]; len(out.LoadBalancers) != want {
			t.Errorf("page %d has %d", n, len(out.LoadBalancers))
		}
		for _, lb := range out.LoadBalancers {
			got = append(got, aws.ToString(lb.LoadBalancerName))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err := s.DescribeLoadBalancers(t.Context(), &sdk.DescribeLoadBalancersInput{Marker: aws.String("nowhere")})
	wantCode(t, err, "ValidationError")
	_, err = s.DescribeLoadBalancers(t.Context(), &sdk.DescribeLoadBalancersInput{PageSize: aws.Int32(401)})
	wantCode(t, err, "ValidationError")
}

func TestLoadBalancerAttributes(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	arn, err := s.newBalancer(nil)
	check(t, err)
	set := func(key, value string) error {
		_, err := s.ModifyLoadBalancerAttributes(ctx, &sdk.ModifyLoadBalancerAttributesInput{
			LoadBalancerArn: aws.String(arn), Attributes: []types.LoadBalancerAttribute{{Key: aws.String(key), Value: aws.String(value)}},
		})
		return err
	}
	wantCode(t, set("deletion_protection.enabled", "perhaps"), "ValidationError")
	wantCode(t, set("colour", "green"), "ValidationError")
	wantCode(t, set("deletion_protection.enabled", "true"), "")
	_, err = s.DeleteLoadBalancer(ctx, &sdk.DeleteLoadBalancerInput{LoadBalancerArn: aws.String(arn)})
	wantCode(t, err, "OperationNotPermitted")
	wantCode(t, set("deletion_protection.enabled", "false"), "")
	wantCode(t, set("load_balancing.cross_zone.enabled", "true"), "")
	out, err := s.DescribeLoadBalancerAttributes(ctx, &sdk.DescribeLoadBalancerAttributesInput{LoadBalancerArn: aws.String(arn)})
	check(t, err)
	all := map[string]string{}
	for _, a := range out.Attributes {
		all[aws.ToString(a.Key)] = aws.ToString(a.Value)
	}
	if all["load_balancing.cross_zone.enabled"] != "true" || all["deletion_protection.enabled"] != "false" {
		t.Errorf("%v", all)
	}
}

func TestSecurityGroupsOfLoadBalancers(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	v := s.account.Omniscient()
	front := must(v.CreateSecurityGroup("front", "front", s.vpc, nil))(t)
	bare, err := s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.Name = aws.String("bare") })
	check(t, err)
	set := func(arn string, groups ...string) error {
		_, err := s.SetSecurityGroups(ctx, &sdk.SetSecurityGroupsInput{LoadBalancerArn: aws.String(arn), SecurityGroups: groups})
		return err
	}
	wantCode(t, set(bare, front.ID), "InvalidConfigurationRequest")
	with, err := s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.SecurityGroups = []string{s.group} })
	check(t, err)
	wantCode(t, set(with, "sg-0"), "InvalidSecurityGroup")
	wantCode(t, set(with, front.ID), "")
	var held []string
	for _, i := range v.Interfaces() {
		held = append(held, i.Groups...)
	}
	if diff := cmp.Diff([]string{front.ID, front.ID}, held); diff != "" {
		t.Error(diff)
	}
	check(t, v.DeleteSecurityGroup(s.group))
}

// What a fault of devcloud does to a load balancer.
func TestFaults(t *testing.T) {
	s := start(t)
	for effect, want := range map[string]types.LoadBalancerStateEnum{
		faults.ErrorState: types.LoadBalancerStateEnumFailed, faults.StuckChanging: types.LoadBalancerStateEnumProvisioning,
	} {
		if _, err := s.faults.Add(faults.Fault{Route: "POST /**", Effect: effect}); err != nil {
			t.Fatal(err)
		}
		bent, err := s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.Name = aws.String(effect) })
		check(t, err)
		s.faults.Clear()
		s.balancer("after-" + effect)
		eventually(t, string(want), func() bool { return s.state(bent) == want })
	}
}
