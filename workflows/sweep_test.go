package workflows

import (
	"testing"
	"time"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// sweep runs one sweep after one that returned before.
func sweep(t *testing.T, w *fakeWorld, mode activities.SweepMode, before *SweepResult) SweepResult {
	t.Helper()
	env := newEnv(t, w, cluster.SweepID("demo"))
	if before != nil {
		env.SetLastCompletionResult(*before)
	}
	env.ExecuteWorkflow(SweepOrphans, SweepInput{Cluster: w.record.Ref, Settings: activities.SweepSettings{Mode: mode, Age: time.Nanosecond}})
	var out SweepResult
	if err := env.GetWorkflowResult(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSweepNeedsTwoLooks(t *testing.T) {
	w := newFakeWorld()
	provisionDemo(t, w, nil)
	w.change(func() {
		for i, m := range w.machines {
			w.machines[i].CreatedAt = time.Now().Add(-time.Hour)
			if i > 0 { // the first machine is claimed by nobody
				w.objects["claims"] += m.Ref.Cloud + " "
			}
		}
	})
	first := sweep(t, w, activities.SweepDelete, nil)
	if len(first.Unclaimed) != 1 || len(first.Orphans) != 0 || len(w.machines) != 5 {
		t.Errorf("first sweep: %+v, %d machines", first, len(w.machines))
	}
	told := sweep(t, w, activities.SweepReport, &first)
	if len(told.Orphans) != 1 || told.Deleted || len(w.machines) != 5 {
		t.Errorf("dry run: %+v, %d machines", told, len(w.machines))
	}
	second := sweep(t, w, activities.SweepDelete, &first)
	if len(second.Orphans) != 1 || !second.Deleted || len(w.machines) != 4 {
		t.Errorf("second sweep: %+v, %d machines", second, len(w.machines))
	}
}

func TestSweepSkipsWhatItCannotRead(t *testing.T) {
	w := newFakeWorld()
	provisionDemo(t, w, nil)
	w.change(func() {
		w.inject = func(op string, _ int) (error, error) {
			if op == "claims" {
				return fault.New(fault.Unavailable, op, "no worker"), nil
			}
			return nil, nil
		}
	})
	out := sweep(t, w, activities.SweepDelete, &SweepResult{Unclaimed: []string{w.machines[0].Ref.Cloud}})
	if out.Skipped == "" || len(out.Orphans) != 0 || len(w.machines) != 5 {
		t.Errorf("sweep: %+v, %d machines", out, len(w.machines))
	}
}
