package main

import (
	"github.com/spf13/cobra"

	"github.com/ichor-project/ichor/workflows"
)

func newReplace(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "replace NAME NODE",
		Short: "Put a new machine in the place of a node that is gone or broken",
		Long: `replace puts a new machine in the place of one node, and shows the progress.

A control plane is taken out of etcd first, through a healthy peer, and only while the
others have quorum; without it the answer names what helps. Then its machine is deleted
and a new one with a new name is made, joins etcd, and is proven to vote; the endpoint
forwards to it, and the Node object of the old one is deleted.

A worker is drained only when the new machine is ready.

NODE may be gone already: name it as it was called. Run again after a failure, it goes
on; run after it has succeeded, it changes nothing.`,
		Example: `  ichor replace demo demo-cp-7hq2c
  ichor replace demo demo-worker-k3vxa`,
		Args: cobra.ExactArgs(2),
	}
	detach := c.Flags().Bool("detach", false, "start the workflow and return")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		in := workflows.ReplaceNodeInput{Cluster: args[0], Node: args[1]}
		return a.repair(cmd.Context(), args[0], args[1], workflows.TypeReplaceNode, args[0]+": replace "+args[1], in, *detach)
	}
	return c
}
