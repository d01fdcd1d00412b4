package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// manner is how the parts of the critical path are called on one cloud, in
// devcloud's timeline and in its requests.
type manner struct {
	// provider is what spec.cloud.provider says.
	provider          string
	text              text
	machine, balancer life
	// make and placement are the paths of the requests that make a machine and a
	// placement group.
	make, placement string
	// row is how many machines of a placement group the cloud wants to be created
	// one after another.
	row int
	// beside says that machines can be made while the load balancer is: its name is
	// known at once.
	beside bool
	// poll, settle and absence are the product's waits for this cloud.
	poll, settle, absence time.Duration
	// base is what comes before the first machine.
	base func(observed) (span, error)
	// remove is what no orchestrator could avoid of a deletion.
	remove func(observed) time.Duration
	// kinds are the lines that show which API calls there were, by a part of their
	// route.
	kinds func(calls map[string]int) []string
}

// life is what the timeline calls the stages of something.
type life struct{ born, runs, ends, gone string }

var onCloudscale = manner{
	provider: "cloudscale", text: cloudscaleText,
	machine:  life{"server_create", "server_is_running", "server_delete", "server_is_gone"},
	balancer: life{"load_balancer_create", "load_balancer_is_running", "load_balancer_delete", "load_balancer_is_gone"},
	make:     "/v1/servers", placement: "/v1/server-groups",
	// As many as an anti-affinity group holds: its placement races.
	row:  4,
	poll: 2 * time.Second, settle: 30 * time.Second, absence: time.Minute,
	base: func(o observed) (span, error) {
		image, err := o.image()
		if err != nil {
			return span{}, err
		}
		infra, err := o.infrastructure()
		if err != nil {
			return span{}, err
		}
		both := span{"image", earlier(image.from, infra.from), later(image.to, infra.to), max(image.cloud, infra.cloud)}
		if infra.cloud > image.cloud {
			both.name = infra.name
		}
		return both, nil
	},
	remove: func(o observed) time.Duration {
		total := o.deletes("/v1/servers/") + o.ending()
		if leaves := o.leaving(); leaves > 0 {
			total += o.deletes("/v1/load-balancers/") + leaves
		}
		return total + o.deletes("/v1/networks/") + o.deletes("/v1/custom-images/")
	},
	kinds: func(map[string]int) []string {
		return []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete}
	},
}

// Paths of AWS' actions in devcloud's log.
const (
	ec2Path = "/aws/ec2/"
	elbPath = "/aws/elasticloadbalancing/"
)

var onAWS = manner{
	provider: "aws", text: awsText,
	machine:  life{"RunInstances", "instance_is_running", "TerminateInstances", "instance_is_terminated"},
	balancer: life{"CreateLoadBalancer", "load_balancer_is_active", "DeleteLoadBalancer", "load_balancer_is_gone"},
	make:     ec2Path + "RunInstances", placement: ec2Path + "CreatePlacementGroup",
	row:    1, // launches do not disturb each other
	beside: true,
	poll:   5 * time.Second, settle: 30 * time.Second, absence: 5 * time.Minute,
	base: func(o observed) (span, error) {
		return o.chained("network", ec2Path+"CreateVpc", ec2Path+"CreateSubnet", elbPath+"CreateLoadBalancer")
	},
	remove: func(o observed) time.Duration {
		call := func(path string) time.Duration { return o.median(http.MethodPost, path) }
		total := call(ec2Path+"TerminateInstances") + o.ending()
		if leaves := o.leaving(); leaves > 0 {
			total += call(elbPath+"DeleteLoadBalancer") + leaves
		}
		return total + call(ec2Path+"DeleteSubnet") + call(ec2Path+"DeleteVpc")
	},
	kinds: func(calls map[string]int) []string {
		var out []string
		for route := range calls {
			out = append(out, route)
		}
		// What is asked most is of most interest.
		slices.SortFunc(out, func(a, b string) int {
			if calls[a] != calls[b] {
				return calls[b] - calls[a]
			}
			return strings.Compare(a, b)
		})
		return out
	},
}

// chained is a network whose parts stand on each other: one create of each.
func (o observed) chained(name string, paths ...string) (span, error) {
	s := span{name: name}
	for _, path := range paths {
		i := slices.IndexFunc(o.requests, func(r request) bool { return r.Path == path && r.Status < 300 })
		if i < 0 {
			return s, fmt.Errorf("%s did not succeed", path)
		}
		if s.from.IsZero() {
			s.from = o.requests[i].Time
		}
		s.to = o.requests[i].Time.Add(o.requests[i].took())
		s.cloud += o.median(http.MethodPost, path)
	}
	return s, nil
}
