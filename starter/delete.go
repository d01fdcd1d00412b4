package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

func newDelete(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a cluster and everything that carries its tags",
		Long: `delete removes everything that carries the cluster's tags and proves it by
listing. It works for half-made clusters, after Temporal has lost its database, and
when it is run twice. A lifecycle run under way is canceled first; it stops at the
next safe point and undoes or keeps what it did, as the spec says.`,
		Args: cobra.ExactArgs(1),
	}
	yes := c.Flags().BoolP("yes", "y", false, "do not ask on a terminal")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, name := cmd.Context(), args[0]
		if err := validName(name); err != nil {
			return err
		}
		if !*yes {
			if err := a.confirm(name); err != nil {
				return err
			}
		}
		t, err := a.dial(ctx)
		if err != nil {
			return err
		}
		defer t.Close()
		run, err := a.deletion(ctx, t, name)
		if err != nil {
			return err
		}
		var result workflows.DeleteResult
		if err := a.follow(ctx, t, name, workflows.TypeDeleteCluster, run, &result); err != nil {
			return err
		}
		if a.cfg.Output == outputJSON {
			return a.printResult(result)
		}
		fmt.Fprintf(a.out, "\n%s (%s, %s)\n", sentence(result.Message), count(result.Machines, "machine"), count(result.Resources, "resource"))
		return nil
	}
	return c
}

// deletion returns the run that deletes the cluster: one under way, or a new one
// after whatever held the lock has come to a safe end.
func (a *app) deletion(ctx context.Context, t client.Client, name string) (client.WorkflowRun, error) {
	held, err := describe(ctx, t, name)
	if err != nil {
		return nil, err
	}
	if held != nil && held.Running {
		run := t.GetWorkflow(ctx, cluster.LifecycleID(name), held.RunID)
		if held.Type == workflows.TypeDeleteCluster {
			fmt.Fprintf(a.err, "A deletion is under way (run %s).\n", held.RunID)
			return run, nil
		}
		fmt.Fprintf(a.err, "%s is under way (run %s): canceling it, and waiting for its safe end.\n", held.Type, held.RunID)
		if err := t.CancelWorkflow(ctx, cluster.LifecycleID(name), held.RunID); err != nil && !ended(err) {
			return nil, temporalFault("cancel "+held.Type, err)
		}
		var discarded any
		err := a.follow(ctx, t, name, held.Type, run, &discarded)
		var failed *runError
		switch {
		case errors.As(err, &failed):
			fmt.Fprintf(a.err, "%s has ended: %v\n", held.Type, failed)
		case err != nil:
			return nil, err
		}
	}
	return a.start(ctx, t, name, workflows.TypeDeleteCluster, name+": delete", "",
		[]temporal.SearchAttributeUpdate{workflows.AttrPhase.ValueSet(string(cluster.PhaseDeleting))}, workflows.DeleteInput{Name: name})
}

// confirm asks a person before a deletion; scripts are not asked.
func (a *app) confirm(name string) error {
	return a.confirmed("delete cluster "+name, fmt.Sprintf("This deletes cluster %q with all its machines and data.", name), name)
}

// confirmed asks a person for the name; scripts are not asked.
func (a *app) confirmed(op, text, name string) error {
	if _, ok := terminal(a.out); !ok {
		return nil
	}
	if w, ok := a.in.(interface{ Fd() uintptr }); !ok || !isTerminal(w) {
		return nil
	}
	fmt.Fprint(a.out, text+" Type its name to go on: ")
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if strings.TrimSpace(line) != name || err != nil {
		return fault.New(fault.Unsafe, op, "not confirmed; nothing was done")
	}
	return nil
}

func validName(name string) error {
	probe := cluster.Cluster{Metadata: cluster.Metadata{Name: name}}
	for _, p := range probe.Validate() {
		if p.Field == "metadata.name" {
			return usageError{fmt.Errorf("the cluster name %s", p.Reason)}
		}
	}
	return nil
}
