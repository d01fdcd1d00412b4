package ec2

import (
	"net/netip"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type cidrRange struct {
	CIDR        string `xml:"cidrIp" query:"CidrIp"`
	Description string `xml:"description,omitempty"`
}

type groupPair struct {
	User        string `xml:"userId" query:"UserId"`
	Group       string `xml:"groupId" query:"GroupId"`
	Description string `xml:"description,omitempty"`
}

// permission is what EC2 makes of rules with the same protocol and ports.
type permission struct {
	Protocol string      `xml:"ipProtocol" query:"IpProtocol"`
	From     *int        `xml:"fromPort" query:"FromPort"`
	To       *int        `xml:"toPort" query:"ToPort"`
	Groups   []groupPair `xml:"groups>item" query:"Groups"`
	Ranges   []cidrRange `xml:"ipRanges>item" query:"IpRanges"`
}

// rules takes a permission of a request apart.
func (p permission) rules() ([]account.Rule, error) {
	base := account.Rule{Protocol: strings.ToLower(p.Protocol), From: -1, To: -1}
	switch base.Protocol {
	case "":
		return nil, query.Refuse("MissingParameter", "The request must contain the parameter ipProtocol")
	case "6":
		base.Protocol = "tcp"
	case "17":
		base.Protocol = "udp"
	case "1":
		base.Protocol = "icmp"
	case "-1", "tcp", "udp", "icmp":
	default:
		return nil, query.Refuse("InvalidParameterValue", "Invalid value '%s' for IP protocol. Unknown protocol.", p.Protocol)
	}
	if base.Protocol != "-1" {
		if p.From == nil || p.To == nil {
			return nil, query.Refuse("InvalidParameterValue", "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.")
		}
		base.From, base.To = *p.From, *p.To
	}
	var out []account.Rule
	for _, r := range p.Ranges {
		one := base
		cidr, err := netip.ParsePrefix(r.CIDR)
		if err != nil || !cidr.Addr().Is4() {
			return nil, query.Refuse("InvalidParameterValue", "CIDR block %s is malformed", r.CIDR)
		}
		one.CIDR, one.Description = cidr.Masked(), r.Description
		out = append(out, one)
	}
	for _, g := range p.Groups {
		if g.User != "" && g.User != account.AccountID {
			return nil, query.Refuse("InvalidGroup.NotFound", "The security group '%s' does not exist in account %s", g.Group, g.User)
		}
		one := base
		one.Group, one.Description = g.Group, g.Description
		out = append(out, one)
	}
	if len(out) == 0 {
		return nil, query.Refuse("MissingParameter", "A permission must name IP ranges or security groups.")
	}
	return out, nil
}

func allRules(in []permission) ([]account.Rule, error) {
	var out []account.Rule
	for _, p := range in {
		rules, err := p.rules()
		if err != nil {
			return nil, err
		}
		out = append(out, rules...)
	}
	return out, nil
}

// permissions puts rules together as EC2 shows them.
func permissions(rules []account.Rule) []permission {
	var out []permission
	for _, r := range rules {
		n := -1
		for i, p := range out {
			if p.Protocol == r.Protocol && (p.From == nil || *p.From == r.From && *p.To == r.To) {
				n = i
			}
		}
		if n < 0 {
			p := permission{Protocol: r.Protocol}
			if r.Protocol != "-1" {
				p.From, p.To = &r.From, &r.To
			}
			out = append(out, p)
			n = len(out) - 1
		}
		if r.Group != "" {
			out[n].Groups = append(out[n].Groups, groupPair{account.AccountID, r.Group, r.Description})
		} else {
			out[n].Ranges = append(out[n].Ranges, cidrRange{r.CIDR.String(), r.Description})
		}
	}
	return out
}

type securityGroup struct {
	Owner       string       `xml:"ownerId"`
	ID          string       `xml:"groupId"`
	Name        string       `xml:"groupName"`
	Description string       `xml:"groupDescription"`
	VPC         string       `xml:"vpcId"`
	Ingress     []permission `xml:"ipPermissions>item"`
	Egress      []permission `xml:"ipPermissionsEgress>item"`
	Tags        []tag        `xml:"tagSet>item"`
}

func (f *face) securityGroup(g account.SecurityGroup) securityGroup {
	return securityGroup{
		account.AccountID, g.ID, g.Name, g.Description, g.VPC, permissions(g.Ingress), permissions([]account.Rule{g.Egress}), f.tagsOf(g.ID),
	}
}

// groupNames completes ids of groups.
func (f *face) groupNames(ids []string) []groupID {
	var out []groupID
	for _, g := range f.account.Omniscient().SecurityGroups() {
		for _, id := range ids {
			if g.ID == id {
				out = append(out, groupID{id, g.Name})
			}
		}
	}
	return out
}

var byGroup = lookup[account.SecurityGroup]{
	prefix: "sg", code: "InvalidGroup.NotFound", missing: "The security group '%s' does not exist",
	ids: "GroupId", set: "securityGroupInfo",
	id: func(g account.SecurityGroup) string { return g.ID },
	fields: func(g account.SecurityGroup) fields {
		var cidrs, groups []string
		for _, r := range g.Ingress {
			if r.Group != "" {
				groups = append(groups, r.Group)
			} else {
				cidrs = append(cidrs, r.CIDR.String())
			}
		}
		return fields{
			"group-id": one(g.ID), "group-name": one(g.Name), "vpc-id": one(g.VPC), "description": one(g.Description), "owner-id": one(account.AccountID),
			"ip-permission.cidr": cidrs, "ip-permission.group-id": groups,
		}
	},
}

// ruleOut is a rule with its group.
type ruleOut struct {
	ID          string    `xml:"securityGroupRuleId"`
	Group       string    `xml:"groupId"`
	Owner       string    `xml:"groupOwnerId"`
	Egress      bool      `xml:"isEgress"`
	Protocol    string    `xml:"ipProtocol"`
	From        int       `xml:"fromPort"`
	To          int       `xml:"toPort"`
	CIDR        string    `xml:"cidrIpv4,omitempty"`
	Referenced  *groupRef `xml:"referencedGroupInfo"`
	Description string    `xml:"description,omitempty"`
	Tags        []tag     `xml:"tagSet>item"`
}

type groupRef struct {
	Group string `xml:"groupId"`
	User  string `xml:"userId"`
}

func (f *face) rule(group string, egress bool) func(account.Rule) ruleOut {
	return func(r account.Rule) ruleOut {
		out := ruleOut{
			ID: r.ID, Group: group, Owner: account.AccountID, Egress: egress, Protocol: r.Protocol, From: r.From, To: r.To,
			Description: r.Description, Tags: f.tagsOf(r.ID),
		}
		if r.Group != "" {
			out.Referenced = &groupRef{r.Group, account.AccountID}
		} else {
			out.CIDR = r.CIDR.String()
		}
		return out
	}
}

var byRule = lookup[ruleOut]{
	prefix: "sgr", code: "InvalidSecurityGroupRuleId.NotFound", missing: "The security group rule ID '%s' does not exist",
	ids: "SecurityGroupRuleId", set: "securityGroupRuleSet",
	id: func(r ruleOut) string { return r.ID },
	fields: func(r ruleOut) fields {
		return fields{"group-id": one(r.Group), "security-group-rule-id": one(r.ID)}
	},
}

func (f *face) groups(to map[string]query.Action) {
	on(f, to, "CreateSecurityGroup", func(v account.View, in struct {
		GroupName        string
		GroupDescription string
		VpcID            string `query:"VpcId"`
		TagSpecification []tagSpec
	},
	) (any, error) {
		tags, err := tagsFor(in.TagSpecification, "security-group")
		if err != nil {
			return nil, err
		}
		made, err := v.CreateSecurityGroup(in.GroupName, in.GroupDescription, in.VpcID, tags)
		return struct {
			done
			ID   string `xml:"groupId"`
			Tags []tag  `xml:"tagSet>item"`
		}{done{true}, made.ID, f.tagsOf(made.ID)}, err
	})
	describe(f, to, "DescribeSecurityGroups", byGroup, account.View.SecurityGroups, f.securityGroup)
	on(f, to, "AuthorizeSecurityGroupIngress", func(v account.View, in struct {
		GroupID          string       `query:"GroupId"`
		Permissions      []permission `query:"IpPermissions"`
		TagSpecification []tagSpec
	},
	) (any, error) {
		tags, err := tagsFor(in.TagSpecification, "security-group-rule")
		if err != nil {
			return nil, err
		}
		rules, err := allRules(in.Permissions)
		if err != nil {
			return nil, err
		}
		made, err := v.AuthorizeIngress(in.GroupID, rules, tags)
		return struct {
			done
			Rules []ruleOut `xml:"securityGroupRuleSet>item"`
		}{done{true}, each(made, f.rule(in.GroupID, false))}, err
	})
	on(f, to, "RevokeSecurityGroupIngress", func(v account.View, in struct {
		GroupID     string       `query:"GroupId"`
		Permissions []permission `query:"IpPermissions"`
		RuleID      []string     `query:"SecurityGroupRuleId"`
	},
	) (done, error) {
		rules, err := allRules(in.Permissions)
		if err != nil {
			return done{}, err
		}
		return ok(v.RevokeIngress(in.GroupID, rules, in.RuleID))
	})
	describe(f, to, "DescribeSecurityGroupRules", byRule, func(v account.View) (all []ruleOut) {
		for _, g := range v.SecurityGroups() {
			all = append(append(all, each(g.Ingress, f.rule(g.ID, false))...), f.rule(g.ID, true)(g.Egress))
		}
		return all
	}, func(r ruleOut) ruleOut { return r })
	on(f, to, "DeleteSecurityGroup", func(v account.View, in struct {
		GroupID string `query:"GroupId"`
	},
	) (done, error) {
		return ok(v.DeleteSecurityGroup(in.GroupID))
	})
	f.interfaces(to)
	f.placements(to)
}
