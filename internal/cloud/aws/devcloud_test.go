package aws_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/aws"
	"github.com/ichor-project/ichor/internal/cloud/cloudtest"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
	standin "github.com/ichor-project/ichor/testsuite/devcloud/aws"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/elb"
	"github.com/ichor-project/ichor/testsuite/devcloud/breaker"
	"github.com/ichor-project/ichor/testsuite/devcloud/factory"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// speed divides the cloud's latencies, and the lags of its readers, which are
// those of a usual account. The provider's settings are shortened as much, except
// for CreateTimeout: late commits must be cheap.
const speed = 100

// The settling is longer than its share: an answer that comes in the middle of it must
// be too late for a caller on a busy machine, too.
var testWaits = cloud.Waits{
	Settle: 60 * time.Second / speed, AbsenceWindow: 60 * time.Second / speed, CreateTimeout: 200 * time.Second / speed,
	PostWindow: 5 * time.Second, Poll: 10 * time.Millisecond,
}

func TestConformance(t *testing.T) {
	cloudtest.Run(t, cloudtest.Harness{New: newCloud, Seeds: 16})
}

// addresses lends loopback addresses on which nothing listens. The range is this
// package's own, because other packages' tests run at the same time.
type addresses struct {
	mu   sync.Mutex
	next uint16
	net  byte
}

var nets atomic.Int32

func (a *addresses) TakeAddress() (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	return netip.AddrFrom4([4]byte{127, a.net, byte(a.next >> 8), byte(a.next)}), nil
}

func (a *addresses) GiveAddress(netip.Addr) {}

type testCloud struct {
	*breaker.Breaker
	front     *standin.Cloud
	account   *account.Account
	factory   *httptest.Server
	stock     string // schematic without extensions
	balancers *elb.Service
	endpoints map[string]string
	transport *http.Transport
	images    map[string]string // published, by architecture
	subnets   map[string]string // of a network that is not the tests', by zone
	observe   exchange.Observe
	made      map[string]bool // resources, by key
}

func newCloud(t *testing.T) cloudtest.Cloud { return startCloud(t) }

func startCloud(t *testing.T) *testCloud {
	t.Helper()
	clock := world.NewClock(speed)
	lat := account.DefaultLatencies()
	lat.Retention = 1000 * time.Hour // a test takes longer than an hour of a terminated instance
	c := &testCloud{
		Breaker: &breaker.Breaker{
			Injector: faults.New(clock, 0, nil), Routes: routes, Effects: effects, Late: (testWaits.CreateTimeout + testWaits.Settle/2) * speed,
		},
		transport: &http.Transport{}, images: map[string]string{}, subnets: map[string]string{}, made: map[string]bool{},
	}
	images, err := factory.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.factory = httptest.NewServer(images)
	c.account = account.New(account.Options{
		Clock: clock, Addresses: &addresses{net: byte(30 + nets.Add(1)%60)}, Latencies: &lat,
		TalosVersions: []string{version}, StockSchematic: images.Stock(), Identify: images.Identify,
	})
	c.stock = images.Stock()
	mux := http.NewServeMux()
	front := standin.New(c.account, nil)
	front.Register(mux, c.Injector)
	c.front, c.balancers = front, front.Balancing()
	c.limit(t)
	server := httptest.NewServer(mux)
	at := front.Endpoints(server.URL)
	c.endpoints = map[string]string{
		"ec2": at["AWS_ENDPOINT_URL_EC2"], "elasticloadbalancing": at["AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2"],
		"ebs": at["AWS_ENDPOINT_URL_EBS"], "sts": at["AWS_ENDPOINT_URL_STS"],
	}
	t.Cleanup(func() {
		c.Heal()
		c.transport.CloseIdleConnections()
		server.Close()
		c.factory.Close()
		c.balancers.Close()
		c.account.Close()
	})
	for _, i := range c.account.Omniscient().Images() {
		c.images[i.Arch] = i.ID
	}
	c.network(t)
	return c
}

// network is where machines run that are given none. It is nobody's cluster's.
func (c *testCloud) network(t testing.TB) {
	t.Helper()
	v := c.account.Omniscient()
	vpc, err := v.CreateVPC("10.200.0.0/16", nil)
	if err != nil {
		t.Fatal(err)
	}
	for n, z := range account.Zones() {
		s, err := v.CreateSubnet(vpc.ID, fmt.Sprintf("10.200.%d.0/24", n), z.Name, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.subnets[z.Name] = s.ID
	}
}

func (c *testCloud) Open(t testing.TB) cloud.Provider { return c.open(t) }

func (c *testCloud) open(t testing.TB) *aws.Provider {
	t.Helper()
	keys, err := json.Marshal(map[string]string{"accessKeyId": account.DefaultKey, "secretAccessKey": account.DefaultSecret})
	if err != nil {
		t.Fatal(err)
	}
	p, err := aws.New(t.Context(), aws.Options{
		Region: account.Region, Credentials: secrets.NewValue(keys), Endpoints: c.endpoints,
		HTTPClient: &http.Client{Transport: c.transport}, Rate: 1000, Waits: testWaits, Observe: c.observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	ec2Path = "POST /aws/ec2/"
	elbPath = "POST /aws/elasticloadbalancing/"
)

// creates are the actions that make infrastructure, changes all other writes.
var (
	creates = []string{
		ec2Path + "CreateVpc", ec2Path + "CreateInternetGateway", ec2Path + "CreateRouteTable", ec2Path + "CreateSubnet",
		ec2Path + "CreateSecurityGroup", ec2Path + "CreatePlacementGroup",
		elbPath + "CreateTargetGroup", elbPath + "CreateLoadBalancer", elbPath + "CreateListener",
	}
	changes = []string{
		elbPath + "RegisterTargets", elbPath + "DeregisterTargets",
		ec2Path + "CreateTags", ec2Path + "DeleteTags", ec2Path + "RegisterImage", ec2Path + "DeregisterImage", ec2Path + "DeleteSnapshot",
	}
)

func routes(c cloudtest.Call) []breaker.Route {
	switch c {
	case cloudtest.CreateMachine:
		return []breaker.Route{{Route: ec2Path + "RunInstances"}}
	case cloudtest.ListMachines:
		return []breaker.Route{{Route: ec2Path + "DescribeInstances", Contains: "tag%3A"}}
	case cloudtest.ReadMachine:
		return []breaker.Route{
			{Route: ec2Path + "DescribeInstances", Contains: "instance-id"}, {Route: ec2Path + "DescribeInstances", Contains: "InstanceId.1"},
		}
	case cloudtest.DeleteMachine:
		return []breaker.Route{{Route: ec2Path + "TerminateInstances"}}
	case cloudtest.CreateResource:
		return toRoutes(creates)
	case cloudtest.Write:
		return append(toRoutes(creates), toRoutes(changes)...)
	case cloudtest.CreateImage:
		return []breaker.Route{{Route: "POST /aws/ebs/snapshots"}}
	}
	return nil
}

func toRoutes(actions []string) []breaker.Route {
	out := make([]breaker.Route, len(actions))
	for n, a := range actions {
		out[n].Route = a
	}
	return out
}

// effects are how these APIs say things.
var effects = map[cloudtest.Effect]faults.Fault{
	// as services other than EC2 say it
	cloudtest.ThrottledPage: {Effect: faults.Status, Status: http.StatusTooManyRequests, Code: "TooManyRequestsException"},
	cloudtest.Maintenance:   {Effect: faults.Status, Status: http.StatusServiceUnavailable, Code: "Unavailable"},
	cloudtest.Unauthorized:  {Effect: faults.Status, Status: http.StatusForbidden, Code: "UnauthorizedOperation"},
	// Longer than any test: how long the test itself takes must not matter.
	cloudtest.Stale: {Effect: faults.StaleList, Duration: faults.Duration(time.Hour)},
	cloudtest.Busy:  {Effect: faults.Status, Status: http.StatusBadRequest, Code: "IncorrectInstanceState"},
}

// Impossible implements cloudtest.Impossible: the zone is that of the subnet, and
// a request that names another one is refused.
func (c *testCloud) Impossible() []cloudtest.Effect { return []cloudtest.Effect{cloudtest.WrongZone} }

const (
	zone    = "eu-central-1a"
	version = "v1.13.5"
)

func (c *testCloud) Machine(owner cloud.Owner, id string) cloud.MachineSpec {
	return cloud.MachineSpec{
		ID: id, Name: cluster.MachineName(owner.Cluster.Name, owner.Group, id), Owner: owner, Role: cluster.RoleWorker,
		Zone: zone, Flavor: "m6i.large", ImageID: c.images["x86_64"], DiskGiB: 20, Subnets: []string{c.subnets[zone]},
	}
}

func (c *testCloud) UserData() secrets.Value { return secrets.NewValue([]byte("version: v1alpha1\n")) }

func (c *testCloud) Books(uid string) map[string]int {
	out := map[string]int{}
	count := func(kind string, tags map[string]string) {
		if tags[cluster.TagCluster] == uid {
			out[kind]++
		}
	}
	v := c.account.Omniscient()
	of := func(kind, id string) {
		tags := map[string]string{}
		for _, t := range c.account.Tags(id) {
			tags[t.Key] = t.Value
		}
		count(kind, tags)
	}
	for _, i := range v.Instances() {
		if i.State != account.Terminated {
			of("machine", i.ID)
		}
	}
	for _, x := range v.VPCs() {
		of("vpc", x.ID)
	}
	for _, x := range v.InternetGateways() {
		of("internet-gateway", x.ID)
	}
	for _, x := range v.RouteTables() {
		of("route-table", x.ID)
	}
	for _, x := range v.Subnets() {
		of("subnet", x.ID)
	}
	for _, x := range v.SecurityGroups() {
		of("security-group", x.ID)
	}
	for _, x := range v.PlacementGroups() {
		of("placement-group", x.ID)
	}
	for _, x := range v.Volumes() {
		if x.Instance == "" {
			of("volume", x.ID)
		}
	}
	used := map[string]bool{} // snapshots of images
	marked := func(id string) {
		for _, t := range c.account.Tags(id) {
			if t.Key == cluster.TagImageUser+uid {
				out["image"]++
			}
		}
	}
	for _, x := range v.Images() {
		used[x.Snapshot] = true
		marked(x.ID)
	}
	for _, x := range v.Snapshots() {
		if !used[x.ID] {
			marked(x.ID)
		}
	}
	b := c.balancers.State()
	for _, x := range b.LoadBalancers {
		count("load-balancer", x.Tags)
	}
	for _, x := range b.Listeners {
		count("listener", x.Tags)
	}
	for _, x := range b.TargetGroups {
		count("target-group", x.Tags)
		var healthy, all int
		if _, err := fmt.Sscanf(x.Detail, "%d of %d targets healthy", &healthy, &all); err == nil && all > 0 && x.Tags[cluster.TagCluster] == uid {
			out["member"] += all
		}
	}
	return out
}

func (c *testCloud) Foreign(t testing.TB, _ []cluster.Tag) string {
	t.Helper()
	t.Fatal("machines of others are not adopted")
	return ""
}

func (c *testCloud) Vanish(t testing.TB, id string) {
	t.Helper()
	if err := c.account.Vanish(id); err != nil {
		t.Fatal(err)
	}
}

func (c *testCloud) Infrastructure(owner cloud.Owner) cloud.InfrastructureSpec {
	return cloud.InfrastructureSpec{
		Owner: owner, Zone: zone, Zones: []string{zone, "eu-central-1b"}, CIDR: "10.100.0.0/16",
		LoadBalancer: &cluster.LoadBalancer{}, AllowedCIDRs: []string{"127.0.0.0/8"},
	}
}

func (c *testCloud) image(name, schematic, version string) cloud.ImageSpec {
	return cloud.ImageSpec{
		Name: name, Schematic: schematic, Version: version, Arch: "amd64", Zone: zone,
		URL: c.factory.URL + "/image/" + c.stock + "/" + version + "/aws-amd64.raw.gz",
	}
}

// What an import makes is the same whatever its schematic.
func (c *testCloud) Image(name string) cloud.ImageSpec { return c.image(name, "another", version) }

func (c *testCloud) Broken(name string) cloud.ImageSpec { return c.image(name, "another", "v0.0.1") }

// Published implements cloudtest.Publisher.
func (c *testCloud) Published() cloud.ImageSpec { return c.image("published", c.stock, version) }

func (c *testCloud) WriteRequests() int {
	return c.Count(func(r faults.Request) bool {
		name := r.Path[strings.LastIndex(r.Path, "/")+1:]
		return !strings.HasPrefix(name, "Describe") && !strings.HasPrefix(name, "Get")
	})
}

func (c *testCloud) Zone(id string) string {
	i, err := c.account.Instance(id)
	if err != nil {
		return ""
	}
	return i.Zone
}
