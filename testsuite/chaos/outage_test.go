package chaos

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
)

// The Temporal server dies without a goodbye while clusters come and go, and
// comes back on the same database.
func TestKillMatrixTemporalServer(t *testing.T) {
	t.Parallel()
	var (
		mu       sync.Mutex
		outages  []string
		failures error
		wait     sync.WaitGroup
	)
	at := []string{"EnsureResource load-balancer", "EnsureMachine", "BootstrapEtcd", "DeleteMachine"}
	r := rig.Start(t, rig.Options{SharedAPIServers: true, Hook: func(r *rig.Rig, task killer.Task, m killer.Moment) bool {
		mu.Lock()
		defer mu.Unlock()
		if name := row(task); m == killer.BeforeEffect && slices.Contains(at, name) && !slices.Contains(outages, name) {
			outages = append(outages, name)
			wait.Go(func() {
				err := r.KillTemporal()
				if err == nil {
					err = r.StartTemporal(t.Context())
				}
				mu.Lock()
				defer mu.Unlock()
				failures = errors.Join(failures, err)
			})
		}
		return false // workers live on
	}})
	comeAndGo(t, r)
	wait.Wait()
	mu.Lock()
	defer mu.Unlock()
	if failures != nil {
		t.Errorf("the server did not come back: %v", failures)
	}
	if len(outages) != len(at) {
		t.Errorf("the server was killed at %v, want %v", outages, at)
	}
	t.Logf("the Temporal server was killed at %v", outages)
}
