package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/workflows"
)

func newProvision(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "provision -f FILE",
		Short: "Create the cluster of a spec and show the progress",
		Long: `provision checks a spec, stores its documents encrypted, and starts the workflow
that creates the cluster. It shows the progress until the cluster is ready. Ctrl-C
stops watching only: the workflow goes on, and ichor watch comes back to it.

Provisioning a cluster that exists with the same spec changes nothing and says so;
with another spec it is refused.`,
		Args: cobra.NoArgs,
	}
	file := fileFlag(c)
	detach := c.Flags().Bool("detach", false, "start the workflow and return")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		l, err := a.loadSpec(ctx, *file)
		if err != nil {
			return err
		}
		st, err := a.openStore(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }() // nothing is buffered
		if err := refuseChange(ctx, st, digested(l)); err != nil {
			return err
		}
		t, err := a.dial(ctx)
		if err != nil {
			return err
		}
		defer t.Close()
		published, err := publish(ctx, st, l)
		if err != nil {
			return err
		}
		name := published.Metadata.Name
		run, err := a.start(ctx, t, name, workflows.TypeProvisionCluster, summary(published), details(published),
			[]temporal.SearchAttributeUpdate{
				workflows.AttrPhase.ValueSet(string(cluster.PhaseCreating)), workflows.AttrCloud.ValueSet(published.Spec.Cloud.Provider),
			}, published)
		if err != nil {
			return err
		}
		if *detach {
			return a.started(name, run.GetRunID())
		}
		var result workflows.ProvisionResult
		if err := a.follow(ctx, t, name, workflows.TypeProvisionCluster, run, &result); err != nil {
			return err
		}
		return a.provisioned(name, result)
	}
	return c
}

// refuseChange says early, and field by field, what the workflow would say too:
// provisioning never changes a cluster.
func refuseChange(ctx context.Context, st *store.Store, c cluster.Cluster) error {
	name := c.Metadata.Name
	rec, _, err := st.Record(ctx, name)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case rec.Phase == cluster.PhaseDeleted || rec.SpecDigest == c.Digest():
		return nil
	}
	const most = 8
	changed := differences(rec.Spec, c.Spec)
	if more := len(changed) - most; more > 0 {
		changed = append(changed[:most], fmt.Sprintf("and %d more", more))
	}
	return fault.New(fault.Conflict, "provision cluster "+name,
		"it exists (uid %s, phase %s) with another spec, and provisioning never changes a cluster; delete it first or choose another name\n  %s",
		rec.Ref.UID, rec.Phase, strings.Join(changed, "\n  "))
}

func (a *app) started(name, runID string) error {
	if a.cfg.Output == outputJSON {
		return a.printJSON(map[string]string{"cluster": name, "workflowID": cluster.LifecycleID(name), "runID": runID})
	}
	fmt.Fprintf(a.out, "Started %s (run %s); see it with: ichor watch %s\n", cluster.LifecycleID(name), runID, name)
	return nil
}

func (a *app) provisioned(name string, r workflows.ProvisionResult) error {
	if a.cfg.Output == outputJSON {
		return a.printResult(r)
	}
	fmt.Fprintf(a.out, "\n%s\n", sentence(r.Message))
	if r.Endpoint != "" {
		fmt.Fprintf(a.out, "  endpoint:     %s\n", r.Endpoint)
	}
	fmt.Fprintf(a.out, "  status:       ichor status %s\n  credentials:  ichor kubeconfig %s --write kubeconfig\n", name, name)
	return nil
}

// printResult is the last line of a stream of JSON.
func (a *app) printResult(v any) error {
	return a.printLine(map[string]any{"event": "result", "result": v})
}

// summary is the title of the run in the Temporal UI.
func summary(c cluster.Cluster) string {
	s := c.Spec
	workers := s.Machines() - s.ControlPlane.Replicas
	return fmt.Sprintf("%s: %s and %s on %s %s", c.Metadata.Name,
		count(s.ControlPlane.Replicas, "control plane"), count(workers, "worker"), s.Cloud.Provider, s.Cloud.Zone)
}

// details is the fixed part of the run's page in the Temporal UI.
func details(c cluster.Cluster) string {
	n := c.Normalise()
	var b strings.Builder
	fmt.Fprintf(&b, "Talos %s, Kubernetes %s, spec digest `%s`, on failure: %s\n\n", n.Spec.Talos.Version, n.Spec.Kubernetes.Version, n.Digest()[:12], n.Spec.OnFailure)
	b.WriteString("| Group | Machines | Flavor | Zone |\n|---|---|---|---|\n")
	fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", cluster.ControlPlaneGroup, n.Spec.ControlPlane.Replicas, n.Spec.ControlPlane.Flavor, n.Spec.ControlPlane.Zone)
	for _, g := range n.Spec.NodeGroups {
		fmt.Fprintf(&b, "| %s | %d (%d to %d) | %s | %s |\n", g.Name, g.InitialCount(), g.Min, g.Max, g.Flavor, g.Zone)
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// sentence begins with a capital letter.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
