package ec2

import (
	"strconv"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type subnet struct {
	ID     string `xml:"subnetId"`
	ARN    string `xml:"subnetArn"`
	State  string `xml:"state"`
	Owner  string `xml:"ownerId"`
	VPC    string `xml:"vpcId"`
	CIDR   string `xml:"cidrBlock"`
	Free   int    `xml:"availableIpAddressCount"`
	Zone   string `xml:"availabilityZone"`
	ZoneID string `xml:"availabilityZoneId"`
	Public bool   `xml:"mapPublicIpOnLaunch"`
	Tags   []tag  `xml:"tagSet>item"`
}

func (f *face) subnet(s account.Subnet) subnet {
	return subnet{
		s.ID, "arn:aws:ec2:" + account.Region + ":" + account.AccountID + ":subnet/" + s.ID, "available", account.AccountID, s.VPC,
		s.CIDR.String(), s.Free, s.Zone, account.ZoneID(s.Zone), s.MapPublic, f.tagsOf(s.ID),
	}
}

var bySubnet = lookup[account.Subnet]{
	prefix: "subnet", code: "InvalidSubnetID.NotFound", missing: "The subnet ID '%s' does not exist",
	ids: "SubnetId", set: "subnetSet",
	id: func(s account.Subnet) string { return s.ID },
	fields: func(s account.Subnet) fields {
		return fields{
			"subnet-id": one(s.ID), "vpc-id": one(s.VPC), "availability-zone": one(s.Zone), "availabilityZone": one(s.Zone),
			"availability-zone-id": one(account.ZoneID(s.Zone)), "cidr": one(s.CIDR.String()), "cidr-block": one(s.CIDR.String()),
			"state": one("available"), "map-public-ip-on-launch": one(strconv.FormatBool(s.MapPublic)), "owner-id": one(account.AccountID),
		}
	},
}

func (f *face) subnets(to map[string]query.Action) {
	on(f, to, "CreateSubnet", func(v account.View, in struct {
		VpcID              string `query:"VpcId"`
		CidrBlock          string
		AvailabilityZone   string
		AvailabilityZoneID string `query:"AvailabilityZoneId"`
		TagSpecification   []tagSpec
	},
	) (any, error) {
		tags, err := tagsFor(in.TagSpecification, "subnet")
		if err != nil {
			return nil, err
		}
		made, err := v.CreateSubnet(in.VpcID, in.CidrBlock, in.AvailabilityZone+in.AvailabilityZoneID, tags)
		return struct {
			Subnet subnet `xml:"subnet"`
		}{f.subnet(made)}, err
	})
	describe(f, to, "DescribeSubnets", bySubnet, account.View.Subnets, f.subnet)
	on(f, to, "ModifySubnetAttribute", func(v account.View, in struct {
		SubnetID            string                `query:"SubnetId"`
		MapPublicIPOnLaunch *struct{ Value bool } `query:"MapPublicIpOnLaunch"`
	},
	) (done, error) {
		if in.MapPublicIPOnLaunch == nil {
			return ok(v.ModifySubnet(in.SubnetID, nil))
		}
		return ok(v.ModifySubnet(in.SubnetID, &in.MapPublicIPOnLaunch.Value))
	})
	on(f, to, "DeleteSubnet", func(v account.View, in struct {
		SubnetID string `query:"SubnetId"`
	},
	) (done, error) {
		return ok(v.DeleteSubnet(in.SubnetID))
	})
}

type routeTable struct {
	ID           string             `xml:"routeTableId"`
	VPC          string             `xml:"vpcId"`
	Owner        string             `xml:"ownerId"`
	Routes       []route            `xml:"routeSet>item"`
	Associations []routeAssociation `xml:"associationSet>item"`
	Tags         []tag              `xml:"tagSet>item"`
}

type route struct {
	Destination string `xml:"destinationCidrBlock"`
	Gateway     string `xml:"gatewayId"`
	State       string `xml:"state"`
	Origin      string `xml:"origin"`
}

type routeAssociation struct {
	ID     string `xml:"routeTableAssociationId"`
	Table  string `xml:"routeTableId"`
	Subnet string `xml:"subnetId,omitempty"`
	Main   bool   `xml:"main"`
	State  string `xml:"associationState>state"`
}

// routeTable encodes a route table; vpcs are those that the request sees.
func (f *face) routeTable(r account.RouteTable, vpcs []account.VPC) routeTable {
	out := routeTable{ID: r.ID, VPC: r.VPC, Owner: account.AccountID, Tags: f.tagsOf(r.ID)}
	for _, v := range vpcs {
		if v.ID == r.VPC {
			out.Routes = append(out.Routes, route{v.CIDR.String(), "local", "active", "CreateRouteTable"})
		}
	}
	for _, x := range r.Routes {
		out.Routes = append(out.Routes, route{x.Destination.String(), x.Gateway, word(x.Blackhole, "blackhole", "active"), "CreateRoute"})
	}
	if r.Main {
		out.Associations = append(out.Associations, routeAssociation{r.MainAssociation, r.ID, "", true, "associated"})
	}
	for _, x := range r.Associations {
		out.Associations = append(out.Associations, routeAssociation{x.ID, r.ID, x.Subnet, false, "associated"})
	}
	return out
}

var byRouteTable = lookup[account.RouteTable]{
	prefix: "rtb", code: "InvalidRouteTableID.NotFound", missing: "The routeTable ID '%s' does not exist",
	ids: "RouteTableId", set: "routeTableSet",
	id: func(r account.RouteTable) string { return r.ID },
	fields: func(r account.RouteTable) fields {
		out := fields{
			"route-table-id": one(r.ID), "vpc-id": one(r.VPC), "association.main": one(strconv.FormatBool(r.Main)), "owner-id": one(account.AccountID),
			"association.subnet-id": nil, "association.route-table-association-id": nil, "route.gateway-id": one("local"),
			"route.destination-cidr-block": nil,
		}
		for _, x := range r.Associations {
			out["association.subnet-id"] = append(out["association.subnet-id"], x.Subnet)
			out["association.route-table-association-id"] = append(out["association.route-table-association-id"], x.ID)
		}
		for _, x := range r.Routes {
			out["route.gateway-id"] = append(out["route.gateway-id"], x.Gateway)
			out["route.destination-cidr-block"] = append(out["route.destination-cidr-block"], x.Destination.String())
		}
		return out
	},
}

func (f *face) routes(to map[string]query.Action) {
	on(f, to, "CreateRouteTable", func(v account.View, in struct {
		VpcID            string `query:"VpcId"`
		ClientToken      string
		TagSpecification []tagSpec
	},
	) (any, error) {
		tags, err := tagsFor(in.TagSpecification, "route-table")
		if err != nil {
			return nil, err
		}
		made, err := v.CreateRouteTable(in.VpcID, in.ClientToken, tags)
		return struct {
			Table routeTable `xml:"routeTable"`
			Token string     `xml:"clientToken,omitempty"`
		}{f.routeTable(made, v.VPCs()), in.ClientToken}, err
	})
	on(f, to, "DescribeRouteTables", func(v account.View, in struct {
		asked
		TableID []string `query:"RouteTableId"`
	},
	) (found[routeTable], error) {
		vpcs := v.VPCs()
		return look(f, v.RouteTables(), byRouteTable, in.TableID, in.asked, func(r account.RouteTable) routeTable { return f.routeTable(r, vpcs) })
	})
	on(f, to, "CreateRoute", func(v account.View, in struct {
		TableID     string `query:"RouteTableId"`
		Destination string `query:"DestinationCidrBlock"`
		GatewayID   string `query:"GatewayId"`
	},
	) (done, error) {
		return ok(v.CreateRoute(in.TableID, in.Destination, in.GatewayID))
	})
	on(f, to, "AssociateRouteTable", func(v account.View, in struct {
		TableID  string `query:"RouteTableId"`
		SubnetID string `query:"SubnetId"`
	},
	) (any, error) {
		id, err := v.AssociateRouteTable(in.TableID, in.SubnetID)
		return struct {
			ID    string `xml:"associationId"`
			State string `xml:"associationState>state"`
		}{id, "associated"}, err
	})
	on(f, to, "DisassociateRouteTable", func(v account.View, in struct {
		ID string `query:"AssociationId"`
	},
	) (done, error) {
		return ok(v.DisassociateRouteTable(in.ID))
	})
	on(f, to, "DeleteRouteTable", func(v account.View, in struct {
		TableID string `query:"RouteTableId"`
	},
	) (done, error) {
		return ok(v.DeleteRouteTable(in.TableID))
	})
}
