package workflows

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// Cancelled while it drains, a node is left as it was; after the reboot it is
// seen through. The report says what was done.
func TestUpgradeCancel(t *testing.T) {
	for _, at := range []string{"drain", "boot"} {
		t.Run(at, func(t *testing.T) {
			f := newFleet(1, 3, v13, plan.Versions{Talos: v14.Talos, Schematic: "s1", Kubernetes: v13.Kubernetes})
			var env *testsuite.TestWorkflowEnvironment
			f.refuse = func(action, node string, n int) error {
				if action == at && node == "demo-worker-01" && n == 1 {
					env.CancelWorkflow()
					time.Sleep(10 * time.Millisecond)
				}
				return nil
			}
			_, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true}}, map[time.Duration]act{
				0: func(e *testsuite.TestWorkflowEnvironment) { env = e },
			})
			if !temporal.IsCanceledError(err) {
				t.Fatalf("%v", err)
			}
			if f.nodes[2].Talos == v14.Talos != (at == "boot") || f.nodes[3].Talos != v13.Talos || f.nodes[1].Talos != v14.Talos {
				t.Errorf("%v", f.log)
			}
		})
	}
}

// Cancelled while it asks, it ends at once.
func TestUpgradeCancelWhileItAsks(t *testing.T) {
	f := newFleet(1, 2, v13, v14)
	_, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true, Approve: plan.ApproveNode}}, map[time.Duration]act{
		time.Hour: func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(SignalApprove, UpgradeRequest{}) },
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := upgradeStatus(t, env); !strings.Contains(s.Asks, "demo-worker-00") {
				t.Errorf("asks %q", s.Asks)
			}
			env.CancelWorkflow()
		},
	})
	if !temporal.IsCanceledError(err) || f.nodes[0].Talos != v14.Talos || f.nodes[1].Talos != v13.Talos {
		t.Errorf("%v, %v", err, f.log)
	}
}

// What fails for the cluster as a whole parks, too, once something was changed:
// nobody else gets the lock, and resume finishes it.
func TestUpgradeParksInTheMiddle(t *testing.T) {
	f := newFleet(1, 1, v13, v14)
	f.refuse = func(action, node string, n int) error {
		if action == "pull" && node == "demo-worker-00" && f.nodes[1].Talos == v14.Talos && n == 2 {
			return temporal.NewNonRetryableApplicationError("no such image", string(fault.Invalid), nil)
		}
		return nil
	}
	out, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true}}, map[time.Duration]act{
		time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := upgradeStatus(t, env); !strings.Contains(s.Parked, "no such image") || !strings.Contains(s.Parked, "Kubernetes") {
				t.Errorf("parked: %q", s.Parked)
			}
			env.SignalWorkflow(SignalResume, nil)
		},
	})
	if err != nil || out.To != v14 || f.counts["reboot demo-worker-00"] != 1 {
		t.Errorf("%+v, %v, %v", out, err, f.log)
	}
}

// A long history goes on in a new run, at a moment when no node is at work, and
// with what people have decided. What Temporal proposes is too early for a roll.
func TestUpgradeContinuesAsNew(t *testing.T) {
	for _, tc := range []struct {
		name         string
		length, size int
		version      workflow.Version
		goesOn       bool // in the same run
	}{
		{name: "proposed", length: longRoll, size: longRollBytes, version: 1, goesOn: true},
		{name: "many events", length: longRoll + 1, version: 1},
		{name: "many bytes", size: longRollBytes + 1, version: 1},
		{name: "a run of before", version: workflow.DefaultVersion},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFleet(1, 6, v13, v14)
			f.versions = map[string]workflow.Version{changeLongRolls: tc.version}
			out, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true, Approve: plan.ApproveLeg}}, map[time.Duration]act{
				time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
					env.SignalWorkflow(SignalSkipNode, UpgradeRequest{Node: "demo-worker-05"})
					env.SignalWorkflow(SignalApprove, UpgradeRequest{})
					env.SetContinueAsNewSuggested(true)
					env.SetCurrentHistoryLength(tc.length)
					env.SetCurrentHistorySize(tc.size)
				},
				2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(SignalApprove, UpgradeRequest{}) },
			})
			if tc.goesOn {
				if err != nil || out.To != v14 || out.Upgraded != 6 {
					t.Errorf("%+v, %v, %v", out, err, f.log)
				}
				return
			}
			var next *workflow.ContinueAsNewError
			if !errors.As(err, &next) {
				t.Fatalf("%v, %v", err, f.log)
			}
			var in UpgradeInput
			if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &in); err != nil {
				t.Fatal(err)
			}
			if in.problem != "" || in.Cluster != "demo" || in.State == nil || !slices.Contains(in.State.Skipped, "worker05") || len(in.State.Approved) != 1 || in.State.From != v13 {
				t.Errorf("carried: %+v", in)
			}
		})
	}
}

// Requests that make no sense are refused with the reason.
func TestUpgradeRefusesRequests(t *testing.T) {
	f := newFleet(1, 2, v13, v14)
	answers := map[string]string{}
	ask := func(env *testsuite.TestWorkflowEnvironment, op, id string, req UpgradeRequest) {
		update(env, t, op, id, req, func(a UpgradeAnswer, err error) {
			answers[id] = a.Message
			if err != nil {
				answers[id] = err.Error()
			}
		})
	}
	_, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{Approve: plan.ApproveLeg, SingleControlPlane: true}}, map[time.Duration]act{
		time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			ask(env, SignalResume, "resume", UpgradeRequest{})
			ask(env, SignalSkipNode, "skip", UpgradeRequest{Node: "other"})
			ask(env, SignalPause, "pause", UpgradeRequest{})
			ask(env, SignalApprove, "approve", UpgradeRequest{})
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			ask(env, SignalApprove, "again", UpgradeRequest{})
			ask(env, SignalPause, "pause again", UpgradeRequest{})
			if len(f.log) > 2 {
				t.Errorf("a node was begun while paused: %v", f.log)
			}
			ask(env, SignalResume, "resume now", UpgradeRequest{})
		},
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { ask(env, SignalApprove, "second", UpgradeRequest{}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"resume": "neither paused nor parked", "skip": "has no node", "pause": "paused:", "approve": "approved: Talos",
		"again": "nothing waits", "pause again": "paused already", "resume now": "resumed", "second": "approved: Kubernetes",
	} {
		if !strings.Contains(answers[id], want) {
			t.Errorf("%s: %q, want %q", id, answers[id], want)
		}
	}
}

// A node that is behind however often it was worked on is not passed over: the run
// parks and names it, and leaving it out ends it.
func TestUpgradeParksWithWhatStaysBehind(t *testing.T) {
	f := newFleet(1, 2, v13, plan.Versions{Talos: v14.Talos, Schematic: "s1", Kubernetes: v13.Kubernetes})
	f.refuse = func(action, node string, _ int) error {
		if action == "boot" && node == "demo-worker-01" {
			f.relapse = "demo-worker-01"
		}
		return nil
	}
	out, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true}}, map[time.Duration]act{
		100 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := upgradeStatus(t, env); !strings.Contains(s.Parked, "still behind: demo-worker-01") {
				t.Errorf("parked: %q", s.Parked)
			}
			env.SignalWorkflow(SignalSkipNode, UpgradeRequest{Node: "demo-worker-01"})
		},
	})
	if err != nil || !slices.Equal(out.Skipped, []string{"demo-worker-01"}) || out.Upgraded != 3 {
		t.Errorf("%+v, %v, %v", out, err, f.counts)
	}
}

// A run that goes on in the middle knows that something was changed: it does not
// ask the pre-flight again, and what goes wrong parks it.
func TestUpgradeGoesOnInTheMiddle(t *testing.T) {
	f := newFleet(1, 2, v13, v14)
	f.problems = []plan.Refusal{{Field: "demo-worker-00", Reason: "is cordoned"}}
	f.refuse = func(action, _ string, n int) error {
		if action == "snapshot" && n == 1 {
			return temporal.NewNonRetryableApplicationError("no such store", string(fault.Invalid), nil)
		}
		return nil
	}
	in := UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true}, State: &UpgradeState{Begun: true, From: v13}}
	out, err := f.run(t, in, map[time.Duration]act{
		time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := upgradeStatus(t, env); !strings.Contains(s.Parked, "no such store") {
				t.Errorf("parked: %q", s.Parked)
			}
			env.SignalWorkflow(SignalResume, nil)
		},
	})
	if err != nil || out.To != v14 {
		t.Errorf("%+v, %v", out, err)
	}
}
