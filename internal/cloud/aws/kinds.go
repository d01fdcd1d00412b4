package aws

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
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
	attrAddress = "address" // of an endpoint
	attrCIDR    = "cidr"
)

// item is what all kinds have in common.
type item struct {
	id, name, zone, parent, state string
	tags                          map[string]string
	ready                         bool
	// fresh says that this process has just made it and changed nothing since: its
	// settings are the cloud's defaults, and reads may not show it yet.
	fresh               bool
	attributes, machine []tag
	// routes, links and rules are what the settings of some kinds are judged by.
	routes []types.Route
	links  []types.RouteTableAssociation
	rules  []types.IpPermission
	public bool
}

func (i *item) attribute(key string) string {
	n := slices.IndexFunc(i.attributes, func(t tag) bool { return t.Key == key })
	if n < 0 {
		return ""
	}
	return i.attributes[n].Value
}

// made is when the create of an item was sent, zero if that is not known.
func (i *item) made() time.Time {
	at, err := time.Parse(time.RFC3339Nano, i.tags[tagMade])
	if err != nil {
		return time.Time{}
	}
	return at
}

// olderItem orders duplicates: the first one stays.
func olderItem(a, b item) int {
	return cmp.Or(a.made().Compare(b.made()), strings.Compare(a.id, b.id))
}

// kind is how one sort of resource is handled.
type kind struct {
	name string
	// within is the kind of the resource that this one lives in, if any.
	within string
	// lags says that reads may not show it yet, and then call it missing.
	lags bool
	list func(ctx context.Context, o cloud.Owner) ([]item, error)
	get  func(ctx context.Context, id string) (item, error)
	// tags reads the tags of an item that get does not come with.
	tags func(ctx context.Context, id string) (map[string]string, error)
	// create makes an item, in one request. It is nil for what Ichor only ever
	// cleans up.
	create func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (item, error)
	// mend makes the settings of an item what the step wants; it is repeated
	// until there is nothing to do.
	mend   func(ctx context.Context, req cloud.EnsureResourceRequest, i *item) error
	remove func(ctx context.Context, i *item) error
}

// kindsOf lists every kind in the order of deletion: what stands on others first.
func kindsOf(p *Provider) []kind {
	return []kind{
		p.listeners(), p.loadBalancers(), p.targetGroups(), p.placementGroups(), p.volumes(),
		p.securityGroups(), p.subnets(), p.routeTables(), p.gateways(), p.vpcs(),
	}
}

func (p *Provider) kind(name string) (kind, error) {
	i := slices.IndexFunc(p.kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, fault.New(fault.Internal, "find resource kind", "AWS has no kind %q", name)
	}
	return p.kinds[i], nil
}

// describer reads one page of a kind, by ids or by filters.
type describer func(ctx context.Context, ids []string, filters []types.Filter, next *string) ([]item, *string, error)

// ec2Kind begins a kind of EC2: action is its describing call, more are filters
// beside the owner's tag.
func (p *Provider) ec2Kind(name, within, action string, d describer, more ...types.Filter) kind {
	read := func(ctx context.Context, op string, ids []string, filters []types.Filter) ([]item, error) {
		var out []item
		for next := (*string)(nil); ; {
			var page []item
			err := p.calls.Call(ctx, exchange.Request{Op: op, Action: action}, func(ctx context.Context) (err error) {
				page, next, err = d(ctx, ids, filters, next)
				return err
			})
			if err != nil {
				return nil, err
			}
			for n := range page {
				p.seen.saw(page[n].id, page[n].made())
			}
			out = append(out, page...)
			if sdk.ToString(next) == "" {
				return out, nil
			}
		}
	}
	return kind{
		name: name, within: within, lags: true,
		list: func(ctx context.Context, o cloud.Owner) ([]item, error) {
			filters := append([]types.Filter{filter("tag:"+tagCluster, o.Cluster.UID)}, more...)
			found, err := read(ctx, "list "+name+"s", nil, filters)
			return slices.DeleteFunc(found, func(i item) bool { return i.tags[tagCluster] != o.Cluster.UID }), err
		},
		get: func(ctx context.Context, id string) (item, error) {
			if !plausibleID(id) {
				return item{}, fault.New(fault.Invalid, "read "+name, "%q is not an id of this cloud", id)
			}
			found, err := read(ctx, "read "+name, []string{id}, nil)
			if err != nil {
				return item{}, err
			}
			if n := slices.IndexFunc(found, func(i item) bool { return i.id == id }); n >= 0 {
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
