package nimbus

import (
	"context"
	"net/http"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

const balancers = "/v1/balancers"

const (
	kindNetwork  = cloud.KindSubnet // what machines are attached to
	kindBalancer = "load-balancer"
)

// kinds are where things of a kind live, in the order of deletion: what stands on
// others first.
var kinds = []struct{ name, path string }{{kindBalancer, balancers}, {kindNetwork, "/v1/networks"}}

func pathOf(kind string) (string, error) {
	for _, k := range kinds {
		if k.name == kind {
			return k.path, nil
		}
	}
	return "", fault.New(fault.Internal, "find resource kind", "Nimbus has no kind %q", kind)
}

// Parameters of steps, and the attribute in which an endpoint's address travels.
const (
	paramCIDR, paramExisting, paramZone = "cidr", "existing", "zone"
	attrAddress                         = "address"
)

// PlanInfrastructure implements cloud.Infrastructure: a network unless it is brought
// along, and a load balancer unless the endpoint is given. One step is one create.
func (p *Provider) PlanInfrastructure(spec cloud.InfrastructureSpec) ([]cloud.Step, error) {
	zone := cluster.Tag{Key: paramZone, Value: spec.Zone}
	network := step(spec.Owner, kindNetwork, "network", cluster.Tag{Key: paramCIDR, Value: spec.CIDR}, zone)
	if e := spec.Existing; e != nil {
		network.Params = []cluster.Tag{{Key: paramCIDR, Value: e.CIDR}, {Key: paramExisting, Value: e.Subnet}, zone}
	}
	if spec.LoadBalancer == nil {
		return []cloud.Step{network}, nil
	}
	return []cloud.Step{network, step(spec.Owner, kindBalancer, "api", zone)}, nil
}

// step names a resource: with the cluster's uid, since names of clusters are reused
// and those of things are unique.
func step(o cloud.Owner, kind, key string, params ...cluster.Tag) cloud.Step {
	name := o.Cluster.Name + "-" + key + "-" + cloud.Fingerprint(o.Cluster.UID)
	return cloud.Step{Kind: kind, Key: key, Name: name, Title: kind + " " + name, Params: params}
}

// PlacementStep implements cloud.Infrastructure. Nobody asks for it where
// Capabilities.SpreadLimit is 0.
func (p *Provider) PlacementStep(cloud.Owner, string, int) (cloud.Step, error) {
	return cloud.Step{}, fault.New(fault.Internal, "plan placement", "Nimbus has no placement groups")
}

// EnsureResource implements cloud.Infrastructure, as EnsureMachine does for machines.
func (p *Provider) EnsureResource(ctx context.Context, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	sendBy := p.calls.SendBy()
	s, op := req.Step, "create "+req.Step.Title
	path, err := pathOf(s.Kind)
	if err != nil {
		return cloud.ResourceLook{}, err
	}
	if id := s.Param(paramExisting); id != "" {
		return p.existing(ctx, path, id, s)
	}
	labels := req.Owner.Tags()
	labels[cluster.TagKind], labels[cluster.TagKey] = s.Kind, s.Key
	found, err := p.list(ctx, path, "name", s.Name)
	switch {
	case err != nil:
		return cloud.ResourceLook{}, err
	case len(found) > 0 && cloud.MissingTags(labels, found[0].Labels) != "":
		return cloud.ResourceLook{}, fault.New(fault.Conflict, op, "the name belongs to %s: %s", found[0].ID, cloud.MissingTags(labels, found[0].Labels))
	case len(found) > 0 && found[0].State == "deleting":
		return cloud.ResourceLook{}, fault.New(fault.Conflict, op, "%s is on its way out", found[0].ID)
	case len(found) > 0:
		return cloud.ResourceLook{Resource: resource(s.Kind, found[0])}, nil
	case !req.Create:
		return cloud.ResourceLook{}, nil
	}
	in := object{Name: s.Name, Zone: s.Param(paramZone), Labels: labels, CIDR: s.Param(paramCIDR)}
	if s.Kind == kindBalancer {
		if in.Network, err = req.Need(kindNetwork); err != nil {
			return cloud.ResourceLook{}, err
		}
	}
	var made object
	if err := p.do(ctx, exchange.Request{Op: op, Verb: exchange.Create, SendBy: sendBy}, http.MethodPost, path, in, &made); err != nil {
		return cloud.ResourceLook{}, err
	}
	return cloud.ResourceLook{Resource: resource(s.Kind, made), Created: true}, nil
}

// existing checks a network that the user brought along. It is never deleted.
func (p *Provider) existing(ctx context.Context, path, id string, s cloud.Step) (cloud.ResourceLook, error) {
	o, err := p.get(ctx, path, id)
	if fault.Is(err, fault.NotFound) || err == nil && o.CIDR != s.Param(paramCIDR) {
		err = fault.New(fault.Invalid, "find "+s.Title, "the account has no network %s with the range %s", id, s.Param(paramCIDR))
	}
	if err != nil {
		return cloud.ResourceLook{}, err
	}
	r := resource(s.Kind, o)
	r.Key, r.Foreign = s.Key, true
	return cloud.ResourceLook{Resource: r}, nil
}

func resource(kind string, o object) *cloud.Resource {
	r := &cloud.Resource{Kind: kind, Key: o.Labels[cluster.TagKey], Name: o.Name, ID: o.ID, State: o.State, Ready: o.State == "ready"}
	if o.Address != "" {
		r.Attributes = []cluster.Tag{{Key: attrAddress, Value: o.Address}}
	}
	return r
}

// GetResource implements cloud.Infrastructure.
func (p *Provider) GetResource(ctx context.Context, r cloud.Resource) (cloud.Resource, error) {
	path, err := pathOf(r.Kind)
	if err != nil {
		return r, err
	}
	o, err := p.get(ctx, path, r.ID)
	if err != nil {
		return r, err
	}
	now := resource(r.Kind, o)
	now.Key, now.Foreign = r.Key, r.Foreign
	return *now, nil
}

// ListResources implements cloud.Infrastructure.
func (p *Provider) ListResources(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	out := []cloud.Resource{}
	for _, k := range kinds {
		found, err := p.list(ctx, k.path, "label", cluster.TagCluster+"="+owner.Cluster.UID)
		if err != nil {
			return nil, err
		}
		for _, o := range found {
			if owner.Has(o.Labels) {
				out = append(out, *resource(k.name, o))
			}
		}
	}
	return out, nil
}

// DeleteResource implements cloud.Infrastructure. What was brought along, or does
// not carry the resource's own labels, is refused as Unsafe.
func (p *Provider) DeleteResource(ctx context.Context, r cloud.Resource) (bool, error) {
	op := "delete " + r.Kind
	path, err := pathOf(r.Kind)
	if err != nil {
		return false, err
	}
	switch o, err := p.get(ctx, path, r.ID); {
	case fault.Is(err, fault.NotFound):
		return true, nil
	case err != nil:
		return false, err
	case r.Foreign || o.Labels[cluster.TagCluster] == "" || o.Labels[cluster.TagKey] != r.Key:
		return false, fault.New(fault.Unsafe, op, "%s is not ours: it does not carry the labels of %q", r.ID, r.Key)
	}
	return false, p.remove(ctx, path, r.ID)
}
