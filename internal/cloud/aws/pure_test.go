package aws

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

func TestRules(t *testing.T) {
	want := wantedRules("sg-1", []string{"192.0.2.0/24", "10.0.0.0/16", "192.0.2.0/24", "2001:db8::/32"})
	if len(want) != 7 {
		t.Fatalf("%d rules: %+v", len(want), want)
	}
	add, revoke := diffRules(nil, want)
	if len(add) != len(want) || len(revoke) != 0 {
		t.Errorf("into an empty group: %+v, %+v", add, revoke)
	}
	// What the API is sent reads back as what was wanted.
	have := rulesOf(permissions(want))
	if add, revoke := diffRules(have, want); len(add)+len(revoke) != 0 {
		t.Errorf("a complete group: %+v, %+v", add, revoke)
	}
	// The API groups ranges of one port, and drops notes of nobody.
	have = rulesOf([]types.IpPermission{
		{IpProtocol: sdk.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: sdk.String("sg-1"), Description: sdk.String(ruleMark + "nodes")}}},
		{IpProtocol: sdk.String("tcp"), FromPort: sdk.Int32(6443), ToPort: sdk.Int32(6443), IpRanges: []types.IpRange{
			{CidrIp: sdk.String("10.0.0.0/16")},
			{CidrIp: sdk.String("198.51.100.0/24"), Description: sdk.String(ruleMark + "Kubernetes API")},
			{CidrIp: sdk.String("203.0.113.0/24"), Description: sdk.String("somebody's")},
		}},
	})
	add, revoke = diffRules(have, want)
	if diff := cmp.Diff([]rule{{"tcp", 6443, "198.51.100.0/24", ruleMark + "Kubernetes API"}}, revoke, cmp.AllowUnexported(rule{})); diff != "" {
		t.Errorf("revoked (-want +got):\n%s", diff)
	}
	var missing []string
	for _, a := range add {
		missing = append(missing, fmt.Sprint(a.from, " ", a.port))
	}
	if diff := cmp.Diff([]string{"10.0.0.0/16 50000", "192.0.2.0/24 6443", "192.0.2.0/24 50000", "2001:db8::/32 6443", "2001:db8::/32 50000"}, missing); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}
}

func TestSightings(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := newSightings(time.Minute, func() time.Time { return now })
	absent := func(id string, want fault.Kind) {
		t.Helper()
		if err := s.Absent("read", id); !fault.Is(err, want) {
			t.Errorf("%s after %s: %v, want %s", id, now.Sub(time.Unix(1e9, 0)), err, want)
		}
	}
	s.Saw("old", now.Add(-time.Hour))
	s.Saw("young", now)
	s.Saw("confirmed", now)
	s.Deleted("confirmed")
	s.Saw("confirmed", now) // a reader that lags
	absent("old", fault.NotFound)
	absent("young", fault.NotYet)
	absent("unknown", fault.NotYet)
	absent("confirmed", fault.NotFound)
	now = now.Add(40 * time.Second)
	absent("unknown", fault.NotYet)
	absent("young", fault.NotYet)
	s.Saw("back", now)
	absent("back", fault.NotYet)
	now = now.Add(20 * time.Second)
	absent("unknown", fault.NotFound)
	absent("young", fault.NotFound)
	s.Saw("back", now) // it was only a lag
	absent("back", fault.NotYet)
	// A look long ago does not count for one now.
	absent("twice", fault.NotYet)
	now = now.Add(time.Hour)
	absent("twice", fault.NotYet)
	// Nor does one from before a create.
	absent("made", fault.NotYet)
	now = now.Add(50 * time.Second)
	s.Making("made")
	now = now.Add(20 * time.Second)
	absent("made", fault.NotYet)
}

func TestSightingsForget(t *testing.T) {
	now := time.Unix(1e9, 0)
	s := newSightings(time.Minute, func() time.Time { return now })
	for n := range keep + 1 {
		s.Saw(fmt.Sprint("i-", n), now)
	}
	now = now.Add(time.Hour)
	s.Saw("last", now)
	if len(s.born) > 2 {
		t.Errorf("%d are remembered", len(s.born))
	}
}

func TestCollector(t *testing.T) {
	var mu sync.Mutex
	var calls [][]string
	fail := false
	c := &collector{
		wait: 20 * time.Millisecond, limit: 3, keyOf: func(i *instance) string { return i.id },
		fetch: func(_ context.Context, keys []string) ([]instance, error) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, keys)
			if fail {
				return nil, fault.New(fault.RateLimited, "read", "slow down")
			}
			var out []instance
			for _, k := range keys {
				if k != "none" {
					out = append(out, instance{id: k})
				}
			}
			return out, nil
		},
	}
	ask := func(keys ...string) map[string]int {
		found := map[string]int{}
		var wg sync.WaitGroup
		for _, k := range keys {
			wg.Go(func() {
				is, err := c.get(t.Context(), "read", k)
				mu.Lock()
				defer mu.Unlock()
				found[k] = len(is)
				if err != nil {
					found[k] = -1
				}
			})
		}
		wg.Wait()
		return found
	}
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 1, "none": 0}, ask("a", "b", "none")); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	for _, k := range calls {
		if !slices.IsSorted(k) || len(k) > 3 {
			t.Errorf("call for %v", k)
		}
	}
	calls = nil
	ask("a", "b", "c", "d", "e", "f", "g")
	asked := 0
	for _, k := range calls {
		asked += len(k)
		if len(k) > 3 {
			t.Errorf("call for %v", k)
		}
	}
	if asked != 7 {
		t.Errorf("%d keys were asked for in %v", asked, calls)
	}
	fail = true
	if diff := cmp.Diff(map[string]int{"a": -1, "b": -1}, ask("a", "b")); diff != "" {
		t.Errorf("with an error (-want +got):\n%s", diff)
	}
	fail = false
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.get(gone, "read", "a"); !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up gets %v", err)
	}
}

// Reads that come while a call is under way share the next one, however far apart
// they come.
func TestCollectorFollows(t *testing.T) {
	calls, release := make(chan []string), make(chan struct{})
	c := &collector{
		follow: time.Hour, limit: 10, keyOf: func(i *instance) string { return i.id },
		fetch: func(_ context.Context, keys []string) ([]instance, error) {
			calls <- keys
			<-release
			return nil, nil
		},
	}
	var wg sync.WaitGroup
	ask := func(key string) {
		c.mu.Lock()
		had := 0
		if c.open != nil {
			had = len(c.open.keys)
		}
		c.mu.Unlock()
		wg.Go(func() {
			if _, err := c.get(t.Context(), "read", key); err != nil {
				t.Error(err)
			}
		})
		for joined := false; !joined; {
			c.mu.Lock()
			joined = c.running == nil || c.open != nil && len(c.open.keys) > had
			c.mu.Unlock()
			runtime.Gosched()
		}
	}
	ask("first")
	if got := <-calls; !slices.Equal(got, []string{"first"}) {
		t.Errorf("the first call asks for %v", got)
	}
	ask("a")
	ask("b")
	ask("c")
	release <- struct{}{}
	if got := <-calls; !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("the next call asks for %v", got)
	}
	release <- struct{}{}
	wg.Wait()
}

// Many who wait for their machines cost one call each time, not one each.
func TestReadsAreShared(t *testing.T) {
	var items []string
	var refs []cloud.MachineRef
	for n := range 50 {
		s := sample()
		s.ID = fmt.Sprint("m", n)
		id := fmt.Sprint("i-", n)
		items = append(items, instanceXML(s, id, "running"))
		refs = append(refs, cloud.MachineRef{Owner: s.Owner, ID: s.ID, Cloud: id})
	}
	w := &wire{answer: map[string]func(url.Values) (int, string){"DescribeInstances": described(items...)}}
	p := open(t, w)
	p.byID.wait = 100 * time.Millisecond
	var wg sync.WaitGroup
	for _, ref := range refs {
		wg.Go(func() {
			if m, err := p.GetMachine(t.Context(), ref); err != nil || m.Ref != ref {
				t.Errorf("%s: %+v, %v", ref.ID, m, err)
			}
		})
	}
	wg.Wait()
	if n := w.called("DescribeInstances"); n > 5 {
		t.Errorf("%d calls for %d machines", n, len(refs))
	}
}

// Lists are read to their end or not at all.
func TestPages(t *testing.T) {
	s := sample()
	pages := 0
	w := &wire{}
	w.answer = map[string]func(url.Values) (int, string){"DescribeInstances": func(f url.Values) (int, string) {
		pages++
		switch f.Get("NextToken") {
		case "":
			_, body := described(instanceXML(s, "i-1", "running"))(nil)
			return 200, strings.Replace(body, "</DescribeInstancesResponse>", "<nextToken>two</nextToken></DescribeInstancesResponse>", 1)
		case "two":
			return described(instanceXML(s, "i-2", "terminated"), instanceXML(s, "i-3", "shutting-down"))(nil)
		}
		return 500, ""
	}}
	p := open(t, w)
	ms, err := p.ListMachines(t.Context(), s.Owner)
	if err != nil || pages != 2 || len(ms) != 2 || ms[0].State != cloud.MachineRunning || ms[1].State != cloud.MachineDeleting {
		t.Errorf("%d pages, %+v, %v", pages, ms, err)
	}
	first := w.answer["DescribeInstances"]
	w.answer["DescribeInstances"] = func(f url.Values) (int, string) {
		if f.Get("NextToken") != "" {
			return 503, ""
		}
		return first(f)
	}
	if ms, err := p.ListMachines(t.Context(), s.Owner); err == nil || ms != nil {
		t.Errorf("a part: %+v, %v", ms, err)
	}
}

func TestSortTargets(t *testing.T) {
	want := []cloud.Member{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}, {Address: "10.0.0.3"}}
	good, absent, stale := sortTargets([]target{
		{"10.0.0.1", apiPort, elbtypes.TargetHealthStateEnumHealthy},
		{"10.0.0.2", apiPort, elbtypes.TargetHealthStateEnumDraining}, // comes back
		{"10.0.0.3", 443, elbtypes.TargetHealthStateEnumHealthy},      // another port is another target
		{"10.0.0.9", apiPort, elbtypes.TargetHealthStateEnumUnhealthy},
		{"10.0.0.8", apiPort, elbtypes.TargetHealthStateEnumDraining}, // leaves already
	}, want)
	addresses := func(ts []target) (out []string) {
		for _, x := range ts {
			out = append(out, fmt.Sprint(x.address, ":", x.port))
		}
		return out
	}
	for name, x := range map[string]struct {
		have []target
		want []string
	}{
		"good": {good, []string{"10.0.0.1:6443"}}, "absent": {absent, []string{"10.0.0.2:6443", "10.0.0.3:6443"}}, "stale": {stale, []string{"10.0.0.3:443", "10.0.0.9:6443"}},
	} {
		if diff := cmp.Diff(x.want, addresses(x.have)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if countUp(good) != 1 || countUp(absent) != 0 {
		t.Error("healthy targets are miscounted")
	}
}

func TestFlavorOf(t *testing.T) {
	info := func(name string, arch types.ArchitectureType) *types.InstanceTypeInfo {
		return &types.InstanceTypeInfo{
			InstanceType: types.InstanceType(name), ProcessorInfo: &types.ProcessorInfo{SupportedArchitectures: []types.ArchitectureType{arch}},
			VCpuInfo: &types.VCpuInfo{DefaultVCpus: sdk.Int32(4)}, MemoryInfo: &types.MemoryInfo{SizeInMiB: sdk.Int64(16384)},
		}
	}
	gpu := info("g4dn.xlarge", types.ArchitectureTypeX8664)
	gpu.GpuInfo = &types.GpuInfo{Gpus: []types.GpuDeviceInfo{{Count: sdk.Int32(1), Name: sdk.String("T4"), Manufacturer: sdk.String("NVIDIA")}}}
	for _, tc := range []struct {
		in   *types.InstanceTypeInfo
		want cloud.Flavor
		ok   bool
	}{
		{info("m7g.xlarge", types.ArchitectureTypeArm64), cloud.Flavor{Name: "m7g.xlarge", VCPUs: 4, MemoryMiB: 16384, Arch: "arm64"}, true},
		{gpu, cloud.Flavor{Name: "g4dn.xlarge", VCPUs: 4, MemoryMiB: 16384, Arch: "amd64", GPUs: 1, GPUName: "NVIDIA T4"}, true},
		{info("t2.large", types.ArchitectureTypeX8664), cloud.Flavor{Name: "t2.large", VCPUs: 4, MemoryMiB: 16384, Arch: "amd64"}, false},
		{info("mac2.metal", types.ArchitectureTypeArm64Mac), cloud.Flavor{Name: "mac2.metal", VCPUs: 4, MemoryMiB: 16384}, false},
		{&types.InstanceTypeInfo{InstanceType: "x"}, cloud.Flavor{Name: "x"}, false},
	} {
		got, ok := flavorOf(tc.in)
		if diff := cmp.Diff(tc.want, got); diff != "" || ok != tc.ok {
			t.Errorf("%s: %t (-want +got):\n%s", tc.in.InstanceType, ok, diff)
		}
	}
}

func TestStates(t *testing.T) {
	for state, want := range map[types.InstanceStateName]cloud.MachineState{
		"pending": cloud.MachineCreating, "running": cloud.MachineRunning, "stopping": cloud.MachineStopped, "stopped": cloud.MachineStopped,
		"shutting-down": cloud.MachineDeleting, "terminated": cloud.MachineDeleting, "": cloud.MachineUnknown, "new": cloud.MachineUnknown,
	} {
		if got := stateOf(state); got != want {
			t.Errorf("%q is %q, want %q", state, got, want)
		}
	}
}
