package cloudscale

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
)

// Kinds of resources.
const (
	kindLoadBalancer = "load-balancer"
	kindPool         = "pool"
	kindListener     = "listener"
	kindMonitor      = "health-monitor"
	kindServerGroup  = "server-group"
	kindFloatingIP   = "floating-ip"
	kindVolume       = "volume"
	kindSubnet       = cloud.KindSubnet
	kindNetwork      = "network"
)

// Attributes of resources.
const (
	attrAddress = "address" // of an endpoint
	attrCIDR    = "cidr"
)

// item is what all kinds have in common.
type item struct {
	id, name, zone, parent, state string
	tags                          sdk.TagMap
	created                       time.Time // zero where the API does not say
	ready                         bool
	attributes                    []cluster.Tag
}

// kind is how one sort of resource is handled.
type kind struct {
	name string
	// within is the kind of the resource that this one lives in, if any.
	within string
	// list returns what carries exactly this tag.
	list func(ctx context.Context, key, value string) ([]item, error)
	get  func(ctx context.Context, id string) (item, error)
	// create is nil for what Ichor only ever cleans up.
	create func(ctx context.Context, req cloud.EnsureResourceRequest, tags *sdk.TagMap, sendBy time.Time) (item, error)
	remove func(ctx context.Context, id string) error
}

// handle makes a kind of one of the SDK's services.
func handle[T, C any](p *Provider, name, within string, s service[T, C], view func(*T) item, build func(cloud.EnsureResourceRequest, *sdk.TagMap) (*C, error)) kind {
	k := kind{name: name, within: within}
	k.list = func(ctx context.Context, key, value string) ([]item, error) {
		all, err := listTagged(ctx, p, name+"s", s, key, value)
		if err != nil {
			return nil, err
		}
		var out []item
		for i := range all {
			if it := view(&all[i]); it.tags[key] == value {
				out = append(out, it)
			}
		}
		return out, nil
	}
	k.get = func(ctx context.Context, id string) (item, error) {
		t, err := get(ctx, p, name, s, id)
		if err != nil {
			return item{}, err
		}
		return view(t), nil
	}
	k.remove = func(ctx context.Context, id string) error { return erase(ctx, p, name, id, s.Delete) }
	if build != nil {
		k.create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags *sdk.TagMap, sendBy time.Time) (item, error) {
			body, err := build(req, tags)
			if err != nil {
				return item{}, err
			}
			var t *T
			err = p.calls.Call(ctx, exchange.Request{Op: "create " + req.Step.Title, Verb: exchange.Create, SendBy: sendBy}, func(ctx context.Context) (err error) {
				t, err = s.Create(ctx, body)
				return err
			})
			if err != nil {
				return item{}, err
			}
			return view(t), nil
		}
	}
	return k
}

// olderItem orders duplicates: the first one stays.
func olderItem(a, b item) int {
	return cmp.Or(a.created.Compare(b.created), strings.Compare(a.id, b.id))
}

// kindsOf lists every kind in the order of deletion: what stands on others
// first. A load balancer takes pool, listener and monitor with it, so deleting
// those afterwards only proves that they are gone.
func kindsOf(p *Provider) []kind {
	c := p.sdk
	return []kind{
		handle(p, kindFloatingIP, "", c.FloatingIPs, floatingIP, nil),
		handle(p, kindLoadBalancer, "", c.LoadBalancers, loadBalancer, loadBalancerRequest),
		handle(p, kindMonitor, kindPool, c.LoadBalancerHealthMonitors, func(m *sdk.LoadBalancerHealthMonitor) item {
			return item{id: m.UUID, name: m.Type, parent: m.Pool.UUID, tags: m.Tags, created: m.CreatedAt, ready: true}
		}, monitorRequest),
		handle(p, kindListener, kindPool, c.LoadBalancerListeners, func(l *sdk.LoadBalancerListener) item {
			it := item{id: l.UUID, name: l.Name, tags: l.Tags, created: l.CreatedAt, ready: true}
			if l.Pool != nil {
				it.parent = l.Pool.UUID
			}
			return it
		}, listenerRequest),
		handle(p, kindPool, kindLoadBalancer, c.LoadBalancerPools, func(p *sdk.LoadBalancerPool) item {
			return item{id: p.UUID, name: p.Name, parent: p.LoadBalancer.UUID, tags: p.Tags, created: p.CreatedAt, ready: true}
		}, poolRequest),
		handle(p, kindVolume, "", c.Volumes, func(v *sdk.Volume) item {
			return item{id: v.UUID, name: v.Name, zone: v.Zone.Slug, tags: v.Tags, created: v.CreatedAt, ready: true}
		}, noRequest[sdk.VolumeCreateRequest]()),
		handle(p, kindServerGroup, "", c.ServerGroups, func(g *sdk.ServerGroup) item {
			return item{id: g.UUID, name: g.Name, zone: g.Zone.Slug, tags: g.Tags, ready: true}
		}, serverGroupRequest),
		handle(p, kindSubnet, kindNetwork, c.Subnets, func(s *sdk.Subnet) item {
			return item{
				id: s.UUID, name: s.CIDR, parent: s.Network.UUID, tags: s.Tags, ready: true,
				attributes: []cluster.Tag{{Key: attrCIDR, Value: s.CIDR}},
			}
		}, subnetRequest),
		handle(p, kindNetwork, "", c.Networks, func(n *sdk.Network) item {
			return item{id: n.UUID, name: n.Name, zone: n.Zone.Slug, tags: n.Tags, created: n.CreatedAt, ready: true}
		}, networkRequest),
	}
}

// noRequest is for kinds that are only cleaned up.
func noRequest[C any]() func(cloud.EnsureResourceRequest, *sdk.TagMap) (*C, error) { return nil }

// loadBalancer is ready when it has stopped changing: "error" and "degraded"
// only say that members are not healthy yet, as before bootstrap.
func loadBalancer(l *sdk.LoadBalancer) item {
	it := item{
		id: l.UUID, name: l.Name, zone: l.Zone.Slug, tags: l.Tags, created: l.CreatedAt, state: l.Status,
		ready: l.Status != "changing" && len(l.VIPAddresses) > 0,
	}
	vips := slices.Clone(l.VIPAddresses)
	slices.SortStableFunc(vips, func(a, b sdk.VIPAddress) int { return a.Version - b.Version })
	if len(vips) > 0 {
		it.attributes = []cluster.Tag{{Key: attrAddress, Value: vips[0].Address}}
	}
	return it
}

// floatingIP is known by its address; the API has no id for it.
func floatingIP(f *sdk.FloatingIP) item {
	return item{id: f.IP(), name: f.Network, tags: f.Tags, created: f.CreatedAt, ready: true}
}
