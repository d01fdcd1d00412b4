package aws_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

// Controllers of a cluster run where its instances are, and with the rights of one
// that has any.
func TestHome(t *testing.T) {
	c := start(t)
	n := c.network(t)
	launch := func(change ...func(*ec2.RunInstancesInput)) {
		t.Helper()
		own := func(in *ec2.RunInstancesInput) {
			tags := &in.TagSpecifications[0].Tags
			*tags = append(*tags, types.Tag{Key: p("kubernetes.io/cluster/demo"), Value: p("owned")})
		}
		c.reaches(t, *c.run(t, c.spec(t, n, append(change, own)...)).InstanceId, "running")
	}
	want := func(when string, home account.Home, ok bool) {
		t.Helper()
		got, found := c.account.Home("demo")
		if diff := cmp.Diff(home, got); diff != "" || found != ok {
			t.Errorf("%s: %t (-want +got):\n%s", when, found, diff)
		}
	}
	c.reaches(t, *c.run(t, c.spec(t, n)).InstanceId, "running")
	want("somebody else's", account.Home{}, false)
	at := account.Home{VPC: n.vpc, Subnet: n.subnets[0], Zone: "eu-central-1a"}
	launch()
	want("without a profile", at, true)
	launch(func(in *ec2.RunInstancesInput) {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: p("ichor-nodes")}
	})
	at.Profile = "ichor-nodes"
	want("one with a profile", at, true)
	launch()
	want("and one without", at, true)
}
