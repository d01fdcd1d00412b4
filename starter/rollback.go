package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

func newRollback(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "rollback NAME NODE",
		Short: "Have one node boot what it ran before its last upgrade",
		Long: `rollback has one node boot its other slot, which holds the system that it ran before its
last upgrade, and shows the progress. The node is leased, drained and kept from taking
etcd's quorum along, as in an upgrade. It says what the node runs then.

The cluster's record stays as it is: ichor upgrade brings the node forward again. Run
twice it goes back and forth, since the other slot is always the one that does not run.`,
		Example: `  ichor rollback demo demo-worker-k3vxa
  ichor rollback demo demo-cp-7hq2c --drain-timeout 20m`,
		Args: cobra.ExactArgs(2),
	}
	drain := c.Flags().Duration("drain-timeout", 0, "how long the drain may take before the run parks and asks (default 10m)")
	single := c.Flags().Bool("single-control-plane", false, "consent to an outage of the API of a cluster with one control plane")
	detach := c.Flags().Bool("detach", false, "start the workflow and return")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if *drain < 0 || *drain > 0 && *drain < time.Second {
			return usageError{errors.New("--drain-timeout must be a second or more")}
		}
		in := workflows.RollbackInput{Cluster: args[0], Node: args[1], Strategy: plan.UpgradeStrategy{
			DrainTimeout: cluster.Duration(*drain), SingleControlPlane: *single,
		}}
		return a.repair(cmd.Context(), args[0], args[1], workflows.TypeRollbackNode, args[0]+": roll back "+args[1], in, *detach)
	}
	return c
}

// repair starts a workflow that works on one node of a cluster, and shows it.
func (a *app) repair(ctx context.Context, name, node, kind, summary string, in any, detach bool) error {
	if err := validName(name); err != nil {
		return err
	}
	if node == "" {
		return usageError{errors.New("the name of the node is empty")}
	}
	t, rec, err := a.dialRecord(ctx, name)
	if err != nil {
		return err
	}
	defer t.Close()
	run, err := a.start(ctx, t, name, kind, summary, "", []temporal.SearchAttributeUpdate{
		workflows.AttrPhase.ValueSet(string(cluster.PhaseRepairing)), workflows.AttrCloud.ValueSet(rec.Spec.Cloud.Provider),
	}, in)
	if err != nil {
		return err
	}
	if detach {
		return a.started(name, run.GetRunID())
	}
	var out map[string]any // as the run says it
	if err := a.follow(ctx, t, name, kind, run, &out); err != nil {
		return err
	}
	if a.cfg.Output == outputJSON {
		return a.printResult(out)
	}
	message, _ := out["message"].(string) // every result has one
	fmt.Fprintf(a.out, "\n%s\n", printable(sentence(message)))
	return nil
}
