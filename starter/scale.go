package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

func newScale(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "scale CLUSTER/GROUP",
		Short: "Change the number of machines of a node group",
		Long: `scale asks a node group for another number of machines, or to delete certain
nodes. The group answers at once whether it does so, and works on; --wait shows the
work until it is done.

Exactly one of --to, --by and --delete is needed. Machines that have to go are
drained first, which respects PodDisruptionBudgets; --force skips that.

A request that got no answer in time (exit code 7) may still be applied. Asking again
with its --request-id is safe: it counts once.`,
		Example: `  ichor scale demo/worker --to 5 --wait
  ichor scale demo/worker --by +2 --reason "release day"
  ichor scale demo/worker --delete demo-worker-k3vxa`,
		Args: cobra.ExactArgs(1),
	}
	var flags requestFlags
	flags.add(c)
	to := c.Flags().Int("to", 0, "the wanted number of machines, within min and max of the group")
	by := c.Flags().String("by", "", "machines to add, as +2")
	nodes := c.Flags().StringSlice("delete", nil, "nodes to delete, comma-separated: names, provider IDs or machine ids; the group shrinks by as many")
	force := c.Flags().Bool("force", false, "delete without draining")
	wait := c.Flags().Bool("wait", false, "show the work until it is done or has failed")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		g, err := parseGroup(args[0])
		if err != nil {
			return err
		}
		if err := flags.complete(); err != nil {
			return err
		}
		req := workflows.ScaleRequest{RequestID: flags.id, Origin: workflows.OriginPerson, Reason: flags.reason, Force: *force}
		given := 0
		var op string
		if cmd.Flags().Changed("to") {
			given++
			op, req.Target = workflows.SignalSetTarget, to
			if *to < 0 {
				return usageError{errors.New("--to must not be negative")}
			}
		}
		if cmd.Flags().Changed("by") {
			given++
			op = workflows.SignalIncreaseSize
			if req.Delta, err = increase(*by); err != nil {
				return err
			}
		}
		if cmd.Flags().Changed("delete") {
			given++
			op, req.Nodes = workflows.SignalDeleteNodes, *nodes
			for _, n := range *nodes {
				if strings.TrimSpace(n) == "" {
					return usageError{errors.New("--delete names an empty node")}
				}
			}
		}
		switch {
		case given != 1:
			return usageError{errors.New("say what to do with exactly one of --to, --by and --delete")}
		case *force && op == workflows.SignalIncreaseSize:
			return usageError{errors.New("--force has no meaning with --by, which deletes nothing")}
		}
		return a.ask(cmd.Context(), g, op, req, flags.timeout, *wait)
	}
	return c
}

// increase reads the number of --by. A decrease by a number is not offered: it
// would be computed from a target that may have changed meanwhile, and says
// nothing about which nodes go.
func increase(s string) (int, error) {
	n, err := strconv.Atoi(s)
	switch {
	case err != nil || n == 0:
		return 0, usageError{fmt.Errorf("--by: %q is not a number of machines to add, as +2", s)}
	case n < 0:
		return 0, usageError{errors.New("--by only adds machines; to have fewer name the number with --to, or the nodes with --delete")}
	}
	return n, nil
}

func newPause(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "pause NAME | CLUSTER/GROUP",
		Short: "Have an upgrade begin no other node, or stop a node group from creating and deleting machines",
		Long: `pause NAME has the running upgrade of a cluster begin no other node until ichor resume;
nodes at work are finished.

pause CLUSTER/GROUP stops a node group from creating and deleting machines, until ichor
resume. What is under way is finished. While it is paused, the group refuses to be scaled,
by people and by the autoscaler.`,
		Args: cobra.ExactArgs(1),
	}
	var flags requestFlags
	flags.add(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if !strings.Contains(args[0], "/") {
			return a.steerUpgrade(cmd.Context(), args[0], workflows.SignalPause, "", flags)
		}
		return a.steer(cmd.Context(), args[0], workflows.SignalPause, flags)
	}
	return c
}

// steer pauses or resumes a group.
func (a *app) steer(ctx context.Context, name, op string, flags requestFlags) error {
	g, err := parseGroup(name)
	if err != nil {
		return err
	}
	if err := flags.complete(); err != nil {
		return err
	}
	return a.ask(ctx, g, op, workflows.ScaleRequest{RequestID: flags.id, Origin: workflows.OriginPerson, Reason: flags.reason}, flags.timeout, false)
}

// scaled is the answer of `ichor scale --wait`.
type scaled struct {
	Request workflows.ScaleResult `json:"request"`
	Group   workflows.GroupStatus `json:"group"`
}

// ask sends a request to a group, prints its answer and, if asked to, follows
// what comes of it.
func (a *app) ask(ctx context.Context, g groupName, op string, req workflows.ScaleRequest, within time.Duration, wait bool) error {
	req.Cluster = a.owner(ctx, g.cluster)
	t, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer t.Close()
	begun := time.Now()
	res, err := a.request(ctx, t, g, op, req, within)
	if err != nil {
		return err
	}
	if a.cfg.Output == outputJSON && !wait {
		return a.printJSON(res)
	}
	if a.cfg.Output != outputJSON {
		fmt.Fprintf(a.out, "%s: %s (request %s)\n", g, printable(res.Message), res.RequestID)
	}
	if !wait {
		return nil
	}
	return a.settle(ctx, t, g, op, begun, &res)
}

// settle follows a group until nothing moves any more.
func (a *app) settle(ctx context.Context, t client.Client, g groupName, op string, begun time.Time, res *workflows.ScaleResult) error {
	s, err := a.followGroup(ctx, t, g, op, begun)
	if err != nil {
		return err
	}
	if a.cfg.Output == outputJSON {
		if res == nil {
			return a.printResult(map[string]any{"group": s})
		}
		return a.printResult(scaled{Request: *res, Group: s})
	}
	fmt.Fprintf(a.out, "\n%s: %s.\n", g, countMembers(s).of(s.Target))
	return nil
}

// owner is the cluster's name with the uid that this store knows, so that a group
// of an earlier cluster of the same name is not meant. Clusters that were built by
// other means have no record, and a store that cannot be read is no reason not to
// scale.
func (a *app) owner(ctx context.Context, name string) cluster.Ref {
	st, err := a.openStore(ctx)
	if err == nil {
		defer func() { _ = st.Close() }() // nothing is buffered
		var rec cluster.Record
		if rec, _, err = st.Record(ctx, name); err == nil && rec.Phase != cluster.PhaseDeleted {
			return rec.Ref
		}
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		fmt.Fprintf(a.err, "ichor: the cluster's uid is not sent along: %v\n", err)
	}
	return cluster.Ref{}
}
