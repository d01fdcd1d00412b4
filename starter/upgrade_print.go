package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// printUpgradePlan prints what an upgrade would do, if it may.
func printUpgradePlan(out io.Writer, name string, r workflows.UpgradeResult, may bool) error {
	p := r.Plan
	fmt.Fprintf(out, "Upgrade of cluster %s", name)
	if from := versionsText(r.From); from != "" {
		fmt.Fprintf(out, ", which runs %s", from)
	}
	fmt.Fprintln(out)
	if err := printLegs(out, p.Legs); err != nil {
		return err
	}
	for i, l := range p.Legs {
		if len(l.Nodes) == 0 {
			continue
		}
		fmt.Fprintf(out, "\nLeg %d, nodes in their order:\n", i+1)
		w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "  #\tNODE\tGROUP\tROLE")
		for j, n := range l.Nodes {
			fmt.Fprintf(w, "  %d\t%s\t%s\t%s\n", j+1, n.Name, n.Group, n.Role)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(p.Unchanged) > 0 {
		fmt.Fprintf(out, "\nUnchanged: %s\n", strings.Join(p.Unchanged, ", "))
	}
	if err := printManifestDiff(out, r); err != nil {
		return err
	}
	printRefusals(out, "In the way", p.Refusals)
	printRefusals(out, "Warnings", r.Warnings)
	switch {
	case len(p.Refusals) > 0 || !may:
	case len(p.Legs) == 0 && objectsWouldChange(r):
		fmt.Fprintln(out, "\nNo node has to be touched. Run it without --plan to bring the objects to this.")
	case len(p.Legs) == 0:
		fmt.Fprintln(out, "\nNothing to do.")
	default:
		fmt.Fprintln(out, "\nNothing was changed. Run it without --plan to begin.")
	}
	return nil
}

func printLegs(out io.Writer, legs []plan.LegPlan) error {
	if len(legs) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "LEG\tWHAT\tNODES\tROUNDS\tWHY HERE")
	for i, l := range legs {
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%s\n", i+1, legText(l.Leg), len(l.Nodes), l.Rounds, printable(l.Reason))
	}
	return w.Flush()
}

func printRefusals(out io.Writer, title string, all []plan.Refusal) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s:\n", title)
	for _, r := range all {
		fmt.Fprintf(out, "  %s\n", printable(strings.TrimPrefix(r.Field+": "+r.Reason, ": ")))
	}
}

// printUpgrade prints an upgrade that runs, and what a person may do.
func printUpgrade(out io.Writer, name string, s workflows.UpgradeStatus, now time.Time) error {
	fmt.Fprintf(out, "\nUpgrade: %s\n", upgradeLine(s))
	if err := printLegs(out, s.Plan.Legs); err != nil {
		return err
	}
	if len(s.Nodes) > 0 {
		f := frame{progress: workflows.Progress{Kind: workflows.TypeRollingUpgrade, Nodes: rollRows(s.Nodes)}, now: now, width: 1 << 12, height: 1 << 20}
		for _, l := range f.nodes(false) {
			fmt.Fprintln(out, l)
		}
	}
	for _, text := range waitsText(s) {
		fmt.Fprintf(out, "\nNothing is begun now: %s\n", printable(text))
	}
	if s.Parked != "" {
		fmt.Fprintf(out, "\nParked: %s\n  try again:     ichor resume %s\n  leave it out:  ichor skip-node %s NODE\n  end it:        ichor cancel %s\n", printable(s.Parked), name, name, name)
	}
	for _, text := range wantsPerson(s, name) {
		fmt.Fprintf(out, "\n%s\n", printable(sentence(text)))
	}
	for _, snap := range s.State.Snapshots {
		fmt.Fprintf(out, "\nSnapshot of etcd: %s (%d bytes)\n", snap.Key, snap.Bytes)
	}
	for _, n := range s.State.Notes {
		fmt.Fprintf(out, "\nNote: %s\n", printable(n))
	}
	printRefusals(out, "Warnings", s.Warnings)
	return nil
}

// upgradeLine is an upgrade on one line.
func upgradeLine(s workflows.UpgradeStatus) string {
	if s.Leg == 0 || s.Leg > len(s.Plan.Legs) {
		return "nothing was changed yet"
	}
	text := fmt.Sprintf("leg %d of %d, %s", s.Leg, len(s.Plan.Legs), legText(s.Plan.Legs[s.Leg-1].Leg))
	if count := rollCount(s.Nodes); count != "" {
		text += ": " + count
	}
	return text
}
