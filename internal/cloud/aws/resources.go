package aws

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// EnsureResource implements cloud.Infrastructure. A resource is found as soon as
// it exists, and its settings are mended with every look, so a create whose
// settings could not be made is only unfinished.
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
	op := "create " + req.Step.Title
	if k.create == nil {
		return look, fault.New(fault.Internal, op, "a %s is never created", k.name)
	}
	tags := resourceTags(k, req)
	made, err := k.create(ctx, req, tags, sendBy)
	if err != nil {
		return look, err
	}
	if !plausibleID(made.id) {
		return look, fault.New(fault.Ambiguous, op, "the cloud answered without an id")
	}
	p.seen.making(made.id)
	p.seen.saw(made.id, made.made())
	made.fresh = true
	if problem := cmp.Or(cloud.MissingTags(tags, made.tags), elsewhere(req.Step, &made)); problem != "" {
		if err := k.remove(ctx, &made); err != nil {
			p.log.WarnContext(ctx, "a misplaced resource could not be deleted yet", "kind", k.name, "id", made.id, "error", err)
		}
		return look, fault.New(fault.Internal, op, "the cloud made something else: %s", problem)
	}
	if k.mend != nil {
		if err := p.mendNew(ctx, k, req, &made); err != nil {
			// It exists: whoever asks again has to find it.
			return look, &fault.Error{Kind: fault.Ambiguous, Op: op, Message: made.id + " was created, but: " + err.Error()}
		}
	}
	return cloud.ResourceLook{Resource: resource(k, &made), Created: true}, nil
}

// mendTries are as many as usually pass before the cloud shows to one part of
// itself what another has just made.
const mendTries = 4

// mendNew mends what was made a moment ago and may not be visible yet.
func (p *Provider) mendNew(ctx context.Context, k kind, req cloud.EnsureResourceRequest, made *item) error {
	for try := 1; ; try++ {
		err := k.mend(ctx, req, made)
		if try == mendTries || !fault.Is(err, fault.NotYet) {
			return err
		}
		t := time.NewTimer(min(p.calls.Waits.Poll, 2*time.Second))
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
	}
}

// existing checks a resource that the user brought along.
func (p *Provider) existing(ctx context.Context, k kind, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	op := "find " + req.Step.Title
	it, err := k.get(ctx, req.Step.Param(paramExisting))
	if fault.Is(err, fault.NotFound) {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "the account has no %s with this id in the region %s", k.name, p.region)
	}
	if err != nil {
		return cloud.ResourceLook{}, err
	}
	if zone := req.Step.Param(paramZone); zone != "" && it.zone != zone {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "it is in the zone %s, and the cluster is in %s", it.zone, zone)
	}
	if want := req.Step.Param(paramCIDR); want != "" && !covers(want, it.attribute(attrCIDR)) {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "its range is %s, which is not in %s as spec.network.existing.cidr says", it.attribute(attrCIDR), want)
	}
	if vpc := cloud.IDOf(req.Have, kindVPC); k.within == kindVPC && vpc != "" && it.parent != vpc {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "it is in the VPC %s, not in %s as spec.network.existing.network says", it.parent, vpc)
	}
	r := resource(k, &it)
	r.Key, r.Foreign = req.Step.Key, true
	return cloud.ResourceLook{Resource: r}, nil
}

// covers says that one range contains another.
func covers(outer, inner string) bool {
	o, err := netip.ParsePrefix(outer)
	if err != nil {
		return false
	}
	i, err := netip.ParsePrefix(inner)
	return err == nil && o.Bits() <= i.Bits() && o.Contains(i.Addr())
}

// lookForResource adopts, repairs and mends.
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
		return i.tags[tagKey] != req.Step.Key || parent != "" && i.parent != "" && i.parent != parent
	})
	slices.SortFunc(found, olderItem)
	keep := slices.IndexFunc(found, func(i item) bool { return elsewhere(req.Step, &i) == "" })
	for n := range found {
		if n == keep {
			continue
		}
		p.log.WarnContext(ctx, "removing a resource that should not be", "kind", k.name, "id", found[n].id, "cluster", req.Owner.Cluster.Name)
		if err := k.remove(ctx, &found[n]); err != nil {
			return look, err
		}
		look.Removed++
	}
	switch {
	case keep >= 0:
		if k.mend != nil && !req.Doomed {
			if err := k.mend(ctx, req, &found[keep]); err != nil {
				return look, err
			}
		}
		look.Resource = resource(k, &found[keep])
	case len(found) > 0:
		return look, fault.New(fault.Conflict, "look for "+req.Step.Title, "%s; its deletion was asked for", elsewhere(req.Step, &found[0]))
	}
	return look, nil
}

func resourceTags(k kind, req cloud.EnsureResourceRequest) map[string]string {
	tags := identity(req.Owner, req.Step.Name)
	tags[tagKind], tags[tagKey], tags[tagMade] = k.name, req.Step.Key, time.Now().UTC().Format(time.RFC3339Nano)
	return tags
}

func resource(k kind, i *item) *cloud.Resource {
	r := &cloud.Resource{
		Kind: k.name, Key: i.tags[tagKey], Name: i.name, ID: i.id, Parent: i.parent,
		Ready: i.ready, State: i.state, Attributes: i.attributes, Machine: i.machine,
	}
	if k.name == kindSubnet {
		r.Zone = i.zone
	}
	return r
}

// items lists everything of a kind that carries the owner's tags.
func (p *Provider) items(ctx context.Context, k kind, owner cloud.Owner) ([]item, error) {
	if owner.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "list "+k.name+"s", "the owner has no cluster uid")
	}
	found, err := k.list(ctx, owner)
	if err != nil || owner.Group == "" {
		return found, err
	}
	return slices.DeleteFunc(found, func(i item) bool { return i.tags[cluster.TagGroup] != owner.Group }), nil
}

// read reads one item. What is only not visible is NotYet.
func (p *Provider) read(ctx context.Context, k kind, id string) (item, error) {
	i, err := k.get(ctx, id)
	if k.lags && fault.Is(err, fault.NotFound) {
		return i, p.seen.absent("read "+k.name, id)
	}
	return i, err
}

// GetResource implements cloud.Infrastructure. A resource that is only not
// visible is NotYet.
func (p *Provider) GetResource(ctx context.Context, r cloud.Resource) (cloud.Resource, error) {
	k, err := p.kind(r.Kind)
	if err != nil {
		return r, err
	}
	i, err := p.read(ctx, k, r.ID)
	if err != nil {
		return r, err
	}
	now := resource(k, &i)
	now.Key, now.Foreign = r.Key, r.Foreign
	return *now, nil
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
		for n := range found {
			out = append(out, *resource(k, &found[n]))
		}
	}
	return out, nil
}

// DeleteResource implements cloud.Infrastructure. What does not carry the
// resource's own tags is refused as Unsafe; what others still stand on is a
// Conflict, until they are gone.
func (p *Provider) DeleteResource(ctx context.Context, r cloud.Resource) (bool, error) {
	op := "delete " + r.Kind
	if r.Foreign {
		return false, fault.New(fault.Unsafe, op, "%s was brought along", r.ID)
	}
	k, err := p.kind(r.Kind)
	if err != nil {
		return false, err
	}
	i, err := p.read(ctx, k, r.ID)
	if err == nil && k.tags != nil {
		i.tags, err = k.tags(ctx, r.ID)
	}
	if fault.Is(err, fault.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if i.tags[tagCluster] == "" || i.tags[tagKey] != r.Key {
		return false, fault.New(fault.Unsafe, op, "%s does not carry the tags of %q", r.ID, r.Key)
	}
	if err := k.remove(ctx, &i); err != nil {
		return false, err
	}
	if k.lags {
		// The cloud has confirmed it, so from now on missing is gone.
		p.seen.deleted(r.ID)
	}
	if _, err := p.read(ctx, k, r.ID); !fault.Is(err, fault.NotFound) {
		return false, err
	}
	return true, nil
}
