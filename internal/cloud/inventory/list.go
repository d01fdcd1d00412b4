package inventory

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// items lists everything of a kind that carries the owner's tags.
func (v *Inventory[D]) items(ctx context.Context, k Kind[D], owner cloud.Owner) ([]Item[D], error) {
	if owner.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "list "+k.Name+"s", "the owner has no cluster uid")
	}
	found, err := k.List(ctx, owner)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(i Item[D]) bool { return !owner.Has(i.Tags) }), nil
}

// Read reads one item. What is only not visible is NotYet.
func (v *Inventory[D]) Read(ctx context.Context, k Kind[D], id string) (Item[D], error) {
	i, err := k.Get(ctx, id)
	if k.Lags && fault.Is(err, fault.NotFound) {
		return i, v.Absence.Absent("read "+k.Name, id)
	}
	return i, err
}

// GetResource implements cloud.Infrastructure. A resource that is only not
// visible is NotYet.
func (v *Inventory[D]) GetResource(ctx context.Context, r cloud.Resource) (cloud.Resource, error) {
	k, err := v.Kind(r.Kind)
	if err != nil {
		return r, err
	}
	i, err := v.Read(ctx, k, r.ID)
	if err != nil {
		return r, err
	}
	now := k.resource(&i)
	now.Key, now.Foreign = r.Key, r.Foreign
	return *now, nil
}

// ListResources implements cloud.Infrastructure.
func (v *Inventory[D]) ListResources(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	out := []cloud.Resource{}
	for _, k := range v.Kinds {
		found, err := v.items(ctx, k, owner)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(found, func(a, b Item[D]) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID)) })
		for n := range found {
			out = append(out, *k.resource(&found[n]))
		}
	}
	return out, nil
}

// DeleteResource implements cloud.Infrastructure. What does not carry the
// resource's own tags is refused as Unsafe; what others still stand on is a
// Conflict, until they are gone.
func (v *Inventory[D]) DeleteResource(ctx context.Context, r cloud.Resource) (bool, error) {
	op := "delete " + r.Kind
	if r.Foreign {
		return false, fault.New(fault.Unsafe, op, "%s was brought along", r.ID)
	}
	k, err := v.Kind(r.Kind)
	if err != nil {
		return false, err
	}
	i, err := v.Read(ctx, k, r.ID)
	if err == nil && k.Tags != nil {
		i.Tags, err = k.Tags(ctx, r.ID)
	}
	if fault.Is(err, fault.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if i.Tags[cluster.TagCluster] == "" || i.Tags[cluster.TagKey] != r.Key {
		return false, fault.New(fault.Unsafe, op, "%s does not carry the tags of %q", r.ID, r.Key)
	}
	if err := k.Remove(ctx, &i); err != nil {
		return false, err
	}
	if k.Lags {
		// The cloud has confirmed it, so from now on missing is gone.
		v.Absence.Deleted(r.ID)
	}
	if _, err := v.Read(ctx, k, r.ID); !fault.Is(err, fault.NotFound) {
		return false, err
	}
	return true, nil
}
