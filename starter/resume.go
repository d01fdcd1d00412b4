package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

func newResume(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "resume NAME | CLUSTER/GROUP",
		Short: "Tell parked runs of a cluster to try again, or end the pause of an upgrade or a node group",
		Long: `resume NAME tells everything of a cluster that waits for it to try again, after the
cause is fixed: its lifecycle run, its node groups and the image that it imports.
Node groups that somebody has paused stay paused. Of an upgrade it ends the pause, and
has parked and failed nodes tried again.

resume CLUSTER/GROUP ends the pause of one group, and has it try again what failed.`,
		Args: cobra.ExactArgs(1),
	}
	var flags requestFlags
	flags.add(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.Contains(args[0], "/") {
			return a.steer(cmd.Context(), args[0], workflows.SignalResume, flags)
		}
		given := ""
		for _, f := range []string{"reason", "request-id", "timeout"} {
			if cmd.Flags().Changed(f) {
				given = f
			}
		}
		return a.resume(cmd.Context(), args[0], flags, given)
	}
	return c
}

// resume tells all that may be parked for a cluster. An upgrade answers; the
// flags are for it only, and given is one of them that was set.
func (a *app) resume(ctx context.Context, name string, flags requestFlags, given string) error {
	if err := flags.complete(); err != nil {
		return err
	}
	st, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }() // nothing is buffered
	rec, err := record(ctx, st, name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	t, l, err := a.dialRun(ctx, name)
	if err != nil {
		return err
	}
	defer t.Close()
	upgrading := l != nil && l.Running && l.Type == workflows.TypeRollingUpgrade
	if given != "" && !upgrading {
		return usageError{fmt.Errorf("--%s goes with CLUSTER/GROUP or a running upgrade only", given)}
	}
	var ids []string
	if !upgrading {
		ids = append(ids, cluster.LifecycleID(name))
	}
	var paused []string
	for _, g := range groupsOf(name, rec) {
		if _, memo, err := a.memo(ctx, t, g); err == nil && memo.Paused {
			paused = append(paused, g.String())
			continue
		}
		ids = append(ids, g.workflowID())
	}
	children, err := heldByRun(ctx, t, name, rec)
	if err != nil {
		return err
	}
	told := 0
	for _, id := range append(ids, children...) {
		err := t.SignalWorkflow(ctx, id, "", workflows.SignalResume, nil)
		switch {
		case err == nil:
			told++
		case !ended(err):
			return temporalFault("resume "+id, err)
		}
	}
	answer := workflows.UpgradeAnswer{}
	if upgrading {
		// Last, since its refusal is the answer: it neither is paused nor parked.
		if answer, err = a.tell(ctx, t, name, "", workflows.SignalResume, workflows.UpgradeRequest{RequestID: flags.id, Reason: flags.reason}, flags.timeout); err != nil {
			return err
		}
		told++
	}
	if told == 0 && len(paused) == 0 {
		return fault.New(fault.NotFound, "resume cluster "+name, "nothing runs for it")
	}
	if a.cfg.Output == outputJSON {
		out := map[string]any{"told": told, "paused": append([]string{}, paused...)}
		if upgrading {
			out["upgrade"], out["requestID"] = answer.Message, flags.id
		}
		return a.printJSON(out)
	}
	fmt.Fprintf(a.out, "Told %s to go on.\n", count(told, "run"))
	if upgrading {
		fmt.Fprintf(a.out, "The upgrade: %s\n", printable(answer.Message))
	}
	for _, g := range paused {
		fmt.Fprintf(a.out, "%s is paused and stays so; end that with: ichor resume %s\n", g, g)
	}
	return nil
}

// heldByRun are the workflow ids of what the lifecycle run of a cluster waits for:
// nodes that its upgrade works on, running image imports and releases, and whoever
// else holds its image, since the run waits its turn behind that.
func heldByRun(ctx context.Context, t client.Client, name string, rec cluster.Record) ([]string, error) {
	var out []string
	d, err := t.DescribeWorkflowExecution(ctx, cluster.LifecycleID(name), "")
	if err != nil && !ended(err) {
		return nil, temporalFault("look for runs of cluster "+name, err)
	}
	for _, child := range d.GetPendingChildren() {
		if kind := child.GetWorkflowTypeName(); kind == workflows.TypeHoldImage || kind == workflows.TypeUpgradeNode {
			out = append(out, child.GetWorkflowId())
		}
	}
	if rec.Frozen.Image == "" || d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return out, nil
	}
	image := "/" + rec.Frozen.Image + "-" + rec.Spec.Cloud.Zone
	for page := []byte(nil); ; {
		r, err := t.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: "WorkflowType = '" + workflows.TypeHoldImage + "' AND ExecutionStatus = 'Running'", NextPageToken: page,
		})
		var unsupported *serviceerror.InvalidArgument
		if errors.As(err, &unsupported) {
			return out, nil // standard visibility without lists by type; the children are known anyhow
		}
		if err != nil {
			return nil, temporalFault("look for imports of the image", err)
		}
		for _, e := range r.GetExecutions() {
			if id := e.GetExecution().GetWorkflowId(); strings.HasSuffix(id, image) && !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
		if page = r.GetNextPageToken(); len(page) == 0 {
			return out, nil
		}
	}
}
