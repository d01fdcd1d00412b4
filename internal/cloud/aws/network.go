package aws

import (
	"context"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// anywhere is the default route.
const anywhere = "0.0.0.0/0"

// vpcs have DNS host names: load balancers and nodes are reached by name.
func (p *Provider) vpcs() kind {
	view := func(v *types.Vpc) item {
		return item{
			ID: sdk.ToString(v.VpcId), Name: tagMap(v.Tags)[tagName], Tags: tagMap(v.Tags),
			State: string(v.State), Ready: v.State == types.VpcStateAvailable,
			Attributes: []tag{{Key: attrCIDR, Value: sdk.ToString(v.CidrBlock)}},
		}
	}
	k := p.ec2Kind(kindVPC, "", "DescribeVpcs", func(ctx context.Context, ids []string, f []types.Filter, next *string) ([]item, *string, error) {
		out, err := p.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: ids, Filters: f, NextToken: next})
		if err != nil {
			return nil, nil, err
		}
		return views(out.Vpcs, view), out.NextToken, nil
	})
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		var out *ec2.CreateVpcOutput
		err := p.make(ctx, req, "CreateVpc", sendBy, func(ctx context.Context) (err error) {
			out, err = p.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{
				CidrBlock: sdk.String(req.Step.Param(paramCIDR)), TagSpecifications: []types.TagSpecification{tagsAt(types.ResourceTypeVpc, tags)},
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		return viewOr(out.Vpc, view), nil
	}
	k.Mend = func(ctx context.Context, _ cloud.EnsureResourceRequest, i *item) error {
		if named, err := p.namesHosts(ctx, i); named || err != nil {
			return err
		}
		i.Fresh = false
		return p.change(ctx, "give host names to vpc", "ModifyVpcAttribute", func(ctx context.Context) error {
			_, err := p.ec2.ModifyVpcAttribute(ctx, &ec2.ModifyVpcAttributeInput{
				VpcId: sdk.String(i.ID), EnableDnsHostnames: &types.AttributeBooleanValue{Value: sdk.Bool(true)},
			})
			return err
		})
	}
	k.Remove = func(ctx context.Context, i *item) error {
		return p.erase(ctx, kindVPC, "DeleteVpc", func(ctx context.Context) error {
			_, err := p.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: sdk.String(i.ID)})
			return err
		})
	}
	return k
}

// namesHosts reads whether a VPC gives host names, which a new one does not.
func (p *Provider) namesHosts(ctx context.Context, vpc *item) (bool, error) {
	if vpc.Fresh {
		return false, nil
	}
	var now *ec2.DescribeVpcAttributeOutput
	err := p.calls.Call(ctx, exchange.Request{Op: "read vpc", Action: "DescribeVpcAttribute"}, func(ctx context.Context) (err error) {
		now, err = p.ec2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{
			VpcId: sdk.String(vpc.ID), Attribute: types.VpcAttributeNameEnableDnsHostnames,
		})
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return false, p.seen.Absent("read vpc", vpc.ID)
	}
	return err == nil && now.EnableDnsHostnames != nil && sdk.ToBool(now.EnableDnsHostnames.Value), err
}

// gateways are attached to their VPC.
func (p *Provider) gateways() kind {
	view := func(g *types.InternetGateway) item {
		it := item{ID: sdk.ToString(g.InternetGatewayId), Name: tagMap(g.Tags)[tagName], Tags: tagMap(g.Tags), State: "detached"}
		for _, a := range g.Attachments {
			it.Parent, it.State = sdk.ToString(a.VpcId), string(a.State)
			// "available" is what the API says, "attached" what its documentation does.
			it.Ready = a.State == "available" || a.State == types.AttachmentStatusAttached
		}
		return it
	}
	k := p.ec2Kind(kindGateway, kindVPC, "DescribeInternetGateways", func(ctx context.Context, ids []string, f []types.Filter, next *string) ([]item, *string, error) {
		out, err := p.ec2.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{InternetGatewayIds: ids, Filters: f, NextToken: next})
		if err != nil {
			return nil, nil, err
		}
		return views(out.InternetGateways, view), out.NextToken, nil
	})
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		var out *ec2.CreateInternetGatewayOutput
		err := p.make(ctx, req, "CreateInternetGateway", sendBy, func(ctx context.Context) (err error) {
			out, err = p.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{
				TagSpecifications: []types.TagSpecification{tagsAt(types.ResourceTypeInternetGateway, tags)},
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		return viewOr(out.InternetGateway, view), nil
	}
	k.Mend = func(ctx context.Context, req cloud.EnsureResourceRequest, i *item) error {
		vpc, err := req.Need(kindVPC)
		if err != nil || i.Parent != "" {
			return err
		}
		err = p.change(ctx, "attach internet-gateway", "AttachInternetGateway", func(ctx context.Context) error {
			_, err := p.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: sdk.String(i.ID), VpcId: sdk.String(vpc)})
			return err
		})
		if err == nil {
			i.Parent, i.Ready, i.State = vpc, true, string(types.AttachmentStatusAttached)
		}
		return err
	}
	k.Remove = func(ctx context.Context, i *item) error {
		if i.Parent != "" {
			err := p.erase(ctx, kindGateway, "DetachInternetGateway", func(ctx context.Context) error {
				_, err := p.ec2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: sdk.String(i.ID), VpcId: sdk.String(i.Parent)})
				return err
			})
			if err != nil && codeOf(err) != "Gateway.NotAttached" {
				return err
			}
		}
		return p.erase(ctx, kindGateway, "DeleteInternetGateway", func(ctx context.Context) error {
			_, err := p.ec2.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: sdk.String(i.ID)})
			return err
		})
	}
	return k
}

// routeTables lead everything else to the gateway. Subnets associate themselves.
func (p *Provider) routeTables() kind {
	view := func(t *types.RouteTable) item {
		return item{
			ID: sdk.ToString(t.RouteTableId), Name: tagMap(t.Tags)[tagName], Parent: sdk.ToString(t.VpcId), Tags: tagMap(t.Tags),
			Detail: settings{routes: t.Routes, links: t.Associations}, Ready: defaultRoute(t.Routes) != "",
		}
	}
	k := p.ec2Kind(kindRouteTable, kindVPC, "DescribeRouteTables", func(ctx context.Context, ids []string, f []types.Filter, next *string) ([]item, *string, error) {
		out, err := p.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{RouteTableIds: ids, Filters: f, NextToken: next})
		if err != nil {
			return nil, nil, err
		}
		return views(out.RouteTables, view), out.NextToken, nil
	})
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		vpc, err := req.Need(kindVPC)
		if err != nil {
			return item{}, err
		}
		var out *ec2.CreateRouteTableOutput
		err = p.make(ctx, req, "CreateRouteTable", sendBy, func(ctx context.Context) (err error) {
			out, err = p.ec2.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{
				VpcId: sdk.String(vpc), TagSpecifications: []types.TagSpecification{tagsAt(types.ResourceTypeRouteTable, tags)},
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		return viewOr(out.RouteTable, view), nil
	}
	k.Mend = func(ctx context.Context, req cloud.EnsureResourceRequest, i *item) error {
		gateway, err := req.Need(kindGateway)
		if err != nil {
			return err
		}
		switch has := defaultRoute(i.Detail.routes); has {
		case gateway:
			return nil
		case "":
		default:
			return fault.New(fault.Conflict, "look for "+req.Step.Title, "its default route leads to %s instead of %s; delete that route", has, gateway)
		}
		err = p.change(ctx, "route to the internet", "CreateRoute", func(ctx context.Context) error {
			_, err := p.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{
				RouteTableId: sdk.String(i.ID), DestinationCidrBlock: sdk.String(anywhere), GatewayId: sdk.String(gateway),
			})
			return err
		})
		if err == nil {
			i.Ready = true
		}
		return err
	}
	k.Remove = func(ctx context.Context, i *item) error {
		for _, l := range i.Detail.links {
			if sdk.ToBool(l.Main) {
				continue
			}
			err := p.erase(ctx, kindRouteTable, "DisassociateRouteTable", func(ctx context.Context) error {
				_, err := p.ec2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: l.RouteTableAssociationId})
				return err
			})
			if err != nil && codeOf(err) != "InvalidAssociationID.NotFound" {
				return err
			}
		}
		return p.erase(ctx, kindRouteTable, "DeleteRouteTable", func(ctx context.Context) error {
			_, err := p.ec2.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: sdk.String(i.ID)})
			return err
		})
	}
	return k
}

// defaultRoute names where a route table leads everything else, "" for nowhere.
func defaultRoute(routes []types.Route) string {
	for _, r := range routes {
		if sdk.ToString(r.DestinationCidrBlock) == anywhere {
			if g := sdk.ToString(r.GatewayId); g != "" {
				return g
			}
			return "something else"
		}
	}
	return ""
}

// subnets give public addresses to what is launched in them.
func (p *Provider) subnets() kind {
	view := func(s *types.Subnet) item {
		return item{
			ID: sdk.ToString(s.SubnetId), Name: tagMap(s.Tags)[tagName], Zone: sdk.ToString(s.AvailabilityZone),
			Parent: sdk.ToString(s.VpcId), Tags: tagMap(s.Tags), Detail: settings{public: sdk.ToBool(s.MapPublicIpOnLaunch)},
			State: string(s.State), Ready: s.State == types.SubnetStateAvailable,
			Attributes: []tag{{Key: attrCIDR, Value: sdk.ToString(s.CidrBlock)}},
		}
	}
	k := p.ec2Kind(kindSubnet, kindVPC, "DescribeSubnets", func(ctx context.Context, ids []string, f []types.Filter, next *string) ([]item, *string, error) {
		out, err := p.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: ids, Filters: f, NextToken: next})
		if err != nil {
			return nil, nil, err
		}
		return views(out.Subnets, view), out.NextToken, nil
	})
	k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
		vpc, err := req.Need(kindVPC)
		if err != nil {
			return item{}, err
		}
		var out *ec2.CreateSubnetOutput
		err = p.make(ctx, req, "CreateSubnet", sendBy, func(ctx context.Context) (err error) {
			out, err = p.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{
				VpcId: sdk.String(vpc), CidrBlock: sdk.String(req.Step.Param(paramCIDR)), AvailabilityZone: optional(req.Step.Param(paramZone)),
				TagSpecifications: []types.TagSpecification{tagsAt(types.ResourceTypeSubnet, tags)},
			})
			return err
		})
		if err != nil {
			return item{}, err
		}
		return viewOr(out.Subnet, view), nil
	}
	k.Mend = func(ctx context.Context, req cloud.EnsureResourceRequest, i *item) error {
		if !i.Detail.public {
			err := p.change(ctx, "give public addresses in subnet", "ModifySubnetAttribute", func(ctx context.Context) error {
				_, err := p.ec2.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{
					SubnetId: sdk.String(i.ID), MapPublicIpOnLaunch: &types.AttributeBooleanValue{Value: sdk.Bool(true)},
				})
				return err
			})
			if err != nil {
				return err
			}
		}
		return p.associate(ctx, req, i)
	}
	k.Remove = func(ctx context.Context, i *item) error {
		return p.erase(ctx, kindSubnet, "DeleteSubnet", func(ctx context.Context) error {
			_, err := p.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: sdk.String(i.ID)})
			return err
		})
	}
	return k
}

// associate makes a subnet use the cluster's route table. That of a new one is not
// read: it may be as new as the subnet, and nothing is associated with that.
func (p *Provider) associate(ctx context.Context, req cloud.EnsureResourceRequest, subnet *item) error {
	id, err := req.Need(kindRouteTable)
	if err != nil {
		return err
	}
	if !subnet.Fresh {
		if done, err := p.associated(ctx, id, subnet.ID); done || err != nil {
			return err
		}
	}
	subnet.Fresh = false
	return p.change(ctx, "associate route-table", "AssociateRouteTable", func(ctx context.Context) error {
		_, err := p.ec2.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: sdk.String(id), SubnetId: sdk.String(subnet.ID)})
		return err
	})
}

// associated reads whether a subnet uses a route table.
func (p *Provider) associated(ctx context.Context, id, subnet string) (bool, error) {
	k, err := p.Kind(kindRouteTable)
	if err != nil {
		return false, err
	}
	table, err := k.Get(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return false, p.seen.Absent("read "+kindRouteTable, id)
	}
	return slices.ContainsFunc(table.Detail.links, func(l types.RouteTableAssociation) bool { return sdk.ToString(l.SubnetId) == subnet }), err
}

func views[T any](from []T, view func(*T) item) []item {
	out := make([]item, len(from))
	for n := range from {
		out[n] = view(&from[n])
		out[n].Made = made(out[n].Tags)
	}
	return out
}

// viewOr is an empty item for an answer that has none.
func viewOr[T any](from *T, view func(*T) item) item {
	if from == nil {
		return item{}
	}
	i := view(from)
	i.Made = made(i.Tags)
	return i
}
