package ec2

import (
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type state struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

// stateOf encodes a state with EC2's number for it.
func stateOf(name string) state {
	return state{map[string]int{
		account.Pending: 0, account.Running: 16, account.ShuttingDown: 32, account.Terminated: 48, account.Stopping: 64, account.Stopped: 80,
	}[name], name}
}

type reason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type groupID struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}

type placement struct {
	Zone   string `xml:"availabilityZone"`
	ZoneID string `xml:"availabilityZoneId"`
	Group  string `xml:"groupName"`
	Tenant string `xml:"tenancy"`
}

type device struct {
	Name string     `xml:"deviceName"`
	EBS  deviceDisk `xml:"ebs"`
}

type deviceDisk struct {
	Volume   string `xml:"volumeId"`
	Status   string `xml:"status"`
	Attached string `xml:"attachTime"`
	Delete   bool   `xml:"deleteOnTermination"`
}

type profile struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

type metadataOptions struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	HopLimit int    `xml:"httpPutResponseHopLimit"`
	Endpoint string `xml:"httpEndpoint"`
	IPv6     string `xml:"httpProtocolIpv6"`
	Tags     string `xml:"instanceMetadataTags"`
}

type instance struct {
	ID             string             `xml:"instanceId"`
	Image          string             `xml:"imageId"`
	State          state              `xml:"instanceState"`
	PrivateName    string             `xml:"privateDnsName"`
	PublicName     string             `xml:"dnsName"`
	Reason         string             `xml:"reason"`
	LaunchIndex    int                `xml:"amiLaunchIndex"`
	Type           string             `xml:"instanceType"`
	Launched       string             `xml:"launchTime"`
	Placement      placement          `xml:"placement"`
	Monitoring     string             `xml:"monitoring>state"`
	Subnet         string             `xml:"subnetId,omitempty"`
	VPC            string             `xml:"vpcId,omitempty"`
	Private        string             `xml:"privateIpAddress,omitempty"`
	Public         string             `xml:"ipAddress,omitempty"`
	CheckSource    bool               `xml:"sourceDestCheck"`
	Groups         []groupID          `xml:"groupSet>item"`
	StateReason    *reason            `xml:"stateReason"`
	Arch           string             `xml:"architecture"`
	RootType       string             `xml:"rootDeviceType"`
	RootName       string             `xml:"rootDeviceName"`
	Devices        []device           `xml:"blockDeviceMapping>item"`
	Virtualization string             `xml:"virtualizationType"`
	Lifecycle      string             `xml:"instanceLifecycle,omitempty"`
	SpotID         string             `xml:"spotInstanceRequestId,omitempty"`
	ClientToken    string             `xml:"clientToken"`
	Tags           []tag              `xml:"tagSet>item"`
	Hypervisor     string             `xml:"hypervisor"`
	Interfaces     []networkInterface `xml:"networkInterfaceSet>item"`
	Profile        *profile           `xml:"iamInstanceProfile"`
	Metadata       metadataOptions    `xml:"metadataOptions"`
	BootMode       string             `xml:"bootMode,omitempty"`
	Boots          string             `xml:"currentInstanceBootMode"`
}

func (f *face) instance(i account.Instance) instance {
	hypervisor := "xen" // what EC2 says of Nitro, too
	out := instance{
		ID: i.ID, Image: i.Image, State: stateOf(i.State), PrivateName: account.PrivateName(i.Private), Type: i.Type.Name,
		Launched: stamp(i.Launched), Placement: placement{i.Zone, account.ZoneID(i.Zone), i.Placement, "default"},
		Monitoring: word(i.Monitoring, "enabled", "disabled"), Subnet: i.Subnet, VPC: i.VPC, Private: i.Private, Public: i.Public(),
		CheckSource: true, Arch: i.Type.Arch, RootType: "ebs", RootName: i.RootDevice, Virtualization: "hvm", ClientToken: i.ClientName,
		Tags: f.tagsOf(i.ID), Hypervisor: hypervisor, BootMode: i.BootMode, Boots: word(i.Type.UEFI(), "uefi", "legacy-bios"),
		Metadata: metadataOptions{
			State: word(i.State == account.Pending, "pending", "applied"), Tokens: i.Metadata.Tokens, HopLimit: i.Metadata.HopLimit,
			Endpoint: i.Metadata.Endpoint, IPv6: i.Metadata.IPv6, Tags: i.Metadata.Tags,
		},
	}
	if out.Public != "" {
		out.PublicName = account.PublicName(out.Public)
	}
	if i.Reason.Code != "" {
		out.StateReason = &reason{i.Reason.Code, i.Reason.Message}
		out.Reason = word(i.Reason.Code == "Client.UserInitiatedShutdown", "User initiated", i.Reason.Message)
	}
	if i.Spot {
		out.Lifecycle, out.SpotID = "spot", i.SpotID
	}
	if i.Profile != "" {
		out.Profile = &profile{"arn:aws:iam::" + account.AccountID + ":instance-profile/" + i.Profile, "AIPADEVCLOUD" + i.Profile}
	}
	for n, eni := range i.Interfaces {
		out.Interfaces = append(out.Interfaces, f.networkInterface(eni))
		if n == 0 {
			out.Groups = f.groupNames(eni.Groups)
		}
	}
	for _, v := range i.Volumes {
		out.Devices = append(out.Devices, device{v.Device, deviceDisk{v.ID, "attached", stamp(v.Created), v.DeleteOnTermination}})
	}
	return out
}

// reservation holds one instance, since only one can be asked for at a time.
type reservation struct {
	ID        string     `xml:"reservationId"`
	Owner     string     `xml:"ownerId"`
	Instances []instance `xml:"instancesSet>item"`
}

func (f *face) reservation(i account.Instance) reservation {
	return reservation{"r" + i.ID[1:], account.AccountID, []instance{f.instance(i)}}
}

var byInstance = lookup[account.Instance]{
	prefix: "i", code: "InvalidInstanceID.NotFound", missing: "The instance ID '%s' does not exist",
	id: func(i account.Instance) string { return i.ID },
	fields: func(i account.Instance) fields {
		var groups, enis, volumes, devices []string
		for _, n := range i.Interfaces {
			groups, enis = append(groups, n.Groups...), append(enis, n.ID)
		}
		for _, v := range i.Volumes {
			volumes, devices = append(volumes, v.ID), append(devices, v.Device)
		}
		return fields{
			"instance-id": one(i.ID), "instance-state-name": one(i.State), "instance-type": one(i.Type.Name), "image-id": one(i.Image),
			"availability-zone": one(i.Zone), "vpc-id": one(i.VPC), "subnet-id": one(i.Subnet), "client-token": one(i.ClientName),
			"private-ip-address": one(i.Private), "ip-address": one(i.Public()), "private-dns-name": one(account.PrivateName(i.Private)),
			"architecture": one(i.Type.Arch), "placement-group-name": one(i.Placement), "instance.group-id": groups,
			"network-interface.network-interface-id": enis, "block-device-mapping.volume-id": volumes,
			"block-device-mapping.device-name": devices, "root-device-name": one(i.RootDevice),
			"instance-lifecycle": one(word(i.Spot, "spot", "")), "spot-instance-request-id": one(i.SpotID),
		}
	},
}

type describeInstances struct {
	paging
	InstanceID []string `query:"InstanceId"`
	Filter     []filter
}

type describedInstances struct {
	Reservations []reservation `xml:"reservationSet>item"`
	NextToken    string        `xml:"nextToken,omitempty"`
}

type instanceIDs struct {
	InstanceID []string `query:"InstanceId"`
	Force      *bool
	Hibernate  *bool
	SkipOS     *bool `query:"SkipOsShutdown"`
}

type stateChange struct {
	ID       string `xml:"instanceId"`
	Current  state  `xml:"currentState"`
	Previous state  `xml:"previousState"`
}

type stateChanges struct {
	Instances []stateChange `xml:"instancesSet>item"`
}

func changes(all []account.Change, err error) (stateChanges, error) {
	var out stateChanges
	for _, c := range all {
		out.Instances = append(out.Instances, stateChange{c.ID, stateOf(c.Current), stateOf(c.Previous)})
	}
	return out, err
}

type topologies struct {
	Items []struct{} `xml:"instanceSet>item"`
}

func (f *face) instances(to map[string]query.Action) {
	on(f, to, "DescribeInstances", func(v account.View, in describeInstances) (describedInstances, error) {
		if len(in.InstanceID) > 0 && in.MaxResults != nil {
			return describedInstances{}, query.Refuse("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
		}
		chosen, err := choose(f, v.Instances(), byInstance, in.InstanceID, in.Filter)
		if err != nil {
			return describedInstances{}, err
		}
		chosen, next, err := page(f, chosen, in.paging, 5, byInstance.id)
		out := describedInstances{NextToken: next}
		for _, i := range chosen {
			out.Reservations = append(out.Reservations, f.reservation(i))
		}
		return out, err
	})
	// No type of the catalog has a topology, which the API answers with nothing.
	on(f, to, "DescribeInstanceTopology", func(v account.View, in struct {
		paging
		InstanceID []string `query:"InstanceId"`
	},
	) (topologies, error) {
		_, err := choose(f, v.Instances(), byInstance, in.InstanceID, nil)
		return topologies{}, err
	})
	on(f, to, "TerminateInstances", func(v account.View, in instanceIDs) (stateChanges, error) {
		return changes(v.Terminate(in.InstanceID))
	})
	on(f, to, "StopInstances", func(v account.View, in instanceIDs) (stateChanges, error) {
		return changes(v.Stop(in.InstanceID))
	})
	on(f, to, "StartInstances", func(v account.View, in instanceIDs) (stateChanges, error) {
		return changes(v.Start(in.InstanceID))
	})
}
