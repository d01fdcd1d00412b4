package cloudscale

import (
	"context"
	"slices"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
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
	attrAddress = inventory.AttrAddress
	attrCIDR    = inventory.AttrCIDR
)

type (
	item = inventory.Item[struct{}]
	kind = inventory.Kind[struct{}]
)

// handle makes a kind of one of the SDK's services.
func handle[T, C any](p *Provider, name, within string, s service[T, C], view func(*T) item, build func(cloud.EnsureResourceRequest, *sdk.TagMap) (*C, error)) kind {
	k := kind{Name: name, Within: within}
	k.List = func(ctx context.Context, o cloud.Owner) ([]item, error) {
		all, err := listTagged(ctx, p, name+"s", s, cluster.TagCluster, o.Cluster.UID)
		if err != nil {
			return nil, err
		}
		out := make([]item, len(all))
		for i := range all {
			out[i] = view(&all[i])
		}
		return out, nil
	}
	k.Get = func(ctx context.Context, id string) (item, error) {
		t, err := get(ctx, p, name, s, id)
		if err != nil {
			return item{}, err
		}
		return view(t), nil
	}
	k.Remove = func(ctx context.Context, i *item) error { return erase(ctx, p, name, i.ID, s.Delete) }
	if build != nil {
		k.Create = func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error) {
			body, err := build(req, new(sdk.TagMap(tags)))
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

// kindsOf lists every kind in the order of deletion: what stands on others
// first. A load balancer takes pool, listener and monitor with it, so deleting
// those afterwards only proves that they are gone.
func kindsOf(p *Provider) []kind {
	c := p.sdk
	return []kind{
		handle(p, kindFloatingIP, "", c.FloatingIPs, floatingIP, nil),
		handle(p, kindLoadBalancer, "", c.LoadBalancers, loadBalancer, loadBalancerRequest),
		handle(p, kindMonitor, kindPool, c.LoadBalancerHealthMonitors, func(m *sdk.LoadBalancerHealthMonitor) item {
			return item{ID: m.UUID, Name: m.Type, Parent: m.Pool.UUID, Tags: m.Tags, Made: m.CreatedAt, Ready: true}
		}, monitorRequest),
		handle(p, kindListener, kindPool, c.LoadBalancerListeners, func(l *sdk.LoadBalancerListener) item {
			it := item{ID: l.UUID, Name: l.Name, Tags: l.Tags, Made: l.CreatedAt, Ready: true}
			if it.Parent = "no pool"; l.Pool != nil {
				it.Parent = l.Pool.UUID
			}
			return it
		}, listenerRequest),
		handle(p, kindPool, kindLoadBalancer, c.LoadBalancerPools, func(p *sdk.LoadBalancerPool) item {
			return item{ID: p.UUID, Name: p.Name, Parent: p.LoadBalancer.UUID, Tags: p.Tags, Made: p.CreatedAt, Ready: true}
		}, poolRequest),
		handle(p, kindVolume, "", c.Volumes, func(v *sdk.Volume) item {
			return item{ID: v.UUID, Name: v.Name, Zone: v.Zone.Slug, Tags: v.Tags, Made: v.CreatedAt, Ready: true}
		}, noRequest[sdk.VolumeCreateRequest]()),
		handle(p, kindServerGroup, "", c.ServerGroups, func(g *sdk.ServerGroup) item {
			return item{ID: g.UUID, Name: g.Name, Zone: g.Zone.Slug, Tags: g.Tags, Ready: true}
		}, serverGroupRequest),
		handle(p, kindSubnet, kindNetwork, c.Subnets, func(s *sdk.Subnet) item {
			return item{
				ID: s.UUID, Name: s.CIDR, Parent: s.Network.UUID, Tags: s.Tags, Ready: true,
				Attributes: []cluster.Tag{{Key: attrCIDR, Value: s.CIDR}},
			}
		}, subnetRequest),
		handle(p, kindNetwork, "", c.Networks, func(n *sdk.Network) item {
			return item{ID: n.UUID, Name: n.Name, Zone: n.Zone.Slug, Tags: n.Tags, Made: n.CreatedAt, Ready: true}
		}, networkRequest),
	}
}

// noRequest is for kinds that are only cleaned up.
func noRequest[C any]() func(cloud.EnsureResourceRequest, *sdk.TagMap) (*C, error) { return nil }

// loadBalancer is ready when it has stopped changing: "error" and "degraded"
// only say that members are not healthy yet, as before bootstrap.
func loadBalancer(l *sdk.LoadBalancer) item {
	it := item{
		ID: l.UUID, Name: l.Name, Zone: l.Zone.Slug, Tags: l.Tags, Made: l.CreatedAt, State: l.Status,
		Ready: l.Status != "changing" && len(l.VIPAddresses) > 0,
	}
	vips := slices.Clone(l.VIPAddresses)
	slices.SortStableFunc(vips, func(a, b sdk.VIPAddress) int { return a.Version - b.Version })
	if len(vips) > 0 {
		it.Attributes = []cluster.Tag{{Key: attrAddress, Value: vips[0].Address}}
	}
	return it
}

// floatingIP is known by its address; the API has no id for it.
func floatingIP(f *sdk.FloatingIP) item {
	return item{ID: f.IP(), Name: f.Network, Tags: f.Tags, Made: f.CreatedAt, Ready: true}
}
