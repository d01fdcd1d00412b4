// Package chaos kills workers and servers and breaks the cloud at exact or at
// random moments while clusters come and go, and proves that the same world comes
// out as without.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
)

// patience bounds one workflow: many times what a run with all kills takes on a
// busy machine.
const patience = 10 * time.Minute

// plan kills the worker at one moment of the first attempt of every row.
type plan struct {
	moment killer.Moment

	mu    sync.Mutex
	fired []string
	only  []string        // all if nil
	seen  map[string]bool // activities handed out
}

func (p *plan) hook(r *rig.Rig, task killer.Task, m killer.Moment) bool {
	if task.Workflow == "" || strings.HasPrefix(task.Workflow, cluster.SweepID(rig.Cluster)) {
		return false // sweeps come when their schedule says
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[string]bool{}
	}
	p.seen[task.Activity] = true
	if m != p.moment || slices.Contains(p.fired, row(task)) || p.only != nil && !slices.Contains(p.only, row(task)) {
		return false
	}
	p.fired = append(p.fired, row(task))
	r.Kill(task)
	return true
}

// rounds bounds how often a cluster comes and goes until every row has fired.
const rounds = 3

// missed are the rows that have not fired.
func (p *plan) missed() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(rows(), func(want string) bool { return slices.Contains(p.fired, want) })
}

// restrict lets only these rows kill from now on.
func (p *plan) restrict(only []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.only = only
}

// begin starts anew at another moment.
func (p *plan) begin(m killer.Moment, only []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moment, p.only, p.fired = m, only, nil
}

// judge fails rows that did not fire and activities that have none.
func (p *plan) judge(t *testing.T) {
	t.Helper()
	for _, name := range p.missed() {
		t.Errorf("the row %q did not fire %s", name, p.moment)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.seen)) {
		if why, ok := notHere[name]; ok {
			t.Errorf("%s ran, which was said to be only %s: it needs a row", name, why)
		}
	}
}

// Every activity of ProvisionCluster and DeleteCluster is killed with its worker
// at each of three moments.
func TestKillMatrix(t *testing.T) {
	t.Parallel()
	t.Logf("%d rows x %d moments, cloud %d times real time, waits %v", len(rows()), len(killer.Moments()), rig.Speed, settings(rig.Scaled()))
	for _, moment := range killer.Moments() {
		t.Run(string(moment), func(t *testing.T) {
			t.Parallel()
			p := &plan{moment: moment}
			r := rig.Start(t, rig.Options{Hook: p.hook})
			for round := 1; ; round++ {
				comeAndGo(t, r)
				missed := p.missed()
				if len(missed) == 0 || round == rounds {
					break
				}
				// Kills hide one another: what is adopted while a worker starts needs
				// no waiting any more. Those get a cluster of their own.
				t.Logf("%s: another round for %v", moment, missed)
				p.restrict(missed)
				r.Republish(t)
			}
			p.judge(t)
			t.Logf("%s: %d rows fired, %d workers killed: %s", moment, len(p.fired), r.Kills(), strings.Join(p.fired, ", "))
		})
	}
}

// comeAndGo provisions the cluster, proves that the account holds exactly it,
// deletes it and proves that nothing is left.
func comeAndGo(t *testing.T, r *rig.Rig) {
	t.Helper()
	provision(t, r)
	remove(t, r)
}

func provision(t *testing.T, r *rig.Rig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	before, err := r.Created(ctx)
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	out, err := r.Provision(ctx)
	if err != nil {
		t.Fatalf("provision: %v\n%s", err, r.Explain(t.Context()))
	}
	took := time.Since(started)
	if err := r.Complete(t.Context()); err != nil {
		t.Fatalf("after provisioning: %v\n%s", err, r.Explain(t.Context()))
	}
	doubled, err := r.Doubled(t.Context(), before)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("provisioned %d nodes in %s, %d kills so far, created twice for a moment: %s", out.Nodes, took.Round(100*time.Millisecond), r.Kills(), doubled)
}

func remove(t *testing.T, r *rig.Rig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	started := time.Now()
	out, err := r.Delete(ctx)
	if err != nil {
		t.Fatalf("delete: %v\n%s", err, r.Explain(t.Context()))
	}
	if err := errors.Join(r.Empty(t.Context()), r.Quiet(t.Context()), r.Twice(t.Context())); err != nil {
		t.Fatalf("after deletion: %v\n%s", err, r.Explain(t.Context()))
	}
	t.Logf("deleted %d machines and %d resources in %s, %d kills so far", out.Machines, out.Resources, time.Since(started).Round(100*time.Millisecond), r.Kills())
}

// settings prints waits in a fixed order.
func settings(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s=%s", k, m[k]))
	}
	return strings.Join(out, " ")
}
