package aws_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

func TestInstanceLives(t *testing.T) {
	c := start(t)
	n := c.network(t)
	made := c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) {
		in.ClientToken = p("one")
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: p("node")}
		in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpTokens: "required", HttpPutResponseHopLimit: p(int32(2))}
		in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: p("/dev/xvda"), Ebs: &types.EbsBlockDevice{VolumeSize: p(int32(20)), VolumeType: "gp3"}}}
		in.TagSpecifications = append(in.TagSpecifications, types.TagSpecification{ResourceType: "volume", Tags: []types.Tag{{Key: p("a"), Value: p("b")}}})
	}))
	id := *made.InstanceId
	if made.State.Name != "pending" || *made.PrivateIpAddress == "" || *made.ClientToken != "one" {
		t.Errorf("new: %s, address %s, token %s", made.State.Name, *made.PrivateIpAddress, *made.ClientToken)
	}
	i := c.reaches(t, id, "running")
	want := map[string]string{
		"zone": "eu-central-1a", "vpc": n.vpc, "subnet": n.subnets[0], "type": "t3.medium", "group": n.group, "name": "demo-1", "arch": "x86_64",
		"profile": "arn:aws:iam::123456789012:instance-profile/node", "tokens": "required", "root": "/dev/xvda", "boot": "uefi",
		"dns": "ip-" + strings.ReplaceAll(*made.PrivateIpAddress, ".", "-") + ".eu-central-1.compute.internal",
	}
	got := map[string]string{
		"zone": *i.Placement.AvailabilityZone, "vpc": *i.VpcId, "subnet": *i.SubnetId, "type": string(i.InstanceType), "group": *i.SecurityGroups[0].GroupId,
		"name": *i.Tags[0].Value, "arch": string(i.Architecture), "profile": *i.IamInstanceProfile.Arn, "tokens": string(i.MetadataOptions.HttpTokens),
		"root": *i.RootDeviceName, "boot": string(i.CurrentInstanceBootMode), "dns": *i.PrivateDnsName,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	volume := must(c.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*i.BlockDeviceMappings[0].Ebs.VolumeId}}))(t).Volumes[0]
	if *volume.Size != 20 || volume.VolumeType != "gp3" || volume.State != "in-use" || *volume.Tags[0].Value != "b" || !*volume.Attachments[0].DeleteOnTermination {
		t.Errorf("root volume: %d GB %s %s", *volume.Size, volume.VolumeType, volume.State)
	}
	eni := must(c.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{
		Filters: []types.Filter{{Name: p("attachment.instance-id"), Values: []string{id}}},
	}))(t).NetworkInterfaces[0]
	if *eni.Association.PublicIp != *i.PublicIpAddress || *eni.PrivateIpAddress != *i.PrivateIpAddress {
		t.Errorf("interface %s %s, instance %s %s", *eni.PrivateIpAddress, *eni.Association.PublicIp, *i.PrivateIpAddress, *i.PublicIpAddress)
	}

	until(t, "boot", func() bool { _, ok := c.park.spec(id); return ok })
	spec, _ := c.park.spec(id)
	if spec.Name != *i.PrivateDnsName || spec.Label != "demo-1" || string(spec.UserData) != "machine: {}" || !spec.Public || spec.DiskGiB != 20 ||
		spec.Loopback.String() != *i.PublicIpAddress || spec.Private[0].String() != *i.PrivateIpAddress || spec.Platform != "aws" ||
		spec.ProviderID != "aws:///eu-central-1a/"+id || spec.Image.TalosVersion != "v1.13.5" || spec.Image.Arch != "amd64" || spec.MemoryMiB != 4096 {
		t.Errorf("the guest was told %+v", spec)
	}

	stopped := must(c.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}}))(t).StoppingInstances[0]
	if stopped.PreviousState.Name != "running" || stopped.CurrentState.Name != "stopping" {
		t.Errorf("stop: %s, then %s", stopped.PreviousState.Name, stopped.CurrentState.Name)
	}
	c.reaches(t, id, "stopped")
	must(c.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{id}}))(t)
	c.reaches(t, id, "running")
	until(t, "start", func() bool { return slices.Equal(c.park.story(id), []string{"boot", "off", "on"}) })

	ended := must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))(t).TerminatingInstances[0]
	if ended.PreviousState.Name != "running" || ended.CurrentState.Name != "shutting-down" {
		t.Errorf("terminate: %s, then %s", ended.PreviousState.Name, ended.CurrentState.Name)
	}
	gone := c.reaches(t, id, "terminated")
	if gone.PrivateIpAddress != nil || gone.VpcId != nil || gone.SubnetId != nil || len(gone.BlockDeviceMappings) > 0 ||
		*gone.StateReason.Code != "Client.UserInitiatedShutdown" || *gone.Tags[0].Value != "demo-1" {
		t.Errorf("a terminated instance still says %+v", gone)
	}
	if again := must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))(t); again.TerminatingInstances[0].CurrentState.Name != "terminated" {
		t.Errorf("terminate again: %s", again.TerminatingInstances[0].CurrentState.Name)
	}
	if s := c.account.State(); len(s.Volumes) != 0 || len(s.Interfaces) != 0 {
		t.Errorf("left behind: %v %v", s.Volumes, s.Interfaces)
	}
	_, err := c.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{id}})
	refused(t, err, "IncorrectInstanceState")
	_, err = c.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}})
	refused(t, err, "IncorrectInstanceState")
	until(t, "destruction", func() bool { return slices.Contains(c.park.story(id), "destroyed") })
}

// TestForgotten waits until a terminated instance is shown no more; its token is
// remembered.
func TestForgotten(t *testing.T) {
	lat := account.DefaultLatencies()
	lat.Retention = 10 * time.Minute
	c := startAt(t, account.Settings{PageLimit: 1000}, lat)
	n := c.network(t)
	spec := c.spec(t, n, func(in *ec2.RunInstancesInput) { in.ClientToken = p("x") })
	id := *c.run(t, spec).InstanceId
	must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))(t)
	until(t, "oblivion", func() bool {
		_, err := c.instance(t.Context(), id)
		got, _ := code(err)
		return got == "InvalidInstanceID.NotFound"
	})
	_, err := c.RunInstances(t.Context(), spec)
	refused(t, err, "IdempotentInstanceTerminated")
}

func TestVanished(t *testing.T) {
	c := start(t)
	n := c.network(t)
	id := *c.run(t, c.spec(t, n)).InstanceId
	c.reaches(t, id, "running")
	if err := c.account.Vanish(id); err != nil {
		t.Fatal(err)
	}
	_, err := c.instance(t.Context(), id)
	refused(t, err, "InvalidInstanceID.NotFound")
	_, err = c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	refused(t, err, "InvalidInstanceID.NotFound")
}

func TestClientToken(t *testing.T) {
	c := start(t)
	n := c.network(t)
	spec := c.spec(t, n, func(in *ec2.RunInstancesInput) { in.ClientToken = p("token-1") })
	id := *c.run(t, spec).InstanceId
	if again := *c.run(t, spec).InstanceId; again != id {
		t.Errorf("the same token made %s and %s", id, again)
	}
	c.reaches(t, id, "running")
	if again := c.run(t, spec); *again.InstanceId != id || again.State.Name != "running" {
		t.Errorf("later, the same token answers %s, %s", *again.InstanceId, again.State.Name)
	}
	changed := *spec
	changed.InstanceType = "t3.large"
	_, err := c.RunInstances(t.Context(), &changed)
	refused(t, err, "IdempotentParameterMismatch")
	must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))(t)
	c.reaches(t, id, "terminated")
	_, err = c.RunInstances(t.Context(), spec)
	refused(t, err, "IdempotentInstanceTerminated")
	changed = *spec
	changed.ClientToken = p(strings.Repeat("x", 65))
	_, err = c.RunInstances(t.Context(), &changed)
	refused(t, err, "InvalidParameterValue")
	// A refused request uses no token up.
	changed.ClientToken, changed.InstanceType = p("token-2"), "x9.huge"
	_, err = c.RunInstances(t.Context(), &changed)
	refused(t, err, "InvalidParameterValue")
	changed.InstanceType = "t3.medium"
	if other := *c.run(t, &changed).InstanceId; other == id {
		t.Error("another token made the same instance")
	}
}

func TestLaunchRefusals(t *testing.T) {
	c := startWith(t, account.Settings{
		PageLimit: 1000, VCPUs: map[string]int{"standard": 6, "g": 0}, SpotVCPUs: map[string]int{"standard": 1},
		Capacity: map[string]int{"c6i.large@eu-central-1a": 0, "m6i.large": 1}, MissingProfiles: []string{"new"},
	})
	n := c.network(t)
	arm := c.talos(t, "arm64")
	must(c.CreatePlacementGroup(t.Context(), &ec2.CreatePlacementGroupInput{GroupName: p("apart"), Strategy: "spread"}))(t)
	other := c.network(t)
	for name, test := range map[string]struct {
		change func(*ec2.RunInstancesInput)
		want   string
	}{
		"quota":               {func(in *ec2.RunInstancesInput) { in.InstanceType = "m6i.2xlarge" }, "VcpuLimitExceeded"},
		"quota of its bucket": {func(in *ec2.RunInstancesInput) { in.InstanceType = "g4dn.xlarge" }, "VcpuLimitExceeded"},
		"spot quota": {func(in *ec2.RunInstancesInput) {
			in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: "spot"}
		}, "MaxSpotInstanceCountExceeded"},
		"no capacity": {func(in *ec2.RunInstancesInput) { in.InstanceType = "c6i.large" }, "InsufficientInstanceCapacity"},
		"type not in zone": {func(in *ec2.RunInstancesInput) {
			in.InstanceType, in.ImageId, in.SubnetId = "c7g.large", &arm, &n.subnets[2]
		}, "Unsupported"},
		"unknown type":         {func(in *ec2.RunInstancesInput) { in.InstanceType = "x9.huge" }, "InvalidParameterValue"},
		"other architecture":   {func(in *ec2.RunInstancesInput) { in.ImageId = &arm }, "InvalidParameterValue"},
		"unknown image":        {func(in *ec2.RunInstancesInput) { in.ImageId = p("ami-00000000") }, "InvalidAMIID.NotFound"},
		"no image":             {func(in *ec2.RunInstancesInput) { in.ImageId = nil }, "MissingParameter"},
		"unknown subnet":       {func(in *ec2.RunInstancesInput) { in.SubnetId = p("subnet-00000000") }, "InvalidSubnetID.NotFound"},
		"no subnet":            {func(in *ec2.RunInstancesInput) { in.SubnetId, in.SecurityGroupIds = nil, nil }, "VPCIdNotSpecified"},
		"unknown group":        {func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{"sg-00000000"} }, "InvalidGroup.NotFound"},
		"group of another VPC": {func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{other.group} }, "InvalidParameter"},
		"fresh profile": {func(in *ec2.RunInstancesInput) {
			in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: p("new")}
		}, "InvalidParameterValue"},
		"unknown placement":    {func(in *ec2.RunInstancesInput) { in.Placement = &types.Placement{GroupName: p("nowhere")} }, "InvalidPlacementGroup.Unknown"},
		"zone of another":      {func(in *ec2.RunInstancesInput) { in.Placement = &types.Placement{AvailabilityZone: p("eu-central-1b")} }, "InvalidParameterValue"},
		"several":              {func(in *ec2.RunInstancesInput) { in.MaxCount = p(int32(2)) }, "InvalidParameterValue"},
		"user data not base64": {func(in *ec2.RunInstancesInput) { in.UserData = p("machine: {}") }, "InvalidUserData.Malformed"},
		"user data too large": {func(in *ec2.RunInstancesInput) {
			in.UserData = p(base64.StdEncoding.EncodeToString(make([]byte, 16385)))
		}, "InvalidParameterValue"},
		"reserved tag":      {func(in *ec2.RunInstancesInput) { in.TagSpecifications[0].Tags[0].Key = p("aws:x") }, "InvalidParameterValue"},
		"tags of something": {func(in *ec2.RunInstancesInput) { in.TagSpecifications[0].ResourceType = "vpc" }, "InvalidParameterValue"},
		"disk too small": {func(in *ec2.RunInstancesInput) {
			in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: p("/dev/xvda"), Ebs: &types.EbsBlockDevice{VolumeSize: p(int32(1))}}}
		}, "InvalidBlockDeviceMapping"},
		"tag unfit for IMDS": {func(in *ec2.RunInstancesInput) {
			in.MetadataOptions, in.TagSpecifications[0].Tags[0].Key = &types.InstanceMetadataOptionsRequest{InstanceMetadataTags: "enabled"}, p("a/b")
		}, "InvalidParameterValue"},
		"a key pair": {func(in *ec2.RunInstancesInput) { in.KeyName = p("mine") }, "InvalidKeyPair.NotFound"},
		"what is not modelled": {func(in *ec2.RunInstancesInput) {
			in.HibernationOptions = &types.HibernationOptionsRequest{Configured: p(true)}
		}, "UnknownParameter"},
		"address not in subnet": {func(in *ec2.RunInstancesInput) { in.PrivateIpAddress = p("10.9.0.5") }, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.RunInstances(t.Context(), c.spec(t, n, test.change))
			refused(t, err, test.want)
		})
	}
	if s := c.account.State(); len(s.Instances)+len(s.Volumes)+len(s.Interfaces) != 0 {
		t.Errorf("refused launches left %v %v %v", s.Instances, s.Volumes, s.Interfaces)
	}
	// The account can launch three of two vCPUs, one of them an m6i.large.
	c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) { in.InstanceType = "m6i.large" }))
	_, err := c.RunInstances(t.Context(), c.spec(t, n, func(in *ec2.RunInstancesInput) { in.InstanceType = "m6i.large" }))
	refused(t, err, "InsufficientInstanceCapacity")
	second := *c.run(t, c.spec(t, n)).InstanceId
	c.run(t, c.spec(t, n))
	_, err = c.RunInstances(t.Context(), c.spec(t, n))
	refused(t, err, "VcpuLimitExceeded")
	must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{second}}))(t)
	c.reaches(t, second, "terminated")
	c.run(t, c.spec(t, n))
}

func TestSpreadGroup(t *testing.T) {
	c := start(t)
	n := c.network(t)
	must(c.CreatePlacementGroup(t.Context(), &ec2.CreatePlacementGroupInput{GroupName: p("apart"), Strategy: "spread"}))(t)
	in := func(zone int) *ec2.RunInstancesInput {
		return c.spec(t, n, func(in *ec2.RunInstancesInput) {
			in.SubnetId, in.Placement = &n.subnets[zone], &types.Placement{GroupName: p("apart")}
		})
	}
	for range 7 {
		c.run(t, in(0))
	}
	_, err := c.RunInstances(t.Context(), in(0))
	refused(t, err, "InsufficientInstanceCapacity")
	other := c.run(t, in(1))
	if *other.Placement.GroupName != "apart" {
		t.Errorf("placed in %q", *other.Placement.GroupName)
	}
	_, err = c.DeletePlacementGroup(t.Context(), &ec2.DeletePlacementGroupInput{GroupName: p("apart")})
	refused(t, err, "InvalidPlacementGroup.InUse")
	_, err = c.CreatePlacementGroup(t.Context(), &ec2.CreatePlacementGroupInput{GroupName: p("apart"), Strategy: "spread"})
	refused(t, err, "InvalidPlacementGroup.Duplicate")
	_, err = c.DescribePlacementGroups(t.Context(), &ec2.DescribePlacementGroupsInput{GroupNames: []string{"none"}})
	refused(t, err, "InvalidPlacementGroup.Unknown")
	for _, i := range c.account.Omniscient().Instances() {
		must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{i.ID}}))(t)
		c.reaches(t, i.ID, "terminated")
	}
	must(c.DeletePlacementGroup(t.Context(), &ec2.DeletePlacementGroupInput{GroupName: p("apart")}))(t)
	_, err = c.DeletePlacementGroup(t.Context(), &ec2.DeletePlacementGroupInput{GroupName: p("apart")})
	refused(t, err, "InvalidPlacementGroup.Unknown")
}

// TestVisibility shows that what exists may not be there yet, each action having
// its own opinion.
func TestVisibility(t *testing.T) {
	c := start(t)
	n := c.network(t)
	never := account.Duration(1e6 * time.Hour)
	c.account.SetSettings(account.Settings{PageLimit: 1000, Visibility: map[string]account.Duration{
		"DescribeInstances": never, "TerminateInstances": never, "CreateTags": never,
	}})
	spec := c.spec(t, n, func(in *ec2.RunInstancesInput) { in.ClientToken = p("x") })
	id := *c.run(t, spec).InstanceId
	_, err := c.instance(t.Context(), id)
	refused(t, err, "InvalidInstanceID.NotFound")
	list := must(c.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: p("tag:Name"), Values: []string{"demo-1"}}}}))(t)
	if len(list.Reservations) != 0 {
		t.Errorf("%d are listed that nobody can see yet", len(list.Reservations))
	}
	_, err = c.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: p("a"), Value: p("b")}}})
	refused(t, err, "InvalidInstanceID.NotFound")
	_, err = c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	refused(t, err, "InvalidInstanceID.NotFound")
	if again := *c.run(t, spec).InstanceId; again != id {
		t.Errorf("the token was forgotten: %s, then %s", id, again)
	}
	must(c.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{c.until(t, id, account.Running)}}))(t)
	c.account.SetSettings(account.Settings{PageLimit: 1000, Visibility: map[string]account.Duration{"Describe*": never}})
	must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))(t)
	if vpcs := must(c.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{}))(t); len(vpcs.Vpcs) != 0 {
		t.Errorf("%d VPCs are listed that nobody can see yet", len(vpcs.Vpcs))
	}
	c.account.SetSettings(account.Settings{PageLimit: 1000})
	c.reaches(t, id, "terminated")
}

// until waits for a state that the API does not show.
func (c *cloud) until(t testing.TB, id, state string) string {
	t.Helper()
	until(t, state, func() bool { return must(c.account.Instance(id))(t).State == state })
	return id
}

func TestSpot(t *testing.T) {
	c := start(t)
	n := c.network(t)
	i := c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) {
		in.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{
			MarketType: "spot", SpotOptions: &types.SpotMarketOptions{SpotInstanceType: "one-time", InstanceInterruptionBehavior: "terminate"},
		}
	}))
	if i.InstanceLifecycle != "spot" || i.SpotInstanceRequestId == nil {
		t.Errorf("lifecycle %q", i.InstanceLifecycle)
	}
	c.reaches(t, *i.InstanceId, "running")
	_, err := c.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{*i.InstanceId}})
	refused(t, err, "UnsupportedOperation")
	if err := c.account.Interrupt(*i.InstanceId); err != nil {
		t.Fatal(err)
	}
	if gone := c.reaches(t, *i.InstanceId, "terminated"); *gone.StateReason.Code != "Server.SpotInstanceTermination" {
		t.Errorf("ended because of %s", *gone.StateReason.Code)
	}
}

func TestVolumesThatStay(t *testing.T) {
	c := start(t)
	n := c.network(t)
	i := c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) {
		in.BlockDeviceMappings = []types.BlockDeviceMapping{
			{DeviceName: p("/dev/xvda"), Ebs: &types.EbsBlockDevice{DeleteOnTermination: p(false)}},
			{DeviceName: p("/dev/xvdb"), Ebs: &types.EbsBlockDevice{VolumeSize: p(int32(8)), DeleteOnTermination: p(true)}},
			{DeviceName: p("/dev/xvdc"), Ebs: &types.EbsBlockDevice{VolumeSize: p(int32(9))}},
		}
	}))
	root := *i.BlockDeviceMappings[0].Ebs.VolumeId
	_, err := c.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: &root})
	refused(t, err, "VolumeInUse")
	must(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{*i.InstanceId}}))(t)
	c.reaches(t, *i.InstanceId, "terminated")
	var sizes []int32
	for _, v := range must(c.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{}))(t).Volumes {
		if v.State != "available" {
			t.Errorf("%s is %s", *v.VolumeId, v.State)
		}
		sizes = append(sizes, *v.Size)
	}
	if diff := cmp.Diff([]int32{4, 9}, sizes); diff != "" {
		t.Error(diff)
	}
	must(c.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: &root}))(t)
	_, err = c.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: &root})
	refused(t, err, "InvalidVolume.NotFound")
}

// TestOldTypes shows that types without UEFI take the image and never boot it.
func TestOldTypes(t *testing.T) {
	c := start(t)
	n := c.network(t)
	id := *c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) { in.InstanceType = "t2.medium" })).InstanceId
	until(t, "boot", func() bool { _, ok := c.park.spec(id); return ok })
	if spec, _ := c.park.spec(id); spec.Image.Firmware != "bios" {
		t.Errorf("firmware %q", spec.Image.Firmware)
	}
}

func TestGuestsAreToldOfTheirGPUs(t *testing.T) {
	c := start(t)
	n := c.network(t)
	id := *c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) { in.InstanceType = "g4dn.xlarge" })).InstanceId
	until(t, "boot", func() bool { _, ok := c.park.spec(id); return ok })
	if spec, _ := c.park.spec(id); spec.GPUs != 1 || spec.GPU != "NVIDIA T4" {
		t.Errorf("the guest was told of %d GPUs %q", spec.GPUs, spec.GPU)
	}
}
