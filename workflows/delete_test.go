package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// The groups of the provisioning are gone with its environment, as after the
// loss of the Temporal database: deletion finds everything by tags.
func TestDeleteWithoutGroupsEmptiesTheAccount(t *testing.T) {
	w := newFakeWorld()
	provisionDemo(t, w, nil)
	env := run(t, w, cluster.LifecycleID("demo"), DeleteCluster, DeleteInput{Name: "demo"}, nil)
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	if len(w.machines)+len(w.resources)+len(w.images) != 0 {
		t.Errorf("left: %v %v %v", w.machines, w.resources, w.images)
	}
	if w.record.Phase != cluster.PhaseDeleted {
		t.Errorf("record phase %s", w.record.Phase)
	}
	var out DeleteResult
	if err := env.GetWorkflowResult(&out); err != nil {
		t.Fatal(err)
	}
	if out.Machines != 5 || out.Resources != 5 {
		t.Errorf("result: %+v", out)
	}

	again := run(t, w, cluster.LifecycleID("demo"), DeleteCluster, DeleteInput{Name: "demo"}, nil)
	if err := again.GetWorkflowResult(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.Message, "was deleted before") {
		t.Errorf("second deletion: %+v", out)
	}
}

// A cluster that never became ready may have creates under way that nobody
// knows of: one empty list is no proof then.
func TestDeleteOfAHalfMadeClusterProvesAbsenceTwice(t *testing.T) {
	w := newFakeWorld()
	provisionDemo(t, w, nil)
	w.change(func() { w.record.Phase = cluster.PhaseFailed })
	env := run(t, w, cluster.LifecycleID("demo"), DeleteCluster, DeleteInput{Name: "demo"}, nil)
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	v, err := env.QueryWorkflow(QueryProgress)
	if err != nil {
		t.Fatal(err)
	}
	var p Progress
	if err := v.Get(&p); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps {
		if s.Name == stepProve && s.Ended.Sub(s.Started) < 90*time.Second {
			t.Errorf("the proof took %s, less than settle and window", s.Ended.Sub(s.Started))
		}
	}
}

func TestDeleteOfAnUnknownCluster(t *testing.T) {
	w := newFakeWorld()
	env := run(t, w, cluster.LifecycleID("nobody"), DeleteCluster, DeleteInput{Name: "nobody"}, nil)
	if err := env.GetWorkflowError(); kindOf(err) != fault.NotFound || !strings.Contains(err.Error(), `no cluster "nobody"`) {
		t.Errorf("error: %v", err)
	}
}

// Credentials that stop working park the workflow instead of failing it.
func TestUnauthorizedParksUntilResume(t *testing.T) {
	w := newFakeWorld()
	provisionDemo(t, w, nil)
	revoked := true
	w.change(func() {
		w.inject = func(op string, _ int) (error, error) {
			if op == "delete machine" && revoked {
				revoked = false
				return fault.New(fault.Unauthorized, op, "token revoked"), nil
			}
			return nil, nil
		}
	})
	env := newEnv(t, w, cluster.LifecycleID("demo"))
	env.RegisterDelayedCallback(func() {
		v, err := env.QueryWorkflow(QueryProgress)
		if err != nil {
			t.Error(err)
			return
		}
		var p Progress
		if err := v.Get(&p); err != nil || !strings.Contains(p.Parked, "token revoked") || !strings.Contains(p.Parked, SignalResume) {
			t.Errorf("parked: %q, %v", p.Parked, err)
		}
		env.SignalWorkflow(SignalResume, nil)
	}, time.Hour)
	env.ExecuteWorkflow(DeleteCluster, DeleteInput{Name: "demo"})
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	if len(w.machines) != 0 {
		t.Errorf("left: %v", w.machines)
	}
}
