package cloudscale

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// apiPort is the Kubernetes API's; watchTimeoutMS the longest idle time of a
// connection that the API takes, ten minutes.
const (
	apiPort        = 6443
	watchTimeoutMS = 600_000
)

// PlanInfrastructure implements cloud.Infrastructure.
func (p *Provider) PlanInfrastructure(spec cloud.InfrastructureSpec) ([]cloud.Step, error) {
	name := spec.Owner.Cluster.Name
	var steps []cloud.Step
	if e := spec.Existing; e != nil {
		steps = append(steps, step(kindSubnet, "subnet", e.Subnet, "existing subnet "+e.Subnet, cluster.Tag{Key: "existing", Value: e.Subnet}))
	} else {
		steps = append(steps,
			step(kindNetwork, "network", name, "network "+name, cluster.Tag{Key: "zone", Value: spec.Zone}),
			step(kindSubnet, "subnet", name, "subnet "+spec.CIDR, cluster.Tag{Key: "cidr", Value: spec.CIDR}))
	}
	if spec.LoadBalancer == nil {
		return steps, nil
	}
	flavor := spec.LoadBalancer.Flavor
	if flavor == "" {
		flavor = "lb-standard"
	}
	allowed := slices.Clone(spec.AllowedCIDRs)
	if spec.CIDR != "" {
		allowed = append(allowed, spec.CIDR)
	}
	api := name + "-api"
	return append(steps,
		step(kindLoadBalancer, "lb", api, "load balancer "+api, cluster.Tag{Key: "flavor", Value: flavor}, cluster.Tag{Key: "zone", Value: spec.Zone}),
		step(kindPool, "pool", api, "pool "+api),
		step(kindListener, "listener", api, "listener "+api, cluster.Tag{Key: "allowedCIDRs", Value: strings.Join(allowed, ",")}),
		step(kindMonitor, "monitor", api, "health monitor "+api)), nil
}

func step(kind, key, name, title string, params ...cluster.Tag) cloud.Step {
	return cloud.Step{Kind: kind, Key: key, Name: name, Title: title, Params: params}
}

// PlacementStep implements cloud.Infrastructure.
func (p *Provider) PlacementStep(owner cloud.Owner, zone string, shard int) (cloud.Step, error) {
	name := fmt.Sprintf("%s-%s-%d", owner.Cluster.Name, owner.Group, shard)
	return step(kindServerGroup, "group-"+owner.Group+"-"+fmt.Sprint(shard), name, "server group "+name, cluster.Tag{Key: "zone", Value: zone}), nil
}

func (p *Provider) kind(name string) (kind, error) {
	i := slices.IndexFunc(p.kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, fault.New(fault.Internal, "find resource kind", "cloudscale has no kind %q", name)
	}
	return p.kinds[i], nil
}

// EnsureResource implements cloud.Infrastructure.
func (p *Provider) EnsureResource(ctx context.Context, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	var out cloud.ResourceLook
	begun := p.now()
	k, err := p.kind(req.Step.Kind)
	if err != nil {
		return out, err
	}
	if id := param(req, "existing"); id != "" {
		r, err := p.GetResource(ctx, cloud.Resource{Kind: k.name, Key: req.Step.Key, ID: id, Foreign: true})
		if fault.Is(err, fault.NotFound) {
			err = fault.New(fault.Invalid, "find "+req.Step.Title, "the account has no %s with this id", k.name)
		}
		out.Resource = &r
		return out, err
	}
	mine, err := p.items(ctx, k, req.Owner.Cluster.UID)
	if err != nil {
		return out, err
	}
	mine = slices.DeleteFunc(mine, func(i item) bool { return i.tags[cluster.TagKey] != req.Step.Key })
	if len(mine) > 0 {
		slices.SortFunc(mine, func(a, b item) int {
			if c := a.created.Compare(b.created); c != 0 {
				return c
			}
			return strings.Compare(a.id, b.id)
		})
		for _, extra := range mine[1:] {
			p.log.Warn("deleting a duplicate resource", "resource", req.Step.Title, "kept", mine[0].id, "duplicate", extra.id)
			if _, err := p.DeleteResource(ctx, resource(k, extra)); err != nil {
				return out, err
			}
			out.Removed++
		}
		r := resource(k, mine[0])
		out.Resource = &r
		return out, nil
	}
	if !req.Create {
		return out, nil
	}
	if late := p.now().Sub(begun); late > p.s.PostWindow {
		return out, fault.New(fault.Unavailable, "create "+req.Step.Title, "looking took %s; nothing was sent", late)
	}
	tags := sdk.TagMap{
		cluster.TagCluster: req.Owner.Cluster.UID, cluster.TagClusterName: req.Owner.Cluster.Name,
		cluster.TagKind: k.name, cluster.TagKey: req.Step.Key,
	}
	if req.Owner.Group != "" {
		tags[cluster.TagGroup] = req.Owner.Group
	}
	ctx, cancel := writing(ctx, p.s.CreateTimeout)
	defer cancel()
	made, err := k.create(ctx, req, &tags)
	if err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			return out, f // refused before anything was sent
		}
		return out, createFault(ctx, "create "+req.Step.Title, err)
	}
	r := resource(k, made)
	out.Resource, out.Created = &r, true
	return out, nil
}

func resource(k kind, i item) cloud.Resource {
	return cloud.Resource{Kind: k.name, Key: i.tags[cluster.TagKey], Name: i.name, ID: i.id, Ready: i.ready, State: i.state, Attributes: i.attributes}
}

// items lists everything of a kind that carries the cluster's tag.
func (p *Provider) items(ctx context.Context, k kind, uid string) ([]item, error) {
	ctx, cancel := reading(ctx)
	defer cancel()
	list, err := k.list(ctx, cluster.TagCluster, uid)
	if err != nil {
		return nil, readFault(ctx, "list "+k.name+"s", err)
	}
	return list, nil
}

// GetResource implements cloud.Infrastructure.
func (p *Provider) GetResource(ctx context.Context, r cloud.Resource) (cloud.Resource, error) {
	k, err := p.kind(r.Kind)
	if err != nil {
		return r, err
	}
	ctx, cancel := reading(ctx)
	defer cancel()
	it, err := k.get(ctx, r.ID)
	if err != nil {
		return r, readFault(ctx, "read "+r.Kind+" "+r.ID, err)
	}
	now := resource(k, it)
	now.Key, now.Foreign = r.Key, r.Foreign
	return now, nil
}

// EndpointHost implements cloud.Infrastructure.
func (p *Provider) EndpointHost(have []cloud.Resource) string {
	for _, r := range have {
		for _, a := range r.Attributes {
			if r.Kind == kindLoadBalancer && a.Key == "address" {
				return a.Value
			}
		}
	}
	return ""
}

// ListResources implements cloud.Infrastructure.
func (p *Provider) ListResources(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	var out []cloud.Resource
	for _, k := range p.kinds {
		list, err := p.items(ctx, k, owner.Cluster.UID)
		if err != nil {
			return nil, err
		}
		for _, i := range list {
			out = append(out, resource(k, i))
		}
	}
	return out, nil
}

// DeleteResource implements cloud.Infrastructure.
func (p *Provider) DeleteResource(ctx context.Context, r cloud.Resource) (bool, error) {
	if r.Foreign {
		return true, nil
	}
	k, err := p.kind(r.Kind)
	if err != nil {
		return false, err
	}
	op := "delete " + r.Kind + " " + r.ID
	err = func() error {
		ctx, cancel := writing(ctx, deleteTimeout)
		defer cancel()
		if err := k.remove(ctx, r.ID); err != nil {
			return writeFault(ctx, op, err)
		}
		return nil
	}()
	if fault.Is(err, fault.NotFound) {
		return true, nil
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		return false, err
	}
	if _, gerr := p.GetResource(ctx, r); fault.Is(gerr, fault.NotFound) {
		return true, nil
	} else if gerr != nil {
		return false, gerr
	}
	return false, err
}

func splitList(s string) []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(s, ",")
}
