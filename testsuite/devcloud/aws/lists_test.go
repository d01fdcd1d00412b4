package aws_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

func tags(kv ...string) []types.Tag {
	var out []types.Tag
	for i := 0; i < len(kv); i += 2 {
		out = append(out, types.Tag{Key: &kv[i], Value: &kv[i+1]})
	}
	return out
}

func TestNoInstanceHasATopology(t *testing.T) {
	c := start(t)
	id := *c.run(t, c.spec(t, c.network(t))).InstanceId
	c.reaches(t, id, "running")
	if out := must(c.DescribeInstanceTopology(t.Context(), &ec2.DescribeInstanceTopologyInput{InstanceIds: []string{id}}))(t); len(out.Instances) != 0 {
		t.Errorf("topologies: %v", out.Instances)
	}
	_, err := c.DescribeInstanceTopology(t.Context(), &ec2.DescribeInstanceTopologyInput{InstanceIds: []string{"i-0123456789abcdef0"}})
	refused(t, err, "InvalidInstanceID.NotFound")
}

func TestFiltersAndPages(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	n := c.network(t)
	var ids []string
	for i := range 7 {
		ids = append(ids, *c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) {
			in.TagSpecifications[0].Tags = tags("Name", fmt.Sprintf("demo-%d", i), "uid", fmt.Sprint(i%2), "a/b", "x*y")
		})).InstanceId)
	}
	must(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids[6:]}))(t)
	c.reaches(t, ids[6], "terminated")
	c.reaches(t, ids[0], "running")
	list := func(filters ...types.Filter) []string {
		var out []string
		pages := ec2.NewDescribeInstancesPaginator(c, &ec2.DescribeInstancesInput{Filters: filters, MaxResults: p(int32(5))})
		for pages.HasMorePages() {
			for _, r := range must(pages.NextPage(ctx))(t).Reservations {
				out = append(out, *r.Instances[0].InstanceId)
			}
		}
		return out
	}
	for name, test := range map[string]struct {
		filters []types.Filter
		want    []string
	}{
		"all":              {nil, ids},
		"tag":              {[]types.Filter{filter("tag:uid", "1")}, []string{ids[1], ids[3], ids[5]}},
		"one of two":       {[]types.Filter{filter("tag:Name", "demo-1", "demo-2")}, ids[1:3]},
		"both":             {[]types.Filter{filter("tag:uid", "1"), filter("tag:Name", "demo-*")}, []string{ids[1], ids[3], ids[5]}},
		"question mark":    {[]types.Filter{filter("tag:Name", "demo-?")}, ids},
		"whole values":     {[]types.Filter{filter("tag:Name", "demo")}, nil},
		"escaped star":     {[]types.Filter{filter("tag:a/b", `x\*y`)}, ids},
		"escaped mismatch": {[]types.Filter{filter("tag:a/b", `x\?y`)}, nil},
		"tag key":          {[]types.Filter{filter("tag-key", "uid")}, ids},
		"other tag key":    {[]types.Filter{filter("tag-key", "uuid")}, nil},
		"state":            {[]types.Filter{filter("instance-state-name", "terminated")}, ids[6:]},
		"network":          {[]types.Filter{filter("vpc-id", n.vpc)}, ids[:6]}, // what is terminated has none
		"group":            {[]types.Filter{filter("instance.group-id", n.group)}, ids[:6]},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, list(test.filters...)); diff != "" {
				t.Error(diff)
			}
		})
	}
	_, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{MaxResults: p(int32(5)), InstanceIds: ids})
	refused(t, err, "InvalidParameterCombination")
	_, err = c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{MaxResults: p(int32(4))})
	refused(t, err, "InvalidParameterValue")
	_, err = c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{NextToken: p("bogus")})
	refused(t, err, "InvalidNextToken")
	_, err = c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{ids[0], "i-00000000"}})
	refused(t, err, "InvalidInstanceID.NotFound")
	_, err = c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{"web-1"}})
	refused(t, err, "InvalidInstanceID.Malformed")

	// A server may always answer with less than was asked for.
	c.account.SetSettings(account.Settings{PageLimit: 2})
	if diff := cmp.Diff(ids, list()); diff != "" {
		t.Error(diff)
	}
	// What was the last on a page is gone when the next one is asked for.
	first := must(c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{}))(t)
	if err := c.account.Vanish(ids[1]); err != nil {
		t.Fatal(err)
	}
	second := must(c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{NextToken: first.NextToken}))(t)
	if got := *second.Reservations[0].Instances[0].InstanceId; got != ids[3] && got != ids[2] {
		t.Errorf("the second page begins with %s", got)
	}
}

func TestTags(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	n := c.network(t)
	must(c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{n.vpc, n.group}, Tags: tags("a", "1", "b", "2")}))(t)
	must(c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{n.vpc}, Tags: tags("a", "3")}))(t)
	must(c.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{n.vpc}, Tags: []types.Tag{{Key: p("b"), Value: p("other")}, {Key: p("none")}}}))(t)
	must(c.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{n.group}, Tags: []types.Tag{{Key: p("b")}}}))(t)
	var got []string
	for _, x := range must(c.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: []types.Filter{filter("resource-id", n.vpc, n.group)}}))(t).Tags {
		got = append(got, string(x.ResourceType)+" "+*x.Key+"="+*x.Value)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"security-group a=1", "vpc a=3", "vpc b=2"}, got); diff != "" {
		t.Error(diff)
	}
	var many []types.Tag
	for i := range 49 {
		many = append(many, tags(fmt.Sprint(i), "x")...)
	}
	for name, test := range map[string]struct {
		ids  []string
		tags []types.Tag
		want string
	}{
		"unknown resource":  {[]string{n.vpc, "vpc-00000000"}, tags("x", "y"), "InvalidVpcID.NotFound"},
		"not a resource":    {[]string{"thing-1"}, tags("x", "y"), "InvalidID"},
		"too many together": {[]string{n.vpc}, many, "TagLimitExceeded"},
		"twice":             {[]string{n.vpc}, tags("x", "y", "x", "z"), "InvalidParameterValue"},
		"too long":          {[]string{n.vpc}, tags(strings.Repeat("x", 129), "y"), "InvalidParameterValue"},
	} {
		_, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: test.ids, Tags: test.tags})
		if got, _ := code(err); got != test.want {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}

func TestCatalog(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	got := map[string]string{}
	pages := ec2.NewDescribeInstanceTypesPaginator(c, &ec2.DescribeInstanceTypesInput{MaxResults: p(int32(7))})
	for pages.HasMorePages() {
		for _, i := range must(pages.NextPage(ctx))(t).InstanceTypes {
			gpu := ""
			if i.GpuInfo != nil {
				gpu = " " + *i.GpuInfo.Gpus[0].Manufacturer + " " + *i.GpuInfo.Gpus[0].Name
			}
			got[string(i.InstanceType)] = fmt.Sprintf("%s %d %d %v%s", i.ProcessorInfo.SupportedArchitectures[0], *i.VCpuInfo.DefaultVCpus,
				*i.MemoryInfo.SizeInMiB, slices.Contains(i.SupportedBootModes, "uefi"), gpu)
		}
	}
	if len(got) != len(account.InstanceTypes()) {
		t.Errorf("%d types, want %d", len(got), len(account.InstanceTypes()))
	}
	for name, want := range map[string]string{
		"t3.medium": "x86_64 2 4096 true", "m6i.large": "x86_64 2 8192 true", "c6i.xlarge": "x86_64 4 8192 true", "m7g.large": "arm64 2 8192 true",
		"c7g.large": "arm64 2 4096 true", "g4dn.xlarge": "x86_64 4 16384 true NVIDIA T4", "t2.medium": "x86_64 2 4096 false",
	} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
	_, err := c.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"x9.huge"}})
	refused(t, err, "InvalidInstanceType")
	offered := must(c.DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: "availability-zone", Filters: []types.Filter{filter("instance-type", "c7g.large")},
	}))(t)
	var where []string
	for _, o := range offered.InstanceTypeOfferings {
		where = append(where, *o.Location)
	}
	if diff := cmp.Diff(zones[:2], where); diff != "" {
		t.Error(diff)
	}
}

func TestPublishedImages(t *testing.T) {
	c := start(t)
	out := must(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{account.TalosOwner}}))(t)
	var names []string
	for _, i := range out.Images {
		names = append(names, *i.Name)
		if i.State != "available" || i.BootMode != "uefi" || i.ImdsSupport != "v2.0" || *i.RootDeviceName != "/dev/xvda" || !*i.Public {
			t.Errorf("%s: %s %s %s %s", *i.Name, i.State, i.BootMode, i.ImdsSupport, *i.RootDeviceName)
		}
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{
		"talos-v1.12.4-eu-central-1-amd64", "talos-v1.12.4-eu-central-1-arm64", "talos-v1.13.5-eu-central-1-amd64", "talos-v1.13.5-eu-central-1-arm64",
	}, names); diff != "" {
		t.Error(diff)
	}
	_, err := c.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: out.Images[0].ImageId})
	refused(t, err, "AuthFailure")
	if own := must(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}}))(t); len(own.Images) != 0 {
		t.Errorf("%d images of the account", len(own.Images))
	}
}
