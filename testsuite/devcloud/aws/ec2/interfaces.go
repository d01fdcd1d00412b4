package ec2

import (
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type networkInterface struct {
	ID          string         `xml:"networkInterfaceId"`
	Subnet      string         `xml:"subnetId"`
	VPC         string         `xml:"vpcId"`
	Zone        string         `xml:"availabilityZone,omitempty"`
	Description string         `xml:"description"`
	Owner       string         `xml:"ownerId"`
	Requester   bool           `xml:"requesterManaged"`
	Status      string         `xml:"status"`
	Private     string         `xml:"privateIpAddress"`
	PrivateName string         `xml:"privateDnsName"`
	CheckSource bool           `xml:"sourceDestCheck"`
	Kind        string         `xml:"interfaceType"`
	Groups      []groupID      `xml:"groupSet>item"`
	Attachment  *eniAttachment `xml:"attachment"`
	Association *association   `xml:"association"`
	Addresses   []address      `xml:"privateIpAddressesSet>item"`
	Tags        []tag          `xml:"tagSet>item"`
}

type eniAttachment struct {
	ID       string `xml:"attachmentId"`
	Instance string `xml:"instanceId,omitempty"`
	Index    int    `xml:"deviceIndex"`
	Status   string `xml:"status"`
	Delete   bool   `xml:"deleteOnTermination"`
}

type association struct {
	Public string `xml:"publicIp"`
	Name   string `xml:"publicDnsName"`
	Owner  string `xml:"ipOwnerId"`
}

type address struct {
	Private     string       `xml:"privateIpAddress"`
	Primary     bool         `xml:"primary"`
	Association *association `xml:"association"`
}

func (f *face) networkInterface(n account.Interface) networkInterface {
	out := networkInterface{
		ID: n.ID, Subnet: n.Subnet, VPC: n.VPC, Zone: n.Zone, Description: n.Description, Owner: account.AccountID, Requester: n.Instance == "",
		Status: "in-use", Private: n.Private.String(), PrivateName: account.PrivateName(n.Private.String()), CheckSource: true,
		Kind: word(n.Instance == "", "network_load_balancer", "interface"), Groups: f.groupNames(n.Groups), Tags: f.tagsOf(n.ID),
		Attachment: &eniAttachment{"eni-attach" + n.ID[3:], n.Instance, 0, "attached", n.DeleteOnTermination},
	}
	if n.Public {
		public := n.Loopback.String()
		out.Association = &association{public, account.PublicName(public), word(n.Instance == "", account.AccountID, "amazon")}
	}
	out.Addresses = []address{{out.Private, true, out.Association}}
	return out
}

var byInterface = lookup[account.Interface]{
	prefix: "eni", code: "InvalidNetworkInterfaceID.NotFound", missing: "The networkInterface ID '%s' does not exist",
	ids: "NetworkInterfaceId", set: "networkInterfaceSet",
	id: func(n account.Interface) string { return n.ID },
	fields: func(n account.Interface) fields {
		return fields{
			"network-interface-id": one(n.ID), "subnet-id": one(n.Subnet), "vpc-id": one(n.VPC), "group-id": n.Groups, "status": one("in-use"),
			"attachment.instance-id": one(n.Instance), "availability-zone": one(n.Zone), "private-ip-address": one(n.Private.String()),
			"description": one(n.Description), "interface-type": one(word(n.Instance == "", "network_load_balancer", "interface")),
			"requester-managed": one(word(n.Instance == "", "true", "false")),
		}
	},
}

func (f *face) interfaces(to map[string]query.Action) {
	describe(f, to, "DescribeNetworkInterfaces", byInterface, account.View.Interfaces, f.networkInterface)
}

type placementGroup struct {
	Name     string `xml:"groupName"`
	State    string `xml:"state"`
	Strategy string `xml:"strategy"`
	ID       string `xml:"groupId"`
	ARN      string `xml:"groupArn"`
	Level    string `xml:"spreadLevel,omitempty"`
	Tags     []tag  `xml:"tagSet>item"`
}

func (f *face) placementGroup(g account.PlacementGroup) placementGroup {
	return placementGroup{
		g.Name, "available", g.Strategy, g.ID, "arn:aws:ec2:" + account.Region + ":" + account.AccountID + ":placement-group/" + g.Name,
		word(g.Strategy == "spread", "rack", ""), f.tagsOf(g.ID),
	}
}

var byPlacement = lookup[account.PlacementGroup]{
	prefix: "pg", code: "InvalidPlacementGroup.Unknown", missing: "The Placement Group '%s' is unknown.",
	id: func(g account.PlacementGroup) string { return g.ID },
	fields: func(g account.PlacementGroup) fields {
		return fields{"group-name": one(g.Name), "state": one("available"), "strategy": one(g.Strategy), "spread-level": one(word(g.Strategy == "spread", "rack", ""))}
	},
}

func (f *face) placements(to map[string]query.Action) {
	type described struct {
		Items []placementGroup `xml:"placementGroupSet>item"`
	}
	on(f, to, "CreatePlacementGroup", func(v account.View, in struct {
		GroupName, Strategy, SpreadLevel string
		TagSpecification                 []tagSpec
	},
	) (any, error) {
		tags, err := tagsFor(in.TagSpecification, "placement-group")
		if err != nil {
			return nil, err
		}
		if in.SpreadLevel != "" && in.SpreadLevel != "rack" {
			return nil, query.Refuse("InvalidParameterValue", "Value (%s) for parameter spreadLevel is invalid.", in.SpreadLevel)
		}
		made, err := v.CreatePlacementGroup(in.GroupName, in.Strategy, tags)
		return struct {
			done
			Group placementGroup `xml:"placementGroup"`
		}{done{true}, f.placementGroup(made)}, err
	})
	on(f, to, "DescribePlacementGroups", func(v account.View, in struct {
		GroupName []string
		GroupID   []string `query:"GroupId"`
		Filter    []filter
	},
	) (described, error) {
		all := v.PlacementGroups()
		ids := in.GroupID
		for _, name := range in.GroupName {
			id := ""
			for _, g := range all {
				if g.Name == name {
					id = g.ID
				}
			}
			if id == "" {
				return described{}, query.Refuse(byPlacement.code, byPlacement.missing, name)
			}
			ids = append(ids, id)
		}
		chosen, err := choose(f, all, byPlacement, ids, in.Filter)
		return described{each(chosen, f.placementGroup)}, err
	})
	on(f, to, "DeletePlacementGroup", func(v account.View, in struct{ GroupName string }) (done, error) {
		return ok(v.DeletePlacementGroup(in.GroupName))
	})
}
