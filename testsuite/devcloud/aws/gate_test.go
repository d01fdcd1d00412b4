package aws_test

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

const reference = "../../../docs/reference/"

func read(t *testing.T, file string) []byte {
	t.Helper()
	body, err := os.ReadFile(reference + file)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// admit lets a principal in and returns a client with its credentials.
func (c *cloud) admit(t *testing.T, p aws.Principal) *ec2.Client {
	t.Helper()
	if err := c.aws.Admit(p); err != nil {
		t.Fatal(err)
	}
	return c.client(p.Key, p.Secret, "", account.Region)
}

// The documented policy lets its owner do what it is for, and nothing to what is
// somebody else's.
func TestPolicyOfWorkers(t *testing.T) {
	c := start(t)
	who := aws.Worker(read(t, "aws-iam-policy.json"))
	worker := c.admit(t, who)
	spotless := c.admit(t, aws.Nodes(bytes.ReplaceAll(who.Policy, []byte(`"spot.amazonaws.com"`), []byte(`"x"`))))
	n := c.network(t) // somebody else's
	foreign := *c.run(t, c.spec(t, n)).InstanceId
	ctx := t.Context()
	identity := []types.Tag{{Key: p("ichor/cluster"), Value: p("u1")}}
	at := func(kinds ...types.ResourceType) (out []types.TagSpecification) {
		for _, k := range kinds {
			out = append(out, types.TagSpecification{ResourceType: k, Tags: identity})
		}
		return out
	}
	launch := func(kinds ...types.ResourceType) *ec2.RunInstancesInput {
		return c.spec(t, n, func(in *ec2.RunInstancesInput) { in.TagSpecifications = at(kinds...) })
	}
	profile := func(name string) *ec2.RunInstancesInput {
		in := launch("instance", "volume", "network-interface")
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: &name}
		return in
	}
	spot := launch("instance", "volume", "network-interface")
	spot.InstanceMarketOptions = &types.InstanceMarketOptionsRequest{MarketType: "spot"}
	endpoint := c.aws.Endpoints(c.url)["AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2"]
	balancing := elasticloadbalancingv2.New(elasticloadbalancingv2.Options{
		Region: account.Region, BaseEndpoint: &endpoint, Retryer: sdk.NopRetryer{}, Credentials: credentials.NewStaticCredentialsProvider(who.Key, who.Secret, ""),
	})
	balance := func(name string, tags ...elbtypes.Tag) error {
		_, err := balancing.CreateLoadBalancer(ctx, &elasticloadbalancingv2.CreateLoadBalancerInput{
			Name: &name, Type: elbtypes.LoadBalancerTypeEnumNetwork, Subnets: n.subnets, Tags: tags,
		})
		return err
	}
	const unauthorized = "UnauthorizedOperation"
	for _, test := range []struct {
		name string
		do   func() error
		want string
	}{
		{"reading", func() error {
			_, err := worker.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{foreign}})
			return err
		}, ""},
		{"reading what is not needed", func() error { _, err := worker.DescribeRegions(ctx, &ec2.DescribeRegionsInput{}); return err }, unauthorized},
		{"making with identity", func() error {
			_, err := worker.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("10.1.0.0/16"), TagSpecifications: at("vpc")})
			return err
		}, ""},
		{"making without identity", func() error {
			_, err := worker.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("10.2.0.0/16")})
			return err
		}, unauthorized},
		{"trying without identity", func() error {
			_, err := worker.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("10.2.0.0/16"), DryRun: p(true)})
			return err
		}, unauthorized},
		{"launching", func() error {
			_, err := worker.RunInstances(ctx, launch("instance", "volume", "network-interface"))
			return err
		}, ""},
		{"launching with a volume that nobody knows", func() error {
			_, err := worker.RunInstances(ctx, launch("instance", "network-interface"))
			return err
		}, unauthorized},
		{"handing on a role", func() error { _, err := worker.RunInstances(ctx, profile("ichor-nodes")); return err }, ""},
		{"handing on another role", func() error { _, err := worker.RunInstances(ctx, profile("admin")); return err }, unauthorized},
		{"the first Spot instance without its right", func() error { _, err := spotless.RunInstances(ctx, spot); return err }, "AuthFailure.ServiceLinkedRoleCreationNotPermitted"},
		{"the first Spot instance", func() error { _, err := worker.RunInstances(ctx, spot); return err }, ""},
		{"another Spot instance without that right", func() error { _, err := spotless.RunInstances(ctx, spot); return err }, ""},
		{"ending others' machines", func() error {
			_, err := worker.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{foreign}})
			return err
		}, unauthorized},
		{"ending what is not there", func() error {
			_, err := worker.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
			return err
		}, "InvalidInstanceID.NotFound"},
		{"stopping what is not there", func() error {
			_, err := worker.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
			return err
		}, unauthorized},
		{"taking others' things", func() error {
			_, err := worker.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{foreign}, Tags: identity})
			return err
		}, unauthorized},
		{"joining others' networks", func() error {
			_, err := worker.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: &n.gateway, VpcId: &n.vpc})
			return err
		}, unauthorized},
		{"a load balancer", func() error { return balance("ichor-1", elbtypes.Tag{Key: p("ichor/cluster"), Value: p("u1")}) }, ""},
		{"a load balancer without identity", func() error { return balance("ichor-2") }, "AccessDenied"},
		{"a load balancer of another name", func() error { return balance("other", elbtypes.Tag{Key: p("ichor/cluster"), Value: p("u1")}) }, "AccessDenied"},
		{"a snapshot", func() error {
			_, err := c.ebsAs(who.Key, who.Secret).StartSnapshot(ctx, startSnapshot("ichor/image"))
			return err
		}, ""},
		{"a snapshot without identity", func() error {
			_, err := c.ebsAs(who.Key, who.Secret).StartSnapshot(ctx, startSnapshot("other"))
			return err
		}, "AccessDeniedException"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.do()
			if test.want == "" && err != nil {
				t.Fatal(err)
			}
			if test.want != "" {
				refused(t, err, test.want)
			}
		})
	}
	if i := must(c.instance(ctx, foreign))(t); i.State.Name == types.InstanceStateNameShuttingDown || len(i.Tags) != 1 {
		t.Errorf("%s was touched: %s, %v", foreign, i.State.Name, i.Tags)
	}
	usage := c.aws.Usage()
	if len(usage) != 2 || usage[1].Calls["ec2:RunInstances"] == 0 || usage[1].Calls["ec2:StopInstances"] != 0 || len(usage[1].Refused) == 0 {
		t.Errorf("%+v", usage)
	}
	// Keys that are set replace all others.
	c.account.SetSettings(account.Settings{Keys: map[string]string{"AKIAOTHER": "x"}})
	_, err := worker.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	refused(t, err, "AuthFailure")
}

// The rights that the documentation of the store asks for are those that it needs.
func TestPolicyOfTheStore(t *testing.T) {
	c := start(t)
	_, policy, found := strings.Cut(string(read(t, "store.md")), "## Permissions\n\n```json\n")
	policy, _, ended := strings.Cut(policy, "```")
	if !found || !ended {
		t.Fatal("store.md has no policy")
	}
	policy = strings.ReplaceAll(policy, "example-clusters", aws.Bucket)
	admit := func(policy string) {
		who := aws.Worker([]byte(policy))
		c.admit(t, who)
		c.setenv(t, &who)
	}
	use := func() error {
		s, err := openStore(t)
		if err != nil {
			return err
		}
		ctx := t.Context()
		if _, err := s.EnsureStream(ctx, "clusters/demo/etcd/one", func(w io.Writer) error {
			_, err := w.Write(bytes.Repeat([]byte("snapshot "), 1<<20))
			return err
		}); err != nil {
			return err
		}
		return s.DeletePrefix(ctx, "clusters/demo/")
	}
	admit(policy)
	if err := use(); err != nil {
		t.Fatal(err)
	}
	if u := c.aws.Usage(); len(u[0].Unused) > 0 || len(u[0].Refused) > 0 {
		t.Errorf("%+v", u)
	}
	for _, action := range []string{"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"} {
		admit(strings.ReplaceAll(policy, action, "s3:GetObjectAcl"))
		if err := use(); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("without %s: %v", action, err)
		}
	}
}
