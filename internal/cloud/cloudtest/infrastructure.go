package cloudtest

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// infrastructure returns the part of the provider under test. A provider without
// one passes: it promises nothing.
func infrastructure(t *testing.T, w Cloud) (cloud.Infrastructure, bool) {
	t.Helper()
	i, ok := w.Open(t).(cloud.Infrastructure)
	return i, ok
}

func clusterOwner(uid string) cloud.Owner {
	return cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: uid}}
}

func ensureResource(p cloud.Infrastructure, req cloud.EnsureResourceRequest) func(context.Context, bool) (*cloud.Resource, error) {
	return func(ctx context.Context, create bool) (*cloud.Resource, error) {
		req.Create = create
		look, err := p.EnsureResource(ctx, req)
		return look.Resource, err
	}
}

// build drives every step of a plan and waits for what it makes.
func build(t *testing.T, w Cloud, o cloud.Owner) ([]cloud.Step, []cloud.Resource) {
	t.Helper()
	return buildWith(t, w, o, func(cloud.Step) {})
}

func buildWith(t *testing.T, w Cloud, o cloud.Owner, before func(cloud.Step)) ([]cloud.Step, []cloud.Resource) {
	t.Helper()
	p, _ := infrastructure(t, w)
	steps, err := p.PlanInfrastructure(w.Infrastructure(o))
	if err != nil {
		t.Fatal(err)
	}
	var have []cloud.Resource
	for _, s := range steps {
		before(s)
		r, err := drive(t.Context(), settings(t, w), ensureResource(p, cloud.EnsureResourceRequest{Owner: o, Step: s, Have: have}))
		if err != nil {
			t.Fatalf("%s: %v", s.Title, err)
		}
		if r.Kind != s.Kind || r.Key != s.Key || r.ID == "" {
			t.Errorf("%s: got %+v", s.Title, r)
		}
		until(t, s.Title, func() (bool, error) {
			now, err := p.GetResource(t.Context(), *r)
			if err == nil {
				*r = now
			}
			return now.Ready, err
		})
		have = append(have, *r)
	}
	return steps, have
}

// tearDown deletes all that is listed and proves that nothing remains.
func tearDown(t *testing.T, w Cloud, o cloud.Owner) {
	t.Helper()
	p, _ := infrastructure(t, w)
	list, err := p.ListResources(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		until(t, "delete "+r.Kind+" "+r.Name, func() (bool, error) { return p.DeleteResource(t.Context(), r) })
	}
	for _, r := range list { // absent is gone
		if gone, err := p.DeleteResource(t.Context(), r); !gone || err != nil {
			t.Errorf("delete of %s, which is gone, = %t, %v", r.Kind, gone, err)
		}
	}
	if left, err := p.ListResources(t.Context(), o); err != nil || len(left) != 0 {
		t.Errorf("after deleting everything: %+v, %v", left, err)
	}
	if books := w.Books(o.Cluster.UID); total(books) != 0 {
		t.Errorf("the cloud still has %v", books)
	}
}

func total(books map[string]int) (n int) {
	for _, c := range books {
		n += c
	}
	return n
}

func testInfrastructure(t *testing.T, w Cloud) {
	p, ok := infrastructure(t, w)
	if !ok {
		return
	}
	o, other := clusterOwner("u1"), clusterOwner("u2")
	steps, have := build(t, w, o)
	build(t, w, other) // of the same name
	again, err := p.PlanInfrastructure(w.Infrastructure(o))
	if diff := cmp.Diff(steps, again); diff != "" || err != nil {
		t.Errorf("a second plan differs (%v):\n%s", err, diff)
	}
	keys := map[string]bool{}
	for i, s := range steps {
		if keys[s.Key] {
			t.Errorf("key %q twice", s.Key)
		}
		keys[s.Key] = true
		until(t, s.Title+" again", func() (bool, error) { // the cloud may lag
			look, err := p.EnsureResource(t.Context(), cloud.EnsureResourceRequest{Owner: o, Step: s, Have: have[:i]})
			return look.Resource != nil, err
		})
		look, err := p.EnsureResource(t.Context(), cloud.EnsureResourceRequest{Owner: o, Step: s, Have: have[:i], Create: true})
		if err != nil || look.Created || look.Resource == nil || look.Resource.ID != have[i].ID {
			t.Errorf("%s again: %+v, %v; want %s adopted", s.Title, look, err, have[i].ID)
		}
	}
	if p.EndpointHost(have) == "" {
		t.Error("the load balancer has no address")
	}
	if p.EndpointHost(nil) != "" {
		t.Error("an endpoint out of nothing")
	}
	spec := attach(w.Machine(owner("u1"), "m1"), have)
	if settings(t, w).SpreadLimit > 0 {
		spec.PlacementGroup = place(t, w, p, spec)
	}
	m := create(t, w, spec)
	if m.Private == "" {
		t.Error("a machine in a private subnet has no private address")
	}
	remove(t, w.Open(t), m.Ref)
	tearDown(t, w, o)
	if n := total(w.Books("u2")); n != len(steps) {
		t.Errorf("the other cluster has %d resources, want %d", n, len(steps))
	}
}

// place makes the placement groups of two shards of a machine's group and returns
// the first one.
func place(t *testing.T, w Cloud, p cloud.Infrastructure, m cloud.MachineSpec) string {
	t.Helper()
	var ids []string
	for shard := range 2 {
		s, err := p.PlacementStep(m.Owner, m.Zone, shard)
		if err != nil {
			t.Fatal(err)
		}
		r, err := drive(t.Context(), settings(t, w), ensureResource(p, cloud.EnsureResourceRequest{Owner: m.Owner, Step: s}))
		if err != nil || slices.Contains(ids, r.ID) {
			t.Fatalf("shard %d is %+v, %v; others are %v", shard, r, err, ids)
		}
		ids = append(ids, r.ID)
	}
	return ids[0]
}

// testInfrastructureLost breaks the first create of every step.
func testInfrastructureLost(t *testing.T, w Cloud) {
	if _, ok := infrastructure(t, w); !ok {
		return
	}
	o := clusterOwner("u1")
	for _, e := range []Effect{LostReply, Dropped} {
		steps, _ := buildWith(t, w, o, func(cloud.Step) {
			w.Heal()
			w.Inject(t, Fault{On: CreateResource, Effect: e})
		})
		if w.Fired() != 1 {
			t.Errorf("%s: the last step met no fault", e)
		}
		w.Heal()
		if n := total(w.Books("u1")); n != len(steps) {
			t.Errorf("%s: the cloud has %v, want %d resources", e, w.Books("u1"), len(steps))
		}
		tearDown(t, w, o)
	}
}

// testForeign proves that what was brought along is used and survives.
func testForeign(t *testing.T, w Cloud) {
	p, ok := infrastructure(t, w)
	if !ok {
		return
	}
	_, theirs := build(t, w, clusterOwner("u2"))
	i := slices.IndexFunc(theirs, func(r cloud.Resource) bool { return r.Kind == cloud.KindSubnet })
	o := clusterOwner("u1")
	spec := w.Infrastructure(o)
	spec.Existing = &cluster.ExistingNetwork{Network: theirs[i].Parent, Subnet: theirs[i].ID, CIDR: spec.CIDR}
	spec.CIDR, spec.LoadBalancer = "", nil
	if theirs[i].Zone != "" { // one subnet serves one zone
		spec.Zone, spec.Zones = theirs[i].Zone, nil
	}
	steps, err := p.PlanInfrastructure(spec)
	if err != nil {
		t.Fatal(err)
	}
	var have, own []cloud.Resource
	for _, s := range steps {
		r, err := drive(t.Context(), settings(t, w), ensureResource(p, cloud.EnsureResourceRequest{Owner: o, Step: s, Have: have}))
		if err != nil {
			t.Fatalf("%s: %v", s.Title, err)
		}
		have = append(have, *r)
		if !r.Foreign { // something beside the network, for example a firewall
			own = append(own, *r)
			continue
		}
		if gone, err := p.DeleteResource(t.Context(), *r); gone || err == nil {
			t.Errorf("delete of a foreign %s = %t, %v", s.Kind, gone, err)
		}
		// Not even when somebody forgot what it is.
		bare := *r
		bare.Foreign, bare.Key = false, "something"
		if gone, err := p.DeleteResource(t.Context(), bare); gone || !fault.Is(err, fault.Unsafe) {
			t.Errorf("delete of somebody else's %s = %t, %v", s.Kind, gone, err)
		}
	}
	if !slices.ContainsFunc(have, func(r cloud.Resource) bool { return r.Kind == cloud.KindSubnet && r.Foreign && r.ID == theirs[i].ID }) {
		t.Errorf("the subnet that was brought along is not among %+v", have)
	}
	until(t, "the list of resources", func() (bool, error) {
		list, err := p.ListResources(t.Context(), o)
		for _, r := range list {
			if !slices.ContainsFunc(own, func(x cloud.Resource) bool { return x.ID == r.ID }) {
				t.Fatalf("a foreign %s is listed as ours: %+v", r.Kind, r)
			}
		}
		return len(list) == len(own), err
	})
	before := len(theirs)
	tearDown(t, w, o)
	if n := total(w.Books("u2")); n != before {
		t.Errorf("the owner of the network has %d resources left of %d", n, before)
	}
}

func testMembers(t *testing.T, w Cloud) {
	p, ok := infrastructure(t, w)
	if !ok {
		return
	}
	o := clusterOwner("u1")
	_, have := build(t, w, o)
	req := cloud.SyncMembersRequest{Owner: o, Have: have}
	var members []cloud.Member
	for _, id := range []string{"c1", "c2", "c3"} {
		m := create(t, w, attach(w.Machine(owner("u1"), id), have))
		members = append(members, cloud.Member{MachineID: id, Name: m.Name, Address: m.Private})
	}
	sync := func(want []cloud.Member) {
		t.Helper()
		req.Members = want
		var st cloud.MembersStatus
		until(t, "SyncMembers", func() (bool, error) {
			var err error
			st, err = w.Open(t).(cloud.Infrastructure).SyncMembers(t.Context(), req)
			return err == nil, err
		})
		if st.Total != len(want) || st.Healthy > st.Total {
			t.Errorf("members %+v, want %d", st, len(want))
		}
		if n := w.Books("u1")["member"]; n != len(want) {
			t.Errorf("the cloud has %d members, want %d", n, len(want))
		}
	}
	sync(members[:1])
	sync(members)
	before := w.WriteRequests()
	sync(members)
	if n := w.WriteRequests() - before; n != 0 {
		t.Errorf("a sync without a change made %d writes", n)
	}
	for _, e := range []Effect{LostReply, Dropped, ServerError} {
		w.Inject(t, Fault{On: Write, Effect: e})
		sync(members[1:])
		w.Heal()
		w.Inject(t, Fault{On: Write, Effect: e})
		sync(members)
		w.Heal()
	}
	sync(nil)
	sync(members[:2])
	for _, m := range members {
		remove(t, w.Open(t), cloud.MachineRef{Owner: owner("u1"), ID: m.MachineID})
	}
	tearDown(t, w, o)
	req.Members = nil
	if _, err := p.SyncMembers(t.Context(), req); err != nil {
		t.Errorf("no members in an endpoint that is gone: %v", err)
	}
	req.Members = members
	_, err := p.SyncMembers(t.Context(), req)
	wantKind(t, err, fault.NotFound)
}
