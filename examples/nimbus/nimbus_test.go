package nimbus_test

import (
	"cmp"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ichor-project/ichor/examples/nimbus"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/cloudtest"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/testsuite/devcloud/breaker"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// testWaits are shorter than the real cloud's, and longer than what it takes here.
var testWaits = cloud.Waits{
	Settle: 300 * time.Millisecond, AbsenceWindow: 600 * time.Millisecond, CreateTimeout: 2 * time.Second,
	PostWindow: 5 * time.Second, Poll: 10 * time.Millisecond,
}

// TestMain lets more tests run at once than there are processors: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	cloudtest.Run(t, cloudtest.Harness{New: newCloud, Seeds: 16})
}

// testCloud is an account, and the power to break what lies between it and Ichor.
type testCloud struct {
	*breaker.Breaker
	api       *api
	url       string
	transport *http.Transport
}

func newCloud(t *testing.T) cloudtest.Cloud {
	t.Helper()
	a, in := &api{}, faults.New(world.NewClock(1), 0, nil)
	server := httptest.NewServer(in.WrapAs(a.handler(), 0, canned))
	c := &testCloud{&breaker.Breaker{
		Injector: in, Routes: func(c cloudtest.Call) []breaker.Route { return routes[c] }, Effects: effects,
		Late: testWaits.CreateTimeout + testWaits.Settle/2,
	}, a, server.URL, &http.Transport{}}
	t.Cleanup(func() {
		c.Heal()
		c.transport.CloseIdleConnections()
		server.Close()
	})
	return c
}

func (c *testCloud) Open(t testing.TB) cloud.Provider {
	t.Helper()
	p, err := nimbus.New(nimbus.Options{
		Token: secrets.NewValue([]byte("a-token")), BaseURL: c.url, HTTPClient: &http.Client{Transport: c.transport},
		Rate: 1000, Waits: testWaits,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// routes are the requests that the suite's words stand for.
var routes = map[cloudtest.Call][]breaker.Route{
	cloudtest.CreateMachine:  {{Route: "POST /v1/machines"}},
	cloudtest.ListMachines:   {{Route: "GET /v1/machines"}},
	cloudtest.ReadMachine:    {{Route: "GET /v1/machines/*"}},
	cloudtest.DeleteMachine:  {{Route: "DELETE /v1/machines/*"}},
	cloudtest.CreateImage:    {{Route: "POST /v1/images"}},
	cloudtest.CreateResource: {{Route: "POST **"}}, // nothing else is made meanwhile
	cloudtest.Write:          {{Route: "POST **"}, {Route: "PUT **"}, {Route: "DELETE **"}},
}

// effects are what has times or words of its own in front of this API.
var effects = map[cloudtest.Effect]faults.Fault{
	cloudtest.Throttled:     {Effect: faults.JSON429, RetryAfter: "1"},
	cloudtest.ThrottledPage: {Effect: faults.HTML429, RetryAfter: "1"},
	cloudtest.Maintenance:   {Effect: faults.Status, Status: http.StatusServiceUnavailable},
	cloudtest.Unauthorized:  {Effect: faults.Status, Status: http.StatusUnauthorized},
	cloudtest.Stale:         {Effect: faults.StaleList, Duration: faults.Duration(time.Hour)},
	cloudtest.Busy:          {Effect: faults.BadDelete},
	cloudtest.WrongZone:     {Effect: faults.WrongZone},
}

// canned are the API's refusals; what is not among them is a proxy's page.
func canned(f *faults.Fault) (status int, contentType string, body []byte) {
	api, known := map[string]struct {
		status int
		body   string
	}{
		faults.JSON429:    {http.StatusTooManyRequests, `{"code": "rate_limited", "message": "slow down"}`},
		faults.Quota:      {http.StatusForbidden, `{"code": "quota_exceeded", "message": "this account may have 0 machines"}`},
		faults.OutOfStock: {http.StatusConflict, `{"code": "no_capacity", "message": "no small machine is left in north"}`},
		faults.Image404:   {http.StatusNotFound, `{"code": "image_not_found", "message": "there is no such image"}`},
		faults.BadDelete:  {http.StatusConflict, `{"code": "busy", "message": "the machine is changing"}`},
	}[f.Effect]
	if known {
		return api.status, "application/json", []byte(api.body)
	}
	status = cmp.Or(f.Status, http.StatusTooManyRequests)
	return status, "text/html", []byte("<h1>" + http.StatusText(status) + "</h1>")
}

// WriteRequests counts what was not a read.
func (c *testCloud) WriteRequests() int {
	return c.Count(func(r faults.Request) bool { return r.Method != http.MethodGet })
}

func (c *testCloud) Machine(owner cloud.Owner, id string) cloud.MachineSpec {
	return cloud.MachineSpec{
		ID: id, Name: cluster.MachineName(owner.Cluster.Name, owner.Group, id), Owner: owner, Role: cluster.RoleWorker,
		Zone: "north", Flavor: "small", ImageID: "talos-1-13-5", DiskGiB: 20,
	}
}

func (c *testCloud) UserData() secrets.Value { return secrets.NewValue([]byte("version: v1alpha1\n")) }

func (c *testCloud) Infrastructure(owner cloud.Owner) cloud.InfrastructureSpec {
	return cloud.InfrastructureSpec{Owner: owner, Zone: "north", CIDR: "10.100.0.0/24", LoadBalancer: &cluster.LoadBalancer{}}
}

// Books counts what there is, by the kinds of the suite.
func (c *testCloud) Books(uid string) map[string]int {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	out := map[string]int{}
	for _, t := range c.api.things {
		_, uses := t.Labels[cluster.TagImageUser+uid]
		if !uses && t.Labels[cluster.TagCluster] != uid || !t.gone.IsZero() && time.Now().After(t.gone) {
			continue
		}
		out[map[string]string{"machines": "machine", "networks": "subnet", "balancers": "load-balancer", "images": "image"}[t.kind]]++
		if len(t.Targets) > 0 {
			out["member"] += len(t.Targets)
		}
	}
	return out
}

func (c *testCloud) Vanish(t testing.TB, id string) {
	t.Helper()
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	c.api.things = slices.DeleteFunc(c.api.things, func(x *thing) bool { return x.ID == id })
}

func (c *testCloud) Zone(id string) string {
	c.api.mu.Lock()
	defer c.api.mu.Unlock()
	if t := c.api.find("machines", id); t != nil {
		return t.Zone
	}
	return ""
}

func (c *testCloud) Image(name string) cloud.ImageSpec {
	return cloud.ImageSpec{Name: name, Zone: "north", URL: "https://factory.example.com/" + name}
}

func (c *testCloud) Broken(name string) cloud.ImageSpec {
	spec := c.Image(name)
	spec.URL += "/nothing-here"
	return spec
}

// Foreign is for providers that adopt machines.
func (c *testCloud) Foreign(t testing.TB, _ []cluster.Tag) string {
	t.Helper()
	t.Fatal("Nimbus adopts no machines")
	return ""
}
