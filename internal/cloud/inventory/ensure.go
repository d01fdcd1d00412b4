package inventory

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Absence judges what reads of kinds that lag do not find.
type Absence interface {
	// Saw notes that a thing exists, and since when if that is known.
	Saw(id string, since time.Time)
	// Making notes that a thing may exist from now on.
	Making(id string)
	// Deleted notes that the cloud has confirmed that a thing is gone.
	Deleted(id string)
	// Absent is NotFound when that is proof, and otherwise NotYet.
	Absent(op, id string) error
}

// Inventory implements the part of cloud.Infrastructure that is the same for all
// kinds. It is safe for concurrent use.
type Inventory[D any] struct {
	// Cloud is its name in messages, and In where ids are looked for.
	Cloud, In string
	// Kinds are in the order of deletion: what stands on others first.
	Kinds []Kind[D]
	// Tags are those of a new resource, its key and kind included.
	Tags func(kind string, req cloud.EnsureResourceRequest) map[string]string
	// SendBy is until when a create that is begun now may be sent.
	SendBy func() time.Time
	// PlausibleID keeps nonsense out of requests.
	PlausibleID func(id string) bool
	// Fits compares the range of a network that was brought along with the spec's.
	Fits func(want, has string) bool
	// Absence is needed if a kind lags.
	Absence Absence
	// Pause is between two tries to mend what was made a moment ago.
	Pause time.Duration
	Log   *slog.Logger
}

// Kind returns the kind of a name. Error: Internal when there is none.
func (v *Inventory[D]) Kind(name string) (Kind[D], error) {
	i := slices.IndexFunc(v.Kinds, func(k Kind[D]) bool { return k.Name == name })
	if i < 0 {
		return Kind[D]{}, fault.New(fault.Internal, "find resource kind", "%s has no kind %q", v.Cloud, name)
	}
	return v.Kinds[i], nil
}

// EnsureResource implements cloud.Infrastructure. A resource is found as soon as
// it exists, and its settings are mended with every look, so a create whose
// settings could not be made is only unfinished: Ambiguous.
func (v *Inventory[D]) EnsureResource(ctx context.Context, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	sendBy := v.SendBy()
	k, err := v.Kind(req.Step.Kind)
	if err != nil {
		return cloud.ResourceLook{}, err
	}
	if req.Step.Param(ParamExisting) != "" {
		return v.existing(ctx, k, req)
	}
	look, err := v.look(ctx, k, req)
	if err != nil || look.Resource != nil || !req.Create {
		return look, err
	}
	op := "create " + req.Step.Title
	if k.Create == nil {
		return look, fault.New(fault.Internal, op, "a %s is never created", k.Name)
	}
	tags := v.Tags(k.Name, req)
	made, err := k.Create(ctx, req, tags, sendBy)
	if err != nil {
		return look, err
	}
	if !v.PlausibleID(made.ID) {
		return look, fault.New(fault.Ambiguous, op, "the cloud answered without an id")
	}
	if k.Lags {
		v.Absence.Making(made.ID)
		v.Absence.Saw(made.ID, made.Made)
	}
	made.Fresh = true
	if problem := cmp.Or(cloud.MissingTags(tags, made.Tags), elsewhere(req.Step, &made)); problem != "" {
		// Nobody may adopt it. If this fails, the next look deletes it.
		if err := k.Remove(ctx, &made); err != nil {
			v.Log.WarnContext(ctx, "a misplaced resource could not be deleted yet", "kind", k.Name, "id", made.ID, "error", err)
		}
		return look, fault.New(fault.Internal, op, "the cloud made something else: %s", problem)
	}
	if err := v.mendNew(ctx, k, req, &made); err != nil {
		// It exists: whoever asks again has to find it.
		return look, &fault.Error{Kind: fault.Ambiguous, Op: op, Message: made.ID + " was created, but: " + err.Error()}
	}
	return cloud.ResourceLook{Resource: k.resource(&made), Created: true}, nil
}

// mendTries are as many as usually pass before a cloud shows to one part of itself
// what another has just made.
const mendTries = 4

// mendNew mends what was made a moment ago and may not be visible yet.
func (v *Inventory[D]) mendNew(ctx context.Context, k Kind[D], req cloud.EnsureResourceRequest, made *Item[D]) error {
	if k.Mend == nil {
		return nil
	}
	for try := 1; ; try++ {
		err := k.Mend(ctx, req, made)
		if try == mendTries || !fault.Is(err, fault.NotYet) {
			return err
		}
		t := time.NewTimer(min(v.Pause, 2*time.Second))
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
	}
}

// existing checks a resource that the user brought along.
func (v *Inventory[D]) existing(ctx context.Context, k Kind[D], req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	op := "find " + req.Step.Title
	it, err := k.Get(ctx, req.Step.Param(ParamExisting))
	if fault.Is(err, fault.NotFound) {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "the account has no %s with this id%s", k.Name, v.In)
	}
	if err != nil {
		return cloud.ResourceLook{}, err
	}
	if zone := req.Step.Param(ParamZone); zone != "" && it.Zone != zone {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "it is in the zone %s, and the cluster is in %s", it.Zone, zone)
	}
	if want, has := req.Step.Param(ParamCIDR), it.Attribute(AttrCIDR); want != "" && !v.Fits(want, has) {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "its range is %s, and spec.network.existing.cidr says %s", has, want)
	}
	if within := cloud.IDOf(req.Have, k.Within); within != "" && it.Parent != within {
		return cloud.ResourceLook{}, fault.New(fault.Invalid, op, "it is in the %s %s, not in %s as the spec says", k.Within, it.Parent, within)
	}
	r := k.resource(&it)
	r.Key, r.Foreign = req.Step.Key, true
	return cloud.ResourceLook{Resource: r}, nil
}

// look adopts, repairs and mends.
func (v *Inventory[D]) look(ctx context.Context, k Kind[D], req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	var look cloud.ResourceLook
	found, err := v.items(ctx, k, req.Owner)
	if err != nil {
		return look, err
	}
	// What lives in a resource that is no longer ours to build on is as good as
	// gone: a repair deletes it together with that.
	parent := cloud.IDOf(req.Have, k.Within)
	found = slices.DeleteFunc(found, func(i Item[D]) bool {
		return i.Tags[cluster.TagKey] != req.Step.Key || parent != "" && i.Parent != "" && i.Parent != parent
	})
	slices.SortFunc(found, older[D])
	keep := slices.IndexFunc(found, func(i Item[D]) bool { return elsewhere(req.Step, &i) == "" })
	for n := range found {
		if n == keep {
			continue
		}
		v.Log.WarnContext(ctx, "removing a resource that should not be", "kind", k.Name, "id", found[n].ID, "cluster", req.Owner.Cluster.Name)
		if err := k.Remove(ctx, &found[n]); err != nil {
			return look, err
		}
		look.Removed++
	}
	switch {
	case keep >= 0:
		if k.Mend != nil && !req.Doomed {
			if err := k.Mend(ctx, req, &found[keep]); err != nil {
				return look, err
			}
		}
		look.Resource = k.resource(&found[keep])
	case len(found) > 0:
		return look, fault.New(fault.Conflict, "look for "+req.Step.Title, "%s; its deletion was asked for", elsewhere(req.Step, &found[0]))
	}
	return look, nil
}

// older orders duplicates: the first one stays.
func older[D any](a, b Item[D]) int {
	return cmp.Or(a.Made.Compare(b.Made), strings.Compare(a.ID, b.ID))
}

// elsewhere says that a resource is not where, or not what, its step wants. A
// step is frozen, so only the cloud can have got it wrong.
func elsewhere[D any](s cloud.Step, i *Item[D]) string {
	if want := s.Param(ParamZone); want != "" && i.Zone != "" && i.Zone != want {
		return fmt.Sprintf("%s %s is in zone %q instead of %q", s.Kind, i.ID, i.Zone, want)
	}
	if want, has := s.Param(ParamCIDR), i.Attribute(AttrCIDR); want != "" && has != "" && has != want {
		return fmt.Sprintf("%s %s has the range %s instead of %s", s.Kind, i.ID, has, want)
	}
	return ""
}

func (k *Kind[D]) resource(i *Item[D]) *cloud.Resource {
	r := &cloud.Resource{
		Kind: k.Name, Key: i.Tags[cluster.TagKey], Name: i.Name, ID: i.ID, Parent: i.Parent,
		Ready: i.Ready, State: i.State, Attributes: i.Attributes, Machine: i.Machine,
	}
	if k.Zonal {
		r.Zone = i.Zone
	}
	return r
}
