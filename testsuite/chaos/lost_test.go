package chaos

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// creates are the routes by which the product makes things, with how many
// requests of a run without faults go there. That the list is complete is proven
// from the log of each run.
var creates = map[string]int{
	"POST /v1/custom-images/import":           1,
	"POST /v1/networks":                       1,
	"POST /v1/subnets":                        1,
	"POST /v1/load-balancers":                 1,
	"POST /v1/load-balancers/pools":           1,
	"POST /v1/load-balancers/listeners":       1,
	"POST /v1/load-balancers/health-monitors": 1,
	"POST /v1/load-balancers/pools/*/members": 3,
	"POST /v1/server-groups":                  2,
	"POST /v1/servers":                        5,
}

// createTimeout is the bound of one create call where a test lets the cloud
// answer later than that.
const createTimeout = 3 * time.Second

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
			name: "done after the caller has given up", effect: faults.DelayThenCommit, delay: createTimeout + time.Second,
			// Settling has to outlast the cloud, as 30 s do in reality.
			settings: map[string]string{
				"ICHOR_CREATE_TIMEOUT": createTimeout.String(), "ICHOR_POST_WINDOW": "1s", "ICHOR_SETTLE": "3s",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rig.Start(t, rig.Options{Settings: c.settings, SharedAPIServers: true})
			for route, n := range creates {
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
		route := faults.RouteOf(q.Method, q.Path)
		if q.Method != http.MethodPost || strings.HasSuffix(route, "/stop") || strings.HasSuffix(route, "/start") {
			continue
		}
		seen++
		if _, ok := creates[route]; !ok {
			t.Errorf("the product creates by %s, of which no response is lost here", route)
		}
	}
	if seen == 0 {
		t.Error("the log of requests shows no create at all")
	}
}

// One case has the times of the real cloud: the request for one server is lost,
// and only after 30 s of settling and an absence of 60 s is it sent again. The
// cloud itself runs fast, which changes nothing about that.
func TestKillMatrixRealTimes(t *testing.T) {
	t.Parallel()
	const settle, window = 30 * time.Second, time.Minute
	r := rig.Start(t, rig.Options{SharedAPIServers: true, Settings: map[string]string{
		"ICHOR_SETTLE": settle.String(), "ICHOR_ABSENCE_WINDOW": window.String(), "ICHOR_HEARTBEAT": "30s",
		"ICHOR_CREATE_TIMEOUT": "2m", "ICHOR_POST_WINDOW": "20s", "ICHOR_POLL": "2s", "ICHOR_CLOUD_POLL": "2s", "ICHOR_BACKOFF": "2s",
	}})
	if err := r.Bend(t.Context(), faults.Fault{Route: "POST /v1/servers", Effect: faults.DropBeforeCommit}); err != nil {
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
	requests = slices.DeleteFunc(requests, func(q faults.Request) bool { return q.Method != http.MethodPost || q.Path != "/v1/servers" })
	if len(requests) != creates["POST /v1/servers"]+1 {
		t.Fatalf("%d requests for servers, want one for each and one more", len(requests))
	}
	lost, again := requests[0].Time, requests[len(requests)-1].Time
	if again.Sub(lost) < settle+window {
		t.Errorf("the create was repeated %s after it was lost, before absence was proven", again.Sub(lost))
	}
	t.Logf("the lost create was repeated after %s", again.Sub(lost).Round(time.Second))
	remove(t, r)
}
