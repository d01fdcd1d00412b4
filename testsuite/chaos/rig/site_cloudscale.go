package rig

import (
	"context"
	"net/http"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
	"github.com/ichor-project/ichor/testsuite/stack"
)

const (
	serverGroups = "server groups"
	pools        = "load balancer pools"
	members      = "load balancer members"
	listeners    = "load balancer listeners"
	monitors     = "load balancer health monitors"
)

// perServerGroup is how many servers the cloud puts in one anti-affinity group.
const perServerGroup = 4

var cloudscale = site{
	wanted: func(r *Rig) map[string]int {
		return map[string]int{
			stack.Machines: r.machines(), volumes: r.machines(), serverGroups: r.shards(perServerGroup),
			stack.Networks: 1, stack.Subnets: 1, stack.Images: 1,
			stack.LoadBalancers: 1, pools: 1, listeners: 1, monitors: 1, members: r.Spec.Spec.ControlPlane.Replicas,
		}
	},
	nameless: []string{stack.Images, members, volumes}, // the last two belong to something
	creates: map[string]string{
		"server_create": stack.Machines, "server_group_create": serverGroups, "network_create": stack.Networks,
		"subnet_create": stack.Subnets, "load_balancer_create": stack.LoadBalancers, "load_balancer_pool_create": pools,
		"load_balancer_listener_create": listeners, "load_balancer_health_monitor_create": monitors, "custom_image_create": stack.Images,
	},
	machineCreate: "server_create",
	forwards: func(ctx context.Context, r *Rig, s State) (have, want []string, err error) {
		var listed []struct{ Address string }
		if err := r.Cloud(ctx, http.MethodGet, "v1/load-balancers/pools/"+s.Kind(pools)[0].ID+"/members", nil, &listed); err != nil {
			return nil, nil, err
		}
		var servers []struct {
			Tags       map[string]string
			Interfaces []struct {
				Type      string
				Addresses []struct{ Address string }
			}
		}
		if err := r.Cloud(ctx, http.MethodGet, "v1/servers", nil, &servers); err != nil {
			return nil, nil, err
		}
		for _, m := range listed {
			have = append(have, m.Address)
		}
		for _, v := range servers {
			for _, i := range v.Interfaces {
				if v.Tags[cluster.TagGroup] == cluster.ControlPlaneGroup && i.Type == "private" {
					want = append(want, i.Addresses[0].Address)
				}
			}
		}
		return have, want, nil
	},
	cramp: func(ctx context.Context, r *Rig) error {
		var l world.Limits
		if err := r.Cloud(ctx, http.MethodGet, "_devcloud/limits", nil, &l); err != nil {
			return err
		}
		l.Servers = r.machines() - 1
		return r.Cloud(ctx, http.MethodPut, "_devcloud/limits", l, nil)
	},
}
