package cloudscale

import (
	"context"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Kinds of resources, in the order of deletion: what stands on others first. A
// load balancer takes its pool, listener and monitor with it.
const (
	kindLoadBalancer = "load-balancer"
	kindPool         = "pool"
	kindListener     = "listener"
	kindMonitor      = "health-monitor"
	kindServerGroup  = "server-group"
	kindSubnet       = cloud.KindSubnet
	kindNetwork      = "network"
)

// item is what all kinds have in common.
type item struct {
	id, name, state string
	tags            sdk.TagMap
	created         time.Time
	ready           bool
	attributes      []cluster.Tag
}

// kind is how one sort of resource is handled.
type kind struct {
	name   string
	list   func(ctx context.Context, key, value string) ([]item, error)
	get    func(ctx context.Context, id string) (item, error)
	create func(ctx context.Context, req cloud.EnsureResourceRequest, tags *sdk.TagMap) (item, error)
	remove func(ctx context.Context, id string) error
}

type service[T, C any] interface {
	sdk.GenericCreateService[T, C]
	sdk.GenericGetService[T]
	sdk.GenericListService[T]
	sdk.GenericDeleteService[T]
}

// handle makes a kind of one of the SDK's services.
func handle[T, C any](name string, s service[T, C], view func(*T) item, build func(cloud.EnsureResourceRequest, *sdk.TagMap) (*C, error)) kind {
	return kind{
		name: name,
		list: func(ctx context.Context, key, value string) ([]item, error) {
			all, err := s.List(ctx, sdk.WithTagFilter(sdk.TagMap{key: value}))
			var out []item
			for i := range all {
				if it := view(&all[i]); it.tags[key] == value {
					out = append(out, it)
				}
			}
			return out, err
		},
		get: func(ctx context.Context, id string) (item, error) {
			t, err := s.Get(ctx, id)
			if err != nil {
				return item{}, err
			}
			return view(t), nil
		},
		create: func(ctx context.Context, req cloud.EnsureResourceRequest, tags *sdk.TagMap) (item, error) {
			body, err := build(req, tags)
			if err != nil {
				return item{}, err
			}
			t, err := s.Create(ctx, body)
			if err != nil {
				return item{}, err
			}
			return view(t), nil
		},
		remove: s.Delete,
	}
}

// param reads a frozen parameter of a step.
func param(req cloud.EnsureResourceRequest, key string) string {
	for _, p := range req.Step.Params {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}

// need finds the resource of a kind that an earlier step made.
func need(req cloud.EnsureResourceRequest, kind string) (string, error) {
	for _, r := range req.Have {
		if r.Kind == kind {
			return r.ID, nil
		}
	}
	return "", fault.New(fault.Internal, "create "+req.Step.Title, "it needs a %s, and none was made before", kind)
}

// kinds lists every kind in the order of deletion.
func kinds(c *sdk.Client) []kind {
	return []kind{
		handle(kindMonitor, c.LoadBalancerHealthMonitors, func(m *sdk.LoadBalancerHealthMonitor) item {
			return item{id: m.UUID, name: m.Type, tags: m.Tags, created: m.CreatedAt, ready: true}
		}, monitorRequest),
		handle(kindListener, c.LoadBalancerListeners, func(l *sdk.LoadBalancerListener) item {
			return item{id: l.UUID, name: l.Name, tags: l.Tags, created: l.CreatedAt, ready: true}
		}, listenerRequest),
		handle(kindPool, c.LoadBalancerPools, func(p *sdk.LoadBalancerPool) item {
			return item{id: p.UUID, name: p.Name, tags: p.Tags, created: p.CreatedAt, ready: true}
		}, poolRequest),
		handle(kindLoadBalancer, c.LoadBalancers, loadBalancer, loadBalancerRequest),
		handle(kindServerGroup, c.ServerGroups, func(g *sdk.ServerGroup) item {
			return item{id: g.UUID, name: g.Name, tags: g.Tags, ready: true}
		}, serverGroupRequest),
		handle(kindSubnet, c.Subnets, func(s *sdk.Subnet) item {
			return item{id: s.UUID, name: s.CIDR, tags: s.Tags, ready: true, attributes: []cluster.Tag{{Key: "cidr", Value: s.CIDR}}}
		}, subnetRequest),
		handle(kindNetwork, c.Networks, func(n *sdk.Network) item {
			return item{id: n.UUID, name: n.Name, tags: n.Tags, created: n.CreatedAt, ready: true}
		}, networkRequest),
	}
}

// loadBalancer is ready when it has stopped changing: "error" and "degraded"
// only say that members are not healthy yet, as before bootstrap.
func loadBalancer(l *sdk.LoadBalancer) item {
	it := item{id: l.UUID, name: l.Name, tags: l.Tags, created: l.CreatedAt, state: l.Status, ready: l.Status != "changing"}
	for _, v := range l.VIPAddresses {
		if v.Version == 4 {
			it.attributes = []cluster.Tag{{Key: "address", Value: v.Address}}
			break
		}
	}
	return it
}

func networkRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.NetworkCreateRequest, error) {
	no := false
	r := &sdk.NetworkCreateRequest{Name: req.Step.Name, AutoCreateIPV4Subnet: &no}
	r.Zone, r.Tags = param(req, "zone"), tags
	return r, nil
}

func subnetRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.SubnetCreateRequest, error) {
	network, err := need(req, kindNetwork)
	r := &sdk.SubnetCreateRequest{CIDR: param(req, "cidr"), Network: network}
	r.Tags = tags
	return r, err
}

func serverGroupRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.ServerGroupRequest, error) {
	r := &sdk.ServerGroupRequest{Name: req.Step.Name, Type: "anti-affinity"}
	r.Zone, r.Tags = param(req, "zone"), tags
	return r, nil
}

func loadBalancerRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerRequest, error) {
	r := &sdk.LoadBalancerRequest{Name: req.Step.Name, Flavor: param(req, "flavor")}
	r.Zone, r.Tags = param(req, "zone"), tags
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
	cidrs := splitList(param(req, "allowedCIDRs"))
	r := &sdk.LoadBalancerListenerRequest{Name: req.Step.Name, Pool: pool, Protocol: "tcp", ProtocolPort: apiPort, AllowedCIDRs: &cidrs}
	// Watches are silent for minutes; the default of 50 s would cut them.
	r.TimeoutClientDataMS, r.TimeoutMemberDataMS = watchTimeoutMS, watchTimeoutMS
	r.Tags = tags
	return r, err
}

func monitorRequest(req cloud.EnsureResourceRequest, tags *sdk.TagMap) (*sdk.LoadBalancerHealthMonitorRequest, error) {
	pool, err := need(req, kindPool)
	r := &sdk.LoadBalancerHealthMonitorRequest{Pool: pool, Type: "tcp", DelayS: 2, TimeoutS: 1, UpThreshold: 1, DownThreshold: 3}
	r.Tags = tags
	return r, err
}
