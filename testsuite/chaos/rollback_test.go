package chaos

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
)

// undoing are the rows that a rollback must survive: what takes back, and what
// proves that nothing is left. Sweeps are not among them: they begin at the end of
// a provisioning, which these never reach.
var undoing = []string{"DeleteMachine", "DeleteResource", "ListOwned", "ReleaseImage", "ForgetCluster"}

// The account has room for one machine too few. The rollback is killed at each of
// its activities, at each moment, and still leaves nothing.
func TestKillMatrixRollback(t *testing.T) {
	t.Parallel()
	p := &plan{}
	r := rig.Start(t, rig.Options{Hook: p.hook, SharedAPIServers: true})
	if err := r.Cramp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, moment := range killer.Moments() {
		if i > 0 {
			r.Republish(t)
		}
		p.begin(moment, undoing)
		refused(t, r)
		for _, name := range undoing {
			if !slices.Contains(p.fired, name) {
				t.Errorf("the row %q did not fire %s", name, moment)
			}
		}
		t.Logf("rolled back, killed %s at %v", moment, p.fired)
	}
}

// refused provisions a cluster that cannot be and proves that nothing is left.
func refused(t *testing.T, r *rig.Rig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	started := time.Now()
	_, err := r.Provision(ctx)
	if err == nil || !strings.Contains(err.Error(), "Quota") {
		t.Fatalf("provision: %v, want a failure for quota\n%s", err, r.Explain(t.Context()))
	}
	if left := errors.Join(r.Empty(t.Context()), r.Quiet(t.Context())); left != nil {
		t.Fatalf("after the failure %v: %v\n%s", err, left, r.Explain(t.Context()))
	}
	t.Logf("failed and undone in %s, %d kills so far: %v", time.Since(started).Round(100*time.Millisecond), r.Kills(), err)
}
