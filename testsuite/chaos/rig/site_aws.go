package rig

import (
	"context"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
)

const (
	volumes      = "volumes"
	interfaces   = "network interfaces"
	targetGroups = "target groups"
)

// perPlacementGroup is how many instances one zone takes of a spread group.
const perPlacementGroup = 7

var aws = site{
	wanted: func(r *Rig) map[string]int {
		zones := len(r.zones())
		return map[string]int{
			// The load balancer has an interface in each zone.
			stack.Machines: r.machines(), volumes: r.machines(), interfaces: r.machines() + zones,
			stack.Networks: 1, "internet gateways": 1, "route tables": 1, stack.Subnets: zones, "security groups": 1,
			"placement groups": r.shards(perPlacementGroup),
			// The control planes' image is published; that of the group is imported.
			stack.Images: 1, "snapshots": 1,
			stack.LoadBalancers: 1, targetGroups: 1, "listeners": 1,
		}
	},
	nameless: []string{stack.Images, "snapshots", interfaces, volumes},
	// Load balancers and what they consist of have names that exist once.
	creates: map[string]string{
		"RunInstances": stack.Machines, "CreateVpc": stack.Networks, "CreateInternetGateway": "internet gateways",
		"CreateRouteTable": "route tables", "CreateSubnet": stack.Subnets, "CreateSecurityGroup": "security groups",
		"CreatePlacementGroup": "placement groups", "RegisterImage": stack.Images, "StartSnapshot": "snapshots",
	},
	born:          "RunInstances",
	dead:          []string{"instance_is_ending", "instance_is_terminated"},
	machineCreate: "RunInstances",
	forwards: func(_ context.Context, _ *Rig, s State) (have, want []string, err error) {
		_, ids, _ := strings.Cut(s.Kind(targetGroups)[0].Detail, ": ")
		have = strings.Fields(ids)
		for _, i := range s.Kind(interfaces) {
			if i.Tags[cluster.TagGroup] == cluster.ControlPlaneGroup {
				want = append(want, i.Detail)
			}
		}
		return have, want, nil
	},
	// Three control planes have two processors each, two workers four.
	cramp: func(ctx context.Context, r *Rig) error {
		return r.SetAWS(ctx, "vcpus", map[string]int{"standard": 3*2 + 2*4 - 1})
	},
	extensions: []string{"siderolabs/intel-ucode"},
}
