package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

const rolled = "roll"

// upgrade brings a cluster through everything that a roll can be told and can
// meet: a plan, a refusal, approvals, a pause, a node that fails and is tried
// again, one that is left out, a cancellation, all kinds of work, and a surge.
func (r *recorder) upgrade(ctx context.Context) error {
	c, err := r.spec(rolled)
	if err != nil {
		return err
	}
	two := 2
	c.Spec.Talos.Version, c.Spec.Kubernetes.Version = "v1.13.9", "v1.35.2"
	c.Spec.NodeGroups = c.Spec.NodeGroups[:1]
	ng := &c.Spec.NodeGroups[0]
	ng.Min, ng.Max, ng.Count = 0, 5, &two
	change := activities.UpgradeChange{TalosVersion: "v1.14.1", KubernetesVersion: "v1.36.3"}
	single := plan.UpgradeStrategy{SingleControlPlane: true, Stable: cluster.Duration(time.Millisecond)}
	approve, surge := single, single
	approve.Approve = plan.ApproveNode
	surge.Groups = []plan.GroupStrategy{{Group: ng.Name, Surge: 1}}
	var worker string
	return all(ctx,
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c) },
		r.rolling("upgrade-plan", workflows.UpgradeInput{UpgradeChange: change, Strategy: single, PlanOnly: true}, ended),
		r.rolling("upgrade-refused", workflows.UpgradeInput{UpgradeChange: activities.UpgradeChange{TalosVersion: "v1.11.1"}}, refused),

		// Cancelled while the first worker waits for an approval.
		r.rolling("upgrade-cancelled", workflows.UpgradeInput{UpgradeChange: change, Strategy: approve}, nil,
			r.rollIs(func(s workflows.UpgradeStatus) bool { return s.Asks != "" }), r.tell(workflows.SignalPause), r.tell(workflows.SignalResume), r.tell(workflows.SignalApprove),
			r.rollIs(func(s workflows.UpgradeStatus) bool { return strings.Contains(s.Asks, "-"+ng.Name+"-") }),
			func(ctx context.Context) error {
				return r.temporal.CancelWorkflow(ctx, cluster.LifecycleID(rolled), "")
			}, r.over(cancelled)),

		// The rest, with a worker whose installer fails until somebody resumes.
		func(ctx context.Context) error { return r.breakInstaller(ctx, "-"+ng.Name+"-", 7) },
		r.rolling("upgrade-done", workflows.UpgradeInput{UpgradeChange: change, Strategy: single}, nil,
			r.rollIs(func(s workflows.UpgradeStatus) bool { return s.Parked != "" }),
			func(ctx context.Context) error { return r.keepFailed(ctx, "upgrade-node-failed") },
			func(ctx context.Context) error { return r.breakInstaller(ctx, "-"+ng.Name+"-", 0) },
			r.tell(workflows.SignalResume), r.over(ended)),
		func(ctx context.Context) error { return r.nodeRuns(ctx) },

		r.rolling("upgrade-surge", workflows.UpgradeInput{UpgradeChange: activities.UpgradeChange{Extensions: []string{"siderolabs/qemu-guest-agent"}}, Strategy: surge}, nil,
			r.rollIs(func(s workflows.UpgradeStatus) bool {
				for _, n := range s.Nodes {
					if n.State == plan.RollRunning && n.Group == ng.Name {
						worker = n.Workflow
					}
				}
				return worker != ""
			}),
			func(ctx context.Context) error { return r.keepRun(ctx, "upgrade-node-replace", worker) },
			r.over(ended)),
		r.deleting(rolled),
		r.saving("group-upgraded", cluster.GroupID(rolled, ng.Name)),
	)
}

func ended(err error) bool     { return err == nil }
func refused(err error) bool   { return err != nil && !temporal.IsCanceledError(err) }
func cancelled(err error) bool { return temporal.IsCanceledError(err) }

// rolling starts an upgrade, keeps its run, does the steps and, if as is given,
// waits for its end.
func (r *recorder) rolling(file string, in workflows.UpgradeInput, as func(error) bool, steps ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		in.Cluster = rolled
		_, err := r.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: cluster.LifecycleID(rolled), TaskQueue: workflows.TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
		}, workflows.TypeRollingUpgrade, in)
		if err == nil {
			err = r.keepRun(ctx, file, cluster.LifecycleID(rolled))
		}
		if err == nil && as != nil {
			steps = append(steps, r.over(as))
		}
		if err == nil {
			err = all(ctx, steps...)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	}
}

// over waits for the end of the upgrade that runs.
func (r *recorder) over(as func(error) bool) func(context.Context) error {
	return func(ctx context.Context) error {
		err := r.temporal.GetWorkflow(ctx, cluster.LifecycleID(rolled), "").Get(ctx, nil)
		if !as(err) {
			return fmt.Errorf("it ended in another way: %w", errors.Join(err, errors.New("that was not meant")))
		}
		return nil
	}
}

func (r *recorder) tell(op string) func(context.Context) error {
	return func(ctx context.Context) error {
		return r.request(ctx, op, workflows.UpgradeRequest{Reason: "recording"})
	}
}

func (r *recorder) request(ctx context.Context, op string, req workflows.UpgradeRequest) error {
	h, err := r.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: cluster.LifecycleID(rolled), UpdateName: op, Args: []any{req}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = h.Get(ctx, nil)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (r *recorder) rollIs(ok func(workflows.UpgradeStatus) bool) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		var s workflows.UpgradeStatus
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			v, err := r.temporal.QueryWorkflow(ctx, cluster.LifecycleID(rolled), "", workflows.QueryUpgrade)
			s = workflows.UpgradeStatus{}
			if err == nil && v.Get(&s) == nil && ok(s) {
				return nil
			}
		}
		return fmt.Errorf("the upgrade never came to the state that is to be recorded; it is at %+v: %w", s, ctx.Err())
	}
}

// breakInstaller has the installer of matching machines end with a code; 0 mends
// it.
func (r *recorder) breakInstaller(ctx context.Context, name string, code int) error {
	return r.faults(ctx, name, map[string]any{"installExitCode": code})
}

// faults are all that is wrong with matching machines from now on.
func (r *recorder) faults(ctx context.Context, name string, faults map[string]any) error {
	a, err := r.Account(ctx)
	if err != nil {
		return err
	}
	for _, s := range a.Machines() {
		if strings.Contains(s.Name, name) {
			if err := r.Break(ctx, s, faults); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepFailed keeps the run of the node that the upgrade has failed on.
func (r *recorder) keepFailed(ctx context.Context, file string) error {
	var s workflows.UpgradeStatus
	v, err := r.temporal.QueryWorkflow(ctx, cluster.LifecycleID(rolled), "", workflows.QueryUpgrade)
	if err == nil {
		err = v.Get(&s)
	}
	if err != nil {
		return err
	}
	for _, n := range s.Nodes {
		if n.State == plan.RollFailed {
			return r.keepRun(ctx, file, n.Workflow)
		}
	}
	return fmt.Errorf("no node failed: %+v", s.Nodes)
}

// nodeRuns keeps the last run of each node: kubelets, that is.
func (r *recorder) nodeRuns(ctx context.Context) error {
	a, err := r.Account(ctx)
	if err != nil {
		return err
	}
	for _, s := range a.Machines() {
		if strings.Contains(s.Name, "-cp-") {
			return r.allRuns(ctx, cluster.NodeWorkID(rolled, s.Name))
		}
	}
	return errors.New("there is no control plane")
}

// allRuns keeps every run that there was under an id.
func (r *recorder) allRuns(ctx context.Context, id string) error {
	list, err := r.temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowId = '" + id + "'"})
	if err != nil {
		return err
	}
	for i, e := range list.GetExecutions() {
		r.keeps = append(r.keeps, kept{fmt.Sprintf("upgrade-node-%d", len(list.GetExecutions())-i), id, e.GetExecution().GetRunId()})
	}
	if len(list.GetExecutions()) < 4 {
		return fmt.Errorf("%s had %d runs only", id, len(list.GetExecutions()))
	}
	return nil
}
