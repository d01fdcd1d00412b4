package ec2

import (
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type vpc struct {
	ID      string `xml:"vpcId"`
	Owner   string `xml:"ownerId"`
	State   string `xml:"state"`
	CIDR    string `xml:"cidrBlock"`
	Tenancy string `xml:"instanceTenancy"`
	Default bool   `xml:"isDefault"`
	Tags    []tag  `xml:"tagSet>item"`
}

func (f *face) vpc(v account.VPC) vpc {
	return vpc{v.ID, account.AccountID, "available", v.CIDR.String(), "default", false, f.tagsOf(v.ID)}
}

var byVPC = lookup[account.VPC]{
	prefix: "vpc", code: "InvalidVpcID.NotFound", missing: "The vpc ID '%s' does not exist",
	ids: "VpcId", set: "vpcSet",
	id: func(v account.VPC) string { return v.ID },
	fields: func(v account.VPC) fields {
		return fields{"vpc-id": one(v.ID), "cidr": one(v.CIDR.String()), "cidr-block": one(v.CIDR.String()), "state": one("available"), "is-default": one("false"), "owner-id": one(account.AccountID)}
	},
}

type gateway struct {
	ID          string       `xml:"internetGatewayId"`
	Owner       string       `xml:"ownerId"`
	Attachments []attachment `xml:"attachmentSet>item"`
	Tags        []tag        `xml:"tagSet>item"`
}

type attachment struct {
	VPC   string `xml:"vpcId"`
	State string `xml:"state"`
}

func (f *face) gateway(g account.InternetGateway) gateway {
	out := gateway{ID: g.ID, Owner: account.AccountID, Tags: f.tagsOf(g.ID)}
	if g.VPC != "" {
		out.Attachments = []attachment{{g.VPC, "available"}}
	}
	return out
}

var byGateway = lookup[account.InternetGateway]{
	prefix: "igw", code: "InvalidInternetGatewayID.NotFound", missing: "The internetGateway ID '%s' does not exist",
	ids: "InternetGatewayId", set: "internetGatewaySet",
	id: func(g account.InternetGateway) string { return g.ID },
	fields: func(g account.InternetGateway) fields {
		return fields{"internet-gateway-id": one(g.ID), "attachment.vpc-id": one(g.VPC), "attachment.state": one(word(g.VPC != "", "available", "")), "owner-id": one(account.AccountID)}
	},
}

func (f *face) network(to map[string]query.Action) {
	on(f, to, "CreateVpc", func(v account.View, in struct {
		CidrBlock, InstanceTenancy string
		TagSpecification           []tagSpec
	},
	) (any, error) {
		tags, err := tagsFor(in.TagSpecification, "vpc")
		if err != nil {
			return nil, err
		}
		made, err := v.CreateVPC(in.CidrBlock, tags)
		return struct {
			VPC vpc `xml:"vpc"`
		}{f.vpc(made)}, err
	})
	describe(f, to, "DescribeVpcs", byVPC, account.View.VPCs, f.vpc)
	on(f, to, "ModifyVpcAttribute", func(v account.View, in struct {
		VpcID              string                `query:"VpcId"`
		EnableDNSSupport   *struct{ Value bool } `query:"EnableDnsSupport"`
		EnableDNSHostnames *struct{ Value bool } `query:"EnableDnsHostnames"`
	},
	) (done, error) {
		var a account.VPCAttribute
		if in.EnableDNSSupport != nil {
			a.DNSSupport = &in.EnableDNSSupport.Value
		}
		if in.EnableDNSHostnames != nil {
			a.DNSHostnames = &in.EnableDNSHostnames.Value
		}
		return ok(v.ModifyVPC(in.VpcID, a))
	})
	on(f, to, "DescribeVpcAttribute", f.vpcAttribute)
	on(f, to, "DeleteVpc", func(v account.View, in struct {
		VpcID string `query:"VpcId"`
	},
	) (done, error) {
		return ok(v.DeleteVPC(in.VpcID))
	})
	f.gateways(to)
	f.subnets(to)
	f.routes(to)
}

type vpcAttributeOut struct {
	VPC       string `xml:"vpcId"`
	Support   *flag  `xml:"enableDnsSupport"`
	Hostnames *flag  `xml:"enableDnsHostnames"`
}

type flag struct {
	Value bool `xml:"value"`
}

func (f *face) vpcAttribute(v account.View, in struct {
	VpcID     string `query:"VpcId"`
	Attribute string
},
) (vpcAttributeOut, error) {
	chosen, err := choose(f, v.VPCs(), byVPC, []string{in.VpcID}, nil)
	if err != nil {
		return vpcAttributeOut{}, err
	}
	out := vpcAttributeOut{VPC: in.VpcID}
	switch in.Attribute {
	case "enableDnsSupport":
		out.Support = &flag{chosen[0].DNSSupport}
	case "enableDnsHostnames":
		out.Hostnames = &flag{chosen[0].DNSHostname}
	default:
		return out, query.Refuse("InvalidParameterValue", "Value (%s) for parameter attribute is invalid.", in.Attribute)
	}
	return out, nil
}

func (f *face) gateways(to map[string]query.Action) {
	type pair struct {
		GatewayID string `query:"InternetGatewayId"`
		VpcID     string `query:"VpcId"`
	}
	on(f, to, "CreateInternetGateway", func(v account.View, in struct{ TagSpecification []tagSpec }) (any, error) {
		tags, err := tagsFor(in.TagSpecification, "internet-gateway")
		if err != nil {
			return nil, err
		}
		return struct {
			Gateway gateway `xml:"internetGateway"`
		}{f.gateway(v.CreateInternetGateway(tags))}, nil
	})
	describe(f, to, "DescribeInternetGateways", byGateway, account.View.InternetGateways, f.gateway)
	on(f, to, "AttachInternetGateway", func(v account.View, in pair) (done, error) {
		return ok(v.AttachInternetGateway(in.GatewayID, in.VpcID))
	})
	on(f, to, "DetachInternetGateway", func(v account.View, in pair) (done, error) {
		return ok(v.DetachInternetGateway(in.GatewayID, in.VpcID))
	})
	on(f, to, "DeleteInternetGateway", func(v account.View, in struct {
		GatewayID string `query:"InternetGatewayId"`
	},
	) (done, error) {
		return ok(v.DeleteInternetGateway(in.GatewayID))
	})
}
