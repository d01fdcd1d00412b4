package cloudscale

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// lbFlavor is the API's only load balancer flavor so far.
const lbFlavor = "lb-standard"

// PlanInfrastructure implements cloud.Infrastructure: network and subnet unless
// they are brought along, and the parts of a load balancer unless the endpoint
// is given. Each step is one POST.
func (p *Provider) PlanInfrastructure(spec cloud.InfrastructureSpec) ([]cloud.Step, error) {
	const op = "plan infrastructure"
	name := spec.Owner.Cluster.Name
	var steps []cloud.Step
	if e := spec.Existing; e != nil {
		if !plausibleID(e.Subnet) {
			return nil, fault.New(fault.Invalid, op, "spec.network.existing.subnet: %q is not the id of a subnet", e.Subnet)
		}
		steps = append(steps, step(kindSubnet, "subnet", e.Subnet, "existing subnet "+e.Subnet,
			tag(paramCIDR, e.CIDR), tag(paramExisting, e.Subnet)))
	} else {
		if c, err := netip.ParsePrefix(spec.CIDR); err != nil || !c.Addr().Is4() || c != c.Masked() {
			return nil, fault.New(fault.Invalid, op, "spec.network.cidr: %q is not an IPv4 network", spec.CIDR)
		}
		steps = append(steps,
			step(kindNetwork, "network", name, "network "+name, tag(paramZone, spec.Zone)),
			step(kindSubnet, "subnet", name, "subnet "+spec.CIDR, tag(paramCIDR, spec.CIDR)))
	}
	if spec.LoadBalancer == nil {
		return steps, nil
	}
	api := name + "-api"
	return append(steps,
		step(kindLoadBalancer, "lb", api, "load balancer "+api,
			tag(paramFlavor, cmp.Or(spec.LoadBalancer.Flavor, lbFlavor)), tag(paramZone, spec.Zone)),
		step(kindPool, "pool", api, "pool "+api),
		step(kindListener, "listener", api, "listener "+api, tag(paramAllowed, strings.Join(spec.AllowedCIDRs, ","))),
		step(kindMonitor, "monitor", api, "health monitor "+api)), nil
}

func tag(key, value string) cluster.Tag { return cluster.Tag{Key: key, Value: value} }

func step(kind, key, name, title string, params ...cluster.Tag) cloud.Step {
	return cloud.Step{Kind: kind, Key: key, Name: name, Title: title, Params: params}
}

// PlacementStep implements cloud.Infrastructure.
func (p *Provider) PlacementStep(owner cloud.Owner, zone string, shard int) (cloud.Step, error) {
	name := fmt.Sprintf("%s-%s-%d", owner.Cluster.Name, owner.Group, shard)
	// No other key has a slash, so no group can be named like another step.
	key := fmt.Sprintf("placement/%s/%d", owner.Group, shard)
	return step(kindServerGroup, key, name, "server group "+name, tag(paramZone, zone)), nil
}

func (p *Provider) kind(name string) (kind, error) {
	i := slices.IndexFunc(p.kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, fault.New(fault.Internal, "find resource kind", "cloudscale.ch has no kind %q", name)
	}
	return p.kinds[i], nil
}

// EnsureResource implements cloud.Infrastructure.
func (p *Provider) EnsureResource(ctx context.Context, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	sendBy := p.calls.SendBy()
	k, err := p.kind(req.Step.Kind)
	if err != nil {
		return cloud.ResourceLook{}, err
	}
	if req.Step.Param(paramExisting) != "" {
		return p.existing(ctx, k, req)
	}
	look, err := p.lookForResource(ctx, k, req)
	if err != nil || look.Resource != nil || !req.Create {
		return look, err
	}
	if k.create == nil {
		return look, fault.New(fault.Internal, "create "+req.Step.Title, "a %s is never created", k.name)
	}
	tags := resourceTags(k, req)
	made, err := k.create(ctx, req, &tags, sendBy)
	if err != nil {
		return look, err
	}
	problem := cloud.MissingTags(tags, made.tags)
	if problem == "" {
		problem = elsewhere(req.Step, made)
	}
	if problem != "" || !plausibleID(made.id) {
		if err := k.remove(ctx, made.id); err != nil {
			p.log.WarnContext(ctx, "a misplaced resource could not be deleted yet", "kind", k.name, "id", made.id, "error", err)
		}
		return look, fault.New(fault.Internal, "create "+req.Step.Title, "the cloud made something else: %s", cmp.Or(problem, "it has no id"))
	}
	return cloud.ResourceLook{Resource: resource(k, made), Created: true}, nil
}

// existing checks a resource that the user brought along.
func (p *Provider) existing(ctx context.Context, k kind, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	op := "find " + req.Step.Title
	it, err := k.get(ctx, req.Step.Param(paramExisting))
	if fault.Is(err, fault.NotFound) {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "the account has no %s with this id", k.name)
	}
	if err != nil {
		return cloud.ResourceLook{}, err
	}
	if want := req.Step.Param(paramCIDR); want != "" && !slices.Contains(it.attributes, tag(attrCIDR, want)) {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "its range is %s, not %s as spec.network.existing.cidr says", it.name, want)
	}
	r := resource(k, it)
	r.Key, r.Foreign = req.Step.Key, true
	return cloud.ResourceLook{Resource: r}, nil
}

// lookForResource adopts and repairs.
func (p *Provider) lookForResource(ctx context.Context, k kind, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	var look cloud.ResourceLook
	found, err := p.items(ctx, k, req.Owner)
	if err != nil {
		return look, err
	}
	// What lives in a resource that is no longer ours to build on is as good as
	// gone: a repair deletes it together with that.
	parent := cloud.IDOf(req.Have, k.within)
	found = slices.DeleteFunc(found, func(i item) bool {
		return i.tags[cluster.TagKey] != req.Step.Key || parent != "" && i.parent != parent
	})
	slices.SortFunc(found, olderItem)
	keep := slices.IndexFunc(found, func(i item) bool { return elsewhere(req.Step, i) == "" })
	for n, i := range found {
		if n == keep {
			continue
		}
		p.log.WarnContext(ctx, "removing a resource that should not be", "kind", k.name, "id", i.id, "cluster", req.Owner.Cluster.Name)
		if err := k.remove(ctx, i.id); err != nil {
			return look, err
		}
		look.Removed++
	}
	if keep >= 0 {
		look.Resource = resource(k, found[keep])
	} else if len(found) > 0 {
		return look, fault.New(fault.Conflict, "look for "+req.Step.Title, "%s; its deletion was asked for", elsewhere(req.Step, found[0]))
	}
	return look, nil
}

// elsewhere says that a resource is not in the zone where its step wants it. A
// step is frozen, so only the cloud can have got it wrong.
func elsewhere(s cloud.Step, i item) string {
	if want := s.Param(paramZone); want != "" && i.zone != "" && i.zone != want {
		return fmt.Sprintf("%s %s is in zone %q instead of %q", s.Kind, i.id, i.zone, want)
	}
	return ""
}

func resourceTags(k kind, req cloud.EnsureResourceRequest) sdk.TagMap {
	tags := sdk.TagMap(req.Owner.Tags())
	tags[cluster.TagKind], tags[cluster.TagKey] = k.name, req.Step.Key
	return tags
}

func resource(k kind, i item) *cloud.Resource {
	return &cloud.Resource{
		Kind: k.name, Key: i.tags[cluster.TagKey], Name: i.name, ID: i.id, Parent: i.parent,
		Ready: i.ready, State: i.state, Attributes: i.attributes,
	}
}

// items lists everything of a kind that carries the owner's tags.
func (p *Provider) items(ctx context.Context, k kind, owner cloud.Owner) ([]item, error) {
	if owner.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "list "+k.name+"s", "the owner has no cluster uid")
	}
	found, err := k.list(ctx, cluster.TagCluster, owner.Cluster.UID)
	if err != nil || owner.Group == "" {
		return found, err
	}
	return slices.DeleteFunc(found, func(i item) bool { return i.tags[cluster.TagGroup] != owner.Group }), nil
}

// GetResource implements cloud.Infrastructure.
func (p *Provider) GetResource(ctx context.Context, r cloud.Resource) (cloud.Resource, error) {
	k, err := p.kind(r.Kind)
	if err != nil {
		return r, err
	}
	it, err := k.get(ctx, r.ID)
	if err != nil {
		return r, err
	}
	now := resource(k, it)
	now.Key, now.Foreign = r.Key, r.Foreign
	return *now, nil
}

// EndpointHost implements cloud.Infrastructure.
func (p *Provider) EndpointHost(have []cloud.Resource) string {
	for _, r := range have {
		for _, a := range r.Attributes {
			if r.Kind == kindLoadBalancer && a.Key == attrAddress {
				return a.Value
			}
		}
	}
	return ""
}

// ListResources implements cloud.Infrastructure.
func (p *Provider) ListResources(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	out := []cloud.Resource{}
	for _, k := range p.kinds {
		found, err := p.items(ctx, k, owner)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(found, func(a, b item) int { return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.id, b.id)) })
		for _, i := range found {
			out = append(out, *resource(k, i))
		}
	}
	return out, nil
}

// DeleteResource implements cloud.Infrastructure. What does not carry the
// resource's own tags is refused as Unsafe.
func (p *Provider) DeleteResource(ctx context.Context, r cloud.Resource) (bool, error) {
	if r.Foreign {
		return false, fault.New(fault.Unsafe, "delete "+r.Kind, "%s was brought along", r.ID)
	}
	k, err := p.kind(r.Kind)
	if err != nil {
		return false, err
	}
	it, err := k.get(ctx, r.ID)
	if fault.Is(err, fault.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if it.tags[cluster.TagCluster] == "" || it.tags[cluster.TagKey] != r.Key {
		return false, fault.New(fault.Unsafe, "delete "+r.Kind, "%s does not carry the tags of %q", r.ID, r.Key)
	}
	if err := k.remove(ctx, r.ID); err != nil {
		return false, err
	}
	if _, err := k.get(ctx, r.ID); !fault.Is(err, fault.NotFound) {
		return false, err
	}
	return true, nil
}
