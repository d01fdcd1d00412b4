package cloudtest

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func testCapabilities(t *testing.T, w Cloud) {
	c := settings(t, w)
	for name, ok := range map[string]bool{
		"Idempotency":      slices.Contains([]cloud.IdempotencyMode{cloud.NativeToken, cloud.UniqueName, cloud.TagScan}, c.Idempotency),
		"Settle":           c.Settle > 0,
		"AbsenceWindow":    c.AbsenceWindow > 0,
		"CreateTimeout":    c.CreateTimeout > 0,
		"PostWindow":       c.PostWindow > 0,
		"Poll":             c.Poll > 0,
		"UserDataMax":      c.UserDataMax >= 4096,
		"ProviderIDPrefix": strings.HasSuffix(c.ProviderIDPrefix, "://") || strings.HasSuffix(c.ProviderIDPrefix, ":///"),
		"TalosPlatform":    c.TalosPlatform != "",
		"ImageFormat":      c.ImageFormat != "",
	} {
		if !ok {
			t.Errorf("%s makes no sense: %+v", name, c)
		}
	}
}

func testFlavors(t *testing.T, w Cloud) {
	fs, err := w.Open(t).Flavors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(fs, func(a, b cloud.Flavor) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("flavors are not sorted by name")
	}
	want := w.Machine(owner("u1"), "m1").Flavor
	if !slices.ContainsFunc(fs, func(f cloud.Flavor) bool { return f.Name == want }) {
		t.Errorf("flavor %q is not listed", want)
	}
	for _, f := range fs {
		if f.VCPUs <= 0 || f.MemoryMiB < 512 || f.Arch != "amd64" && f.Arch != "arm64" {
			t.Errorf("flavor %+v makes no sense", f)
		}
	}
}

func testAdopt(t *testing.T, w Cloud) {
	spec := w.Machine(owner("u1"), "m1")
	p := w.Open(t)
	create(t, w, w.Machine(owner("u0"), "m0")) // what machines stand on is visible from here on
	first, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: spec, UserData: w.UserData(), Create: true})
	if err != nil || first.Machine == nil || !first.Created {
		t.Fatalf("first EnsureMachine = %+v, %v", first, err)
	}
	m := *first.Machine
	want := cloud.Machine{
		Ref:  cloud.MachineRef{Owner: spec.Owner, ID: spec.ID, Cloud: m.Ref.Cloud},
		Name: spec.Name, ProviderID: m.ProviderID, Role: spec.Role,
		Zone: spec.Zone, Flavor: spec.Flavor, ImageID: spec.ImageID,
		State: m.State, Public: m.Public, Private: m.Private, CreatedAt: m.CreatedAt,
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("machine (-want +got):\n%s", diff)
	}
	if m.Ref.Cloud == "" || m.CreatedAt.IsZero() {
		t.Errorf("machine without id or time: %+v", m)
	}
	// What stands between is the cloud's own, for example the zone.
	if !strings.HasPrefix(m.ProviderID, p.Capabilities().ProviderIDPrefix) || !strings.HasSuffix(m.ProviderID, m.Ref.Cloud) {
		t.Errorf("provider id %q of %q", m.ProviderID, m.Ref.Cloud)
	}
	listed(t, w, spec.Owner, 1)
	again, err := w.Open(t).EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: spec, UserData: w.UserData(), Create: true})
	if err != nil || again.Machine == nil || again.Created || again.Machine.Ref != m.Ref {
		t.Fatalf("second EnsureMachine = %+v, %v; want %s adopted", again, err, m.Ref.Cloud)
	}
	wantBooks(t, w, "u1", "machine", 1)
	until(t, "the machine runs", func() (bool, error) {
		now, err := p.GetMachine(t.Context(), m.Ref)
		return now.State == cloud.MachineRunning && now.Public+now.Private != "", err
	})
}

func testLook(t *testing.T, w Cloud) {
	look, err := w.Open(t).EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: w.Machine(owner("u1"), "m1")})
	if err != nil || look.Machine != nil {
		t.Fatalf("look at nothing = %+v, %v", look, err)
	}
	if n := w.WriteRequests(); n != 0 {
		t.Errorf("a look made %d writes", n)
	}
}

func testOneRequest(t *testing.T, w Cloud) {
	for _, e := range []Effect{LostReply, Dropped, Maintenance, ServerError, Throttled} {
		w.Inject(t, Fault{On: CreateMachine, Count: -1, Effect: e})
		before := w.WriteRequests()
		_, err := ensureMachine(w.Open(t), w, w.Machine(owner("u1"), "m-"+strings.ReplaceAll(string(e), " ", "-")))(t.Context(), true)
		if err == nil {
			t.Errorf("%s: no error", e)
		}
		if n := w.WriteRequests() - before; n != 1 {
			t.Errorf("%s: %d create requests in one call", e, n)
		}
		w.Heal()
	}
}

func testRepair(t *testing.T, w Cloud) {
	spec := w.Machine(owner("u1"), "m1")
	oldest := create(t, w, spec)
	if settings(t, w).Idempotency == cloud.UniqueName {
		wantRefused(t, w, spec, oldest)
		return
	}
	for n := range 2 {
		w.Inject(t, Fault{On: ListMachines, Effect: Stale})
		twin := spec
		twin.Attempt = n + 1 // where the cloud deduplicates, only this makes a second one
		create(t, w, twin)
		w.Heal()
	}
	wantBooks(t, w, "u1", "machine", 3)
	listed(t, w, spec.Owner, 3)
	removed := 0
	until(t, "repair", func() (bool, error) {
		look, err := w.Open(t).EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: spec})
		if err == nil && (look.Machine == nil || look.Machine.Ref != oldest.Ref) {
			t.Fatalf("repair kept %+v, want the oldest %s", look.Machine, oldest.Ref.Cloud)
		}
		removed += look.Removed
		return err == nil, err
	})
	if removed < 2 {
		t.Errorf("%d removals reported, want 2", removed)
	}
	wantBooks(t, w, "u1", "machine", 1)
}

// wantRefused proves that no twin can be made where names are unique, also by one
// who does not see the machine that there is.
func wantRefused(t *testing.T, w Cloud, spec cloud.MachineSpec, first cloud.Machine) {
	t.Helper()
	w.Inject(t, Fault{On: ListMachines, Count: -1, Effect: Stale})
	look, err := w.Open(t).EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: spec, UserData: w.UserData(), Create: true})
	if look.Created || look.Machine != nil && look.Machine.Ref != first.Ref {
		t.Errorf("a second machine of one name: %+v", look)
	}
	if err != nil {
		wantKind(t, err, fault.Conflict)
	}
	w.Heal()
	if again := create(t, w, spec); again.Ref != first.Ref {
		t.Errorf("adopted %+v, want %s", again, first.Ref.Cloud)
	}
	wantBooks(t, w, spec.Owner.Cluster.UID, "machine", 1)
}

// testTwice runs several processes at once. Without idempotency of the cloud
// they may make several machines, but afterwards all see the same one.
func testTwice(t *testing.T, w Cloud) {
	spec := w.Machine(owner("u1"), "m1")
	c := settings(t, w)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := drive(t.Context(), c, ensureMachine(w.Open(t), w, spec)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var first string
	for range 2 {
		m, err := drive(t.Context(), c, ensureMachine(w.Open(t), w, spec))
		if err != nil {
			t.Fatal(err)
		}
		if first != "" && m.Ref.Cloud != first {
			t.Errorf("two looks keep %s and %s", first, m.Ref.Cloud)
		}
		first = m.Ref.Cloud
	}
	wantBooks(t, w, "u1", "machine", 1)
}

func testToldApart(t *testing.T, w Cloud) {
	// The same name and machine id in two clusters, as when a name is reused.
	one := create(t, w, w.Machine(owner("u1"), "m1"))
	if settings(t, w).Idempotency == cloud.UniqueName {
		// The name may be taken; whose it is stays untouched.
		if _, err := ensureMachine(w.Open(t), w, w.Machine(owner("u2"), "m1"))(t.Context(), true); fault.Is(err, fault.Conflict) {
			wantBooks(t, w, "u1", "machine", 1)
			return
		}
	}
	two := create(t, w, w.Machine(owner("u2"), "m1"))
	if one.Ref.Cloud == two.Ref.Cloud {
		t.Fatal("the machine of another cluster was adopted")
	}
	p := w.Open(t)
	for uid, want := range map[string]string{"u1": one.Ref.Cloud, "u2": two.Ref.Cloud} {
		if ms := listed(t, w, owner(uid), 1); ms[0].Ref.Cloud != want {
			t.Errorf("machines of %s: %+v", uid, ms)
		}
	}
	remove(t, p, one.Ref)
	wantBooks(t, w, "u1", "machine", 0)
	wantBooks(t, w, "u2", "machine", 1)
}

func testCreateErrors(t *testing.T, w Cloud) {
	for _, tc := range []struct {
		effect Effect
		want   []fault.Kind
		made   int
	}{
		{LostReply, []fault.Kind{fault.Ambiguous}, 1},
		{Dropped, []fault.Kind{fault.Ambiguous}, 0},
		{Late, []fault.Kind{fault.Ambiguous}, 1},
		{Throttled, []fault.Kind{fault.RateLimited}, 0},
		{ThrottledPage, []fault.Kind{fault.RateLimited}, 0},
		{Maintenance, []fault.Kind{fault.Ambiguous, fault.Unavailable}, 0},
		{ServerError, []fault.Kind{fault.Ambiguous}, 0},
		{Unauthorized, []fault.Kind{fault.Unauthorized}, 0},
		{QuotaFull, []fault.Kind{fault.Quota}, 0},
		{OutOfStock, []fault.Kind{fault.Capacity}, 0},
		{ImageMissing, []fault.Kind{fault.Invalid}, 0},
	} {
		word := strings.ReplaceAll(string(tc.effect), " ", "-")
		uid := "u-" + word
		w.Inject(t, Fault{On: CreateMachine, Effect: tc.effect})
		look, err := w.Open(t).EnsureMachine(t.Context(), cloud.EnsureMachineRequest{
			Spec: w.Machine(owner(uid), "m-"+word), UserData: w.UserData(), Create: true,
		})
		if !fault.Is(err, tc.want...) || look.Machine != nil {
			t.Errorf("%s: %+v, %v of kind %q, want %v", tc.effect, look, err, fault.KindOf(err), tc.want)
		}
		if fault.Is(err, fault.RateLimited) && fault.RetryAfter(err) <= 0 {
			t.Errorf("%s: a rate limit without a time", tc.effect)
		}
		w.Heal()
		wantBooks(t, w, uid, "machine", tc.made)
	}
}

func testReadErrors(t *testing.T, w Cloud) {
	m := create(t, w, w.Machine(owner("u1"), "m1"))
	for _, e := range []Effect{Dropped, LostReply, Throttled, ThrottledPage, Maintenance, ServerError, Unauthorized} {
		w.Inject(t, Fault{On: ListMachines, Count: -1, Effect: e})
		w.Inject(t, Fault{On: ReadMachine, Count: -1, Effect: e})
		p := w.Open(t)
		if ms, err := p.ListMachines(t.Context(), owner("u1")); err == nil || fault.Is(err, fault.NotFound) {
			t.Errorf("%s: ListMachines = %v, %v", e, ms, err)
		}
		if _, err := p.GetMachine(t.Context(), m.Ref); err == nil || fault.Is(err, fault.NotFound) {
			t.Errorf("%s: GetMachine: %v", e, err)
		}
		if gone, err := p.DeleteMachine(t.Context(), m.Ref); err == nil || gone {
			t.Errorf("%s: DeleteMachine = %t, %v", e, gone, err)
		}
		before := w.WriteRequests()
		if look, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: w.Machine(owner("u1"), "m2"), UserData: w.UserData(), Create: true}); err == nil {
			t.Errorf("%s: EnsureMachine without a look = %+v", e, look)
		}
		if n := w.WriteRequests() - before; n != 0 {
			t.Errorf("%s: %d writes after a look that failed", e, n)
		}
		w.Heal()
	}
	wantBooks(t, w, "u1", "machine", 1)

	// A list that does not show it yet and a read that fails are no proof.
	young := create(t, w, w.Machine(owner("u3"), "m3"))
	w.Inject(t, Fault{On: ListMachines, Effect: Stale})
	w.Inject(t, Fault{On: ReadMachine, Effect: ServerError})
	if gone, err := w.Open(t).DeleteMachine(t.Context(), young.Ref); gone || err == nil {
		t.Errorf("DeleteMachine without proof = %t, %v", gone, err)
	}
	wantBooks(t, w, "u3", "machine", 1)
}

func testList(t *testing.T, w Cloud) {
	var want []string
	for _, id := range []string{"m3", "m1", "m2"} {
		want = append(want, create(t, w, w.Machine(owner("u1"), id)).Name)
	}
	other := owner("u1")
	other.Group = "others"
	want = append(want, create(t, w, w.Machine(other, "m4")).Name)
	slices.Sort(want)
	listed(t, w, cloud.Owner{Cluster: other.Cluster}, len(want))
	names := func(o cloud.Owner) (got []string) {
		ms, err := w.Open(t).ListMachines(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			got = append(got, m.Name)
		}
		return got
	}
	if diff := cmp.Diff(want, names(cloud.Owner{Cluster: other.Cluster})); diff != "" {
		t.Errorf("machines of the cluster (-want +got):\n%s", diff)
	}
	if got := names(other); len(got) != 1 {
		t.Errorf("machines of the group: %v", got)
	}
	if got := names(owner("u2")); len(got) != 0 {
		t.Errorf("machines of an unknown cluster: %v", got)
	}
}

func testWrongZone(t *testing.T, w Cloud) {
	if !possible(w, WrongZone) {
		return
	}
	spec := w.Machine(owner("u1"), "m1")
	w.Inject(t, Fault{On: CreateMachine, Effect: WrongZone})
	look, err := w.Open(t).EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: spec, UserData: w.UserData(), Create: true})
	if look.Machine != nil {
		t.Fatalf("a machine in zone %s was accepted", look.Machine.Zone)
	}
	wantKind(t, err, fault.Internal, fault.Conflict)
	m, err := drive(t.Context(), settings(t, w), ensureMachine(w.Open(t), w, spec))
	if err != nil || m.Zone != spec.Zone {
		t.Fatalf("after a wrong zone: %+v, %v", m, err)
	}
	wantBooks(t, w, "u1", "machine", 1)
}

func testUserData(t *testing.T, w Cloud) {
	p := w.Open(t)
	spec := w.Machine(owner("u1"), "m1")
	for _, size := range []int{0, p.Capabilities().UserDataMax + 1} {
		_, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: spec, UserData: secrets.NewValue([]byte(strings.Repeat("a", size))), Create: true})
		wantKind(t, err, fault.Invalid)
	}
	if n := w.WriteRequests(); n != 0 {
		t.Errorf("%d writes for user data that cannot work", n)
	}
	data := secrets.NewValue([]byte(strings.Repeat("a", p.Capabilities().UserDataMax)))
	create(t, w, w.Machine(owner("u1"), "m0")) // what machines stand on is visible from here on
	if _, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: spec, UserData: data, Create: true}); err != nil {
		t.Errorf("the largest user data: %v", err)
	}
}

func testReservedTags(t *testing.T, w Cloud) {
	spec := w.Machine(owner("u1"), "m1")
	spec.Tags = []cluster.Tag{{Key: cluster.TagMachine, Value: "other"}}
	_, err := ensureMachine(w.Open(t), w, spec)(t.Context(), true)
	wantKind(t, err, fault.Invalid)
	spec.Tags = []cluster.Tag{{Key: "team", Value: "storage"}}
	create(t, w, spec)
}

func testNoSecret(t *testing.T, w Cloud) {
	const canary = "canary-6f1d"
	for _, e := range []Effect{LostReply, Dropped, Throttled, Maintenance, ServerError, QuotaFull, ImageMissing, Unauthorized} {
		w.Inject(t, Fault{On: CreateMachine, Effect: e})
		_, err := w.Open(t).EnsureMachine(t.Context(), cloud.EnsureMachineRequest{
			Spec: w.Machine(owner("u1"), "m-"+strings.ReplaceAll(string(e), " ", "-")), UserData: secrets.NewValue([]byte("machine: " + canary)), Create: true,
		})
		if err == nil {
			t.Errorf("%s: no error", e)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error repeats the user data", e)
		}
		w.Heal()
	}
}
