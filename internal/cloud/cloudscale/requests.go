package cloudscale

import (
	"slices"
	"strings"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// apiPort is the Kubernetes API's.
const apiPort = 6443

// idleTimeoutMS is how long a connection through the load balancer may be
// silent. The API's default of 50 s cuts watches, exec and logs; ten minutes is
// longer than any keep-alive in use.
const idleTimeoutMS = 600_000

// Parameters of steps.
const (
	paramZone     = "zone"
	paramFlavor   = "flavor"
	paramCIDR     = "cidr"
	paramAllowed  = "allowedCIDRs"
	paramExisting = "existing"
)

// param reads a frozen parameter of a step.
func param(s cloud.Step, key string) string {
	i := slices.IndexFunc(s.Params, func(p cluster.Tag) bool { return p.Key == key })
	if i < 0 {
		return ""
	}
	return s.Params[i].Value
}

// idOf finds the resource of a kind that an earlier step made, "" if none.
func idOf(have []cloud.Resource, kind string) string {
	i := slices.IndexFunc(have, func(r cloud.Resource) bool { return r.Kind == kind })
	if i < 0 {
		return ""
	}
	return have[i].ID
}

func need(req cloud.EnsureResourceRequest, kind string) (string, error) {
	id := idOf(req.Have, kind)
	if id == "" {
		return "", fault.New(fault.Internal, "create "+req.Step.Title, "it needs a %s, and none was made before", kind)
	}
	return id, nil
}

func networkRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.NetworkCreateRequest, error) {
	// The subnet is a step of its own, with a range of ours.
	r := &sdk.NetworkCreateRequest{Name: req.Step.Name, AutoCreateIPV4Subnet: new(false)}
	r.Zone, r.Tags = param(req.Step, paramZone), tags
	return r, nil
}

func subnetRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.SubnetCreateRequest, error) {
	network, err := need(req, kindNetwork)
	r := &sdk.SubnetCreateRequest{CIDR: param(req.Step, paramCIDR), Network: network}
	r.Tags = tags
	return r, err
}

func serverGroupRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.ServerGroupRequest, error) {
	r := &sdk.ServerGroupRequest{Name: req.Step.Name, Type: "anti-affinity"}
	r.Zone, r.Tags = param(req.Step, paramZone), tags
	return r, nil
}

func loadBalancerRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerRequest, error) {
	r := &sdk.LoadBalancerRequest{Name: req.Step.Name, Flavor: param(req.Step, paramFlavor)}
	r.Zone, r.Tags = param(req.Step, paramZone), tags
	return r, nil
}

func poolRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerPoolRequest, error) {
	lb, err := need(req, kindLoadBalancer)
	r := &sdk.LoadBalancerPoolRequest{Name: req.Step.Name, LoadBalancer: lb, Algorithm: "round_robin", Protocol: "tcp"}
	r.Tags = tags
	return r, err
}

func listenerRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerListenerRequest, error) {
	pool, err := need(req, kindPool)
	r := &sdk.LoadBalancerListenerRequest{
		Name: req.Step.Name, Pool: pool, Protocol: "tcp", ProtocolPort: apiPort,
		AllowedCIDRs:        new(splitList(param(req.Step, paramAllowed))),
		TimeoutClientDataMS: idleTimeoutMS, TimeoutMemberDataMS: idleTimeoutMS,
	}
	r.Tags = tags
	return r, err
}

func monitorRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerHealthMonitorRequest, error) {
	pool, err := need(req, kindPool)
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
