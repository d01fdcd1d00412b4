package peersaws

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAWSCLI lets the vendor's command line look at a cluster, at the account's
// refusals, and at what becomes of a cluster that somebody changed by hand.
func TestAWSCLI(t *testing.T) {
	s := start(t)
	t.Run("lists", s.lists)
	t.Run("refusals", s.refusals)
	t.Run("launches", s.launches)
	t.Run("objects", s.objects)
	t.Run("changes by hand", s.changes)
	t.Run("deletion", s.deletion)
}

// named is what lists tell of a resource.
type named struct {
	ID   string
	Tags []struct{ Key, Value string }
}

// kinds are what a cluster is made of, besides load balancing: how many of each,
// and how they are listed.
var kinds = []struct {
	many    int
	command string
	query   string
}{
	{2, "describe-instances", "Reservations[].Instances[].{ID: InstanceId, Tags: Tags}"},
	{2, "describe-volumes", "Volumes[].{ID: VolumeId, Tags: Tags}"},
	{1, "describe-vpcs", "Vpcs[].{ID: VpcId, Tags: Tags}"},
	{3, "describe-subnets", "Subnets[].{ID: SubnetId, Tags: Tags}"},
	{1, "describe-internet-gateways", "InternetGateways[].{ID: InternetGatewayId, Tags: Tags}"},
	{1, "describe-route-tables", "RouteTables[].{ID: RouteTableId, Tags: Tags}"},
	{1, "describe-security-groups", "SecurityGroups[].{ID: GroupId, Tags: Tags}"},
}

// list asks for everything of one kind that carries the cluster's tag.
func (s *system) list(t *testing.T, command, query string) []named {
	t.Helper()
	return asks[[]named](t, s.judge, append(append([]string{"ec2", command}, s.tagged("")...), "--query", query)...)
}

// lists finds everything that Ichor made, by its tags, over as many pages as it
// takes.
func (s *system) lists(t *testing.T) {
	j := s.judge
	if got := j.text(t, "sts", "get-caller-identity", "--query", "Account"); got != "123456789012" {
		t.Errorf("the account is %s", got)
	}
	if diff := cmp.Diff(s.machines(t), s.instances(t, "", "running")); diff != "" {
		t.Errorf("instances (-Ichor +AWS):\n%s", diff)
	}
	for _, kind := range kinds {
		found := s.list(t, kind.command, kind.query)
		if len(found) != kind.many {
			t.Errorf("aws ec2 %s: %d with the cluster's tag, want %d: %v", kind.command, len(found), kind.many, found)
		}
		for _, r := range found {
			if !slices.ContainsFunc(r.Tags, func(t struct{ Key, Value string }) bool {
				return t.Key == "kubernetes.io/cluster/"+name && t.Value == "owned"
			}) {
				t.Errorf("%s lacks the tag of the cluster's owner: %v", r.ID, r.Tags)
			}
		}
	}

	balancer := j.text(t, "elbv2", "describe-load-balancers", "--query", "LoadBalancers[?State.Code=='active'].LoadBalancerArn")
	group := j.text(t, "elbv2", "describe-target-groups", "--load-balancer-arn", balancer, "--query", "TargetGroups[].TargetGroupArn")
	if port := j.text(t, "elbv2", "describe-listeners", "--load-balancer-arn", balancer, "--query", "Listeners[].Port"); port != "6443" {
		t.Errorf("the load balancer listens at %s", port)
	}
	healthy := asks[[]string](t, j, "elbv2", "describe-target-health", "--target-group-arn", group,
		"--query", "TargetHealthDescriptions[?TargetHealth.State=='healthy'].Target.Id")
	addresses := append(append([]string{"ec2", "describe-instances"}, s.tagged("cp")...), "--query", "Reservations[].Instances[].PrivateIpAddress")
	if diff := cmp.Diff(asks[[]string](t, j, addresses...), healthy); diff != "" {
		t.Errorf("healthy targets (-control planes +targets):\n%s", diff)
	}
	uid := "TagDescriptions[0].Tags[?Key=='ichor/cluster'].Value"
	if got := j.text(t, "elbv2", "describe-tags", "--resource-arns", balancer, "--query", uid); got != s.uid {
		t.Errorf("the load balancer is of cluster %q, want %q", got, s.uid)
	}

	// The client's own pages, each of which the account cuts into pages of two.
	type page struct{ Subnets, NextToken any }
	first := asks[page](t, j, "ec2", "describe-subnets", "--max-items", "1", "--query", "{Subnets: Subnets[].SubnetId, NextToken: NextToken}")
	rest := asks[page](t, j, "ec2", "describe-subnets", "--starting-token", fmt.Sprint(first.NextToken),
		"--query", "{Subnets: Subnets[].SubnetId, NextToken: NextToken}")
	if n := len(first.Subnets.([]any)); n != 1 || len(rest.Subnets.([]any)) != 2 || rest.NextToken != nil {
		t.Errorf("subnets in pages: %v, then %v", first, rest)
	}
}

// refusals are the errors that AWS documents for what cannot be.
func (s *system) refusals(t *testing.T) {
	j := s.judge
	one := func(command, query string) string {
		return s.list(t, command, query)[0].ID
	}
	machine := s.instances(t, "worker", "running")[0]
	vpc, subnet := one("describe-vpcs", kinds[2].query), one("describe-subnets", kinds[3].query)
	gateway, table, guard := one("describe-internet-gateways", kinds[4].query), one("describe-route-tables", kinds[5].query), one("describe-security-groups", kinds[6].query)
	group := j.text(t, "elbv2", "describe-target-groups", "--query", "TargetGroups[0].TargetGroupArn")
	s.settings(t, map[string]any{"denied": []string{"StopInstances"}})

	const none = "0123456789abcdef0"
	stranger, impostor := j.with("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE"), j.with("AWS_SECRET_ACCESS_KEY=guessed")
	for _, test := range []struct {
		by   judge
		code string
		args []string
	}{
		{stranger, "AuthFailure", []string{"ec2", "describe-vpcs"}},
		{stranger, "InvalidClientTokenId", []string{"elbv2", "describe-load-balancers"}},
		{stranger, "InvalidClientTokenId", []string{"sts", "get-caller-identity"}},
		{stranger, "InvalidAccessKeyId", []string{"s3api", "list-objects-v2", "--bucket", "devcloud"}},
		{impostor, "SignatureDoesNotMatch", []string{"ec2", "describe-vpcs"}},
		{impostor, "SignatureDoesNotMatch", []string{"s3api", "list-objects-v2", "--bucket", "devcloud"}},
		{j, "UnauthorizedOperation", []string{"ec2", "stop-instances", "--instance-ids", machine}},
		{j, "DryRunOperation", []string{"ec2", "terminate-instances", "--dry-run", "--instance-ids", machine}},
		{j, "InvalidInstanceID.NotFound", []string{"ec2", "describe-instances", "--instance-ids", "i-" + none}},
		{j, "InvalidInstanceID.NotFound", []string{"ec2", "terminate-instances", "--instance-ids", "i-" + none}},
		{j, "InvalidInstanceID.Malformed", []string{"ec2", "describe-instances", "--instance-ids", "worker-1"}},
		{j, "InvalidVpcID.NotFound", []string{"ec2", "delete-vpc", "--vpc-id", "vpc-" + none}},
		{j, "InvalidGroup.NotFound", []string{"ec2", "describe-security-groups", "--group-ids", "sg-" + none}},
		{j, "InvalidParameterValue", []string{"ec2", "describe-vpcs", "--filters", "Name=colour,Values=blue"}},
		{j, "DependencyViolation", []string{"ec2", "delete-vpc", "--vpc-id", vpc}},
		{j, "DependencyViolation", []string{"ec2", "delete-subnet", "--subnet-id", subnet}},
		{j, "DependencyViolation", []string{"ec2", "delete-security-group", "--group-id", guard}},
		{j, "DependencyViolation", []string{"ec2", "delete-route-table", "--route-table-id", table}},
		{j, "DependencyViolation", []string{"ec2", "delete-internet-gateway", "--internet-gateway-id", gateway}},
		{j, "InvalidSubnet.Conflict", []string{"ec2", "create-subnet", "--vpc-id", vpc, "--cidr-block", "10.200.0.0/19"}},
		{j, "ResourceInUse", []string{"elbv2", "delete-target-group", "--target-group-arn", group}},
		{j, "TargetGroupNotFound", []string{"elbv2", "describe-target-health", "--target-group-arn", group + "0"}},
		{j, "LoadBalancerNotFound", []string{"elbv2", "describe-load-balancers", "--names", "nobody"}},
	} {
		t.Run(test.code+" "+test.args[1], func(t *testing.T) {
			t.Parallel()
			test.by.refused(t, test.code, test.args...)
		})
	}
}

// launches are machines of the judge's own, in a network of its own.
func (s *system) launches(t *testing.T) {
	j := s.judge
	s.settings(t, map[string]any{"capacity": map[string]int{"c6i.large@eu-central-1b": 0}, "vcpus": map[string]int{"standard": 1920, "g": 2}})
	image := j.text(t, "ec2", "describe-images", "--owners", "540036508848", "--filters",
		"Name=name,Values=talos-v1.13.5-eu-central-1-amd64", "--query", "Images[].ImageId")
	vpc := j.text(t, "ec2", "create-vpc", "--cidr-block", "10.9.0.0/16", "--query", "Vpc.VpcId",
		"--tag-specifications", "ResourceType=vpc,Tags=[{Key=Name,Value=by-hand}]")
	subnet := j.text(t, "ec2", "create-subnet", "--vpc-id", vpc, "--cidr-block", "10.9.1.0/24",
		"--availability-zone", "eu-central-1b", "--query", "Subnet.SubnetId")

	launch := func(token, kind string, more ...string) []string {
		return append([]string{
			"ec2", "run-instances", "--image-id", image, "--instance-type", kind, "--subnet-id", subnet, "--count", "1",
			"--client-token", token, "--query", "Instances[0].InstanceId",
		}, more...)
	}
	machine := j.text(t, launch("once", "c6i.xlarge")...)
	if again := j.text(t, launch("once", "c6i.xlarge")...); again != machine {
		t.Errorf("the same request made %s, then %s", machine, again)
	}
	j.refused(t, "IdempotentParameterMismatch", launch("once", "c6i.2xlarge")...)
	j.refused(t, "InsufficientInstanceCapacity", launch("scarce", "c6i.large")...)
	j.refused(t, "VcpuLimitExceeded", launch("quota", "g4dn.xlarge")...)
	j.refused(t, "InvalidParameterValue", launch("arch", "m7g.large")...)
	j.does(t, "ec2", "wait", "instance-running", "--instance-ids", machine)

	// A client with patience makes two refusals good, one without is told.
	throttle := map[string]any{"route": "POST /aws/ec2/DescribeRegions", "effect": "json-429", "count": 2}
	if _, err := s.Fault(t.Context(), throttle); err != nil {
		t.Fatal(err)
	}
	j.with("AWS_MAX_ATTEMPTS=1").refused(t, "RequestLimitExceeded", "ec2", "describe-regions")
	j.does(t, "ec2", "describe-regions")

	j.does(t, "ec2", "terminate-instances", "--instance-ids", machine)
	s.until(t, "the instance is terminated", func() bool {
		return j.text(t, "ec2", "describe-instances", "--instance-ids", machine, "--query", "Reservations[].Instances[].State.Name") == "terminated"
	})
	j.refused(t, "IdempotentInstanceTerminated", launch("once", "c6i.xlarge")...)
	j.does(t, "ec2", "delete-subnet", "--subnet-id", subnet)
	j.does(t, "ec2", "delete-vpc", "--vpc-id", vpc)
	j.refused(t, "InvalidVpcID.NotFound", "ec2", "describe-vpcs", "--vpc-ids", vpc)
}

// objects go into storage and come back.
func (s *system) objects(t *testing.T) {
	j := s.judge
	const body = "kept as it was"
	file := filepath.Join(j.home, "object")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(command, key string, more ...string) []string {
		return append([]string{"s3api", command, "--bucket", "devcloud", "--key", key}, more...)
	}
	j.does(t, at("put-object", "by-hand/first", "--body", file)...)
	j.does(t, "s3", "cp", file, "s3://devcloud/by-hand/second")
	if got := j.text(t, at("head-object", "by-hand/second", "--query", "ContentLength")...); got != "14" {
		t.Errorf("%s bytes were kept", got)
	}
	back := filepath.Join(j.home, "back")
	j.does(t, at("get-object", "by-hand/first", back)...)
	if got, err := os.ReadFile(back); err != nil || string(got) != body {
		t.Errorf("%q came back: %v", got, err)
	}
	keys := asks[[]string](t, j, "s3api", "list-objects-v2", "--bucket", "devcloud", "--prefix", "by-hand/", "--page-size", "1", "--query", "Contents[].Key")
	if diff := cmp.Diff([]string{"by-hand/first", "by-hand/second"}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	j.refused(t, "NoSuchKey", at("get-object", "by-hand/none", back)...)
	j.refused(t, "404", at("head-object", "by-hand/none")...)
	j.refused(t, "NoSuchBucket", "s3api", "list-objects-v2", "--bucket", "nobodys")
	j.does(t, "s3", "rm", "s3://devcloud/by-hand/", "--recursive")
	if left := j.text(t, "s3api", "list-objects-v2", "--bucket", "devcloud", "--prefix", "by-hand/", "--query", "Contents[].Key"); left != "None" {
		t.Errorf("%s is left", left)
	}
}

// changes tags what Ichor made and terminates a worker: the group makes another.
func (s *system) changes(t *testing.T) {
	j := s.judge
	was := s.instances(t, "worker", "running")
	owner := []string{"ec2", "create-tags", "--tags", "Key=owner,Value=ada", "Key=Name,Value=renamed", "--resources"}
	for _, kind := range kinds {
		for _, r := range s.list(t, kind.command, kind.query) {
			owner = append(owner, r.ID)
		}
	}
	j.does(t, owner...)
	tagged := asks[[]string](t, j, "ec2", "describe-tags", "--filters", "Name=key,Values=owner", "--query", "Tags[].ResourceId")
	if len(tagged) != 11 {
		t.Errorf("%d resources are tagged, want 11: %v", len(tagged), tagged)
	}
	balancer := j.text(t, "elbv2", "describe-load-balancers", "--query", "LoadBalancers[0].LoadBalancerArn")
	j.does(t, "elbv2", "add-tags", "--resource-arns", balancer, "--tags", "Key=owner,Value=ada")

	j.does(t, append([]string{"ec2", "terminate-instances", "--instance-ids"}, was...)...)
	var now []string
	s.until(t, "another machine takes its place", func() bool {
		now = s.instances(t, "worker", "running")
		return len(now) == 1 && now[0] != was[0] && slices.Contains(s.machines(t), now[0])
	})
	s.ichor(t, name+"/worker: 1 of 1 ready", "scale", name+"/worker", "--to", "1", "--wait")
	if diff := cmp.Diff(s.instances(t, "", "running"), s.machines(t)); diff != "" {
		t.Errorf("instances (-AWS +Ichor):\n%s", diff)
	}
}

// deletion leaves nothing but the memory of instances.
func (s *system) deletion(t *testing.T) {
	s.ichor(t, `Cluster "`+name+`" is deleted`, "delete", name)
	for _, kind := range kinds[1:] {
		if left := s.list(t, kind.command, kind.query); len(left) > 0 {
			t.Errorf("aws ec2 %s: %v", kind.command, left)
		}
	}
	if left := s.instances(t, "", "pending", "running", "shutting-down", "stopping", "stopped"); len(left) > 0 {
		t.Errorf("instances %v", left)
	}
	for _, command := range []string{"describe-load-balancers", "describe-target-groups"} {
		if out := s.judge.text(t, "elbv2", command, "--query", "*[]"); strings.Contains(out, "arn:") {
			t.Errorf("aws elbv2 %s: %s", command, out)
		}
	}
	a, err := s.Account(t.Context())
	if err != nil || a.Count != 0 {
		t.Errorf("the account is not empty: %v\n%s", err, a)
	}
}
