package cloudtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
)

// possible reports whether an effect can happen in the cloud.
func possible(w Cloud, e Effect) bool {
	i, ok := w.(Impossible)
	return !ok || !slices.Contains(i.Impossible(), e)
}

// machineFaults are all sensible pairs of call and effect that can happen.
func machineFaults(w Cloud) []Fault {
	var out []Fault
	for _, e := range []Effect{
		LostReply, Dropped, Late, Throttled, ThrottledPage, Maintenance, ServerError, Unauthorized, QuotaFull, OutOfStock, WrongZone,
	} {
		out = append(out, Fault{On: CreateMachine, Effect: e})
	}
	for _, e := range []Effect{LostReply, Dropped, Throttled, ThrottledPage, Maintenance, ServerError, Unauthorized, Stale} {
		out = append(out, Fault{On: ListMachines, Effect: e})
	}
	for _, e := range []Effect{LostReply, Dropped, Throttled, Maintenance, ServerError, Busy} {
		out = append(out, Fault{On: DeleteMachine, Effect: e})
	}
	return slices.DeleteFunc(out, func(f Fault) bool { return !possible(w, f.Effect) })
}

// testEveryFault hits the first and the second request of its sort with every
// fault, and with a worker that dies after the call.
func testEveryFault(t *testing.T, h Harness) {
	for _, f := range machineFaults(h.New(t)) {
		for _, killed := range []bool{false, true} {
			name := fmt.Sprintf("%s/%s", f.On, f.Effect)
			if killed {
				name += "/killed"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := h.New(t)
				w.Inject(t, f)
				kills := 0
				if killed {
					kills = 1
				}
				endsWithOne(t, w, "m1", kills)
				endsWithNone(t, w, "m1")
				if w.Fired() != 1 {
					t.Error("the fault never hit")
				}
			})
		}
	}
}

// testSchedules tries random schedules; a failing one is known by its number.
func testSchedules(t *testing.T, h Harness) {
	all := machineFaults(h.New(t))
	for seed := range h.Seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			w := h.New(t)
			for range 1 + rng.IntN(6) {
				f := all[rng.IntN(len(all))]
				f.Nth, f.Count = 1+rng.IntN(6), 1+rng.IntN(2)
				t.Logf("fault: %+v", f)
				w.Inject(t, f)
			}
			ids := []string{"m1", "m2", "m3"}
			var wg sync.WaitGroup
			for _, id := range ids {
				kills := rng.IntN(2)
				wg.Go(func() { endsWithOne(t, w, id, kills) })
			}
			wg.Wait()
			wantBooks(t, w, "u-m1", "machine", 1)
			for _, id := range ids {
				endsWithNone(t, w, id)
			}
		})
	}
}

// endsWithOne drives a create to its end and proves that there is one machine,
// the one that was reported. kills is how many answers never reach the driver.
func endsWithOne(t *testing.T, w Cloud, id string, kills int) {
	t.Helper()
	spec := w.Machine(owner("u-"+id), id)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := drive(ctx, settings(t, w), func(ctx context.Context, create bool) (*cloud.Machine, error) {
		m, err := ensureMachine(w.Open(t), w, spec)(ctx, create)
		if create && kills > 0 {
			kills--
			return nil, errKilled
		}
		return m, err
	})
	if err != nil {
		t.Errorf("machine %s: %v", id, err)
		return
	}
	if m.Zone != spec.Zone || m.Ref.ID != id {
		t.Errorf("machine %s: got %+v", id, m)
	}
	// Anything late has arrived by now; the books must say one, and stay so.
	c := settings(t, w)
	time.Sleep(c.Settle)
	wantBooks(t, w, "u-"+id, "machine", 1)
	if got := w.Zone(m.Ref.Cloud); got != spec.Zone {
		t.Errorf("machine %s: the one reported is in zone %q", id, got)
	}
}

func endsWithNone(t *testing.T, w Cloud, id string) {
	t.Helper()
	remove(t, w.Open(t), cloud.MachineRef{Owner: owner("u-" + id), ID: id})
	wantBooks(t, w, "u-"+id, "machine", 0)
}
