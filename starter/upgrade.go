package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/workflows"
)

func newUpgrade(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "upgrade NAME",
		Short: "Bring a cluster to other versions, extensions or configs, node by node",
		Long: `upgrade starts the workflow that changes the Talos version, the system extensions,
the Kubernetes version or the machine configs of a cluster, one node after the other,
and shows the progress. Before anything changes it looks at every node and names all
that stands in the way. Ctrl-C stops watching only: the upgrade goes on, and ichor
watch comes back to it.

Only what is named changes. With nothing named, it finishes what is left: nodes that
run something else than the cluster's record says. --plan only says what would be done;
it exits with 4 when the upgrade would be refused.

Steer it with ichor pause, resume, approve, skip-node and cancel.`,
		Example: `  ichor upgrade demo --talos v1.14.1 --kubernetes v1.37.0 --plan
  ichor upgrade demo --talos v1.14.1 --kubernetes v1.37.0 --max-unavailable 10% --canary --soak 30m
  ichor upgrade demo --extensions siderolabs/iscsi-tools,siderolabs/util-linux-tools
  ichor upgrade demo -f demo.yaml --strategy careful.yaml --window "sat,sun 22:00 6h"
  ichor upgrade demo`,
		Args: cobra.ExactArgs(1),
	}
	var u upgradeFlags
	u.add(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, name := cmd.Context(), args[0]
		if err := validName(name); err != nil {
			return err
		}
		in := workflows.UpgradeInput{Cluster: name, PlanOnly: u.plan}
		if err := u.change(&in); err != nil {
			return err
		}
		l, err := u.load(ctx, a, name)
		if err != nil {
			return err
		}
		st, rec, err := a.openRecord(ctx, name)
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }() // nothing is buffered
		groups := rec.Spec.NodeGroups
		if l != nil {
			groups = l.Cluster.Spec.NodeGroups
		}
		if in.Strategy, err = u.strategy(a, groups); err != nil {
			return err
		}
		t, err := a.dial(ctx)
		if err != nil {
			return err
		}
		defer t.Close()
		if err := free(ctx, t, name); err != nil {
			return err
		}
		if err := u.publish(ctx, st, l, &in); err != nil {
			return err
		}
		if u.plan {
			return a.planUpgrade(ctx, t, rec, in)
		}
		run, err := a.startUpgrade(ctx, t, rec, in)
		if err != nil {
			return err
		}
		if u.detach {
			return a.started(name, run.GetRunID())
		}
		return a.followUpgrade(ctx, t, name, run)
	}
	return c
}

// upgradeFlags say what to change and how.
type upgradeFlags struct {
	talos, kubernetes, schematic, file string
	extensions                         []string
	noExtensions, plan, detach         bool
	given                              func(flag string) bool
	strategyFlags
}

func (u *upgradeFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&u.talos, "talos", "", "the Talos version to reach, as v1.14.1")
	f.StringVar(&u.kubernetes, "kubernetes", "", "the Kubernetes version to reach, as v1.37.0")
	f.StringSliceVar(&u.extensions, "extensions", nil, "the system extensions to have, comma-separated; all others go")
	f.BoolVar(&u.noExtensions, "no-extensions", false, "have no system extensions")
	f.StringVar(&u.schematic, "schematic", "", "the Image Factory's id of the image to have, instead of extensions")
	f.StringVarP(&u.file, "file", "f", "", "a whole spec of the cluster to reach; - for standard input. Single flags win over it")
	f.BoolVar(&u.plan, "plan", false, "look at every node, say what would be done, and change nothing")
	f.BoolVar(&u.detach, "detach", false, "start the workflow and return")
	u.strategyFlags.add(c)
	u.given = f.Changed
}

// change fills in the single fields that are to be changed.
func (u *upgradeFlags) change(in *workflows.UpgradeInput) error {
	var wrong []string
	for _, f := range []struct{ flag, value string }{{"talos", u.talos}, {"kubernetes", u.kubernetes}, {"schematic", u.schematic}} {
		if u.given(f.flag) && f.value == "" {
			wrong = append(wrong, "--"+f.flag+" is empty")
		}
	}
	for _, e := range u.extensions {
		if strings.TrimSpace(e) == "" {
			wrong = append(wrong, "--extensions names an empty extension; to have none use --no-extensions")
			break
		}
	}
	images := 0
	for _, f := range []string{"extensions", "no-extensions", "schematic"} {
		if u.given(f) {
			images++
		}
	}
	if images > 1 {
		wrong = append(wrong, "give at most one of --extensions, --no-extensions and --schematic")
	}
	if u.file == "-" && u.strategyFile == "-" {
		wrong = append(wrong, "only one of -f and --strategy can be standard input")
	}
	if u.plan && u.detach {
		wrong = append(wrong, "--plan has an answer to wait for; leave out --detach")
	}
	if len(wrong) > 0 {
		return usageError{errors.New(strings.Join(wrong, "; "))}
	}
	in.TalosVersion, in.KubernetesVersion, in.Schematic = versionOf(u.talos), versionOf(u.kubernetes), u.schematic
	switch {
	case u.noExtensions:
		in.Extensions = []string{}
	case len(u.extensions) > 0:
		in.Extensions = u.extensions
	}
	return nil
}

// versionOf writes versions as the spec does, with a "v".
func versionOf(s string) string {
	if s == "" || strings.HasPrefix(s, "v") {
		return s
	}
	return "v" + s
}

// load reads the spec of -f, which must be that of the cluster.
func (u *upgradeFlags) load(ctx context.Context, a *app, name string) (*loaded, error) {
	if u.file == "" {
		return nil, nil
	}
	l, err := a.loadSpec(ctx, u.file)
	if err != nil {
		return nil, err
	}
	if have := l.Cluster.Metadata.Name; have != name {
		return nil, usageError{fmt.Errorf("%s is the spec of cluster %q, not of %q", a.specName(), have, name)}
	}
	return &l, nil
}

// publish puts the spec of -f into the input, with references for documents.
func (u *upgradeFlags) publish(ctx context.Context, st *store.Store, l *loaded, in *workflows.UpgradeInput) error {
	if l == nil {
		return nil
	}
	published, err := publish(ctx, st, *l)
	if err != nil {
		return err
	}
	in.Spec = &published.Spec
	return nil
}

// free refuses early when another run holds the cluster's lock; the start would
// refuse it, too.
func free(ctx context.Context, t client.Client, name string) error {
	l, err := describe(ctx, t, name)
	if err != nil || l == nil || !l.Running {
		return err
	}
	return locked(ctx, t, name, l.RunID)
}

func (a *app) startUpgrade(ctx context.Context, t client.Client, rec cluster.Record, in workflows.UpgradeInput) (client.WorkflowRun, error) {
	attributes := []temporal.SearchAttributeUpdate{
		workflows.AttrPhase.ValueSet(string(cluster.PhaseUpgrading)), workflows.AttrCloud.ValueSet(rec.Spec.Cloud.Provider),
	}
	return a.start(ctx, t, in.Cluster, workflows.TypeRollingUpgrade, in.Cluster+": "+wish(in), "", attributes, in)
}

// wish is what an upgrade is asked for, as the title of its run.
func wish(in workflows.UpgradeInput) string {
	var to []string
	if in.Spec != nil {
		to = append(to, "the given spec")
	}
	if in.TalosVersion != "" {
		to = append(to, "Talos "+in.TalosVersion)
	}
	switch {
	case in.Schematic != "":
		to = append(to, "schematic "+short(in.Schematic))
	case in.Extensions != nil && len(in.Extensions) == 0:
		to = append(to, "no extensions")
	case len(in.Extensions) > 0:
		to = append(to, "extensions "+strings.Join(in.Extensions, ", "))
	}
	if in.KubernetesVersion != "" {
		to = append(to, "Kubernetes "+in.KubernetesVersion)
	}
	verb := "upgrade"
	if in.PlanOnly {
		verb = "plan an upgrade"
	}
	if len(to) == 0 {
		return verb + " to what the record says"
	}
	return verb + " to " + strings.Join(to, ", ")
}

// planUpgrade has the workflow look and plan only. An upgrade that would be
// refused is an error, after the plan as far as it is known.
func (a *app) planUpgrade(ctx context.Context, t client.Client, rec cluster.Record, in workflows.UpgradeInput) error {
	r, err := a.lookOnly(ctx, t, rec, in)
	if err != nil && len(r.Plan.Refusals)+len(r.Plan.Legs) == 0 {
		return err
	}
	if a.cfg.Output == outputJSON {
		if perr := a.printJSON(r); perr != nil {
			return perr
		}
	} else if perr := printUpgradePlan(a.out, in.Cluster, r, err == nil); perr != nil {
		return perr
	}
	n := len(r.Plan.Refusals)
	switch {
	case n == 0:
		return err
	case err == nil:
		err = &runError{Kind: fault.Unsafe}
	}
	return &runError{Kind: kindOf(err), Message: fmt.Sprintf("cluster %q would not be upgraded: %s in the way; nothing was changed", in.Cluster, count(n, "thing"))}
}

// lookOnly runs an upgrade that ends after the pre-flight. When it is refused,
// the error comes with what the run knows of the plan.
func (a *app) lookOnly(ctx context.Context, t client.Client, rec cluster.Record, in workflows.UpgradeInput) (workflows.UpgradeResult, error) {
	in.PlanOnly = true
	run, err := a.startUpgrade(ctx, t, rec, in)
	if err != nil {
		return workflows.UpgradeResult{}, err
	}
	var r workflows.UpgradeResult
	if err = a.followQuietly(ctx, t, in.Cluster, run, &r); err == nil {
		return r, nil
	}
	if _, failed := errors.AsType[*runError](err); !failed {
		return r, err
	}
	if s, serr := upgradeOf(ctx, t, in.Cluster, run.GetRunID()); serr == nil {
		r = workflows.UpgradeResult{Cluster: s.Cluster, Plan: s.Plan, From: s.State.From, Warnings: s.Warnings, Manifests: s.Manifests, Message: err.Error()}
	}
	return r, err
}

// followUpgrade shows an upgrade until it ends. What refused it is named line by
// line.
func (a *app) followUpgrade(ctx context.Context, t client.Client, name string, run client.WorkflowRun) error {
	var r workflows.UpgradeResult
	err := a.follow(ctx, t, name, workflows.TypeRollingUpgrade, run, &r)
	if err == nil {
		return a.upgraded(r)
	}
	if _, failed := errors.AsType[*runError](err); failed && a.cfg.Output != outputJSON {
		if s, serr := upgradeOf(ctx, t, name, ""); serr == nil {
			printRefusals(a.err, "In the way", s.Plan.Refusals)
		}
	}
	return err
}

// upgraded tells of an upgrade that has ended well.
func (a *app) upgraded(r workflows.UpgradeResult) error {
	if a.cfg.Output == outputJSON {
		return a.printResult(r)
	}
	fmt.Fprintf(a.out, "\n%s\n", printable(sentence(r.Message)))
	if r.To != (plan.Versions{}) {
		fmt.Fprintf(a.out, "  runs:    %s\n", versionsText(r.To))
	}
	printBootstrap(a.out, r)
	for _, w := range r.Warnings {
		fmt.Fprintf(a.out, "  warning: %s\n", printable(w.Field+": "+w.Reason))
	}
	fmt.Fprintf(a.out, "  compare: ichor status %s --drift\n", r.Cluster.Name)
	return nil
}
