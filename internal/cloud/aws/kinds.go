package aws

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
	"github.com/ichor-project/ichor/internal/fault"
)

// Kinds of resources.
const (
	kindVPC           = "vpc"
	kindGateway       = "internet-gateway"
	kindRouteTable    = "route-table"
	kindSubnet        = cloud.KindSubnet
	kindSecurityGroup = "security-group"
	kindPlacement     = "placement-group"
	kindTargetGroup   = "target-group"
	kindLoadBalancer  = "load-balancer"
	kindListener      = "listener"
	kindVolume        = "volume"
)

// Attributes of resources.
const (
	attrAddress = inventory.AttrAddress
	attrCIDR    = inventory.AttrCIDR
)

// settings are what some kinds are judged by, beside what all have in common.
type settings struct {
	routes []types.Route
	links  []types.RouteTableAssociation
	rules  []types.IpPermission
	public bool
}

type (
	item = inventory.Item[settings]
	kind = inventory.Kind[settings]
)

// made is when the create of a thing was sent, zero if that is not known.
func made(tags map[string]string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, tags[tagMade])
	if err != nil {
		return time.Time{}
	}
	return at
}

// resourceTags are those of a new resource.
func resourceTags(kind string, req cloud.EnsureResourceRequest) map[string]string {
	tags := identity(req.Owner, req.Step.Name)
	tags[tagKind], tags[tagKey], tags[tagMade] = kind, req.Step.Key, time.Now().UTC().Format(time.RFC3339Nano)
	return tags
}

// kindsOf lists every kind in the order of deletion: what stands on others first.
func kindsOf(p *Provider) []kind {
	return []kind{
		p.listeners(), p.loadBalancers(), p.targetGroups(), p.placementGroups(), p.volumes(),
		p.securityGroups(), p.subnets(), p.routeTables(), p.gateways(), p.vpcs(),
	}
}

// ListResources implements cloud.Infrastructure. Some twenty reads give one list
// or none, so they are a Whole: see the package's words on retries.
func (p *Provider) ListResources(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	return p.Inventory.ListResources(exchange.Whole(ctx), owner)
}

// describer reads one page of a kind, by ids or by filters.
type describer func(ctx context.Context, ids []string, filters []types.Filter, next *string) ([]item, *string, error)

// ec2Kind begins a kind of EC2: action is its describing call, more are filters
// beside the owner's tag.
func (p *Provider) ec2Kind(name, within, action string, d describer, more ...types.Filter) kind {
	read := func(ctx context.Context, op string, ids []string, filters []types.Filter) ([]item, error) {
		return pages(ctx, p, op, action, func(ctx context.Context, token *string) ([]item, *string, error) {
			page, next, err := d(ctx, ids, filters, token)
			for n := range page {
				p.seen.Saw(page[n].ID, page[n].Made)
			}
			return page, next, err
		})
	}
	return kind{
		Name: name, Within: within, Lags: true, Zonal: name == kindSubnet,
		List: func(ctx context.Context, o cloud.Owner) ([]item, error) {
			filters := append([]types.Filter{filter("tag:"+tagCluster, o.Cluster.UID)}, more...)
			found, err := read(ctx, "list "+name+"s", nil, filters)
			return slices.DeleteFunc(found, func(i item) bool { return i.Tags[tagCluster] != o.Cluster.UID }), err
		},
		Get: func(ctx context.Context, id string) (item, error) {
			if !plausibleID(id) {
				return item{}, fault.New(fault.Invalid, "read "+name, "%q is not an id of this cloud", id)
			}
			found, err := read(ctx, "read "+name, []string{id}, nil)
			if err != nil {
				return item{}, err
			}
			if n := slices.IndexFunc(found, func(i item) bool { return i.ID == id }); n >= 0 {
				return found[n], nil
			}
			return item{}, fault.New(fault.NotFound, "read "+name, "%s is not there", id)
		},
	}
}

// create runs the one request of a create.
func (p *Provider) make(ctx context.Context, req cloud.EnsureResourceRequest, action string, sendBy time.Time, f func(context.Context) error) error {
	return p.calls.Call(ctx, exchange.Request{Op: "create " + req.Step.Title, Action: action, Verb: exchange.Create, SendBy: sendBy}, f)
}

// change runs a request that has the same effect however often it is done.
func (p *Provider) change(ctx context.Context, op, action string, f func(context.Context) error) error {
	return p.calls.Call(ctx, exchange.Request{Op: op, Action: action, Verb: exchange.Change}, f)
}

// erase asks for deletion. Absent is success.
func (p *Provider) erase(ctx context.Context, kind, action string, f func(context.Context) error) error {
	err := p.calls.Call(ctx, exchange.Request{Op: "delete " + kind, Action: action, Verb: exchange.Remove}, f)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
