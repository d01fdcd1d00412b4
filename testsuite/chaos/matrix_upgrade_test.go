package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	rolls "github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/workflows"
)

// Every activity of RollingUpgrade is killed with its worker at each of three
// moments: every node still reboots exactly once, and etcd keeps its quorum.
func TestKillMatrixUpgrade(t *testing.T) {
	t.Parallel()
	for _, moment := range killer.Moments() {
		t.Run(string(moment), func(t *testing.T) {
			t.Parallel()
			p := &plan{moment: moment, only: []string{}}
			r := rig.Start(t, rig.Options{Hook: p.hook, SharedAPIServers: true, Settings: map[string]string{"ICHOR_DRAIN_DEADLINE": "15s"}})
			r.Spec.Spec.Talos.Version, r.Spec.Spec.Kubernetes.Version = "v1.13.9", "v1.35.2"
			provision(t, r)
			if err := quorum.Reset(t.Context(), r.CloudURL); err != nil {
				t.Fatal(err)
			}
			p.begin(moment, upgradeRows())
			kills, started := r.Kills(), time.Now()
			out := upgradeAll(t, r)
			p.judgeUpgrade(t)
			rebootedOnce(t, r)
			t.Logf("%s: %s in %s, %d rows fired, %d workers killed", moment, out.Message, time.Since(started).Round(time.Second), len(p.fired), r.Kills()-kills)
		})
	}
}

// judgeUpgrade fails rows that did not fire and activities that have none.
func (p *plan) judgeUpgrade(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range upgradeRows() {
		if !slices.Contains(p.fired, name) {
			t.Errorf("the row %q did not fire %s", name, p.moment)
		}
	}
	for name, why := range notInUpgrade {
		if p.seen[name] {
			t.Errorf("%s ran, which was said to be only %s: it needs a row", name, why)
		}
	}
}

// upgradeAll takes the cluster to other versions of everything.
func upgradeAll(t *testing.T, r *rig.Rig) workflows.UpgradeResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run, err := r.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: cluster.LifecycleID(rig.Cluster), TaskQueue: workflows.TaskQueue},
		workflows.TypeRollingUpgrade, workflows.UpgradeInput{
			Cluster:       rig.Cluster,
			UpgradeChange: activities.UpgradeChange{TalosVersion: "v1.14.1", KubernetesVersion: "v1.36.3"},
			Strategy:      rolls.UpgradeStrategy{Stable: cluster.Duration(time.Millisecond)},
		})
	if err != nil {
		t.Fatal(err)
	}
	var out workflows.UpgradeResult
	if err := run.Get(ctx, &out); err != nil {
		t.Fatalf("upgrade: %v\n%s\n%s", err, stands(r), r.Explain(t.Context()))
	}
	return out
}

// stands tells where an upgrade stands.
func stands(r *rig.Rig) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var st workflows.UpgradeStatus
	v, err := r.Temporal.QueryWorkflow(ctx, cluster.LifecycleID(rig.Cluster), "", workflows.QueryUpgrade)
	if err == nil {
		err = v.Get(&st)
	}
	return fmt.Sprintf("%+v, %v", st, err)
}

// rebootedOnce demands that each machine booted the old system and then the new
// one, and that etcd never lost its quorum over it.
func rebootedOnce(t *testing.T, r *rig.Rig) {
	t.Helper()
	s, err := r.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range s.Machines() {
		var boots []string
		lines, err := r.Console(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if _, boot, ok := strings.Cut(line, "booting Talos "); ok {
				version, _, _ := strings.Cut(boot, " ")
				boots = append(boots, version)
			}
		}
		if !slices.Equal(boots, []string{"v1.13.9", "v1.14.1"}) {
			t.Errorf("%s booted %q", v.Name, boots)
		}
	}
	q, err := quorum.Fetch(t.Context(), r.CloudURL)
	if err != nil || len(q.Clusters) != 1 || !q.Clusters[0].Intact() {
		t.Errorf("the quorum: %+v, %v", q, err)
	}
}
