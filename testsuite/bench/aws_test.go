package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// quietAWS is a run in which nothing is under way between the parts: network 1 to
// 4, control plane 6 to 13, boot to 17, etcd at 18, API at 23, load balancer at 24
// after 20, workers 25 to 35.
func quietAWS() observed {
	return observed{
		started: at(0), closed: at(37), on: onAWS, names: map[string]string{"i-1": cp, "i-2": w1, "i-3": w2},
		requests: []request{
			asked(1, "POST", ec2Path+"CreateVpc", 1000),
			asked(2, "POST", ec2Path+"DescribeVpcs", 9000),
			asked(2, "POST", ec2Path+"CreateSubnet", 1000),
			asked(2, "POST", ec2Path+"CreateRouteTable", 1000),
			asked(3, "POST", elbPath+"CreateLoadBalancer", 1000),
			asked(5, "POST", elbPath+"CreateListener", 1000),
			asked(6, "POST", ec2Path+"CreatePlacementGroup", 1000),
			asked(7, "POST", ec2Path+"RunInstances", 1000),
			asked(25, "POST", ec2Path+"CreatePlacementGroup", 1000),
			asked(26, "POST", ec2Path+"RunInstances", 1000),
			asked(26, "POST", ec2Path+"RunInstances", 1000),
		},
		timeline: []action{
			happened(4, "CreateLoadBalancer", "arn"),
			happened(8, "RunInstances", "i-1"),
			happened(13, "instance_is_running", "i-1"),
			happened(24, "load_balancer_is_active", "arn"),
			happened(27, "RunInstances", "i-2"),
			happened(27, "RunInstances", "i-3"),
			happened(32, "instance_is_running", "i-2"),
			happened(32, "instance_is_running", "i-3"),
		},
		machineAPI: map[string]time.Time{"i-1": at(17)},
		etcd:       at(18), local: at(23), kubernetes: at(24),
		ready: map[string]time.Time{cp: at(26), w1: at(34), w2: at(35)},
	}
}

func TestCriticalPathOnAWS(t *testing.T) {
	p, err := criticalPath(quietAWS())
	if err != nil {
		t.Fatal(err)
	}
	s := time.Second
	want := []segment{
		{name: "network", cloud: 3 * s, gap: 1 * s},
		{name: "control planes running", cloud: 7 * s, gap: 2 * s},
		{name: "control planes boot", cloud: 4 * s},
		{name: "etcd and Kubernetes API", cloud: 5 * s, gap: 1 * s},
		// 20, of which 16 were spent on machines and 3 between them.
		{name: "load balancer", cloud: 4 * s, lag: -3 * s},
		{name: "workers ready", cloud: 10 * s, gap: 1 * s},
	}
	if diff := cmp.Diff(want, p.segments, cmp.AllowUnexported(segment{})); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
	if p.tail != 2*s || p.wall != 37*s || p.critical() != 33*s {
		t.Errorf("tail %s, wall %s, critical %s; want 2s, 37s, 33s", p.tail, p.wall, p.critical())
	}
	// 3 and the load balancer's 20, then workers: 2 to create, 5 to run, 4 to boot.
	if p.simulated != 34*s {
		t.Errorf("simulated path %s, want 34s", p.simulated)
	}
}

// A load balancer that is active before the API answers costs nothing.
func TestCriticalPathOnAWSHidesTheLoadBalancer(t *testing.T) {
	o := quietAWS()
	o.timeline[3].Time, o.kubernetes = at(15), at(23.1)
	p, err := criticalPath(o)
	if err != nil {
		t.Fatal(err)
	}
	want := segment{name: "load balancer", lag: 100 * time.Millisecond}
	if diff := cmp.Diff(want, p.segments[4], cmp.AllowUnexported(segment{})); diff != "" {
		t.Errorf("segment (-want +got):\n%s", diff)
	}
}

func TestCriticalPathOnAWSRefusesToGuess(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*observed)
		want  string
	}{
		"no VPC":        {func(o *observed) { o.requests = o.requests[1:] }, "CreateVpc did not succeed"},
		"never active":  {func(o *observed) { o.timeline[3].Name = "load_balancer_is_failed" }, "load balancer never ran"},
		"no local API":  {func(o *observed) { o.local = time.Time{} }, "not seen at a control plane"},
		"another's":     {func(o *observed) { delete(o.names, "i-1") }, "0 control planes"},
		"never running": {func(o *observed) { o.timeline = o.timeline[:7] }, w2 + " never ran"},
	} {
		t.Run(name, func(t *testing.T) {
			o := quietAWS()
			c.spoil(&o)
			if _, err := criticalPath(o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDeletionPathOnAWS(t *testing.T) {
	o := observed{
		on: onAWS,
		requests: []request{
			asked(0, "POST", ec2Path+"TerminateInstances", 1000), asked(7, "POST", elbPath+"DeleteLoadBalancer", 2000),
			asked(11, "POST", ec2Path+"DeleteSubnet", 500), asked(12, "POST", ec2Path+"DeleteVpc", 500),
		},
		timeline: []action{
			happened(0, "RunInstances", "a"), happened(0, "RunInstances", "b"),
			happened(1, "TerminateInstances", "a"), happened(1, "TerminateInstances", "b"), happened(2, "TerminateInstances", "b"),
			happened(4, "instance_is_terminated", "a"), happened(6, "instance_is_terminated", "b"),
			happened(8, "DeleteLoadBalancer", "lb"), happened(11, "load_balancer_is_gone", "lb"),
		},
	}
	if got, want := o.on.remove(o), 12*time.Second; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRouteOnAWS(t *testing.T) {
	r := asked(0, "POST", elbPath+"RegisterTargets", 1)
	if got, want := route(r), "elasticloadbalancing:RegisterTargets"; got != want || !product(r) {
		t.Errorf("got %q, want %q, which is the product's", got, want)
	}
	r.UserAgent = "aws-sdk-go-v2/1.41.0 ua/2.1 os/linux lang/go#1.26.8 kubernetes/v1.36.0 api/ec2#1.279.1"
	if product(r) || !controller(r) {
		t.Error("a request of the cloud controller counts as the product's")
	}
}

func TestShapedOnAWS(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	c, err := stack.Named(onAWS.provider)
	if err != nil {
		t.Fatal(err)
	}
	demo, err := c.Spec(root, clusterName)
	if err != nil {
		t.Fatal(err)
	}
	s := shaped(demo, shape{3, 50}).Spec
	if len(s.NodeGroups) != 1 || *s.NodeGroups[0].Count != 50 || s.ControlPlane.Replicas != 3 || len(s.NodeGroups[0].Zones) != 3 ||
		len(s.Talos.Extensions) != 0 || s.OnFailure != cluster.OnFailureKeep {
		t.Errorf("%+v", s)
	}
}

// awsRun is a run of a shape in which each node took a second, and describes were
// as many as given.
func awsRun(t *testing.T, nodes, described int) measurement {
	t.Helper()
	p, err := criticalPath(quietAWS())
	if err != nil {
		t.Fatal(err)
	}
	m := measurement{
		path: p, deletion: 4 * time.Second, deletionPath: 2 * time.Second, controller: 2 * nodes,
		spent:         usage{actions: map[string]int{"timers": 3 * nodes}},
		calls:         map[string]int{describes: described, "ec2:RunInstances": nodes},
		deletionSpent: usage{actions: map[string]int{"timers": nodes}},
		deletionCalls: map[string]int{describes: described, "ec2:TerminateInstances": nodes},
	}
	for n := range nodes {
		m.nodes = append(m.nodes, arrival{seen: at(0), ready: at(1), initialised: at(1 + float64(n))})
	}
	return m
}

func TestPageOfAWS(t *testing.T) {
	page := replace("", "provisioning", `### Time

| Shape | Operation | Wall | Added | Ratio | Strict ratio |
|---|---|---|---|---|---|
| 1+2 | provision | 9 s | 1.00 s | **1.05** | 1.07 |
| 1+2 | delete | 9 s | 2.00 s | **3.00** | |

### Cost of provisioning

| Cost | 1+2 | per node | 1+9 | per node |
|---|---|---|---|---|
| Billable actions of Temporal Cloud, estimated | 99 | 9.9 | 98 | 9.8 |
| Cloud API calls | 88 | 8.8 | 87 | 8.7 |
`)
	s := settings{runs: 1, speed: 10, page: page}
	got := provisioningText(s, onAWS, "a machine", []series{{shape{1, 2}, []measurement{awsRun(t, 3, 6)}}, {shape{1, 9}, []measurement{awsRun(t, 10, 30)}}})
	for _, want := range []string{
		"-only aws -shapes 1+2,1+9 -runs 1 -speed 10",
		"| 1+2 | load balancer | 4.00 s | 0.00 s | -3.00 s |",
		"| Initialised and Ready, the last one | 3.00 s | 10.00 s |",
		"| Requests of the cloud controller, not counted below (per node) | 6 (2.0) | 20 (2.0) |",
		"| Provisioning: RunInstances | 3 (1.00) | 10 (1.00) |",
		"| Provisioning: DescribeInstances, aim: fewer per node with more nodes | 6 (**2.00**) | 30 (**3.00**) **missed** |",
		"| Provisioning, ratio (aim ≤ 1.10) | **1.05** | **1.12** **missed** | – | **1.12** **missed** |",
		"| – added | 1.00 s | 4.00 s | – | 4.00 s |",
		"| – actions of Temporal per node | 9.9 | 3.0 | 9.8 | 3.0 |",
		"| – API calls per node | 8.8 | 3.0 | 8.7 | 4.0 |",
		"| Deletion, ratio | **3.00** | **2.00** | – | **2.00** |",
		"| – actions of Temporal per node | – | 1.0 | – | 1.0 |",
		"| – ec2:DescribeInstances | 6 | 2.0 | 30 | 3.0 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
	fewer := provisioningText(s, onAWS, "a machine", []series{{shape{1, 2}, []measurement{awsRun(t, 3, 6)}}, {shape{1, 9}, []measurement{awsRun(t, 10, 10)}}})
	if want := "| Deletion: DescribeInstances, aim: fewer per node with more nodes | 6 (**2.00**) | 10 (**1.00**) held |"; !strings.Contains(fewer, want) {
		t.Errorf("the page lacks %q:\n%s", want, fewer)
	}
}
