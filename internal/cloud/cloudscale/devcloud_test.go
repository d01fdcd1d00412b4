package cloudscale_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/cloudscale"
	"github.com/ichor-project/ichor/internal/cloud/cloudtest"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/breaker"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// speed divides the cloud's latencies; the provider's settings are the real ones
// divided by as much, except for CreateTimeout: late commits must be cheap.
const speed = 100

var testWaits = cloud.Waits{
	Settle: 30 * time.Second / speed, AbsenceWindow: 60 * time.Second / speed, CreateTimeout: 20 * time.Second / speed,
	PostWindow: 5 * time.Second, Poll: 10 * time.Millisecond,
}

func TestConformance(t *testing.T) {
	cloudtest.Run(t, cloudtest.Harness{New: newCloud, Seeds: 16})
}

// prefixes keeps the addresses of clouds that run at once apart. The range is
// this package's own, because other packages' tests run at the same time.
var prefixes atomic.Int32

type testCloud struct {
	*devcloud.Devcloud
	*breaker.Breaker
	transport *http.Transport
}

func newCloud(t *testing.T) cloudtest.Cloud {
	t.Helper()
	d, err := devcloud.Start(t.Context(), devcloud.Options{
		Speed: speed, LoopbackPrefix: fmt.Sprintf("127.%d", 140+prefixes.Add(1)%100),
	})
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return &testCloud{d, &breaker.Breaker{
		Injector: d.Faults(), Routes: func(c cloudtest.Call) []breaker.Route { return routes[c] }, Effects: effects,
		Late: (testWaits.CreateTimeout + testWaits.Settle/2) * speed,
	}, tr}
}

func (c *testCloud) Open(t testing.TB) cloud.Provider {
	t.Helper()
	p, err := cloudscale.New(cloudscale.Options{
		Token: secrets.NewValue([]byte("a-token")), BaseURL: c.URL(), HTTPClient: &http.Client{Transport: c.transport},
		Rate: 1000, Waits: testWaits,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var routes = map[cloudtest.Call][]breaker.Route{
	cloudtest.CreateMachine: {{Route: "POST /v1/servers"}},
	cloudtest.ListMachines:  {{Route: "GET /v1/servers"}},
	cloudtest.ReadMachine:   {{Route: "GET /v1/servers/*"}},
	cloudtest.DeleteMachine: {{Route: "DELETE /v1/servers/*"}},
	cloudtest.CreateImage:   {{Route: "POST /v1/custom-images/import"}},
	// Servers and imports are not created while resources are.
	cloudtest.CreateResource: {{Route: "POST **"}},
	cloudtest.Write:          {{Route: "POST **"}, {Route: "DELETE **"}, {Route: "PATCH **"}},
}

// second is the shortest pause that the header can ask for.
const second = "1"

// effects are how this API says things.
var effects = map[cloudtest.Effect]faults.Fault{
	cloudtest.Throttled:     {Effect: faults.JSON429, RetryAfter: second},
	cloudtest.ThrottledPage: {Effect: faults.HTML429, RetryAfter: second},
	cloudtest.Maintenance:   {Effect: faults.Status, Status: http.StatusServiceUnavailable},
	cloudtest.Unauthorized:  {Effect: faults.Status, Status: http.StatusUnauthorized, Body: `{"detail": "Invalid token."}`},
	cloudtest.Stale:         {Effect: faults.StaleList, Duration: faults.Duration(testWaits.Settle * speed)},
	cloudtest.Busy:          {Effect: faults.BadDelete},
	cloudtest.WrongZone:     {Effect: faults.WrongZone},
}

func (c *testCloud) Machine(owner cloud.Owner, id string) cloud.MachineSpec {
	return cloud.MachineSpec{
		ID: id, Name: cluster.MachineName(owner.Cluster.Name, owner.Group, id), Owner: owner, Role: cluster.RoleWorker,
		Zone: "lpg1", Flavor: "flex-4-1", ImageID: "debian-12", DiskGiB: 20,
	}
}

func (c *testCloud) UserData() secrets.Value { return secrets.NewValue([]byte("version: v1alpha1\n")) }

func (c *testCloud) Books(uid string) map[string]int {
	w, out := c.World(), map[string]int{}
	count := func(kind string, tags map[string]string) {
		if tags[cluster.TagCluster] == uid {
			out[kind]++
		}
	}
	for _, s := range w.Servers() {
		count("machine", s.Tags)
	}
	for _, n := range w.Networks() {
		count("network", n.Tags)
	}
	for _, s := range w.Subnets() {
		count("subnet", s.Tags)
	}
	for _, g := range w.Groups() {
		count("server-group", g.Tags)
	}
	for _, b := range w.Balancers() {
		count("load-balancer", b.Tags)
	}
	for _, p := range w.Pools() {
		count("pool", p.Tags)
		members, err := w.Members(p.UUID)
		if err != nil {
			continue // the pool went away in between, and its members with it
		}
		for _, m := range members {
			count("member", m.Tags)
		}
	}
	for _, l := range w.Listeners() {
		count("listener", l.Tags)
	}
	for _, m := range w.Monitors() {
		count("health-monitor", m.Tags)
	}
	for _, i := range w.Images() {
		if _, ok := i.Tags[cluster.TagImageUser+uid]; ok {
			out["image"]++
		}
	}
	return out
}

func (c *testCloud) Foreign(t testing.TB, tags []cluster.Tag) string {
	t.Helper()
	spec := world.ServerSpec{Name: "pet", Zone: "lpg1", Flavor: "flex-4-1", Image: "debian-12", RootGB: 20, Tags: map[string]string{}, UserData: []byte("version: v1alpha1\n")}
	for _, tag := range tags {
		spec.Tags[tag.Key] = tag.Value
	}
	s, err := c.World().CreateServer(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s.UUID
}

func (c *testCloud) Vanish(t testing.TB, id string) {
	t.Helper()
	if err := c.World().Vanish(id); err != nil {
		t.Fatal(err)
	}
}

func (c *testCloud) Infrastructure(owner cloud.Owner) cloud.InfrastructureSpec {
	return cloud.InfrastructureSpec{
		Owner: owner, Zone: "lpg1", CIDR: "10.100.0.0/24", LoadBalancer: &cluster.LoadBalancer{}, AllowedCIDRs: []string{"127.0.0.0/8"},
	}
}

func (c *testCloud) image(name, asset string) cloud.ImageSpec {
	// The schematic without extensions; every factory knows it.
	const schematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"
	const version = "v1.13.5"
	return cloud.ImageSpec{
		Name: name, Schematic: schematic, Version: version, Arch: "amd64", Zone: "lpg1",
		URL: c.FactoryURL() + "image/" + schematic + "/" + version + "/" + asset,
	}
}

func (c *testCloud) Image(name string) cloud.ImageSpec { return c.image(name, "openstack-amd64.qcow2") }

func (c *testCloud) Broken(name string) cloud.ImageSpec { return c.image(name, "nothing-here.qcow2") }

func (c *testCloud) WriteRequests() int {
	return c.Count(func(r faults.Request) bool { return r.Method != http.MethodGet && strings.HasPrefix(r.Path, "/v1/") })
}

func (c *testCloud) Zone(id string) string {
	s, err := c.World().Server(id)
	if err != nil {
		return ""
	}
	return s.Zone
}

// Nodes come to the endpoint from public addresses that no range of the spec
// contains. They are admitted one by one, also when many come at once, and only
// as long as they exist.
func TestNodesReachTheEndpoint(t *testing.T) {
	c, ok := newCloud(t).(*testCloud)
	if !ok {
		t.Fatal("another cloud")
	}
	p, ok := c.Open(t).(*cloudscale.Provider)
	if !ok {
		t.Fatal("another provider")
	}
	owner := cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}, Group: "workers"}
	spec := c.Infrastructure(owner)
	spec.AllowedCIDRs = []string{"192.0.2.0/24"}
	steps, err := p.PlanInfrastructure(spec)
	if err != nil {
		t.Fatal(err)
	}
	var have []cloud.Resource
	for _, s := range steps {
		var r cloud.Resource
		for r.ID == "" || !r.Ready {
			look, err := p.EnsureResource(t.Context(), cloud.EnsureResourceRequest{Owner: owner, Step: s, Have: have, Create: true})
			if err != nil {
				t.Fatal(err)
			}
			r = *look.Resource
		}
		have = append(have, r)
	}
	allowed := func() []string {
		t.Helper()
		ls := c.World().Listeners()
		if len(ls) != 1 {
			t.Fatalf("%d listeners", len(ls))
		}
		var out []string
		for _, a := range ls[0].Allowed {
			out = append(out, fmt.Sprint(a))
		}
		slices.Sort(out)
		return out
	}
	want := []string{"192.0.2.0/24"}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var refs []cloud.MachineRef
	for i := range 5 {
		wg.Go(func() {
			look, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{
				Spec: c.Machine(owner, fmt.Sprint("m", i)), UserData: c.UserData(), Create: true,
			})
			if err != nil || look.Machine.Public == "" {
				t.Errorf("EnsureMachine: %+v, %v", look, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			want, refs = append(want, look.Machine.Public+"/32"), append(refs, look.Machine.Ref)
		})
	}
	wg.Wait()
	// A machine that could not be admitted exists all the same: the next look
	// finds and admits it.
	if _, err := c.Faults().Add(faults.Fault{Route: "PATCH /v1/load-balancers/listeners/*", Effect: faults.Status, Status: http.StatusInternalServerError}); err != nil {
		t.Fatal(err)
	}
	late := cloud.EnsureMachineRequest{Spec: c.Machine(owner, "late"), UserData: c.UserData(), Create: true}
	if look, err := p.EnsureMachine(t.Context(), late); !fault.Is(err, fault.Ambiguous) || look.Machine != nil {
		t.Errorf("without admission: %+v, %v of kind %q", look, err, fault.KindOf(err))
	}
	late.Create = false
	look, err := p.EnsureMachine(t.Context(), late)
	if err != nil || look.Machine == nil {
		t.Fatalf("the next look: %+v, %v", look, err)
	}
	want, refs = append(want, look.Machine.Public+"/32"), append(refs, look.Machine.Ref)
	slices.Sort(want)
	if diff := cmp.Diff(want, allowed()); diff != "" {
		t.Errorf("allowed with nodes (-want +got):\n%s", diff)
	}
	// What another process has overwritten is mended with the next sync.
	if err := c.World().UpdateListener(c.World().Listeners()[0].UUID, world.ListenerSpec{Allowed: &[]string{"192.0.2.0/24"}}); err != nil {
		t.Fatal(err)
	}
	machine, err := p.GetMachine(t.Context(), refs[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.SyncMembers(t.Context(), cloud.SyncMembersRequest{
		Owner: owner, Have: have, Members: []cloud.Member{{MachineID: machine.Ref.ID, Name: machine.Name, Address: "10.100.0.200"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, allowed()); diff != "" {
		t.Errorf("allowed after a sync (-want +got):\n%s", diff)
	}
	for _, ref := range refs {
		for gone := false; !gone; {
			if gone, err = p.DeleteMachine(t.Context(), ref); err != nil && !fault.Is(err, fault.Conflict) {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff([]string{"192.0.2.0/24"}, allowed()); diff != "" {
		t.Errorf("allowed without nodes (-want +got):\n%s", diff)
	}
}
