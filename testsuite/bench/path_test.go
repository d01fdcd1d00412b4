package main

import (
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

func happened(seconds float64, name, subject string) action {
	return action{Time: at(seconds), Name: name, Subject: subject, Message: name + " uuid-" + subject + " " + subject}
}

func asked(seconds float64, method, path string, millis float64) request {
	return request{Time: at(seconds), Method: method, Path: path, Status: 201, Millis: millis}
}

const (
	cp = "bench-cp-a"
	w1 = "bench-workers-b"
	w2 = "bench-workers-c"
)

// quiet is a run in which nothing is under way between the parts: image 1 to 11,
// control plane 13 to 20, boot to 24, etcd at 25, API at 30, workers 31 to 45.
func quiet() observed {
	return observed{
		started: at(0), closed: at(46), on: onCloudscale,
		requests: []request{
			asked(1, "POST", "/v1/custom-images/import", 1000),
			asked(1, "POST", "/v1/networks", 1000),
			asked(2, "POST", "/v1/load-balancers", 1000),
			asked(13, "POST", "/v1/server-groups", 1000),
			asked(14, "POST", "/v1/servers", 1000),
			asked(31, "POST", "/v1/server-groups", 1000),
			asked(32, "POST", "/v1/servers", 1000),
			asked(33, "POST", "/v1/servers", 1000),
		},
		timeline: []action{
			happened(2, "custom_image_import_create", "image"),
			happened(3, "load_balancer_create", "lb"),
			happened(8, "load_balancer_is_running", "lb"),
			happened(11, "custom_image_create", "image"),
			happened(15, "server_create", cp),
			happened(20, "server_is_running", cp),
			happened(33, "server_create", w1),
			happened(34, "server_create", w2),
			happened(38, "server_is_running", w1),
			happened(39, "server_is_running", w2),
		},
		machineAPI: map[string]time.Time{cp: at(24)},
		etcd:       at(25), kubernetes: at(30),
		ready: map[string]time.Time{cp: at(33), w1: at(43), w2: at(45)},
	}
}

func TestCriticalPath(t *testing.T) {
	p, err := criticalPath(quiet())
	if err != nil {
		t.Fatal(err)
	}
	s := time.Second
	want := []segment{
		{name: "image", cloud: 10 * s, gap: 1 * s},
		{name: "control planes running", cloud: 7 * s, gap: 2 * s},
		{name: "control planes boot", cloud: 4 * s},
		{name: "etcd and Kubernetes API", cloud: 5 * s, gap: 1 * s},
		{name: "workers ready", cloud: 14 * s, gap: 1 * s},
	}
	if diff := cmp.Diff(want, p.segments, cmp.AllowUnexported(segment{})); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
	if p.tail != s || p.wall != 46*s || p.critical() != 40*s || p.added() != 6*s {
		t.Errorf("tail %s, wall %s, critical %s, added %s; want 1s, 46s, 40s, 6s", p.tail, p.wall, p.critical(), p.added())
	}
	// 10 + 7 + 4, then workers: 3 to create, 5 to run, 4 to boot.
	if p.simulated != 33*s {
		t.Errorf("simulated path %s, want 33s", p.simulated)
	}
}

func TestCriticalPathTakesTheLongerBranch(t *testing.T) {
	o := quiet()
	for i, a := range o.timeline {
		if a.Name == "load_balancer_is_running" {
			o.timeline[i].Time = at(12)
		}
	}
	p, err := criticalPath(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.segments[0]; got.name != "network and load balancer" || got.cloud != 11*time.Second {
		t.Errorf("the first part is %s with %s, want the load balancer's 11s", got.name, got.cloud)
	}
}

func TestCriticalPathRefusesToGuess(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*observed)
		want  string
	}{
		"no image":      {func(o *observed) { o.timeline = o.timeline[1:] }, "no image"},
		"never ran":     {func(o *observed) { o.timeline = o.timeline[:9] }, w2 + " never ran"},
		"no boot":       {func(o *observed) { o.machineAPI = nil }, "machine API of " + cp},
		"no API":        {func(o *observed) { o.kubernetes = time.Time{} }, "was not seen"},
		"never ready":   {func(o *observed) { delete(o.ready, w1) }, w1 + " was not seen ready"},
		"no workers":    {func(o *observed) { o.timeline = o.timeline[:6] }, "0 workers"},
		"no networking": {func(o *observed) { o.requests = o.requests[3:] }, "no network"},
	} {
		t.Run(name, func(t *testing.T) {
			o := quiet()
			c.spoil(&o)
			_, err := criticalPath(o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDeletionPath(t *testing.T) {
	o := observed{
		on: onCloudscale,
		requests: []request{
			asked(0, "DELETE", "/v1/servers/1", 1000), asked(0, "DELETE", "/v1/servers/2", 1000),
			asked(7, "DELETE", "/v1/load-balancers/1", 1000), asked(7, "DELETE", "/v1/load-balancers/1/x", 9000),
			asked(12, "DELETE", "/v1/networks/1", 1000), asked(13, "DELETE", "/v1/custom-images/1", 2000),
		},
		timeline: []action{
			happened(0, "server_create", "a"), happened(0, "server_create", "b"),
			happened(1, "server_delete", "a"), happened(1, "server_delete", "b"),
			happened(4, "server_is_gone", "a"), happened(6, "server_is_gone", "b"),
			happened(8, "load_balancer_delete", "lb"), happened(11, "load_balancer_is_gone", "lb"),
		},
	}
	if got, want := o.on.remove(o), 13*time.Second; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCount(t *testing.T) {
	u := usage{actions: map[string]int{}}
	attempts := &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED}
	attempts.Attributes = &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{
		ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{Attempt: 3},
	}
	u.count(attempts)
	for _, kind := range []enumspb.EventType{
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, enumspb.EVENT_TYPE_TIMER_STARTED, enumspb.EVENT_TYPE_TIMER_FIRED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED,
		enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
	} {
		u.count(&historypb.HistoryEvent{EventType: kind})
	}
	want := map[string]int{"activity attempts": 3, "workflow starts": 1, "timers": 1, "signals": 1, "upserts": 1}
	if diff := cmp.Diff(want, u.actions); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	if u.total() != 7 {
		t.Errorf("total %d, want 7", u.total())
	}
}

func TestRoute(t *testing.T) {
	r := asked(0, "GET", "/v1/load-balancers/pools/3b7a9bd2-1f80-4c0f-9d4e-0f6b8f7c3a21/members", 1)
	if got, want := route(r), "GET /v1/load-balancers/pools/*/members"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	r.UserAgent = "cloudscale-cloud-controller-manager/1"
	if product(r) {
		t.Error("a request of the cloud controller counts as the product's")
	}
}

func TestParse(t *testing.T) {
	s, err := parse([]string{"-shapes", "1+2,3+50"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]shape{{1, 2}, {3, 50}}, s.shapes, cmp.AllowUnexported(shape{})); diff != "" {
		t.Errorf("shapes (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"3", "3+", "0+1", "3+x", "", "3+1,"} {
		if _, err := parse([]string{"-shapes", bad}); err == nil {
			t.Errorf("shapes %q are accepted", bad)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []int
		want   int
	}{{nil, 0}, {[]int{5}, 5}, {[]int{9, 1, 5}, 5}, {[]int{4, 1, 3, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %d, want %d", c.values, got, c.want)
		}
	}
}

func TestPage(t *testing.T) {
	p, err := criticalPath(quiet())
	if err != nil {
		t.Fatal(err)
	}
	m := measurement{
		path: p, busy: 0.5, deletion: 4 * time.Second, deletionPath: 2 * time.Second,
		spent:         usage{events: 30, actions: map[string]int{"timers": 3, "signals": 6}},
		calls:         map[string]int{"GET /v1/servers": 6, "POST /v1/servers": 3},
		deletionSpent: usage{actions: map[string]int{}},
	}
	got := provisioningText(settings{runs: 1, speed: 10}, onCloudscale, "a machine", []series{{shape{1, 2}, []measurement{m}}})
	for _, want := range []string{
		"-only provisioning -shapes 1+2 -runs 1 -speed 10",
		"| 1+2 | provision | 46.00 s | 40.00 s | 6.00 s | **1.15** | 1.15 | 1.18 | 50% |",
		"| 1+2 | delete | 4.00 s | 2.00 s | 2.00 s | **2.00** | 2.00 | | |",
		"| 1+2 | workers ready | 14.00 s | 1.00 s | 0.00 s |",
		"| History events | 30 | 10.0 |",
		"| Billable actions of Temporal Cloud, estimated | 9 | 3.0 |",
		"| – GET | 6 | 2.0 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
}
