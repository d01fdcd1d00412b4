package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// steps lists the runbook, as a run that is refused at once shows it.
func (s *system) steps() []string {
	s.t.Helper()
	c := s.spec("runbook")
	c.Spec.Cloud.Credentials = "env:NOT_SET_ANYWHERE"
	if r, err := s.Ichor(s.t.Context(), "provision", "-f", s.write(c)); err != nil || r.Code == codeOK {
		s.t.Fatalf("credentials that do not exist: %v %s", err, r)
	}
	p, ok := s.progress("runbook")
	if !ok {
		s.t.Fatal("the refused run does not answer")
	}
	var names []string
	for _, step := range p.Steps {
		names = append(names, step.Name)
	}
	if len(names) < 10 {
		s.t.Fatalf("the runbook has the steps %q", names)
	}
	return names
}

// TestCancelAtEachStep cancels a provisioning as soon as it is at a step: what
// was made is gone then, whatever was under way.
func TestCancelAtEachStep(t *testing.T) {
	s := start(t, nil)
	steps := s.steps()
	for i, step := range steps {
		t.Run(step, func(t *testing.T) {
			s, name := s.on(t), fmt.Sprintf("cancel-%d", i)
			s.ichor(codeOK, nil, "provision", "--detach", "-f", s.write(s.spec(name)))
			id := cluster.LifecycleID(name)
			at := s.untilStep(name, step)
			cancelErr := s.temporal.CancelWorkflow(t.Context(), id, "")
			err := s.runError(id, "")
			t.Logf("canceled when %q was %s: %v", step, at, err)
			if err == nil && i == len(steps)-1 {
				// The last step takes no time; a cancel that comes too late changes nothing.
				s.wantReady(name, map[string]int{"cp": 1, "general": 1})
				s.ichor(codeOK, nil, "delete", name)
				s.wantEmpty()
				return
			}
			var canceled *temporal.CanceledError
			if cancelErr != nil || !errors.As(err, &canceled) {
				t.Errorf("cancel: %v; the run ended with %v", cancelErr, err)
			}
			s.wantEmpty()
			s.wantNothingRuns(name)
			if got := s.status(name).Phase; got != cluster.PhaseDeleted {
				t.Errorf("phase %q after the rollback", got)
			}
		})
	}
}

// untilStep waits until a run has come to a step, and says how far it is there.
func (s *system) untilStep(name, step string) (at string) {
	s.t.Helper()
	s.until("the step "+step, func() bool {
		p, _ := s.progress(name)
		for _, st := range p.Steps {
			if st.Name == step && st.State != workflows.StepPending {
				at = strings.TrimSpace(string(st.State) + " " + st.Detail)
				return true
			}
		}
		return false
	})
	return at
}

// wantNothingRuns looks for entities and schedules of a cluster that outlived it.
func (s *system) wantNothingRuns(name string) {
	s.t.Helper()
	for _, group := range []string{cluster.ControlPlaneGroup, "general"} {
		d, err := s.temporal.DescribeWorkflowExecution(s.t.Context(), cluster.GroupID(name, group), "")
		if err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			s.t.Errorf("the group %s still runs", group)
		}
	}
}

// TestFailureAtEachCreate lets the account be full at each kind of resource.
func TestFailureAtEachCreate(t *testing.T) {
	s := start(t, nil)
	for i, c := range chosen.Creates {
		t.Run(c.Route+c.Contains, func(t *testing.T) {
			s, name := s.on(t), fmt.Sprintf("full-%d", i)
			s.fault(c.Fault())
			r := s.ichor(codeFailed, []string{"Quota", "everything that was created has been removed"}, "provision", "-f", s.write(s.spec(name)))
			if strings.Contains(r.Stderr, "ichor delete") {
				t.Errorf("something is said to remain: %s", r)
			}
			if s.clearFaults() == 0 {
				t.Errorf("no request was refused")
			}
			s.wantEmpty()
			s.wantNothingRuns(name)
		})
	}
}

func (s *system) fault(f map[string]any) {
	s.t.Helper()
	if _, err := s.Fault(s.t.Context(), f); err != nil {
		s.t.Fatal(err)
	}
}

// clearFaults makes the cloud behave again and returns how often it did not.
func (s *system) clearFaults() int {
	s.t.Helper()
	var faults []struct{ Fired int }
	err := s.Cloud(s.t.Context(), http.MethodGet, "_devcloud/faults", nil, &faults)
	if err == nil {
		err = s.ClearFaults(s.t.Context())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	fired := 0
	for _, f := range faults {
		fired += f.Fired
	}
	return fired
}

// TestCredentialsThatStopWorking revokes the credentials half-way: the run parks instead
// of failing, says so, and goes on when it is told to.
func TestCredentialsThatStopWorking(t *testing.T) {
	s := start(t, nil)
	s.fault(chosen.Unauthorized(chosen.Routes.LoadBalancer))
	s.ichor(codeOK, nil, "provision", "--detach", "-f", s.write(s.spec("parked")))
	s.until("the run parks", func() bool {
		p, _ := s.progress("parked")
		return p.Parked != ""
	})
	s.ichor(codeOK, []string{"Parked:", "load balancer", "ichor resume parked"}, "status", "parked")
	if a := s.account(); len(a.Kind(stack.Networks)) != 1 || len(a.Kind(stack.LoadBalancers)) != 0 {
		t.Errorf("a parked run holds what it has made, and nothing else: %s", a)
	}
	if s.clearFaults() == 0 {
		t.Error("no request was refused")
	}
	s.ichor(codeOK, nil, "resume", "parked")
	s.ichor(codeOK, []string{`Cluster "parked" is ready: 2 nodes`}, "watch", "parked")
	s.ichor(codeOK, nil, "delete", "parked")
	s.wantEmpty()
}
