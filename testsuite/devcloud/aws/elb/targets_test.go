package elb_test

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

// A target goes through its states, and connections really reach it meanwhile.
func TestTargetsAreCheckedAndReached(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	m := s.machine(0, 0)
	group := s.targetGroup("api", m.port, false)
	check(t, s.register(group, m.id))
	if got := s.health(group, m.id); got != "unused Target.NotInUse" {
		t.Errorf("without a listener: %s", got)
	}
	lb := s.balancer("api")
	listener := s.listen(lb.LoadBalancerArn, group, 6443)
	s.becomes(group, m.id, "healthy")
	to := net.JoinHostPort(aws.ToString(lb.DNSName), "6443")
	if got, want := s.ask(outside, to), m.id+" "+aws.ToString(lb.DNSName); got != want {
		t.Errorf("answer %q, want %q", got, want)
	}

	m.stop()
	check(t, s.setGroup(group, "deregistration_delay.timeout_seconds", "1800"))
	s.becomes(group, m.id, "unhealthy Target.FailedHealthChecks")

	_, err := s.DeregisterTargets(ctx, &sdk.DeregisterTargetsInput{TargetGroupArn: aws.String(group), Targets: []types.TargetDescription{{Id: aws.String(m.id)}}})
	check(t, err)
	if got := s.health(group, m.id); got != "draining Target.DeregistrationInProgress" {
		t.Errorf("deregistered: %s", got)
	}
	s.becomes(group, m.id, "unused Target.NotRegistered")
	// What is not registered is not missed.
	_, err = s.DeregisterTargets(ctx, &sdk.DeregisterTargetsInput{TargetGroupArn: aws.String(group), Targets: []types.TargetDescription{{Id: aws.String(m.id)}}})
	check(t, err)

	_, err = s.DeleteTargetGroup(ctx, &sdk.DeleteTargetGroupInput{TargetGroupArn: aws.String(group)})
	wantCode(t, err, "ResourceInUse")
	_, err = s.DeleteListener(ctx, &sdk.DeleteListenerInput{ListenerArn: aws.String(listener)})
	check(t, err)
	_, err = s.DeleteListener(ctx, &sdk.DeleteListenerInput{ListenerArn: aws.String(listener)})
	wantCode(t, err, "ListenerNotFound")
	for range 2 {
		_, err = s.DeleteTargetGroup(ctx, &sdk.DeleteTargetGroupInput{TargetGroupArn: aws.String(group)})
		check(t, err)
	}
	_, err = s.DescribeTargetHealth(ctx, &sdk.DescribeTargetHealthInput{TargetGroupArn: aws.String(group)})
	wantCode(t, err, "TargetGroupNotFound")
}

// Behind a load balancer that preserves client addresses a machine does not reach
// itself, which is what becomes of the first control plane of a cluster.
func TestHairpin(t *testing.T) {
	for _, preserve := range []bool{true, false} {
		t.Run(strconv.FormatBool(preserve), func(t *testing.T) {
			s := start(t)
			m := s.machine(0, 0)
			other := s.machine(1, int(m.port))
			lb := s.balancer("api")
			group := s.targetGroup("api", m.port, preserve)
			s.listen(lb.LoadBalancerArn, group, 6443)
			check(t, s.register(group, m.id))
			s.becomes(group, m.id, "healthy")
			to := net.JoinHostPort(aws.ToString(lb.DNSName), "6443")
			want := m.id + " " + aws.ToString(lb.DNSName)
			if preserve {
				want = ""
			}
			if got := s.ask(m.loopback, to); got != want {
				t.Errorf("the target reaches itself: %q, want %q", got, want)
			}
			// Another machine reaches it either way, under its own address or not.
			want = m.id + " " + aws.ToString(lb.DNSName)
			if preserve {
				want = fmt.Sprint(m.id, " ", other.loopback)
			}
			if got := s.ask(other.loopback, to); got != want {
				t.Errorf("another machine: %q, want %q", got, want)
			}
		})
	}
}

func TestTargetsFollowTheirInstances(t *testing.T) {
	s := start(t)
	v := s.account.Omniscient()
	m, n := s.machine(0, 0), s.machine(1, 0)
	lb := s.balancer("api")
	group := s.targetGroup("api", m.port, false)
	s.listen(lb.LoadBalancerArn, group, 6443)
	_, err := s.RegisterTargets(t.Context(), &sdk.RegisterTargetsInput{TargetGroupArn: aws.String(group), Targets: []types.TargetDescription{
		{Id: aws.String(m.id)}, {Id: aws.String(n.id), Port: aws.Int32(int32(n.port))},
	}})
	check(t, err)
	s.becomes(group, m.id, "healthy")
	s.becomes(group, n.id, "healthy")
	must(v.Stop([]string{m.id}))(t)
	s.becomes(group, m.id, "unused Target.InvalidState")
	must(v.Terminate([]string{n.id}))(t)
	s.becomes(group, n.id, "unused Target.NotRegistered")
	wantCode(t, s.register(group, m.id), "InvalidTarget") // it does not run
	eventually(t, "stopped", func() bool { return must(s.account.Instance(m.id))(t).State == account.Stopped })
	must(v.Start([]string{m.id}))(t)
	s.becomes(group, m.id, "healthy")
}

func TestTargetsThatAreRefused(t *testing.T) {
	s := start(t)
	m := s.machine(0, 0)
	v := s.account.Omniscient()
	other := must(v.CreateVPC("10.9.0.0/16", nil))(t)
	out, err := s.CreateTargetGroup(t.Context(), &sdk.CreateTargetGroupInput{
		Name: aws.String("far"), Protocol: types.ProtocolEnumTcp, Port: aws.Int32(80), VpcId: aws.String(other.ID),
	})
	check(t, err)
	wantCode(t, s.register(aws.ToString(out.TargetGroups[0].TargetGroupArn), m.id), "InvalidTarget")
	group := s.targetGroup("near", 80, false)
	wantCode(t, s.register(group, m.id, "i-0123456789abcdef0"), "InvalidTarget")
	if got := s.health(group, m.id); got != "unused Target.NotRegistered" {
		t.Errorf("half of a request was done: %s", got)
	}
	wantCode(t, s.register(group+"x", m.id), "TargetGroupNotFound")
}

// Addresses are targets as well, without client addresses unless asked.
func TestTargetsByAddress(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	m := s.machine(1, 0)
	out, err := s.CreateTargetGroup(ctx, &sdk.CreateTargetGroupInput{
		Name: aws.String("ip"), Protocol: types.ProtocolEnumTcp, Port: aws.Int32(int32(m.port)), VpcId: aws.String(s.vpc), TargetType: types.TargetTypeEnumIp,
	})
	check(t, err)
	group := aws.ToString(out.TargetGroups[0].TargetGroupArn)
	attrs, err := s.DescribeTargetGroupAttributes(ctx, &sdk.DescribeTargetGroupAttributesInput{TargetGroupArn: aws.String(group)})
	check(t, err)
	for _, a := range attrs.Attributes {
		if aws.ToString(a.Key) == "preserve_client_ip.enabled" && aws.ToString(a.Value) != "false" {
			t.Error("targets by address preserve clients")
		}
	}
	wantCode(t, s.register(group, "not-an-address"), "ValidationError")
	wantCode(t, s.register(group, "192.0.2.1"), "InvalidTarget")
	check(t, s.register(group, m.private))
	lb := s.balancer("ip")
	s.listen(lb.LoadBalancerArn, group, 80)
	s.becomes(group, m.private, "healthy")
	if got := s.ask(outside, aws.ToString(lb.DNSName)+":80"); !strings.HasPrefix(got, m.id) {
		t.Errorf("answer %q", got)
	}
}

// The security group of a target must let the load balancer in, that of a load
// balancer its clients.
func TestSecurityGroupsDecide(t *testing.T) {
	s := start(t)
	v := s.account.Omniscient()
	m := s.machine(0, 0)
	front := must(v.CreateSecurityGroup("front", "front", s.vpc, nil))(t)
	arn, err := s.newBalancer(func(in *sdk.CreateLoadBalancerInput) { in.SecurityGroups = []string{front.ID} })
	check(t, err)
	group := s.targetGroup("api", m.port, false)
	s.listen(aws.String(arn), group, 6443)
	check(t, s.register(group, m.id))
	s.becomes(group, m.id, "healthy")
	out, err := s.DescribeLoadBalancers(t.Context(), &sdk.DescribeLoadBalancersInput{})
	check(t, err)
	to := aws.ToString(out.LoadBalancers[0].DNSName) + ":6443"
	if got := s.ask(outside, to); got != "" {
		t.Errorf("a client that no group lets in is answered %q", got)
	}
	must(v.AuthorizeIngress(front.ID, []account.Rule{{Protocol: "tcp", From: 6443, To: 6443, CIDR: netip.MustParsePrefix("127.0.0.0/16")}}, nil))(t)
	eventually(t, "client is let in", func() bool { return s.ask(outside, to) != "" })

	for _, g := range v.SecurityGroups() {
		if g.ID == s.group {
			check(t, v.RevokeIngress(g.ID, g.Ingress, nil))
		}
	}
	s.becomes(group, m.id, "unhealthy Target.FailedHealthChecks")
}

func TestTargetGroupLife(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	in := func() *sdk.CreateTargetGroupInput {
		return &sdk.CreateTargetGroupInput{Name: aws.String("api"), Protocol: types.ProtocolEnumTcp, Port: aws.Int32(6443), VpcId: aws.String(s.vpc)}
	}
	out, err := s.CreateTargetGroup(ctx, in())
	check(t, err)
	g := out.TargetGroups[0]
	again, err := s.CreateTargetGroup(ctx, in())
	if err != nil || aws.ToString(again.TargetGroups[0].TargetGroupArn) != aws.ToString(g.TargetGroupArn) {
		t.Errorf("again: %v", err)
	}
	for name, tt := range map[string]struct {
		change func(*sdk.CreateTargetGroupInput)
		code   string
	}{
		"other port":     {func(in *sdk.CreateTargetGroupInput) { in.Port = aws.Int32(443) }, "DuplicateTargetGroupName"},
		"other check":    {func(in *sdk.CreateTargetGroupInput) { in.HealthCheckIntervalSeconds = aws.Int32(10) }, "DuplicateTargetGroupName"},
		"no port":        {func(in *sdk.CreateTargetGroupInput) { in.Port = nil }, "ValidationError"},
		"no VPC":         {func(in *sdk.CreateTargetGroupInput) { in.VpcId = nil }, "ValidationError"},
		"unknown VPC":    {func(in *sdk.CreateTargetGroupInput) { in.VpcId = aws.String("vpc-0") }, "ValidationError"},
		"HTTP":           {func(in *sdk.CreateTargetGroupInput) { in.Protocol = types.ProtocolEnumHttp }, "ValidationError"},
		"short interval": {func(in *sdk.CreateTargetGroupInput) { in.HealthCheckIntervalSeconds = aws.Int32(1) }, "ValidationError"},
		"path for TCP":   {func(in *sdk.CreateTargetGroupInput) { in.HealthCheckPath = aws.String("/") }, "ValidationError"},
		"threshold":      {func(in *sdk.CreateTargetGroupInput) { in.HealthyThresholdCount = aws.Int32(1) }, "ValidationError"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := in()
			tt.change(bad)
			_, err := s.CreateTargetGroup(ctx, bad)
			wantCode(t, err, tt.code)
		})
	}
	changed, err := s.ModifyTargetGroup(ctx, &sdk.ModifyTargetGroupInput{
		TargetGroupArn: g.TargetGroupArn, HealthCheckProtocol: types.ProtocolEnumHttps, HealthCheckPath: aws.String("/readyz"), HealthCheckPort: aws.String("6443"),
		Matcher: &types.Matcher{HttpCode: aws.String("200")},
	})
	check(t, err)
	c := changed.TargetGroups[0]
	got := []string{string(c.HealthCheckProtocol), aws.ToString(c.HealthCheckPath), aws.ToString(c.HealthCheckPort), aws.ToString(c.Matcher.HttpCode)}
	if diff := cmp.Diff([]string{"HTTPS", "/readyz", "6443", "200"}, got); diff != "" {
		t.Error(diff)
	}
	found, err := s.DescribeTargetGroups(ctx, &sdk.DescribeTargetGroupsInput{Names: []string{"api"}})
	if err != nil || len(found.TargetGroups) != 1 {
		t.Errorf("%v", err)
	}
	_, err = s.DescribeTargetGroups(ctx, &sdk.DescribeTargetGroupsInput{Names: []string{"api", "other"}})
	wantCode(t, err, "TargetGroupNotFound")
	wantCode(t, s.setGroup(aws.ToString(g.TargetGroupArn), "deregistration_delay.timeout_seconds", "3601"), "ValidationError")
}

func TestListenerLife(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	one, two := s.balancer("one"), s.balancer("two")
	a, b := s.targetGroup("a", 80, false), s.targetGroup("b", 80, false)
	arn := s.listen(one.LoadBalancerArn, a, 80)
	if again := s.listen(one.LoadBalancerArn, a, 80); again != arn {
		t.Errorf("again: %s, want %s", again, arn)
	}
	try := func(balancer *string, group string, port int32) error {
		_, err := s.CreateListener(ctx, &sdk.CreateListenerInput{
			LoadBalancerArn: balancer, Protocol: types.ProtocolEnumTcp, Port: aws.Int32(port),
			DefaultActions: []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: &types.ForwardActionConfig{
				TargetGroups: []types.TargetGroupTuple{{TargetGroupArn: aws.String(group)}},
			}}},
		})
		return err
	}
	wantCode(t, try(one.LoadBalancerArn, b, 80), "DuplicateListener")
	wantCode(t, try(two.LoadBalancerArn, a, 80), "TargetGroupAssociationLimit")
	wantCode(t, try(two.LoadBalancerArn, a+"x", 80), "TargetGroupNotFound")
	wantCode(t, try(aws.String(arn), a, 80), "LoadBalancerNotFound")
	wantCode(t, try(two.LoadBalancerArn, b, 0), "ValidationError")
	wantCode(t, try(two.LoadBalancerArn, b, 81), "")
	out, err := s.DescribeListeners(ctx, &sdk.DescribeListenersInput{LoadBalancerArn: two.LoadBalancerArn})
	check(t, err)
	if l := out.Listeners; len(l) != 1 || aws.ToInt32(l[0].Port) != 81 || aws.ToString(l[0].DefaultActions[0].TargetGroupArn) != b {
		t.Errorf("%+v", l)
	}
	groups, err := s.DescribeTargetGroups(ctx, &sdk.DescribeTargetGroupsInput{LoadBalancerArn: two.LoadBalancerArn})
	if err != nil || len(groups.TargetGroups) != 1 || groups.TargetGroups[0].LoadBalancerArns[0] != aws.ToString(two.LoadBalancerArn) {
		t.Errorf("%v", err)
	}
	// Listeners go with their load balancer; target groups stay.
	_, err = s.DeleteLoadBalancer(ctx, &sdk.DeleteLoadBalancerInput{LoadBalancerArn: two.LoadBalancerArn})
	check(t, err)
	_, err = s.DescribeListeners(ctx, &sdk.DescribeListenersInput{ListenerArns: []string{aws.ToString(out.Listeners[0].ListenerArn)}})
	wantCode(t, err, "ListenerNotFound")
	_, err = s.DeleteTargetGroup(ctx, &sdk.DeleteTargetGroupInput{TargetGroupArn: aws.String(b)})
	check(t, err)
	if st := s.elb.State(); st.Count != 3 || len(st.Listeners) != 1 {
		t.Errorf("%+v", st)
	}
}

func TestTags(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	lb := aws.ToString(s.balancer("one").LoadBalancerArn)
	group := s.targetGroup("a", 80, false)
	listener := s.listen(aws.String(lb), group, 80)
	arns := []string{lb, group, listener}
	_, err := s.AddTags(ctx, &sdk.AddTagsInput{ResourceArns: arns, Tags: []types.Tag{
		{Key: aws.String("cluster"), Value: aws.String("u1")}, {Key: aws.String("x"), Value: aws.String("")},
	}})
	check(t, err)
	_, err = s.RemoveTags(ctx, &sdk.RemoveTagsInput{ResourceArns: []string{group}, TagKeys: []string{"x", "not there"}})
	check(t, err)
	out, err := s.DescribeTags(ctx, &sdk.DescribeTagsInput{ResourceArns: arns})
	check(t, err)
	got := map[string][]string{}
	for _, d := range out.TagDescriptions {
		for _, tag := range d.Tags {
			got[aws.ToString(d.ResourceArn)] = append(got[aws.ToString(d.ResourceArn)], aws.ToString(tag.Key)+"="+aws.ToString(tag.Value))
		}
	}
	both := []string{"cluster=u1", "x="}
	if diff := cmp.Diff(map[string][]string{lb: both, group: both[:1], listener: both}, got); diff != "" {
		t.Error(diff)
	}
	_, err = s.DescribeTags(ctx, &sdk.DescribeTagsInput{ResourceArns: []string{group + "x"}})
	wantCode(t, err, "TargetGroupNotFound")
	_, err = s.DescribeTags(ctx, &sdk.DescribeTagsInput{ResourceArns: make([]string, 21)})
	wantCode(t, err, "ValidationError")
	many := &sdk.AddTagsInput{ResourceArns: []string{lb}}
	for n := range 49 {
		many.Tags = append(many.Tags, types.Tag{Key: aws.String(strconv.Itoa(n)), Value: aws.String("")})
	}
	_, err = s.AddTags(ctx, many)
	wantCode(t, err, "TooManyTags")
}
