package main

import (
	"context"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// Exit codes of the command line: docs/reference/cli.md.
const (
	codeOK     = 0
	codeFailed = 1
)

// all runs steps until one fails.
func all(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) saving(file, id string) func(context.Context) error {
	return func(ctx context.Context) error { return r.keepRun(ctx, file, id) }
}

func (r *recorder) deleting(name string) func(context.Context) error {
	return func(ctx context.Context) error { return r.ichor(ctx, codeOK, "delete", name) }
}

// life is a cluster from its creation to its deletion, and what belongs to it.
func (r *recorder) life(ctx context.Context) error {
	c, err := r.spec("life")
	if err != nil {
		return err
	}
	id := cluster.LifecycleID("life")
	return all(ctx,
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c) },
		r.saving("provision-success", id),
		func(ctx context.Context) error { return r.keepImage(ctx, "image-hold") },
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c) },
		r.saving("provision-unchanged", id),
		r.sweep,
		r.deleting("life"),
		r.saving("delete", id),
		r.saving("group-control-plane", cluster.GroupID("life", cluster.ControlPlaneGroup)),
		r.saving("group-workers", cluster.GroupID("life", "general")),
		func(ctx context.Context) error { return r.keepImage(ctx, "image-release") },
		r.deleting("life"),
		r.saving("delete-again", id),
	)
}

// keepImage remembers the latest run that held the lock of an image.
func (r *recorder) keepImage(ctx context.Context, file string) error {
	return r.keepLatest(ctx, file, workflows.TypeHoldImage)
}

// keepLatest remembers the run of a type that began last.
func (r *recorder) keepLatest(ctx context.Context, file, kind string) error {
	for ctx.Err() == nil {
		// Visibility follows with a delay.
		list, err := r.temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowType = %q", kind)})
		if err != nil {
			return err
		}
		latest := -1
		for i, e := range list.GetExecutions() {
			if latest < 0 || e.GetStartTime().AsTime().After(list.GetExecutions()[latest].GetStartTime().AsTime()) {
				latest = i
			}
		}
		if latest < 0 {
			continue
		}
		e := list.GetExecutions()[latest]
		if e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			if err := r.temporal.GetWorkflow(ctx, e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId()).Get(ctx, nil); err != nil {
				return err
			}
		}
		r.keeps = append(r.keeps, kept{file, e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId()})
		return nil
	}
	return ctx.Err()
}

// sweep triggers what the cluster's schedule would start by itself.
func (r *recorder) sweep(ctx context.Context) error {
	err := r.temporal.ScheduleClient().GetHandle(ctx, cluster.SweepID("life")).Trigger(ctx, client.ScheduleTriggerOptions{})
	if err != nil {
		return err
	}
	return r.keepLatest(ctx, "sweep", workflows.TypeSweepOrphans)
}

func (r *recorder) full(ctx context.Context, contains string) error {
	_, err := r.Fault(ctx, r.home.Making(r.home.Routes.Machine, contains).Fault())
	return err
}

// rollback fails late, so that there is everything to undo.
func (r *recorder) rollback(ctx context.Context) error {
	c, err := r.spec("rollback")
	if err != nil {
		return err
	}
	return all(ctx,
		func(ctx context.Context) error { return r.full(ctx, "-general-") },
		func(ctx context.Context) error { return r.provision(ctx, codeFailed, c) },
		r.ClearFaults,
		r.saving("provision-rollback", cluster.LifecycleID("rollback")),
		r.saving("group-failed", cluster.GroupID("rollback", "general")),
	)
}

// cancel stops a run while machines come up.
func (r *recorder) cancel(ctx context.Context) error {
	c, err := r.spec("cancel")
	if err != nil {
		return err
	}
	id := cluster.LifecycleID("cancel")
	return all(ctx,
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c, "--detach") },
		func(ctx context.Context) error { return r.at(ctx, "cancel", "machine API") },
		func(ctx context.Context) error { return r.temporal.CancelWorkflow(ctx, id, "") },
		func(ctx context.Context) error {
			err := r.temporal.GetWorkflow(ctx, id, "").Get(ctx, nil)
			var canceled *temporal.CanceledError
			switch {
			case err == nil:
				return errors.New("the canceled run succeeded")
			case !errors.As(err, &canceled):
				return fmt.Errorf("the canceled run failed: %w", err)
			}
			return nil
		},
		r.saving("provision-cancel", id),
	)
}

// keep fails and keeps, is gone on with, and is deleted.
func (r *recorder) keep(ctx context.Context) error {
	c, err := r.spec("keep")
	if err != nil {
		return err
	}
	c.Spec.OnFailure = cluster.OnFailureKeep
	id := cluster.LifecycleID("keep")
	return all(ctx,
		func(ctx context.Context) error { return r.full(ctx, "-cp-") },
		func(ctx context.Context) error { return r.provision(ctx, codeFailed, c) },
		r.saving("provision-keep", id),
		r.ClearFaults,
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c) },
		r.saving("provision-resumed", id),
		r.deletingParked("keep"),
		r.saving("delete-kept-parked", id),
	)
}

// deletingParked revokes the token while a cluster is being deleted, and gives it
// back when the run has parked.
func (r *recorder) deletingParked(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := r.Fault(ctx, r.home.Unauthorized(r.home.Routes.DeleteMachine))
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() { done <- r.ichor(ctx, codeOK, "delete", name) }()
		if err := r.parks(ctx, name); err != nil {
			return err
		}
		if err := r.ClearFaults(ctx); err != nil {
			return err
		}
		if err := r.ichor(ctx, codeOK, "resume", name); err != nil {
			return err
		}
		return <-done
	}
}

// refusals are starts under the wrong id, by tools that choose one.
func (r *recorder) refusals(ctx context.Context) error {
	c, err := r.spec("refused")
	if err != nil {
		return err
	}
	c.Spec.Talos.Patches, c.Spec.Manifests = nil, nil // what is sent past the command line is Temporal's
	for _, start := range []struct {
		file, kind string
		in         any
	}{
		{"provision-refused", workflows.TypeProvisionCluster, c},
		{"delete-refused", workflows.TypeDeleteCluster, workflows.DeleteInput{Name: "refused"}},
	} {
		run, err := r.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "wrong-" + start.file, TaskQueue: workflows.TaskQueue}, start.kind, start.in)
		if err != nil {
			return err
		}
		if err := run.Get(ctx, nil); err == nil {
			return fmt.Errorf("%s under a wrong id succeeded", start.kind)
		}
		r.keeps = append(r.keeps, kept{start.file, run.GetID(), run.GetRunID()})
	}
	return nil
}
