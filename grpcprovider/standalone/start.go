package standalone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// Temporal is the part of a client that is needed.
type Temporal interface {
	ExecuteWorkflow(ctx context.Context, options client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error)
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
	GetWorkflowHistory(ctx context.Context, workflowID, runID string, isLongPoll bool, filter enumspb.HistoryEventFilterType) client.HistoryEventIterator
	SignalWorkflow(ctx context.Context, workflowID, runID, signalName string, arg any) error
}

// StartOptions say where entities are started.
type StartOptions struct {
	// TaskQueue of the workers; default workflows.TaskQueue.
	TaskQueue string
	// Converter is the client's; default the SDK's.
	Converter converter.DataConverter
	Log       *slog.Logger
}

// Start makes sure that the entity of every group runs and is what the file
// says. It starts what does not run, leaves alone what runs so, and tells what
// runs otherwise to go on as the file says: its machines stay, and those made
// from then on are different. It is safe to repeat and to do twice at once: a
// workflow id exists once, and an entity that is told what it is does nothing.
// It does not wait for an entity to hear; that needs a worker.
//
// Conflict means that an entity cannot become what the file says; it names the
// fields and what to do. Entities of other groups have been started or told
// nevertheless. Unavailable (Temporal cannot be asked, an entity ends at the
// moment) may be tried again.
func Start(ctx context.Context, c Temporal, s Setup, o StartOptions) error {
	o.TaskQueue = cmp.Or(o.TaskQueue, workflows.TaskQueue)
	if o.Converter == nil {
		o.Converter = converter.GetDefaultDataConverter()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, note := range s.Notes {
		o.Log.InfoContext(ctx, "stand-alone groups: "+note, "cluster", s.Cluster.Name)
	}
	var conflicts []error
	for _, in := range s.Groups {
		err := o.ensure(ctx, c, in)
		switch {
		case fault.Is(err, fault.Conflict):
			conflicts = append(conflicts, err)
		case err != nil:
			return err
		}
	}
	return fault.Wrap(fault.Conflict, "", errors.Join(conflicts...))
}

func (o StartOptions) ensure(ctx context.Context, c Temporal, in workflows.GroupInput) error {
	id := cluster.GroupID(in.Cluster.Name, in.Group)
	log := o.Log.With("group", in.Cluster.Name+"/"+in.Group, "workflow", id)
	// One more turn for an entity that ends between the two questions.
	for range 2 {
		run, err := latest(ctx, c, id)
		if err != nil {
			return err
		}
		if run != nil && run.running {
			err := o.conform(ctx, c, id, run, in, log)
			var ended *serviceerror.NotFound
			if errors.As(err, &ended) {
				continue
			}
			return err
		}
		in.Resumed = run != nil
		runID, err := o.start(ctx, c, id, in)
		if err == nil {
			log.InfoContext(ctx, "started the group's entity", "run", runID, "min", in.Min, "max", in.Max)
			return nil
		}
		var started *serviceerror.WorkflowExecutionAlreadyStarted
		if !errors.As(err, &started) {
			return err
		}
	}
	return fault.New(fault.Unavailable, "start "+id, "it keeps ending and beginning; somebody else is at work")
}

func (o StartOptions) start(ctx context.Context, c Temporal, id string, in workflows.GroupInput) (runID string, err error) {
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: o.TaskQueue,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			workflows.AttrCluster.ValueSet(in.Cluster.Name), workflows.AttrKind.ValueSet("group"), workflows.AttrCloud.ValueSet(in.Cloud.Provider),
		),
		StaticSummary: fmt.Sprintf("%d to %d machines %s for %s", in.Min, in.Max, in.Flavor, in.Cluster.Name),
		StaticDetails: "A group of a cluster that was built by other means; its file is the grpcprovider's.",
	}, workflows.TypeScaleNodeGroup, in)
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	var invalid *serviceerror.InvalidArgument
	switch {
	case err == nil:
		return run.GetRunID(), nil
	case errors.As(err, &started):
		return "", err
	case errors.As(err, &invalid) && strings.Contains(strings.ToLower(invalid.Message), "search attribute"):
		return "", fault.New(fault.Unavailable, "start "+id, "the namespace does not know Ichor's search attributes yet; ichor-worker adds them when it starts")
	}
	return "", temporalFault("start "+id, err)
}

// latestRun is the latest run under a workflow id.
type latestRun struct {
	id      string
	running bool
}

func latest(ctx context.Context, c Temporal, id string) (*latestRun, error) {
	d, err := c.DescribeWorkflowExecution(ctx, id, "")
	var missing *serviceerror.NotFound
	switch {
	case errors.As(err, &missing):
		return nil, nil
	case err != nil:
		return nil, temporalFault("look for "+id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	return &latestRun{
		id:      info.GetExecution().GetRunId(),
		running: info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
	}, nil
}

// temporalFault gives an error of Temporal's API a kind. Whatever is not
// certain to stay wrong may be tried again.
func temporalFault(op string, err error) error {
	var denied *serviceerror.PermissionDenied
	var invalid *serviceerror.InvalidArgument
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &denied):
		return fault.Wrap(fault.Unauthorized, op, err)
	case errors.As(err, &invalid):
		return fault.Wrap(fault.Invalid, op, err)
	}
	return fault.Wrap(fault.Unavailable, op, err)
}
