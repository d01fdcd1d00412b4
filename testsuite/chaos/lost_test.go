package chaos

import (
	"slices"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// createTimeout is the bound of one create call where a test lets the cloud
// answer later than that.
const createTimeout = 3 * time.Second

// late is when the cloud answers then, in real time. Settling has to outlast it, as
// 30 s do in reality.
const late = createTimeout + time.Second

var lateSettings = map[string]string{
	"ICHOR_CREATE_TIMEOUT": createTimeout.String(), "ICHOR_POST_WINDOW": "1s", "ICHOR_SETTLE": "3s",
}

// The response of every create is lost, in each way in which it can be.
func TestKillMatrixLostResponses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		effect string
		// all bends the first request for every single resource, otherwise the
		// first of each route.
		all      bool
		delay    time.Duration // real
		settings map[string]string
	}{
		{name: "done but not answered", effect: faults.CommitThenDrop, all: true},
		{name: "lost on the way", effect: faults.DropBeforeCommit},
		{
			name: "done after the caller has given up", effect: faults.DelayThenCommit, delay: late, settings: lateSettings,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rig.Start(t, rig.Options{Settings: c.settings, SharedAPIServers: true})
			for route, n := range here.creates {
				f := faults.Fault{Route: route, Effect: c.effect, Count: 1, Delay: faults.Duration(float64(c.delay) * rig.Speed)}
				if c.all {
					f.Count = n
				}
				if err := r.Bend(t.Context(), f); err != nil {
					t.Fatal(err)
				}
			}
			provision(t, r)
			if err := r.Unbent(t.Context()); err != nil {
				t.Error(err)
			}
			everyCreateIsListed(t, r)
			remove(t, r)
		})
	}
}

func everyCreateIsListed(t *testing.T, r *rig.Rig) {
	t.Helper()
	requests, err := r.Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, q := range requests {
		if !here.creating(q) {
			continue
		}
		seen++
		route := faults.RouteOf(q.Method, q.Path)
		if _, ok := here.creates[route]; !ok {
			t.Errorf("the product creates by %s, of which no response is lost here", route)
		}
	}
	if seen == 0 {
		t.Error("the log of requests shows no create at all")
	}
}

// The create of a machine is done only after its caller has given up, and finds no
// capacity when it is sent again: the flavor that is tried next is another request,
// and must not make another machine.
func TestKillMatrixElsewhere(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, rig.Options{SharedAPIServers: true, Settings: lateSettings})
	g := &r.Spec.Spec.NodeGroups[0]
	*g.Count, g.Flavor, g.Alternatives = 1, here.flavors[0], []cluster.Alternative{{Flavor: here.flavors[1]}}
	for _, f := range []faults.Fault{
		{Nth: 1, Effect: faults.DelayThenCommit, Delay: faults.Duration(float64(late) * rig.Speed)},
		{Nth: 2, Effect: faults.OutOfStock, Count: 1},
	} {
		f.Route, f.Contains = r.Home.Routes.Machine, here.flavors[0]
		if err := r.Bend(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	provision(t, r)
	launches, err := r.Launches(t.Context())
	if err != nil || len(launches) != r.Spec.Spec.ControlPlane.Replicas+1 {
		t.Errorf("machines were made by these names: %v, %v", launches, err)
	}
	for name, n := range launches {
		if n != 1 {
			t.Errorf("%s was made %d times", name, n)
		}
	}
	remove(t, r)
}

// One case has the times of the real cloud: one create is lost that the cloud does
// twice when it is sent twice, and only after 30 s of settling and an absence of 60 s is it sent again. The
// cloud itself runs fast, which changes nothing about that.
func TestKillMatrixRealTimes(t *testing.T) {
	t.Parallel()
	const settle, window = 30 * time.Second, time.Minute
	r := rig.Start(t, rig.Options{SharedAPIServers: true, Settings: map[string]string{
		"ICHOR_SETTLE": settle.String(), "ICHOR_ABSENCE_WINDOW": window.String(), "ICHOR_HEARTBEAT": "30s",
		"ICHOR_CREATE_TIMEOUT": "2m", "ICHOR_POST_WINDOW": "20s", "ICHOR_POLL": "2s", "ICHOR_CLOUD_POLL": "2s", "ICHOR_BACKOFF": "2s",
	}})
	if err := r.Bend(t.Context(), faults.Fault{Route: here.unique, Effect: faults.DropBeforeCommit}); err != nil {
		t.Fatal(err)
	}
	provision(t, r)
	if err := r.Unbent(t.Context()); err != nil {
		t.Error(err)
	}
	requests, err := r.Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	requests = slices.DeleteFunc(requests, func(q faults.Request) bool { return faults.RouteOf(q.Method, q.Path) != here.unique })
	if len(requests) != here.creates[here.unique]+1 {
		t.Fatalf("%d requests, want one for each and one more", len(requests))
	}
	lost, again := requests[0].Time, requests[len(requests)-1].Time
	if again.Sub(lost) < settle+window {
		t.Errorf("the create was repeated %s after it was lost, before absence was proven", again.Sub(lost))
	}
	t.Logf("the lost create was repeated after %s", again.Sub(lost).Round(time.Second))
	remove(t, r)
}
