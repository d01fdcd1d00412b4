package chaos

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// ground is what the tests of this folder know of a cloud.
type ground struct {
	// kinds are those of resources that EnsureResource makes.
	kinds []string
	// spared are activities for which a run there has no need, so that no kill at
	// them is demanded.
	spared []string
	// creates are the routes by which the product makes things, with how many
	// requests of a run without faults go there. That the list is complete is
	// proven from the log of each run: creating tells requests that make something.
	creates  map[string]int
	creating func(q faults.Request) bool
	// midway are the requests in the middle of which the worker dies, and which of
	// its kind that is: activities that send several are torn apart between them.
	midway map[string]int
	// unique is the create that must not be repeated before absence is proven.
	unique string
	// flavors are two that a worker may have and no control plane has.
	flavors [2]string
	// weather is what the cloud does to a seed of TestChaos, beside climate, which
	// lasts as long as the system.
	weather func(seed uint64) faults.Chaos
	climate func(ctx context.Context, r *rig.Rig, seed uint64) error
	// settings are further ones of TestChaos.
	settings map[string]string
	// losses are what befalls one worker of a seed, by devcloud's own API.
	losses []string
	// twin makes something of the cluster exist twice, and returns its kind and
	// what removes it again; stray makes a network that is nobody's.
	twin  func(t *testing.T, r *rig.Rig, s rig.State) (kind string, undo func())
	stray func(t *testing.T, r *rig.Rig, s rig.State, uid string) (id string)
}

var grounds = map[string]ground{
	"cloudscale": {
		kinds: []string{"network", "subnet", "load-balancer", "pool", "listener", "health-monitor", "server-group"},
		creates: map[string]int{
			"POST /v1/custom-images/import":           1,
			"POST /v1/networks":                       1,
			"POST /v1/subnets":                        1,
			"POST /v1/load-balancers":                 1,
			"POST /v1/load-balancers/pools":           1,
			"POST /v1/load-balancers/listeners":       1,
			"POST /v1/load-balancers/health-monitors": 1,
			"POST /v1/load-balancers/pools/*/members": 3,
			"POST /v1/server-groups":                  2,
			"POST /v1/servers":                        5,
		},
		creating: func(q faults.Request) bool {
			return q.Method == http.MethodPost && !strings.HasSuffix(q.Path, "/stop") && !strings.HasSuffix(q.Path, "/start")
		},
		midway: map[string]int{
			"POST /v1/custom-images/import":           1,
			"POST /v1/networks":                       1,
			"POST /v1/subnets":                        1,
			"POST /v1/load-balancers":                 1,
			"POST /v1/load-balancers/pools":           1,
			"POST /v1/load-balancers/listeners":       1,
			"POST /v1/load-balancers/health-monitors": 1,
			"POST /v1/load-balancers/pools/*/members": 2,
			"POST /v1/server-groups":                  2,
			"POST /v1/servers":                        2,
			"DELETE /v1/servers/*":                    2,
			"DELETE /v1/load-balancers/*":             1,
			"DELETE /v1/server-groups/*":              1,
			"DELETE /v1/networks/*":                   1,
			"DELETE /v1/custom-images/*":              1,
		},
		unique:  "POST /v1/servers",
		flavors: [2]string{"flex-8-4", "flex-16-4"},
		weather: faults.DefaultChaos,
		climate: func(context.Context, *rig.Rig, uint64) error { return nil },
		twin: func(t *testing.T, r *rig.Rig, s rig.State) (string, func()) {
			group := s.Kind("server groups")[0]
			id := post(t, r, "v1/server-groups", map[string]any{"name": group.Name, "type": "anti-affinity", "zone": group.Zone, "tags": group.Tags})
			return group.Kind, func() {
				if err := r.Cloud(t.Context(), http.MethodDelete, "v1/server-groups/"+id, nil, nil); err != nil {
					t.Fatal(err)
				}
			}
		},
		stray: func(t *testing.T, r *rig.Rig, s rig.State, uid string) string {
			return post(t, r, "v1/networks", map[string]any{
				"name": "stray", "zone": s.Machines()[0].Zone, "auto_create_ipv4_subnet": false, "tags": map[string]string{cluster.TagCluster: uid},
			})
		},
	},
	"aws": {
		kinds: []string{
			"vpc", "internet-gateway", "route-table", "subnet", "security-group", "target-group", "load-balancer", "listener", "placement-group",
		},
		spared: []string{"WaitResource"}, // all of them can be built on as soon as they are made
		creates: map[string]int{
			ebs:                           1,
			ec2 + "RegisterImage":         1,
			ec2 + "CreateVpc":             1,
			ec2 + "CreateInternetGateway": 1,
			ec2 + "CreateRouteTable":      1,
			ec2 + "CreateRoute":           1,
			ec2 + "CreateSubnet":          3,
			ec2 + "CreateSecurityGroup":   1,
			elb + "CreateTargetGroup":     1,
			elb + "CreateLoadBalancer":    1,
			elb + "CreateListener":        1,
			ec2 + "CreatePlacementGroup":  2,
			ec2 + "RunInstances":          5,
		},
		creating: func(q faults.Request) bool {
			action := q.Path[strings.LastIndexByte(q.Path, '/')+1:]
			return q.Method == http.MethodPost && action != "CreateTags" && (strings.HasPrefix(action, "Create") ||
				strings.HasPrefix(action, "Run") || strings.HasPrefix(action, "Register") && action != "RegisterTargets" || action == "snapshots")
		},
		midway: map[string]int{
			ebs:                                    1,
			"PUT /aws/ebs/snapshots/*/blocks/*":    2,
			"POST /aws/ebs/snapshots/completion/*": 1,
			ec2 + "RegisterImage":                  1,
			ec2 + "CreateVpc":                      1,
			ec2 + "ModifyVpcAttribute":             1,
			ec2 + "CreateInternetGateway":          1,
			ec2 + "AttachInternetGateway":          1,
			ec2 + "CreateRouteTable":               1,
			ec2 + "CreateRoute":                    1,
			ec2 + "CreateSubnet":                   2,
			ec2 + "AssociateRouteTable":            2,
			ec2 + "CreateSecurityGroup":            1,
			ec2 + "AuthorizeSecurityGroupIngress":  1,
			elb + "CreateTargetGroup":              1,
			elb + "ModifyTargetGroupAttributes":    1,
			elb + "CreateLoadBalancer":             1,
			elb + "CreateListener":                 1,
			elb + "RegisterTargets":                1,
			ec2 + "CreatePlacementGroup":           2,
			ec2 + "RunInstances":                   2,
			ec2 + "TerminateInstances":             2,
			elb + "DeleteListener":                 1,
			elb + "DeleteLoadBalancer":             1,
			elb + "DeleteTargetGroup":              1,
			ec2 + "DeletePlacementGroup":           1,
			ec2 + "DeleteSecurityGroup":            1,
			ec2 + "DeleteSubnet":                   2,
			ec2 + "DeleteRouteTable":               1,
			ec2 + "DetachInternetGateway":          1,
			ec2 + "DeleteInternetGateway":          1,
			ec2 + "DeleteVpc":                      1,
			ec2 + "DeregisterImage":                1,
			ec2 + "DeleteSnapshot":                 1,
		},
		unique:  ec2 + "CreateVpc", // a launch that is repeated has no second effect
		flavors: [2]string{"m6i.xlarge", "c6i.xlarge"},
		weather: awsWeather,
		climate: awsClimate,
		// Absence is proven by looks that are not further apart than the window, so
		// it is longer than the longest pause between two, as in reality.
		settings: map[string]string{"ICHOR_RECONCILE_INTERVAL": "3s", "ICHOR_BACKOFF": "100ms", "ICHOR_ABSENCE_WINDOW": "5s"},
		losses:   []string{"interrupt", "vanish", "terminate"},
		twin: func(t *testing.T, r *rig.Rig, s rig.State) (string, func()) {
			vpc := s.Kind(stack.Networks)[0]
			id := makeVPC(t, r, vpc.Tags)
			return vpc.Kind, func() {
				if _, err := r.EC2(t.Context(), "DeleteVpc", url.Values{"VpcId": {id}}); err != nil {
					t.Fatal(err)
				}
			}
		},
		stray: func(t *testing.T, r *rig.Rig, _ rig.State, uid string) string {
			return makeVPC(t, r, map[string]string{cluster.TagCluster: uid})
		},
	},
}

// here is the ground of this run.
var here ground
