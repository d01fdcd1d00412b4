package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

func newWatch(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME | CLUSTER/GROUP",
		Short: "Show the run of a cluster until it ends, or a node group until it rests",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, name := cmd.Context(), args[0]
			if strings.Contains(name, "/") {
				return a.watchGroupOf(ctx, name)
			}
			if err := validName(name); err != nil {
				return err
			}
			t, l, err := a.dialRun(ctx, name)
			if err != nil {
				return err
			}
			defer t.Close()
			if l == nil || !l.Running {
				fmt.Fprintln(a.err, "Nothing runs for this cluster now.")
				s, err := a.state(ctx, name)
				if err != nil {
					return err
				}
				if a.cfg.Output == outputJSON {
					return a.printJSON(s)
				}
				return s.print(a.out, time.Now())
			}
			return a.watch(ctx, t, name, l)
		},
	}
}

// watch follows a run that somebody else started.
func (a *app) watch(ctx context.Context, t client.Client, name string, l *lifecycle) error {
	run := t.GetWorkflow(ctx, cluster.LifecycleID(name), l.RunID)
	if l.Type == workflows.TypeProvisionCluster {
		var r workflows.ProvisionResult
		if err := a.follow(ctx, t, name, l.Type, run, &r); err != nil {
			return err
		}
		return a.provisioned(name, r)
	}
	if l.Type == workflows.TypeRollingUpgrade {
		return a.followUpgrade(ctx, t, name, run)
	}
	var r struct {
		Message string `json:"message"`
	}
	if err := a.follow(ctx, t, name, l.Type, run, &r); err != nil {
		return err
	}
	if a.cfg.Output == outputJSON {
		return a.printResult(r)
	}
	fmt.Fprintf(a.out, "\n%s\n", sentence(r.Message))
	return nil
}

// ended reports whether a run is over or unknown, so that it cannot be told
// anything any more.
func ended(err error) bool {
	var missing *serviceerror.NotFound
	return errors.As(err, &missing)
}
