package cloudtest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// adopter returns the account of a cloud whose machines can be adopted, and
// three machines that somebody made by hand for a group.
func adopter(t *testing.T, w Cloud) (cloud.Adopter, cloud.AdoptRequest, []string, bool) {
	t.Helper()
	a, ok := w.Open(t).(cloud.Adopter)
	if !ok {
		return nil, cloud.AdoptRequest{}, nil, false
	}
	req := cloud.AdoptRequest{Owner: owner("u1"), Role: cluster.RoleWorker, Tag: cluster.Tag{Key: "pool", Value: "workers"}}
	var ids []string
	for range 3 {
		ids = append(ids, w.Foreign(t, []cluster.Tag{req.Tag, {Key: "team", Value: "infra"}}))
	}
	slices.Sort(ids)
	return a, req, ids, true
}

func adoptAll(t *testing.T, w Cloud, req cloud.AdoptRequest) []cloud.Machine {
	t.Helper()
	var have []cloud.Machine
	until(t, "AdoptMachines", func() (bool, error) {
		a, ok := w.Open(t).(cloud.Adopter)
		if !ok {
			t.Fatal("a second provider cannot adopt")
		}
		var err error
		have, err = a.AdoptMachines(t.Context(), req)
		return err == nil, err
	})
	return have
}

func cloudIDs(ms []cloud.Machine) []string {
	out := []string{}
	for _, m := range ms {
		out = append(out, m.Ref.Cloud)
	}
	slices.Sort(out)
	return out
}

func testAdoptForeign(t *testing.T, w Cloud) {
	_, req, ids, ok := adopter(t, w)
	if !ok {
		return
	}
	p := w.Open(t)
	// Neither other tags nor another's machines are touched.
	plain := w.Foreign(t, []cluster.Tag{{Key: "pool", Value: "others"}})
	half := w.Foreign(t, []cluster.Tag{req.Tag})
	req.Also = []cluster.Tag{{Key: "team", Value: "infra"}}
	theirs := w.Machine(owner("u2"), "m1")
	theirs.Tags = []cluster.Tag{req.Tag}
	other := create(t, w, theirs)
	own := create(t, w, w.Machine(req.Owner, "m2"))

	before := w.WriteRequests()
	first := adoptAll(t, w, req)
	if n := w.WriteRequests() - before; n != len(ids) {
		t.Errorf("%d writes for %d machines", n, len(ids))
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(slices.Clone(ids), own.Ref.Cloud))), cloudIDs(first)); diff != "" {
		t.Errorf("machines of the owner (-want +got):\n%s", diff)
	}
	seen := map[string]bool{}
	for _, m := range first {
		if m.Ref.Owner != req.Owner || m.Role != req.Role || m.Ref.ID == "" || m.ProviderID != p.Capabilities().ProviderIDPrefix+m.Ref.Cloud || seen[m.Ref.ID] {
			t.Errorf("adopted %+v", m)
		}
		seen[m.Ref.ID] = true
	}
	before = w.WriteRequests()
	if diff := cmp.Diff(stateless(first), stateless(adoptAll(t, w, req))); diff != "" {
		t.Errorf("adopting again changes machines (-first +second):\n%s", diff)
	}
	if n := w.WriteRequests() - before; n != 0 {
		t.Errorf("adopting again made %d writes", n)
	}
	if m, err := p.GetMachine(t.Context(), other.Ref); err != nil || m.Ref != other.Ref {
		t.Errorf("the machine of another cluster became %+v, %v", m, err)
	}
	for uid, want := range map[string]int{"u1": 4, "u2": 1} {
		wantBooks(t, w, uid, "machine", want)
	}
	// From now on they are machines like any other.
	for _, m := range first {
		remove(t, p, m.Ref)
	}
	wantBooks(t, w, "u1", "machine", 0)
	wantBooks(t, w, "u2", "machine", 1)
	if w.Zone(plain) == "" || w.Zone(half) == "" {
		t.Error("a machine that does not carry the tags is gone")
	}
}

// testAdoptionFaults lets every write and every list fail once, each in all
// ways: in the end each machine has one identity, and none was made or deleted.
func testAdoptionFaults(t *testing.T, w Cloud) {
	_, req, ids, ok := adopter(t, w)
	if !ok {
		return
	}
	for _, f := range []Fault{
		{On: ListMachines, Effect: Maintenance},
		{On: ListMachines, Effect: Throttled},
		{On: Write, Effect: Dropped},
		{On: Write, Effect: LostReply},
		{On: Write, Nth: 2, Effect: ServerError},
		{On: Write, Effect: Unauthorized},
	} {
		w.Inject(t, f)
	}
	have := adoptAll(t, w, req)
	w.Heal()
	if diff := cmp.Diff(ids, cloudIDs(have)); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(machineRefs(have), machineRefs(adoptAll(t, w, req))); diff != "" {
		t.Errorf("identities changed (-first +second):\n%s", diff)
	}
	wantBooks(t, w, "u1", "machine", len(ids))
}

func testAdoptRefuses(t *testing.T, w Cloud) {
	a, req, _, ok := adopter(t, w)
	if !ok {
		return
	}
	for _, key := range []string{"", cluster.TagGroup, strings.ToUpper(cluster.TagMachine)} {
		bad := req
		bad.Tag.Key = key
		_, err := a.AdoptMachines(t.Context(), bad)
		wantKind(t, err, fault.Invalid)
	}
	ownerless := req
	ownerless.Owner.Group = ""
	_, err := a.AdoptMachines(t.Context(), ownerless)
	wantKind(t, err, fault.Internal)
	if n := w.WriteRequests(); n != 0 {
		t.Errorf("a refused request made %d writes", n)
	}
}

// stateless are machines without what passes by itself: a slow test sees them start.
func stateless(machines []cloud.Machine) []cloud.Machine {
	out := slices.Clone(machines)
	for i := range out {
		out[i].State = ""
	}
	return out
}

// machineRefs are the identities of machines; what state they are in changes.
func machineRefs(machines []cloud.Machine) []cloud.MachineRef {
	var out []cloud.MachineRef
	for _, m := range machines {
		out = append(out, m.Ref)
	}
	return out
}
