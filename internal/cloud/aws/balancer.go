package aws

import (
	"context"
	"slices"
	"strconv"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// Health checks of targets: a dead control plane leaves the endpoint after
// twenty seconds, and a new one joins as fast. Five seconds is the least that
// the API takes; it checks from each zone, so ten is enough.
const (
	checkSeconds = 10
	checkTimeout = 5 // less than the interval, as the API demands
	checkTimes   = 2
)

// groupAttributes are settings of the target group. A target that reaches itself
// through the load balancer gets no answer while the client's address is
// preserved, and every zone must reach every control plane, since a zone may
// have none.
var groupAttributes = map[string]string{
	"preserve_client_ip.enabled":           "false",
	"load_balancing.cross_zone.enabled":    "true",
	"deregistration_delay.timeout_seconds": "30",
}

// endpointName is the name of the load balancer and of its target group. Names
// are unique in an account's region and are how these are found, so it is made
// from the cluster's uid, within the 32 characters that are allowed.
func endpointName(uid string) string { return "ichor-" + cloud.Fingerprint("endpoint", uid) }

// elbTags reads the tags of one thing.
func (p *Provider) elbTags(ctx context.Context, arn string) (map[string]string, error) {
	var out *elb.DescribeTagsOutput
	err := p.calls.Call(ctx, exchange.Request{Op: "read tags of the endpoint", Action: "DescribeTags"}, func(ctx context.Context) (err error) {
		out, err = p.elb.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: []string{arn}})
		return err
	})
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, d := range out.TagDescriptions {
		if sdk.ToString(d.ResourceArn) != arn {
			continue
		}
		for _, t := range d.Tags {
			tags[sdk.ToString(t.Key)] = sdk.ToString(t.Value)
		}
	}
	return tags, nil
}

func toELB(tags map[string]string) []types.Tag {
	var out []types.Tag
	for _, t := range ec2Tags(tags) {
		out = append(out, types.Tag{Key: t.Key, Value: t.Value})
	}
	return out
}

// finder reads a kind by the name of an endpoint, or by ARN.
type finder func(ctx context.Context, name, arn string) ([]item, error)

// elbKind begins a kind of the load balancing API. It has no filter by tag:
// things are found by their name, and what has the name but not the owner's tag
// is somebody else's.
func (p *Provider) elbKind(name, within, action string, find finder) kind {
	read := func(ctx context.Context, op, byName, arn string) ([]item, error) {
		var out []item
		err := p.calls.Call(ctx, exchange.Request{Op: op, Action: action}, func(ctx context.Context) (err error) {
			out, err = find(ctx, byName, arn)
			return err
		})
		return out, err
	}
	k := kind{Name: name, Within: within, Tags: p.elbTags}
	k.List = func(ctx context.Context, o cloud.Owner) ([]item, error) {
		found, err := read(ctx, "list "+name+"s", endpointName(o.Cluster.UID), "")
		if fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return p.owned(ctx, o, found)
	}
	k.Get = func(ctx context.Context, arn string) (item, error) {
		if !plausibleID(arn) {
			return item{}, fault.New(fault.Invalid, "read "+name, "%q is not an id of this cloud", arn)
		}
		found, err := read(ctx, "read "+name, "", arn)
		if err != nil {
			return item{}, err
		}
		if n := slices.IndexFunc(found, func(i item) bool { return i.ID == arn }); n >= 0 {
			return found[n], nil
		}
		return item{}, fault.New(fault.NotFound, "read "+name, "%s is not there", arn)
	}
	return k
}

// owned reads the tags of what was found and keeps what is the owner's.
func (p *Provider) owned(ctx context.Context, o cloud.Owner, found []item) ([]item, error) {
	var out []item
	for _, i := range found {
		tags, err := p.elbTags(ctx, i.ID)
		if fault.Is(err, fault.NotFound) { // deleted since
			continue
		}
		if err != nil {
			return nil, err
		}
		if i.Tags, i.Made = tags, made(tags); o.Has(tags) {
			out = append(out, i)
		}
	}
	return out, nil
}

func names(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// targetGroups hold the control planes by their private addresses.
func (p *Provider) targetGroups() kind {
	view := func(g *types.TargetGroup) item {
		return item{ID: sdk.ToString(g.TargetGroupArn), Name: sdk.ToString(g.TargetGroupName), Parent: sdk.ToString(g.VpcId), Ready: true}
	}
	k := p.elbKind(kindTargetGroup, kindVPC, "DescribeTargetGroups", func(ctx context.Context, name, arn string) ([]item, error) {
		out, err := p.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{Names: names(name), TargetGroupArns: names(arn)})
		if err != nil {
			return nil, err
		}
		return views(out.TargetGroups, view), nil
	})
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		vpc, err := req.Need(kindVPC)
		if err != nil {
			return item{}, err
		}
		var out *elb.CreateTargetGroupOutput
		err = p.make(ctx, req, "CreateTargetGroup", sendBy, func(ctx context.Context) (err error) {
			out, err = p.elb.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
				Name: sdk.String(req.Step.Name), Protocol: types.ProtocolEnumTcp, Port: sdk.Int32(apiPort), VpcId: sdk.String(vpc),
				TargetType: types.TargetTypeEnumIp, HealthCheckProtocol: types.ProtocolEnumTcp,
				HealthCheckIntervalSeconds: sdk.Int32(checkSeconds), HealthCheckTimeoutSeconds: sdk.Int32(checkTimeout),
				HealthyThresholdCount: sdk.Int32(checkTimes), UnhealthyThresholdCount: sdk.Int32(checkTimes),
				Tags: toELB(tags),
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		return first(out.TargetGroups, view, tags), nil
	}
	k.Mend = p.mendTargetGroup
	k.Remove = func(ctx context.Context, i *item) error {
		return p.erase(ctx, kindTargetGroup, "DeleteTargetGroup", func(ctx context.Context) error {
			_, err := p.elb.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: sdk.String(i.ID)})
			return err
		})
	}
	return k
}

func (p *Provider) mendTargetGroup(ctx context.Context, _ cloud.EnsureResourceRequest, i *item) error {
	var now *elb.DescribeTargetGroupAttributesOutput
	err := p.calls.Call(ctx, exchange.Request{Op: "read target-group", Action: "DescribeTargetGroupAttributes"}, func(ctx context.Context) (err error) {
		now, err = p.elb.DescribeTargetGroupAttributes(ctx, &elb.DescribeTargetGroupAttributesInput{TargetGroupArn: sdk.String(i.ID)})
		return err
	})
	if err != nil {
		return err
	}
	have := map[string]string{}
	for _, a := range now.Attributes {
		have[sdk.ToString(a.Key)] = sdk.ToString(a.Value)
	}
	var set []types.TargetGroupAttribute
	for _, t := range ec2Tags(groupAttributes) { // in a fixed order
		if have[*t.Key] != *t.Value {
			set = append(set, types.TargetGroupAttribute{Key: t.Key, Value: t.Value})
		}
	}
	if len(set) == 0 {
		return nil
	}
	return p.change(ctx, "set up target-group", "ModifyTargetGroupAttributes", func(ctx context.Context) error {
		_, err := p.elb.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: sdk.String(i.ID), Attributes: set})
		return err
	})
}

// first is what a create answered, with the tags that went with it: the answer
// has none.
func first[T any](from []T, view func(*T) item, tags map[string]string) item {
	if len(from) == 0 {
		return item{}
	}
	i := view(&from[0])
	i.Tags = tags
	return i
}

// loadBalancers are network load balancers in all subnets of the cluster.
func (p *Provider) loadBalancers() kind {
	view := func(l *types.LoadBalancer) item {
		it := item{ID: sdk.ToString(l.LoadBalancerArn), Name: sdk.ToString(l.LoadBalancerName), Parent: sdk.ToString(l.VpcId)}
		if dns := sdk.ToString(l.DNSName); dns != "" {
			it.Attributes = []tag{{Key: attrAddress, Value: dns}}
		}
		if l.State != nil {
			it.State = string(l.State.Code)
			// One that is being made has its name and takes a listener: machines can
			// boot during the minutes that it takes. Impaired ones serve, only not
			// everywhere.
			it.Ready = l.State.Code != types.LoadBalancerStateEnumFailed && len(it.Attributes) > 0
		}
		return it
	}
	k := p.elbKind(kindLoadBalancer, kindVPC, "DescribeLoadBalancers", func(ctx context.Context, name, arn string) ([]item, error) {
		out, err := p.elb.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: names(name), LoadBalancerArns: names(arn)})
		if err != nil {
			return nil, err
		}
		return views(out.LoadBalancers, view), nil
	})
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		var subnets []string
		for _, r := range req.Have {
			if r.Kind == kindSubnet {
				subnets = append(subnets, r.ID)
			}
		}
		if len(subnets) == 0 {
			_, err := req.Need(kindSubnet)
			return item{}, err
		}
		var out *elb.CreateLoadBalancerOutput
		err := p.make(ctx, req, "CreateLoadBalancer", sendBy, func(ctx context.Context) (err error) {
			out, err = p.elb.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
				Name: sdk.String(req.Step.Name), Type: types.LoadBalancerTypeEnumNetwork, Scheme: types.LoadBalancerSchemeEnumInternetFacing,
				IpAddressType: types.IpAddressTypeIpv4, Subnets: subnets, Tags: toELB(tags),
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		return first(out.LoadBalancers, view, tags), nil
	}
	k.Remove = func(ctx context.Context, i *item) error {
		return p.erase(ctx, kindLoadBalancer, "DeleteLoadBalancer", func(ctx context.Context) error {
			_, err := p.elb.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: sdk.String(i.ID)})
			return err
		})
	}
	return k
}

// listeners have no name: they are found in their load balancer, by port.
func (p *Provider) listeners() kind {
	view := func(l *types.Listener) item {
		return item{
			ID: sdk.ToString(l.ListenerArn), Name: string(l.Protocol) + " " + strconv.Itoa(int(sdk.ToInt32(l.Port))),
			Parent: sdk.ToString(l.LoadBalancerArn), Ready: true,
		}
	}
	find := func(ctx context.Context, balancer, arn string) ([]item, error) {
		out, err := p.elb.DescribeListeners(ctx, &elb.DescribeListenersInput{LoadBalancerArn: optional(balancer), ListenerArns: names(arn)})
		if err != nil {
			return nil, err
		}
		return views(out.Listeners, view), nil
	}
	k := p.elbKind(kindListener, kindLoadBalancer, "DescribeListeners", find)
	k.List = func(ctx context.Context, o cloud.Owner) ([]item, error) {
		balancers, err := p.Kind(kindLoadBalancer)
		if err != nil {
			return nil, err
		}
		in, err := balancers.List(ctx, o)
		if err != nil {
			return nil, err
		}
		var out []item
		for _, b := range in {
			var found []item
			err := p.calls.Call(ctx, exchange.Request{Op: "list listeners", Action: "DescribeListeners"}, func(ctx context.Context) (err error) {
				found, err = find(ctx, b.ID, "")
				return err
			})
			if fault.Is(err, fault.NotFound) { // deleted since
				continue
			}
			if err == nil {
				found, err = p.owned(ctx, o, found)
			}
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
		return out, nil
	}
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		balancer, err := req.Need(kindLoadBalancer)
		if err != nil {
			return item{}, err
		}
		group, err := req.Need(kindTargetGroup)
		if err != nil {
			return item{}, err
		}
		var out *elb.CreateListenerOutput
		err = p.make(ctx, req, "CreateListener", sendBy, func(ctx context.Context) (err error) {
			out, err = p.elb.CreateListener(ctx, &elb.CreateListenerInput{
				LoadBalancerArn: sdk.String(balancer), Protocol: types.ProtocolEnumTcp, Port: sdk.Int32(apiPort),
				DefaultActions: []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: sdk.String(group)}}, Tags: toELB(tags),
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		return first(out.Listeners, view, tags), nil
	}
	k.Remove = func(ctx context.Context, i *item) error {
		return p.erase(ctx, kindListener, "DeleteListener", func(ctx context.Context) error {
			_, err := p.elb.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: sdk.String(i.ID)})
			return err
		})
	}
	return k
}
