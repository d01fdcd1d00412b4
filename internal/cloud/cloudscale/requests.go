package cloudscale

import (
	"strings"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
)

// apiPort is the Kubernetes API's.
const apiPort = 6443

// idleTimeoutMS is how long a connection through the load balancer may be
// silent. The API's default of 50 s cuts watches, exec and logs; ten minutes is
// longer than any keep-alive in use.
const idleTimeoutMS = 600_000

// Parameters of steps.
const (
	paramZone     = inventory.ParamZone
	paramFlavor   = "flavor"
	paramCIDR     = inventory.ParamCIDR
	paramAllowed  = "allowedCIDRs"
	paramExisting = inventory.ParamExisting
)

func networkRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.NetworkCreateRequest, error) {
	// The subnet is a step of its own, with a range of ours.
	r := &sdk.NetworkCreateRequest{Name: req.Step.Name, AutoCreateIPV4Subnet: new(false)}
	r.Zone, r.Tags = req.Step.Param(paramZone), tags
	return r, nil
}

func subnetRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.SubnetCreateRequest, error) {
	network, err := req.Need(kindNetwork)
	r := &sdk.SubnetCreateRequest{CIDR: req.Step.Param(paramCIDR), Network: network}
	r.Tags = tags
	return r, err
}

func serverGroupRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.ServerGroupRequest, error) {
	r := &sdk.ServerGroupRequest{Name: req.Step.Name, Type: "anti-affinity"}
	r.Zone, r.Tags = req.Step.Param(paramZone), tags
	return r, nil
}

func loadBalancerRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerRequest, error) {
	r := &sdk.LoadBalancerRequest{Name: req.Step.Name, Flavor: req.Step.Param(paramFlavor)}
	r.Zone, r.Tags = req.Step.Param(paramZone), tags
	return r, nil
}

func poolRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerPoolRequest, error) {
	lb, err := req.Need(kindLoadBalancer)
	r := &sdk.LoadBalancerPoolRequest{Name: req.Step.Name, LoadBalancer: lb, Algorithm: "round_robin", Protocol: "tcp"}
	r.Tags = tags
	return r, err
}

func listenerRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerListenerRequest, error) {
	pool, err := req.Need(kindPool)
	r := &sdk.LoadBalancerListenerRequest{
		Name: req.Step.Name, Pool: pool, Protocol: "tcp", ProtocolPort: apiPort,
		AllowedCIDRs:        new(splitList(req.Step.Param(paramAllowed))),
		TimeoutClientDataMS: idleTimeoutMS, TimeoutMemberDataMS: idleTimeoutMS,
	}
	r.Tags = tags
	return r, err
}

func monitorRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerHealthMonitorRequest, error) {
	pool, err := req.Need(kindPool)
	// A dead control plane leaves the endpoint after six seconds.
	r := &sdk.LoadBalancerHealthMonitorRequest{Pool: pool, Type: "tcp", DelayS: 2, TimeoutS: 1, UpThreshold: 1, DownThreshold: 3}
	r.Tags = tags
	return r, err
}

func splitList(s string) []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(s, ",")
}
