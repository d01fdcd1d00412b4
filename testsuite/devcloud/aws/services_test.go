package aws_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"maps"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Load balancers are part of the cloud: of its endpoints, faults, dump and reset.
func TestLoadBalancersOfTheCloud(t *testing.T) {
	c := start(t)
	n := c.network(t)
	endpoint := c.aws.Endpoints(c.url)["AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2"]
	client := func(secret string) *elasticloadbalancingv2.Client {
		return elasticloadbalancingv2.New(elasticloadbalancingv2.Options{
			Region: account.Region, BaseEndpoint: &endpoint, Retryer: sdk.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(account.DefaultKey, secret, ""),
		})
	}
	lb := client(account.DefaultSecret)
	in := &elasticloadbalancingv2.CreateLoadBalancerInput{Name: p("api"), Type: elbtypes.LoadBalancerTypeEnumNetwork, Subnets: n.subnets}
	_, err := client("wrong").CreateLoadBalancer(t.Context(), in)
	refused(t, err, "SignatureDoesNotMatch")
	if _, err := c.faults.Add(faults.Fault{Route: "POST /aws/elasticloadbalancing/CreateLoadBalancer", Effect: faults.JSON429}); err != nil {
		t.Fatal(err)
	}
	_, err = lb.CreateLoadBalancer(t.Context(), in)
	refused(t, err, "Throttling")
	must(lb.CreateLoadBalancer(t.Context(), in))(t)
	before := c.aws.State()
	if len(before.Balancing.LoadBalancers) != 1 || before.Count != before.State.Count+1 || len(before.Interfaces) != len(n.subnets) {
		t.Errorf("%+v", before)
	}
	c.aws.Reset()
	if after := c.aws.State(); after.Count != 0 || c.addresses.Lent() != 0 {
		t.Errorf("after a reset there are %d resources", after.Count)
	}
}

// setenv makes the SDK's own environment that of a principal; nil is the owner.
func (c *cloud) setenv(t *testing.T, who *aws.Principal) {
	t.Helper()
	if who == nil {
		who = &aws.Principal{Key: account.DefaultKey, Secret: account.DefaultSecret}
	}
	vars := who.Variables()
	maps.Copy(vars, map[string]string{
		"AWS_ENDPOINT_URL_S3": c.aws.Endpoints(c.url)["AWS_ENDPOINT_URL_S3"], "AWS_REGION": account.Region, "AWS_MAX_ATTEMPTS": "1",
		"AWS_SESSION_TOKEN": "", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_PROFILE": "",
	})
	for name, value := range vars {
		t.Setenv(name, value)
	}
}

func openStore(t *testing.T) (*store.Store, error) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{
		URL: "s3://" + aws.Bucket, Key: "base64key://" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)),
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, nil
}

// Ichor's own store works on the cloud's object storage, and survives a reset.
func TestObjectStorageOfTheCloud(t *testing.T) {
	c := start(t)
	c.setenv(t, nil)
	ctx := t.Context()
	s := must(openStore(t))(t)
	body := bytes.Repeat([]byte("snapshot "), 1<<20)
	kept := must(s.EnsureStream(ctx, "clusters/demo/instances/u1/etcd/one", func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	}))(t)
	if _, err := c.faults.Add(faults.Fault{Route: "PUT /aws/s3/" + aws.Bucket + "/**", Effect: faults.Window503, Count: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutObject(ctx, "x", secrets.NewValue([]byte("x"))); !fault.Is(err, fault.RateLimited) {
		t.Errorf("a fault of object storage: %v", err)
	}
	c.aws.Storage().Garble(".parts/", 1)
	c.aws.Reset()
	var got bytes.Buffer
	if err := s.ReadStream(ctx, kept, &got); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("read %d bytes, %v", got.Len(), err)
	}
}
