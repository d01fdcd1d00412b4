package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// lifecycle is the latest run under a cluster's lock.
type lifecycle struct {
	Type    string    `json:"type"`
	RunID   string    `json:"runID"`
	Status  string    `json:"status"`
	Started time.Time `json:"started"`
	Running bool      `json:"running"`
}

// describe returns the latest lifecycle run of a cluster, nil when Temporal
// knows none (there never was one, or its retention is over).
func describe(ctx context.Context, c client.Client, name string) (*lifecycle, error) {
	d, err := c.DescribeWorkflowExecution(ctx, cluster.LifecycleID(name), "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, temporalFault("look for runs of cluster "+name, err)
	}
	info := d.GetWorkflowExecutionInfo()
	return &lifecycle{
		Type: info.GetType().GetName(), RunID: info.GetExecution().GetRunId(),
		Status:  strings.ToLower(info.GetStatus().String()),
		Started: info.GetStartTime().AsTime(), Running: info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
	}, nil
}

// dialRun connects to Temporal and describes the latest lifecycle run of a cluster.
// The caller closes the client.
func (a *app) dialRun(ctx context.Context, name string) (client.Client, *lifecycle, error) {
	t, err := a.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	l, err := describe(ctx, t, name)
	if err != nil {
		t.Close()
		return nil, nil, err
	}
	return t, l, nil
}

// start begins a workflow under the cluster's lock. Conflict names the run that
// holds it.
func (a *app) start(ctx context.Context, c client.Client, name, kind, summary, details string, attributes []temporal.SearchAttributeUpdate, in any) (client.WorkflowRun, error) {
	attributes = append(attributes, workflows.AttrCluster.ValueSet(name), workflows.AttrKind.ValueSet("lifecycle"))
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: cluster.LifecycleID(name), TaskQueue: a.cfg.TaskQueue,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		TypedSearchAttributes:                    temporal.NewSearchAttributes(attributes...),
		StaticSummary:                            summary,
		StaticDetails:                            details,
	}, kind, in)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	switch {
	case err == nil:
		return run, nil
	case errors.As(err, &started):
		return nil, locked(ctx, c, name, started.RunId)
	}
	return nil, temporalFault("start "+kind, err)
}

// locked says who holds the lock, as well as can be found out.
func locked(ctx context.Context, c client.Client, name, runID string) error {
	who := "another run"
	if l, err := describe(ctx, c, name); err == nil && l != nil && l.RunID == runID {
		who = fmt.Sprintf("%s, running since %s,", l.Type, l.Started.Local().Format(time.DateTime))
	}
	return fault.New(fault.Conflict, "lock cluster "+name,
		"%s holds the lock (workflow %s, run %s); see it with: ichor watch %s", who, cluster.LifecycleID(name), runID, name)
}

// searchAttribute finds the server's complaints about a search attribute that it
// does not have, when it is set and when it is asked for.
var searchAttribute = regexp.MustCompile(`(?i)search attribute|column name '?Ichor`)

// temporalFault gives an error of Temporal's API a kind and one line.
func temporalFault(op string, err error) error {
	if err == nil {
		return nil
	}
	kind := fault.Internal
	var unavailable *serviceerror.Unavailable
	var denied *serviceerror.PermissionDenied
	var namespace *serviceerror.NamespaceNotFound
	var deadline *serviceerror.DeadlineExceeded
	var invalid *serviceerror.InvalidArgument
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &invalid) && searchAttribute.MatchString(invalid.Message):
		return fault.New(fault.Unavailable, op, "the namespace does not know Ichor's search attributes; start ichor-worker once, it adds them")
	case errors.As(err, &denied):
		kind = fault.Unauthorized
	case errors.As(err, &unavailable), errors.As(err, &deadline), errors.Is(err, context.DeadlineExceeded), errors.As(err, &namespace):
		kind = fault.Unavailable
	}
	text := plain(err).Error()
	if errors.As(err, &deadline) || errors.Is(err, context.DeadlineExceeded) {
		text = "no answer in time"
	}
	return fault.New(kind, op, "%s", text)
}

// progressOf asks a lifecycle run how far it is. It needs a worker, also for
// runs that have ended.
func progressOf(ctx context.Context, c client.Client, name, runID string) (workflows.Progress, error) {
	var p workflows.Progress
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	v, err := c.QueryWorkflow(ctx, cluster.LifecycleID(name), runID, workflows.QueryProgress)
	if err != nil {
		return p, temporalFault("ask for progress", err)
	}
	return p, v.Get(&p)
}

// queryTimeout is longer than a loaded worker takes and shorter than patience.
const queryTimeout = 5 * time.Second
