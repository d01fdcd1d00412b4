package aws_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/lender"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// machine is a guest that only remembers what became of it.
type machine struct {
	guest.Guest
	park *park
	spec guest.Server
}

func (m *machine) PowerOn()      { m.park.note(m.spec.UUID, "on") }
func (m *machine) PowerOff()     { m.park.note(m.spec.UUID, "off") }
func (m *machine) Destroy()      { m.park.note(m.spec.UUID, "destroyed") }
func (m *machine) Log() []string { return []string{"hello from " + m.spec.Name} }

// park boots machines.
type park struct {
	mu    sync.Mutex
	specs map[string]guest.Server
	log   map[string][]string
}

func (p *park) Boot(s guest.Server) guest.Guest {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.specs[s.UUID] = s
	p.log[s.UUID] = append(p.log[s.UUID], "boot")
	return &machine{park: p, spec: s}
}

func (p *park) note(id, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log[id] = append(p.log[id], what)
}

func (p *park) spec(id string) (guest.Server, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.specs[id]
	return s, ok
}

func (p *park) story(id string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log[id])
}

// identify takes the first three bytes of a disk for its schematic.
func identify(disk []byte) (guest.Image, bool) {
	if len(disk) != 5*account.BlockSize+3 {
		return guest.Image{}, false
	}
	return guest.Image{Schematic: string(disk[:3]), TalosVersion: "v1.13.5", Platform: "aws", Arch: "amd64"}, true
}

// cloud is a running cloud with a client of the vendor's.
type cloud struct {
	*ec2.Client
	url       string
	aws       *aws.Cloud
	account   *account.Account
	faults    *faults.Injector
	addresses *lender.Lender
	park      *park
}

// start serves an empty account, in which everything is visible at once and
// terminated instances are kept for ever.
func start(t testing.TB) *cloud { return startWith(t, account.Settings{PageLimit: 1000}) }

func startWith(t testing.TB, s account.Settings) *cloud {
	t.Helper()
	lat := account.DefaultLatencies()
	lat.Retention = 10000 * time.Hour
	return startAt(t, s, lat)
}

func startAt(t testing.TB, s account.Settings, lat account.Latencies) *cloud {
	t.Helper()
	clock := world.NewClock(5000)
	c := &cloud{addresses: lender.New(250), park: &park{specs: map[string]guest.Server{}, log: map[string][]string{}}, faults: faults.New(clock, 0, nil)}
	c.account = account.New(account.Options{
		Clock: clock, Addresses: c.addresses, Latencies: &lat, Settings: &s, TalosVersions: []string{"v1.12.4", "v1.13.5"}, StockSchematic: "stock",
		Identify: identify,
	})
	c.account.SetBooter(c.park)
	c.aws = aws.New(c.account, nil)
	mux := http.NewServeMux()
	c.aws.Register(mux, c.faults)
	server := httptest.NewServer(mux)
	c.url = server.URL + "/"
	c.Client = c.client(account.DefaultKey, account.DefaultSecret, "", account.Region)
	t.Cleanup(func() {
		c.faults.Clear()
		server.Close()
		c.aws.Close()
		if n := c.addresses.Lent(); n != 0 {
			t.Errorf("%d addresses were not given back", n)
		}
	})
	return c
}

// client is one of the vendor's that asks every question once.
func (c *cloud) client(key, secret, session, region string) *ec2.Client {
	endpoint := c.aws.Endpoints(c.url)["AWS_ENDPOINT_URL_EC2"]
	return ec2.New(ec2.Options{
		Region: region, Credentials: credentials.NewStaticCredentialsProvider(key, secret, session), BaseEndpoint: &endpoint, Retryer: sdk.NopRetryer{},
	})
}

// code is the error code of a refusal, and its HTTP status.
func code(err error) (string, int) {
	var api smithy.APIError
	var response *awshttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &response) {
		return fmt.Sprint(err), 0
	}
	return api.ErrorCode(), response.HTTPStatusCode()
}

// refused fails the test unless err is a refusal with a code.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if got, _ := code(err); got != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// must fails the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func p[T any](v T) *T { return &v }

// network is a VPC that reaches the Internet.
type network struct {
	vpc, gateway, table, group string
	subnets                    []string // in the zones a, b and c
}

var zones = []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"}

func (c *cloud) network(t testing.TB) network {
	t.Helper()
	ctx := t.Context()
	n := network{vpc: *must(c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: p("10.0.0.0/16")}))(t).Vpc.VpcId}
	n.gateway = *must(c.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{}))(t).InternetGateway.InternetGatewayId
	must(c.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: &n.gateway, VpcId: &n.vpc}))(t)
	n.table = *must(c.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: &n.vpc}))(t).RouteTable.RouteTableId
	must(c.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &n.table, DestinationCidrBlock: p("0.0.0.0/0"), GatewayId: &n.gateway}))(t)
	for i, z := range zones {
		s := must(c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &n.vpc, CidrBlock: p(fmt.Sprintf("10.0.%d.0/24", i)), AvailabilityZone: p(z)}))(t)
		n.subnets = append(n.subnets, *s.Subnet.SubnetId)
		must(c.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{
			SubnetId: s.Subnet.SubnetId, MapPublicIpOnLaunch: &types.AttributeBooleanValue{Value: p(true)},
		}))(t)
		must(c.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: &n.table, SubnetId: s.Subnet.SubnetId}))(t)
	}
	n.group = *must(c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: p("nodes"), Description: p("nodes"), VpcId: &n.vpc}))(t).GroupId
	return n
}

// talos is the published image of an architecture.
func (c *cloud) talos(t testing.TB, arch string) string {
	t.Helper()
	out := must(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Owners:  []string{account.TalosOwner},
		Filters: []types.Filter{{Name: p("name"), Values: []string{"talos-v1.13.5-" + account.Region + "-" + arch}}},
	}))(t)
	if len(out.Images) != 1 {
		t.Fatalf("got %d images, want one", len(out.Images))
	}
	return *out.Images[0].ImageId
}

// spec is a launch of a small machine into the first zone.
func (c *cloud) spec(t testing.TB, n network, change ...func(*ec2.RunInstancesInput)) *ec2.RunInstancesInput {
	t.Helper()
	in := &ec2.RunInstancesInput{
		MinCount: p(int32(1)), MaxCount: p(int32(1)), ImageId: p(c.talos(t, "amd64")), InstanceType: "t3.medium", SubnetId: &n.subnets[0],
		SecurityGroupIds: []string{n.group}, UserData: p(base64.StdEncoding.EncodeToString([]byte("machine: {}"))),
		TagSpecifications: []types.TagSpecification{{ResourceType: "instance", Tags: []types.Tag{{Key: p("Name"), Value: p("demo-1")}}}},
	}
	for _, f := range change {
		f(in)
	}
	return in
}

func (c *cloud) run(t testing.TB, in *ec2.RunInstancesInput) types.Instance {
	t.Helper()
	out := must(c.RunInstances(t.Context(), in))(t)
	if len(out.Instances) != 1 {
		t.Fatalf("got %d instances, want one", len(out.Instances))
	}
	return out.Instances[0]
}

func (c *cloud) instance(ctx context.Context, id string) (types.Instance, error) {
	out, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return types.Instance{}, err
	}
	return out.Reservations[0].Instances[0], nil
}

// reaches waits until an instance is in a state.
func (c *cloud) reaches(t testing.TB, id string, want types.InstanceStateName) types.Instance {
	t.Helper()
	for {
		i := must(c.instance(t.Context(), id))(t)
		if i.State.Name == want {
			return i
		}
		time.Sleep(time.Millisecond)
	}
}

// until waits for something that is bound to happen.
func until(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for !happened() {
		if err := t.Context().Err(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(time.Millisecond)
	}
}
