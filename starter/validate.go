package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ichor-project/ichor/docs/reference"
)

func newValidate(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "validate -f FILE",
		Short: "Check a spec and its documents; asks no cloud and no Temporal",
		Args:  cobra.NoArgs,
	}
	file := fileFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := a.loadSpec(cmd.Context(), *file)
		if err != nil {
			return err
		}
		if a.cfg.Output == outputJSON {
			return a.printJSON(map[string]any{"valid": true, "name": l.Cluster.Metadata.Name})
		}
		fmt.Fprintf(a.out, "%s is valid: cluster %q\n", a.specName(), l.Cluster.Metadata.Name)
		return nil
	}
	return c
}

func newSpec(a *app) *cobra.Command {
	c := &cobra.Command{Use: "spec", Short: "Publish specs for other tools, print their schema", Args: cobra.NoArgs}
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	c.AddCommand(newSpecPublish(a), newSpecSchema(a))
	return c
}

func newSpecPublish(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "publish -f FILE",
		Short: "Store the documents of a spec and print the JSON to start a workflow with",
		Long: `publish checks a spec, stores its documents encrypted, and prints the same spec
with references in their place. This is the input for tools that know nothing of
Ichor:

  ichor spec publish -f demo.yaml > demo.json
  temporal workflow start --type ProvisionCluster --task-queue ichor \
    --workflow-id cluster/demo/lifecycle --fail-existing --input-file demo.json`,
		Args: cobra.NoArgs,
	}
	file := fileFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := a.loadSpec(cmd.Context(), *file)
		if err != nil {
			return err
		}
		st, err := a.openStore(cmd.Context())
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }() // nothing is buffered
		published, err := publish(cmd.Context(), st, l)
		if err != nil {
			return err
		}
		return a.printJSON(published)
	}
	return c
}

func newSpecSchema(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the spec, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(reference.ClusterSchema)
			return err
		},
	}
}

// printJSON prints one document for machines.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
