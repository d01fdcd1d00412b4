package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// clusterName names a cluster in messages about requests to its upgrade.
type clusterName string

func (n clusterName) String() string { return "cluster " + string(n) }

func newApprove(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "approve NAME [NODE]",
		Short: "Let an upgrade go on that asks for approval",
		Long: `approve lets an upgrade go on that was started with --approve leg or --approve node
and asks before its next step. With NODE it approves only if that node is asked for,
so that an answer that comes late does not approve something else.`,
		Args: cobra.RangeArgs(1, 2),
	}
	return steering(a, c, workflows.SignalApprove)
}

func newSkipNode(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "skip-node NAME NODE",
		Short: "Have an upgrade leave a node out",
		Long: `skip-node has a running upgrade leave a node out: one whose turn has not come, that has
failed, or that is parked. A parked one is brought back to a safe point and uncordoned
first. The node keeps what it runs; ichor upgrade finishes it later.`,
		Args: cobra.ExactArgs(2),
	}
	return steering(a, c, workflows.SignalSkipNode)
}

// steering makes a command that asks a running upgrade for something.
func steering(a *app, c *cobra.Command, op string) *cobra.Command {
	var flags requestFlags
	flags.add(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		node := ""
		if len(args) > 1 {
			if node = args[1]; node == "" {
				return usageError{errors.New("the name of the node is empty")}
			}
		}
		return a.steerUpgrade(cmd.Context(), args[0], op, node, flags)
	}
	return c
}

// steerUpgrade asks the running upgrade of a cluster for something.
func (a *app) steerUpgrade(ctx context.Context, name, op, node string, flags requestFlags) error {
	if err := validName(name); err != nil {
		return err
	}
	if err := flags.complete(); err != nil {
		return err
	}
	t, l, err := a.dialRun(ctx, name)
	if err != nil {
		return err
	}
	defer t.Close()
	switch {
	case l == nil || !l.Running:
		return fault.New(fault.NotFound, op+" cluster "+name, "no upgrade of it runs")
	case l.Type != workflows.TypeRollingUpgrade:
		return fault.New(fault.Conflict, op+" cluster "+name, "%s runs (run %s), and only an upgrade can be told that; see it with: ichor watch %s", l.Type, l.RunID, name)
	}
	run := ""
	if op == workflows.SignalApprove {
		// What a later run asks is something else.
		run = l.RunID
	}
	res, err := a.tell(ctx, t, name, run, op, workflows.UpgradeRequest{RequestID: flags.id, Node: node, Reason: flags.reason}, flags.timeout)
	if err != nil {
		return err
	}
	if a.cfg.Output == outputJSON {
		return a.printJSON(map[string]string{"cluster": name, "requestID": flags.id, "message": res.Message})
	}
	fmt.Fprintf(a.out, "%s: %s\n", name, printable(res.Message))
	return nil
}

// tell sends a request to an upgrade until it is answered. Every attempt has the
// same id, so that it counts once in one run; in a later one, which has forgotten
// it, it meets what it has done and is refused. With a run id it goes to no other
// run.
func (a *app) tell(ctx context.Context, t client.Client, name, runID, op string, req workflows.UpgradeRequest, wait time.Duration) (workflows.UpgradeAnswer, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var answer workflows.UpgradeAnswer
	for {
		err := sendUpdate(waiting, t, cluster.LifecycleID(name), runID, op, req.RequestID, req, &answer)
		var app *temporal.ApplicationError
		switch {
		case err == nil:
			return answer, nil
		case again(err):
		case errors.As(err, &app):
			return answer, &runError{Kind: fault.Kind(app.Type()), Message: fmt.Sprintf("%s: %s: %s", name, op, app.Message())}
		case ended(err):
			l, derr := describe(waiting, t, name)
			switch {
			case derr != nil:
			case l == nil || !l.Running:
				return answer, fault.New(fault.NotFound, op+" cluster "+name, "the upgrade has ended")
			case runID != "" && l.RunID != runID:
				return answer, fault.New(fault.Conflict, op+" cluster "+name, "the upgrade went on in a new run; look what it asks now with: ichor status %s", name)
			}
		default:
			return answer, temporalFault(op+" cluster "+name, err)
		}
		if sleep(waiting, retryAfter) {
			continue
		}
		if ctx.Err() != nil {
			fmt.Fprintf(a.err, "\nStopped waiting for an answer. Request %s may still be obeyed;\nlook with: ichor status %s\n", req.RequestID, name)
			return answer, interrupted{}
		}
		return answer, unanswered{who: clusterName(name), requestID: req.RequestID, waited: wait, why: a.silence(context.WithoutCancel(ctx), t, err)}
	}
}

func newCancel(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "cancel NAME",
		Short: "End the run of a cluster at its next safe point",
		Long: `cancel ends what runs for a cluster at its next safe point, and waits for that.

An upgrade begins no other node. A node that was not rebooted yet goes on with the system
that it runs, uncordoned; one that was is seen through. The report says what was and was
not done, and ichor upgrade goes on later. A creation is undone or kept, as its spec says.
A deletion stops half-way, and ichor delete goes on.`,
		Args: cobra.ExactArgs(1),
	}
	detach := c.Flags().Bool("detach", false, "ask for the end and do not wait for it")
	c.RunE = func(cmd *cobra.Command, args []string) error { return a.cancel(cmd.Context(), args[0], *detach) }
	return c
}

// lands says what a run does when it is cancelled.
var lands = map[string]string{
	workflows.TypeRollingUpgrade:   "no other node is begun; a node that was not rebooted yet goes on with the system that it runs, one that was is seen through",
	workflows.TypeProvisionCluster: "it stops at the next safe point and undoes or keeps what it did, as the spec says",
	workflows.TypeDeleteCluster:    "it stops at the next safe point; ichor delete goes on",
	workflows.TypeRollbackNode:     "a node that was not told to boot its other slot yet goes on with the system that it runs, one that was is seen through",
	workflows.TypeRestoreCluster:   "it stops before its next step; ichor restore goes on with what is left",
	workflows.TypeReplaceNode:      "it stops before its next step; ichor replace goes on with what is left",
}

func (a *app) cancel(ctx context.Context, name string, detach bool) error {
	if err := validName(name); err != nil {
		return err
	}
	t, l, err := a.dialRun(ctx, name)
	if err != nil {
		return err
	}
	defer t.Close()
	if l == nil || !l.Running {
		return fault.New(fault.NotFound, "cancel cluster "+name, "nothing runs for it")
	}
	// Without a run id: an upgrade may have gone on in a new run meanwhile.
	if err := t.CancelWorkflow(ctx, cluster.LifecycleID(name), ""); err != nil {
		if ended(err) {
			return fault.New(fault.NotFound, "cancel cluster "+name, "the run has ended meanwhile")
		}
		return temporalFault("cancel "+l.Type, err)
	}
	fmt.Fprintf(a.err, "Canceling %s (run %s): %s.\n", l.Type, l.RunID, lands[l.Type])
	if detach {
		if a.cfg.Output == outputJSON {
			return a.printJSON(map[string]string{"cluster": name, "type": l.Type, "runID": l.RunID})
		}
		return nil
	}
	var result struct {
		Message string `json:"message"`
	}
	err = a.follow(ctx, t, name, l.Type, t.GetWorkflow(ctx, cluster.LifecycleID(name), l.RunID), &result)
	text := "it ended before it could be canceled: " + result.Message
	if failed, ok := errors.AsType[*runError](err); ok && failed.Canceled {
		text, err = "canceled: "+failed.Message, nil
	}
	if err != nil {
		return err
	}
	if a.cfg.Output == outputJSON {
		return a.printResult(map[string]string{"message": text})
	}
	fmt.Fprintf(a.out, "\n%s\n", printable(sentence(strings.TrimSpace(text))))
	return nil
}
