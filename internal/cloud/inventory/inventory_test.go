package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

type (
	thing = Item[int]
	shelf struct {
		*Inventory[int]
		things map[string]thing
		// bend changes what a create makes, and fails what it returns an error for.
		bend func(*thing) error
		// mended counts the calls that mended something.
		mended, next int
		unmendable   error
	}
)

var (
	demo  = cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}}
	epoch = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
)

// newShelf is a cloud with one kind, whose settings are right when Detail is 1.
func newShelf() *shelf {
	s := &shelf{things: map[string]thing{}}
	s.Inventory = &Inventory[int]{
		Cloud: "the shelf", In: " on the shelf",
		Tags: func(kind string, req cloud.EnsureResourceRequest) map[string]string {
			tags := req.Owner.Tags()
			tags[cluster.TagKind], tags[cluster.TagKey] = kind, req.Step.Key
			return tags
		},
		SendBy: time.Now, PlausibleID: func(id string) bool { return id != "" }, Fits: Covers, Log: slog.New(slog.DiscardHandler),
	}
	s.Kinds = []Kind[int]{{
		Name: "box", Within: "room", Zonal: true,
		List: func(context.Context, cloud.Owner) ([]thing, error) { return slices.Collect(maps.Values(s.things)), nil },
		Get: func(_ context.Context, id string) (thing, error) {
			i, ok := s.things[id]
			if !ok {
				return i, fault.New(fault.NotFound, "read box", "there is no %s", id)
			}
			return i, nil
		},
		Create: func(_ context.Context, req cloud.EnsureResourceRequest, tags map[string]string, _ time.Time) (thing, error) {
			s.next++
			i := thing{ID: fmt.Sprint("made-", s.next), Zone: req.Step.Param(ParamZone), Tags: tags, Made: epoch}
			if s.bend != nil {
				if err := s.bend(&i); err != nil {
					return thing{}, err
				}
			}
			s.things[i.ID] = i
			return i, nil
		},
		Mend: func(_ context.Context, _ cloud.EnsureResourceRequest, i *thing) error {
			if i.Detail == 1 || s.unmendable != nil {
				return s.unmendable
			}
			s.mended++
			i.Detail = 1
			s.things[i.ID] = *i
			return nil
		},
		Remove: func(_ context.Context, i *thing) error { delete(s.things, i.ID); return nil },
	}}
	return s
}

func (s *shelf) put(id, zone string, made time.Time, change ...func(*thing)) {
	i := thing{ID: id, Zone: zone, Made: made, Tags: demo.Tags()}
	i.Tags[cluster.TagKind], i.Tags[cluster.TagKey] = "box", "a"
	for _, c := range change {
		c(&i)
	}
	s.things[id] = i
}

var (
	stepA   = Step("box", "a", "a", "box a", cluster.Tag{Key: ParamZone, Value: "z1"})
	request = cloud.EnsureResourceRequest{Owner: demo, Step: stepA, Create: true}
)

func TestEnsure(t *testing.T) {
	for _, tc := range []struct {
		name    string
		before  func(*shelf)
		change  func(*cloud.EnsureResourceRequest)
		id      string
		kind    fault.Kind
		created bool
		removed int
		left    []string
	}{
		{name: "nothing there", id: "made-1", created: true, left: []string{"made-1"}},
		{name: "nothing there, and only a look", change: func(r *cloud.EnsureResourceRequest) { r.Create = false }},
		{name: "there already", before: func(s *shelf) { s.put("x", "z1", epoch) }, id: "x", left: []string{"x"}},
		{
			name: "several: the oldest stays", id: "y", removed: 2, left: []string{"y"},
			before: func(s *shelf) {
				s.put("x", "z1", epoch.Add(time.Hour))
				s.put("y", "z1", epoch)
				s.put("z", "z1", epoch)
			},
		},
		{name: "elsewhere", before: func(s *shelf) { s.put("x", "z2", epoch) }, kind: fault.Conflict, removed: 1},
		{
			name: "of another cluster, and of another key", id: "made-1", created: true, left: []string{"made-1", "x", "y"},
			before: func(s *shelf) {
				s.put("x", "z1", epoch, func(i *thing) { i.Tags[cluster.TagCluster] = "u2" })
				s.put("y", "z1", epoch, func(i *thing) { i.Tags[cluster.TagKey] = "b" })
			},
		},
		{
			name: "in what is not built on any more", id: "made-1", created: true, left: []string{"made-1", "x"},
			before: func(s *shelf) { s.put("x", "z1", epoch, func(i *thing) { i.Parent = "old" }) },
			change: func(r *cloud.EnsureResourceRequest) { r.Have = []cloud.Resource{{Kind: "room", ID: "new"}} },
		},
		{name: "made elsewhere", before: func(s *shelf) { s.bend = func(i *thing) error { i.Zone = "z2"; return nil } }, kind: fault.Internal},
		{name: "made without an identity", before: func(s *shelf) { s.bend = func(i *thing) error { i.Tags = nil; return nil } }, kind: fault.Internal},
		{name: "refused", before: func(s *shelf) { s.bend = func(*thing) error { return fault.New(fault.Quota, "create", "full") } }, kind: fault.Quota},
		{name: "made, and its settings refused", before: func(s *shelf) { s.unmendable = fault.New(fault.Invalid, "mend", "no") }, kind: fault.Ambiguous, left: []string{"made-1"}},
		{
			name: "to be deleted, whatever its settings", id: "x", left: []string{"x"},
			before: func(s *shelf) { s.put("x", "z1", epoch); s.unmendable = fault.New(fault.Invalid, "mend", "no") },
			change: func(r *cloud.EnsureResourceRequest) { r.Create, r.Doomed = false, true },
		},
		{name: "of no kind", change: func(r *cloud.EnsureResourceRequest) { r.Step.Kind = "bag" }, kind: fault.Internal},
		{name: "of nobody", change: func(r *cloud.EnsureResourceRequest) { r.Owner = cloud.Owner{} }, kind: fault.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, req := newShelf(), request
			if tc.before != nil {
				tc.before(s)
			}
			if tc.change != nil {
				tc.change(&req)
			}
			look, err := s.EnsureResource(t.Context(), req)
			if fault.KindOf(err) != tc.kind {
				t.Errorf("error %v of kind %q, want %q", err, fault.KindOf(err), tc.kind)
			}
			id := ""
			if look.Resource != nil {
				id = look.Resource.ID
			}
			if id != tc.id || look.Created != tc.created || look.Removed != tc.removed {
				t.Errorf("%q, created %t, removed %d; want %q, %t, %d", id, look.Created, look.Removed, tc.id, tc.created, tc.removed)
			}
			if diff := cmp.Diff(tc.left, slices.Sorted(maps.Keys(s.things))); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if i, ok := s.things[tc.id]; ok && !req.Doomed && i.Detail != 1 {
				t.Error("its settings are not what the step wants")
			}
		})
	}
}

func TestExisting(t *testing.T) {
	for name, tc := range map[string]struct {
		params []cluster.Tag
		have   []cloud.Resource
		want   fault.Kind
	}{
		"fits":         {[]cluster.Tag{{Key: ParamZone, Value: "z1"}, {Key: ParamCIDR, Value: "10.0.0.0/16"}}, []cloud.Resource{{Kind: "room", ID: "r"}}, ""},
		"not there":    {[]cluster.Tag{{Key: ParamExisting, Value: "nobody"}}, nil, fault.Invalid},
		"another zone": {[]cluster.Tag{{Key: ParamZone, Value: "z2"}}, nil, fault.Invalid},
		"wider":        {[]cluster.Tag{{Key: ParamCIDR, Value: "10.0.0.0/25"}}, nil, fault.Invalid},
		"another room": {nil, []cloud.Resource{{Kind: "room", ID: "q"}}, fault.Invalid},
	} {
		s := newShelf()
		s.put("x", "z1", epoch, func(i *thing) {
			i.Tags, i.Parent, i.Attributes = nil, "r", []cluster.Tag{{Key: AttrCIDR, Value: "10.0.0.0/24"}}
		})
		if len(tc.params) == 0 || tc.params[0].Key != ParamExisting {
			tc.params = append(tc.params, cluster.Tag{Key: ParamExisting, Value: "x"})
		}
		look, err := s.EnsureResource(t.Context(), cloud.EnsureResourceRequest{Owner: demo, Have: tc.have, Step: Step("box", "a", "x", "existing box x", tc.params...)})
		if fault.KindOf(err) != tc.want {
			t.Errorf("%s: %v of kind %q, want %q", name, err, fault.KindOf(err), tc.want)
		}
		if err == nil && (!look.Resource.Foreign || look.Resource.Key != "a") {
			t.Errorf("%s: %+v", name, look.Resource)
		}
		if s.mended != 0 {
			t.Errorf("%s: what was brought along is changed", name)
		}
	}
}

func TestDelete(t *testing.T) {
	mine := cloud.Resource{Kind: "box", Key: "a", ID: "x"}
	for name, tc := range map[string]struct {
		r    cloud.Resource
		gone bool
		want fault.Kind
		left int
	}{
		"mine":            {mine, true, "", 0},
		"absent":          {cloud.Resource{Kind: "box", Key: "a", ID: "y"}, true, "", 1},
		"brought along":   {cloud.Resource{Kind: "box", Key: "a", ID: "x", Foreign: true}, false, fault.Unsafe, 1},
		"of another step": {cloud.Resource{Kind: "box", Key: "b", ID: "x"}, false, fault.Unsafe, 1},
	} {
		s := newShelf()
		s.put("x", "z1", epoch)
		gone, err := s.DeleteResource(t.Context(), tc.r)
		if gone != tc.gone || fault.KindOf(err) != tc.want || len(s.things) != tc.left {
			t.Errorf("%s: %t, %v of kind %q, %d left; want %t, %q, %d", name, gone, err, fault.KindOf(err), len(s.things), tc.gone, tc.want, tc.left)
		}
	}
}

func TestListAndGet(t *testing.T) {
	s := newShelf()
	s.put("x", "z1", epoch, func(i *thing) { i.Name = "b" })
	s.put("y", "z1", epoch, func(i *thing) { i.Name = "a" })
	s.put("z", "z1", epoch, func(i *thing) { i.Tags[cluster.TagCluster] = "u2" })
	list, err := s.ListResources(t.Context(), demo)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		got = append(got, r.ID+" "+r.Zone)
	}
	if diff := cmp.Diff([]string{"y z1", "x z1"}, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	if r, err := s.GetResource(t.Context(), cloud.Resource{Kind: "box", ID: "x", Key: "mine", Foreign: true}); err != nil || r.Key != "mine" || !r.Foreign || r.Name != "b" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := s.GetResource(t.Context(), cloud.Resource{Kind: "box", ID: "nobody"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an absent one: %v", err)
	}
}
