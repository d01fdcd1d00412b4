package aws

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
)

// Ports that are opened: the Kubernetes API's and that of Talos.
const (
	apiPort   = 6443
	talosPort = 50000
)

// ruleMark begins the descriptions of Ichor's rules. Others, those of the
// vendor's controllers among them, are left alone.
const ruleMark = "ichor: "

// rule is one thing that a security group lets in.
type rule struct {
	protocol string
	port     int32  // 0 means all
	from     string // a range of addresses, or the id of a group
	note     string
}

func (r rule) less(o rule) int {
	return cmp.Or(strings.Compare(r.from, o.from), strings.Compare(r.protocol, o.protocol), cmp.Compare(r.port, o.port))
}

// wantedRules let nodes reach each other, and the allowed ranges and what is in
// the VPC reach both APIs: the load balancer checks and forwards from there.
func wantedRules(group string, cidrs []string) []rule {
	out := []rule{{protocol: "-1", from: group, note: ruleMark + "nodes"}}
	for _, c := range slices.Compact(slices.Sorted(slices.Values(cidrs))) {
		out = append(out,
			rule{protocol: "tcp", port: apiPort, from: c, note: ruleMark + "Kubernetes API"},
			rule{protocol: "tcp", port: talosPort, from: c, note: ruleMark + "Talos API"})
	}
	return out
}

// rulesOf flattens what the API groups.
func rulesOf(have []types.IpPermission) []rule {
	var out []rule
	for _, h := range have {
		base := rule{protocol: sdk.ToString(h.IpProtocol), port: max(0, sdk.ToInt32(h.FromPort))}
		add := func(from, note *string) {
			r := base
			r.from, r.note = sdk.ToString(from), sdk.ToString(note)
			out = append(out, r)
		}
		for _, x := range h.IpRanges {
			add(x.CidrIp, x.Description)
		}
		for _, x := range h.Ipv6Ranges {
			add(x.CidrIpv6, x.Description)
		}
		for _, x := range h.UserIdGroupPairs {
			add(x.GroupId, x.Description)
		}
	}
	return out
}

// diffRules compares the full set of rules with what there is: what is missing,
// and what of Ichor's own is too much.
func diffRules(have, want []rule) (add, revoke []rule) {
	same := func(a rule) func(rule) bool { return func(b rule) bool { return a.less(b) == 0 } }
	for _, w := range want {
		if !slices.ContainsFunc(have, same(w)) {
			add = append(add, w)
		}
	}
	for _, h := range have {
		if strings.HasPrefix(h.note, ruleMark) && !slices.ContainsFunc(want, same(h)) {
			revoke = append(revoke, h)
		}
	}
	slices.SortFunc(add, rule.less)
	slices.SortFunc(revoke, rule.less)
	return add, revoke
}

// permissions is the form that the API takes.
func permissions(rules []rule) []types.IpPermission {
	out := make([]types.IpPermission, 0, len(rules))
	for _, r := range rules {
		x := types.IpPermission{IpProtocol: sdk.String(r.protocol)}
		if r.port != 0 {
			x.FromPort, x.ToPort = sdk.Int32(r.port), sdk.Int32(r.port)
		}
		c, err := netip.ParsePrefix(r.from)
		switch {
		case err != nil:
			x.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: sdk.String(r.from), Description: sdk.String(r.note)}}
		case c.Addr().Is4():
			x.IpRanges = []types.IpRange{{CidrIp: sdk.String(r.from), Description: sdk.String(r.note)}}
		default:
			x.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: sdk.String(r.from), Description: sdk.String(r.note)}}
		}
		out = append(out, x)
	}
	return out
}

// securityGroups guard the nodes. Machines carry them, and the profile that the
// account's configuration names.
func (p *Provider) securityGroups() kind {
	view := func(g *types.SecurityGroup) item {
		it := item{
			ID: sdk.ToString(g.GroupId), Name: sdk.ToString(g.GroupName), Parent: sdk.ToString(g.VpcId), Tags: tagMap(g.Tags),
			Detail: settings{rules: g.IpPermissions}, Ready: true,
		}
		for key, value := range p.profiles {
			if value != "" {
				it.Machine = append(it.Machine, tag{Key: key, Value: value})
			}
		}
		it.Machine = append(it.Machine, tag{Key: paramSecurityGroup, Value: it.ID})
		slices.SortFunc(it.Machine, func(a, b tag) int { return strings.Compare(a.Key, b.Key) })
		return it
	}
	k := p.ec2Kind(kindSecurityGroup, kindVPC, "DescribeSecurityGroups", func(ctx context.Context, ids []string, f []types.Filter, next *string) ([]item, *string, error) {
		out, err := p.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: ids, Filters: f, NextToken: next})
		if err != nil {
			return nil, nil, err
		}
		return views(out.SecurityGroups, view), out.NextToken, nil
	})
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		vpc, err := req.Need(kindVPC)
		if err != nil {
			return item{}, err
		}
		var out *ec2.CreateSecurityGroupOutput
		err = p.make(ctx, req, "CreateSecurityGroup", sendBy, func(ctx context.Context) (err error) {
			out, err = p.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
				GroupName: sdk.String(req.Step.Name), Description: sdk.String("nodes of " + req.Owner.Cluster.Name), VpcId: sdk.String(vpc),
				TagSpecifications: []types.TagSpecification{tagsAt(types.ResourceTypeSecurityGroup, tags)},
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		// The answer has the id and the tags only.
		return view(&types.SecurityGroup{GroupId: out.GroupId, GroupName: sdk.String(req.Step.Name), VpcId: sdk.String(vpc), Tags: ec2Tags(tags)}), nil
	}
	k.Mend = func(ctx context.Context, req cloud.EnsureResourceRequest, i *item) error {
		cidrs := splitList(req.Step.Param(paramAllowed))
		for _, r := range req.Have {
			if r.Kind == kindVPC {
				cidrs = append(cidrs, inventory.Attribute(r, attrCIDR))
			}
		}
		add, revoke := diffRules(rulesOf(i.Detail.rules), wantedRules(i.ID, cidrs))
		if len(add) > 0 {
			err := p.change(ctx, "open ports of security-group", "AuthorizeSecurityGroupIngress", func(ctx context.Context) error {
				_, err := p.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: sdk.String(i.ID), IpPermissions: permissions(add)})
				return err
			})
			if err != nil {
				return err
			}
		}
		if len(revoke) == 0 {
			return nil
		}
		return p.change(ctx, "close ports of security-group", "RevokeSecurityGroupIngress", func(ctx context.Context) error {
			_, err := p.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: sdk.String(i.ID), IpPermissions: permissions(revoke)})
			return err
		})
	}
	k.Remove = func(ctx context.Context, i *item) error {
		return p.erase(ctx, kindSecurityGroup, "DeleteSecurityGroup", func(ctx context.Context) error {
			_, err := p.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: sdk.String(i.ID)})
			return err
		})
	}
	return k
}

// placementGroups spread a shard of a group over hosts. They are known by their
// name, which is unique in the region and what deletion takes.
func (p *Provider) placementGroups() kind {
	view := func(g *types.PlacementGroup) item {
		return item{
			ID: sdk.ToString(g.GroupName), Name: sdk.ToString(g.GroupName), Tags: tagMap(g.Tags),
			State: string(g.State), Ready: g.State == types.PlacementGroupStateAvailable,
		}
	}
	k := p.ec2Kind(kindPlacement, "", "DescribePlacementGroups", func(ctx context.Context, ids []string, f []types.Filter, _ *string) ([]item, *string, error) {
		out, err := p.ec2.DescribePlacementGroups(ctx, &ec2.DescribePlacementGroupsInput{GroupNames: ids, Filters: f})
		if err != nil {
			return nil, nil, err
		}
		// One that is deleted stays visible for a while.
		groups := slices.DeleteFunc(out.PlacementGroups, func(g types.PlacementGroup) bool { return g.State == types.PlacementGroupStateDeleted })
		return views(groups, view), nil, nil
	})
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		var out *ec2.CreatePlacementGroupOutput
		err := p.make(ctx, req, "CreatePlacementGroup", sendBy, func(ctx context.Context) (err error) {
			out, err = p.ec2.CreatePlacementGroup(ctx, &ec2.CreatePlacementGroupInput{
				GroupName: sdk.String(req.Step.Name), Strategy: types.PlacementStrategySpread,
				TagSpecifications: []types.TagSpecification{tagsAt(types.ResourceTypePlacementGroup, tags)},
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		if out.PlacementGroup == nil { // older forms of the API answer "true"
			return item{ID: req.Step.Name, Name: req.Step.Name, Tags: tags}, nil
		}
		return view(out.PlacementGroup), nil
	}
	k.Remove = func(ctx context.Context, i *item) error {
		return p.erase(ctx, kindPlacement, "DeletePlacementGroup", func(ctx context.Context) error {
			_, err := p.ec2.DeletePlacementGroup(ctx, &ec2.DeletePlacementGroupInput{GroupName: sdk.String(i.ID)})
			return err
		})
	}
	return k
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
