package chaos

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// midway are the requests in the middle of which the worker dies, and which of
// its kind that is: activities that send several are torn apart between them.
var midway = map[string]int{
	"POST /v1/custom-images/import":           1,
	"POST /v1/networks":                       1,
	"POST /v1/subnets":                        1,
	"POST /v1/load-balancers":                 1,
	"POST /v1/load-balancers/pools":           1,
	"POST /v1/load-balancers/listeners":       1,
	"POST /v1/load-balancers/health-monitors": 1,
	"POST /v1/load-balancers/pools/*/members": 2,
	"POST /v1/server-groups":                  2,
	"POST /v1/servers":                        2,
	"DELETE /v1/servers/*":                    2,
	"DELETE /v1/load-balancers/*":             1,
	"DELETE /v1/server-groups/*":              1,
	"DELETE /v1/networks/*":                   1,
	"DELETE /v1/custom-images/*":              1,
}

// The worker dies while the cloud has its request: before the cloud acts, which
// it then does nevertheless, or between the cloud's act and its answer.
func TestKillMatrixMidway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, effect string
		then         rig.Verdict
	}{
		{"before a late effect", faults.HoldBefore, rig.Release},
		{"between effect and answer", faults.HoldAfter, rig.Drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rig.Start(t, rig.Options{SharedAPIServers: true})
			for _, route := range slices.Sorted(maps.Keys(midway)) {
				if err := r.Bend(t.Context(), faults.Fault{Route: route, Effect: c.effect, Nth: midway[route], Count: 1}); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- r.KillAtHolds(ctx, c.then) }()
			comeAndGo(t, r)
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("killing at held requests: %v", err)
			}
			if err := r.Unbent(t.Context()); err != nil {
				t.Error(err)
			}
			// Two requests of one activity may be held at once and share a kill.
			t.Logf("%s: %d requests, %d workers killed", c.name, len(midway), r.Kills())
		})
	}
}
