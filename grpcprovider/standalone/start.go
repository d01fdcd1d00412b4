package standalone

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
}

// StartOptions say where entities are started.
type StartOptions struct {
	// TaskQueue of the workers; default workflows.TaskQueue.
	TaskQueue string
	// Converter is the client's; default the SDK's.
	Converter converter.DataConverter
	Log       *slog.Logger
}

// Start makes sure that the entity of every group runs with the input of the
// file. It starts what does not run, leaves alone what runs with the same input,
// and is safe to repeat and to do twice at once: a workflow id exists once.
//
// Conflict means that an entity runs with another input; it names the fields
// and what to do. Entities of other groups have been started nevertheless.
// Unavailable (Temporal cannot be asked, a group of the name is being deleted)
// may be tried again.
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
			if err := o.compare(ctx, c, id, run, in); err != nil {
				return err
			}
			log.InfoContext(ctx, "the group's entity runs already", "run", run.id)
			return nil
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

// compare says in what a running entity differs from the file.
func (o StartOptions) compare(ctx context.Context, c Temporal, id string, run *latestRun, want workflows.GroupInput) error {
	op := "start " + id
	events := c.GetWorkflowHistory(ctx, id, run.id, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !events.HasNext() {
		return fault.New(fault.Unavailable, op, "its history is empty")
	}
	first, err := events.Next()
	if err != nil {
		return temporalFault("read the history of "+id, err)
	}
	begun := first.GetWorkflowExecutionStartedEventAttributes()
	if begun.GetWorkflowType().GetName() != workflows.TypeScaleNodeGroup {
		return fault.New(fault.Conflict, op, "a workflow of type %q has this id", begun.GetWorkflowType().GetName())
	}
	var have workflows.GroupInput
	if err := o.Converter.FromPayloads(begun.GetInput(), &have); err != nil {
		return fault.New(fault.Conflict, op, "the input of the running entity cannot be read; is it encrypted with other keys? (%v)", err)
	}
	if have.Standalone == nil {
		return fault.New(fault.Conflict, op, "it belongs to a cluster that Ichor made; serve that with --cluster %s, or give this one another name", want.Cluster.Name)
	}
	changed := differences(have, want)
	if len(changed) == 0 {
		return nil
	}
	message := fmt.Sprintf("it runs with another %s than the file has. Put the file back", strings.Join(changed, ", "))
	if have.Cluster == want.Cluster {
		message += fmt.Sprintf("; or, to let the group go on as the file says (its machines stay, and are found again by their tags), run\n"+
			"  temporal workflow terminate --workflow-id %s --reason 'new configuration'\nand start the provider again", id)
	}
	return fault.New(fault.Conflict, op, "%s", message)
}

// differences names the fields of the file in which two inputs differ. What
// entities change by themselves does not count.
func differences(have, want workflows.GroupInput) []string {
	var out []string
	for _, f := range []struct {
		field      string
		have, want any
	}{
		{"cloud", have.Cloud.Provider, want.Cloud.Provider},
		{"credentials", have.Cloud.Credentials, want.Cloud.Credentials},
		{"cluster", have.Cluster, want.Cluster},
		{"zone", have.Zone, want.Zone},
		{"flavor", have.Flavor, want.Flavor},
		{"image", have.ImageID, want.ImageID},
		{"min", have.Min, want.Min},
		{"max", have.Max, want.Max},
		{"diskGiB", have.DiskGiB, want.DiskGiB},
		{"networks", have.Networks, want.Networks},
		{"subnets", have.Subnets, want.Subnets},
		{"tags", have.Tags, want.Tags},
		{"antiAffinity", have.Spread, want.Spread},
		{"alternatives", have.Alternatives, want.Alternatives},
		{"autoscaling", have.Autoscaling, want.Autoscaling},
		{"kubeconfig", have.Standalone.Kube, want.Standalone.Kube},
		{"userData", have.Standalone.UserData, want.Standalone.UserData},
		{"tag", []any{have.Standalone.AdoptTag, have.Standalone.AdoptAlso}, []any{want.Standalone.AdoptTag, want.Standalone.AdoptAlso}},
		{"labels", have.Standalone.Labels, want.Standalone.Labels},
		{"taints", have.Standalone.Taints, want.Standalone.Taints},
	} {
		if !same(f.have, f.want) {
			out = append(out, f.field)
		}
	}
	// Another uid is a consequence of other credentials, or of another cloud.
	if slices.Contains(out, "credentials") || slices.Contains(out, "cloud") {
		out = slices.DeleteFunc(out, func(s string) bool { return s == "cluster" || s == "kubeconfig" })
	}
	return out
}

// same compares as the inputs travel, so that absent and empty are one.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	blank := func(s []byte) string {
		if t := string(s); t != "[]" && t != "{}" {
			return t
		}
		return "null"
	}
	return errX == nil && errY == nil && blank(x) == blank(y)
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
