package devcloud_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/iam"
)

// A policy limits whoever makes clusters, another one what runs on machines, and
// none the owner.
func TestPoliciesOfAnAccount(t *testing.T) {
	allow := func(action string) []byte {
		return []byte(`{"Version": "2012-10-17", "Statement": [{"Sid": "One", "Effect": "Allow", "Action": "` + action + `", "Resource": "*"}]}`)
	}
	nodes := map[string]string{}
	s := start(t, devcloud.Options{
		AWSPolicies: devcloud.AWSPolicies{Worker: allow("ec2:DescribeVpcs"), Nodes: allow("ec2:DescribeSubnets")},
		NewGuests: func(e devcloud.Environment) (devcloud.Guests, error) {
			maps.Copy(nodes, e.AWS.Variables)
			return devcloud.Guests{}, nil
		},
	})
	for name, tt := range map[string]struct {
		env           map[string]string
		vpcs, subnets bool
	}{
		"worker": {s.AWSEnvironment(), true, false},
		"nodes":  {nodes, false, true},
		"owner":  {s.AWSOwner(), true, true},
	} {
		api := ec2.New(ec2.Options{
			Region: tt.env["AWS_REGION"], BaseEndpoint: aws.String(tt.env["AWS_ENDPOINT_URL_EC2"]), Retryer: aws.NopRetryer{}, HTTPClient: s.http,
			Credentials: credentials.NewStaticCredentialsProvider(tt.env["AWS_ACCESS_KEY_ID"], tt.env["AWS_SECRET_ACCESS_KEY"], ""),
		})
		if _, err := api.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{}); (err == nil) != tt.vpcs {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := api.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{}); (err == nil) != tt.subnets {
			t.Errorf("%s: %v", name, err)
		}
	}
	status, body := s.call(http.MethodGet, "_devcloud/aws/usage", "")
	var usage []iam.Usage
	if err := json.Unmarshal([]byte(body), &usage); err != nil || status != http.StatusOK {
		t.Fatalf("status %d: %v", status, err)
	}
	for _, u := range usage {
		if len(u.Unused) != 0 || len(u.Calls) != 1 || len(u.Refused) != 1 {
			t.Errorf("%+v", u)
		}
	}
	if len(usage) != 2 {
		t.Errorf("%d principals", len(usage))
	}
}

func TestPolicyThatIsNone(t *testing.T) {
	if d, err := devcloud.Start(t.Context(), devcloud.Options{LoopbackPrefix: "127.204", AWSPolicies: devcloud.AWSPolicies{Worker: []byte("{}")}}); err == nil {
		t.Error("started", d.Close())
	}
}
