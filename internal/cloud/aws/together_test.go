package aws_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// blind makes readers of EC2 see nothing of what is made from now on.
func (c *testCloud) blind(t *testing.T) {
	t.Helper()
	if _, err := c.Injector.Add(faults.Fault{
		Route: ec2Path + "*", Contains: "Action=Describe", Count: -1, Effect: faults.StaleList, Duration: faults.Duration(time.Hour),
	}); err != nil {
		t.Fatal(err)
	}
}

// Two processes make the same infrastructure at the same time, neither of them
// sees what the other does, and nothing of it has a token. In the end there is
// one of each, the same for both, and after the deletion nothing: not of theirs,
// and not of a third one that came too late to be noticed.
func TestTwoMakeTheSame(t *testing.T) {
	t.Parallel()
	owner := cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "twice"}}
	c := startCloud(t)
	one, two := c.open(t), c.open(t)
	steps, err := one.PlanInfrastructure(c.Infrastructure(owner))
	if err != nil {
		t.Fatal(err)
	}
	var have []cloud.Resource
	want, most := map[string]int{}, 0
	for _, s := range steps {
		req := cloud.EnsureResourceRequest{Owner: owner, Step: s, Have: have, Create: true}
		c.blind(t)
		var wg sync.WaitGroup
		for _, p := range []cloud.Infrastructure{one, two} {
			wg.Go(func() {
				// What is refused since the other one was first says so.
				if _, err := p.EnsureResource(t.Context(), req); err != nil && !fault.Is(err, fault.Ambiguous, fault.Conflict, fault.NotYet) {
					t.Errorf("%s: %v of kind %q", s.Title, err, fault.KindOf(err))
				}
			})
		}
		wg.Wait()
		c.Heal()
		want[s.Kind]++
		most = max(most, c.Books(owner.Cluster.UID)[s.Kind])
		req.Create = false
		var kept [2]cloud.Resource
		for n, p := range []cloud.Infrastructure{one, two} {
			eventually(t, "one of "+s.Title, func() (bool, error) {
				look, err := p.EnsureResource(t.Context(), req)
				if err != nil || look.Resource == nil {
					return false, err
				}
				kept[n], err = p.GetResource(t.Context(), *look.Resource)
				return kept[n].Ready && c.Books(owner.Cluster.UID)[s.Kind] == want[s.Kind], err
			})
		}
		if kept[0].ID != kept[1].ID {
			t.Fatalf("%s: one keeps %s, the other %s", s.Title, kept[0].ID, kept[1].ID)
		}
		have = append(have, kept[0])
	}
	if diff := cmp.Diff(want, c.Books(owner.Cluster.UID)); diff != "" {
		t.Errorf("in the end (-want +got):\n%s", diff)
	}
	if most < 2 {
		t.Error("nothing was ever made twice: the test has not tried what it is for")
	}

	c.blind(t)
	late := cloud.EnsureResourceRequest{Owner: owner, Step: steps[0], Create: true}
	if _, err := c.open(t).EnsureResource(t.Context(), late); err != nil && !fault.Is(err, fault.Ambiguous) {
		t.Fatalf("too late: %v", err)
	}
	c.Heal()
	if n := c.Books(owner.Cluster.UID)[steps[0].Kind]; n != 2 {
		t.Fatalf("%d of the first step, want a second one that nobody has noticed", n)
	}
	eventually(t, "nothing to be left", func() (bool, error) {
		left, err := one.ListResources(t.Context(), owner)
		for _, r := range left {
			if gone, derr := one.DeleteResource(t.Context(), r); derr != nil || !gone {
				break // what comes later stands below
			}
		}
		return len(c.Books(owner.Cluster.UID)) == 0, err
	})
}

// A spread placement group takes seven machines of a zone. A group of more has
// several, and one that is full is a matter of capacity.
func TestSpreadOverShards(t *testing.T) {
	t.Parallel()
	owner := cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "spread"}, Group: "workers"}
	c := startCloud(t)
	p := c.open(t)
	limit := p.Capabilities().SpreadLimit
	groups := map[int]string{}
	launch := func(id, placement string) (look cloud.MachineLook, err error) {
		spec := c.Machine(owner, id)
		spec.PlacementGroup = placement
		eventually(t, "an answer for "+id, func() (bool, error) {
			look, err = p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: spec, UserData: c.UserData(), Create: true})
			return !fault.Is(err, fault.NotYet), nil // the placement group may not be visible yet
		})
		return look, err
	}
	for slot := range 2*limit + 1 {
		shard := plan.Shard(slot, limit)
		if groups[shard] == "" {
			step, err := p.PlacementStep(owner, zone, shard)
			if err != nil {
				t.Fatal(err)
			}
			groups[shard] = c.ensure(t, cloud.EnsureResourceRequest{Owner: owner, Step: step}).ID
		}
		if _, err := launch(fmt.Sprint("m", slot), groups[shard]); err != nil {
			t.Fatalf("machine %d: %v of kind %q", slot, err, fault.KindOf(err))
		}
	}
	if got := slices.Sorted(maps.Keys(groups)); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("shards %v", got)
	}
	in := map[string]int{}
	for _, i := range c.account.Omniscient().Instances() {
		in[i.Placement+" "+i.Zone]++
	}
	want := map[string]int{groups[0] + " " + zone: limit, groups[1] + " " + zone: limit, groups[2] + " " + zone: 1}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Errorf("machines by placement group (-want +got):\n%s", diff)
	}
	if look, err := launch("one-too-many", groups[0]); !fault.Is(err, fault.Capacity) {
		t.Errorf("in a full group: %+v, %v of kind %q", look, err, fault.KindOf(err))
	}
}
