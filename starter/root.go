package main

import (
	"github.com/spf13/cobra"
)

// newRoot builds the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "ichor",
		Short: "Create, watch, scale, upgrade and delete Talos clusters",
		Long: `ichor creates, watches, scales, upgrades and deletes Talos clusters. One file describes a
cluster; durable workflows on Temporal make it so and survive every crash.

Settings come from flags, then ICHOR_* variables, then the configuration file.
Temporal's address, namespace and TLS come from where the temporal CLI takes
them. Exit codes: 0 done, 1 failed, 2 usage, 3 invalid spec or request, 4 conflict,
locked or paused, 5 no such cluster or group, 6 unavailable, 7 not answered (it may
be done yet), 130 interrupted (the run goes on).`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	resolve := a.cfg.addFlags(root.PersistentFlags())
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return resolve(a.getenv) }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newValidate(a), newCompare(a), newPlan(a), newProvision(a), newSpec(a), newStatus(a), newWatch(a), newResume(a), newList(a),
		newGroups(a), newGroup(a), newScale(a), newPause(a),
		newUpgrade(a), newApprove(a), newSkipNode(a), newCancel(a), newRollback(a), newReplace(a), newRestore(a),
		newKubeconfig(a), newTalosconfig(a), newDelete(a), newCodecServer(a),
	)
	strict(root)
	return root
}

// strict turns mistakes in arguments into usage errors.
func strict(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

// fileFlag is the spec file of a command.
func fileFlag(c *cobra.Command) *string {
	return c.Flags().StringP("file", "f", "", "the cluster spec; - for standard input")
}
