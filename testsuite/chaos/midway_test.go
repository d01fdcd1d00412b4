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
			for _, route := range slices.Sorted(maps.Keys(here.midway)) {
				if err := r.Bend(t.Context(), faults.Fault{Route: route, Effect: c.effect, Nth: here.midway[route], Count: 1}); err != nil {
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
			t.Logf("%s: %d requests, %d workers killed", c.name, len(here.midway), r.Kills())
		})
	}
}
