package cloudtest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/ichor-project/ichor/internal/cloud"
)

// testSpread fills a placement group: as many machines as it holds fit in, sent
// together where the cloud says that it takes them so, one after the other
// elsewhere.
func testSpread(t *testing.T, w Cloud) {
	p, ok := infrastructure(t, w)
	c := settings(t, w)
	if !ok || c.SpreadLimit == 0 {
		if c.SpreadAtOnce {
			t.Error("SpreadAtOnce without placement groups")
		}
		return
	}
	o := clusterOwner("u1")
	_, have := build(t, w, o)
	group := place(t, w, p, w.Machine(owner("u1"), "m0"))
	launch := func(i int) {
		spec := attach(w.Machine(owner("u1"), fmt.Sprintf("m%d", i)), have)
		spec.PlacementGroup = group
		if _, err := drive(t.Context(), c, ensureMachine(w.Open(t), w, spec)); err != nil {
			t.Errorf("machine %d of %d in one group: %v", i, c.SpreadLimit, err)
		}
	}
	var together sync.WaitGroup
	for i := range c.SpreadLimit {
		if c.SpreadAtOnce {
			together.Go(func() { launch(i) })
			continue
		}
		launch(i)
	}
	together.Wait()
	wantBooks(t, w, "u1", "machine", c.SpreadLimit)
	for _, m := range listed(t, w, owner("u1"), c.SpreadLimit) {
		remove(t, w.Open(t), cloud.MachineRef{Owner: owner("u1"), ID: m.Ref.ID, Cloud: m.Ref.Cloud})
	}
	tearDown(t, w, o)
}
