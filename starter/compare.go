package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/compare"
	"github.com/ichor-project/ichor/internal/fault"
)

func newCompare(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "compare FILE FILE",
		Aliases: []string{"diff-clouds"},
		Short:   "Show in what the clusters of two specs differ, and whether their clouds force it",
		Long: `compare renders the machine configs of two clusters, typically of one spec for each
of two clouds, with the code of the worker, and shows field by field in what they
differ: because the clouds force it, or because the files ask for different things.
It asks no cloud and no Temporal, and needs no store and no credentials.

Exit codes: 0 they differ in nothing but what the clouds force, 1 the files ask for
different things, or something differs that nothing explains, 3 a file is not valid.`,
		Args: cobra.ExactArgs(2),
	}
	c.RunE = func(cmd *cobra.Command, args []string) error { return a.compare(cmd.Context(), args[0], args[1]) }
	return c
}

func (a *app) compare(ctx context.Context, files ...string) error {
	if files[0] == "-" && files[1] == "-" {
		return usageError{errors.New("only one of the two can be standard input")}
	}
	var sides []compare.File
	var bad badFiles
	for _, name := range files {
		l, err := a.loadSpec(ctx, name)
		if err != nil {
			bad = append(bad, badFile{a.specName(), err})
			continue
		}
		sides = append(sides, compare.File{Name: a.specName(), Cluster: l.Cluster, Bodies: l.Bodies})
	}
	if len(bad) > 0 {
		return bad
	}
	r, err := compare.Compare(sides[0], sides[1])
	if fault.Is(err, fault.Invalid) {
		return &runError{Kind: fault.Invalid, Message: err.Error()}
	}
	if err != nil {
		return err
	}
	if a.cfg.Output == outputJSON {
		err = a.printJSON(struct {
			compare.Result
			Cloud       int `json:"cloud"`
			File        int `json:"file"`
			Unexplained int `json:"unexplained"`
		}{r, r.Count(compare.Forced), r.Count(compare.Asked), r.Count(compare.Unexplained)})
	} else {
		a.printComparison(r)
	}
	if err != nil {
		return err
	}
	return verdict(r)
}

// verdict is an error when more differs than the clouds force, as for diff.
func verdict(r compare.Result) error {
	if n := r.Count(compare.Unexplained); n > 0 {
		return &runError{Message: fmt.Sprintf("the clouds make %s differ that they do not force; this is a mistake of Ichor, please report it", count(n, "field"))}
	}
	if n := r.Count(compare.Asked); n > 0 {
		return &runError{Message: fmt.Sprintf("%s and %s ask for different things: %s", r.A.File, r.B.File, count(n, "difference"))}
	}
	return nil
}

// badFile is a file and what is wrong with it: cluster.Problems, or why it cannot be
// read.
type badFile struct {
	file string
	err  error
}

// badFiles is everything that is wrong with several files.
type badFiles []badFile

func (b badFiles) Error() string {
	lines := make([]string, len(b))
	for i, f := range b {
		lines[i] = f.file + ": " + f.err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets the exit code be that of the first.
func (b badFiles) Unwrap() error { return b[0].err }

// located are the problems of all files for machines.
func (b badFiles) located() []map[string]any {
	var out []map[string]any
	for _, f := range b {
		var problems cluster.Problems
		if !errors.As(f.err, &problems) {
			problems = cluster.Problems{{Reason: f.err.Error()}}
		}
		for _, p := range problems {
			out = append(out, map[string]any{"file": f.file, "field": p.Field, "reason": p.Reason, "line": p.Line})
		}
	}
	return out
}

func (a *app) printComparison(r compare.Result) {
	for i, s := range []compare.Side{r.A, r.B} {
		fmt.Fprintf(a.out, "%c %s: cluster %s on %s, zone %s; Talos %s, config contract %s, Kubernetes %s\n",
			"-+"[i], s.File, s.Cluster, s.Provider, s.Zone, s.Talos, s.Contract, s.Kubernetes)
	}
	for _, part := range []struct {
		class compare.Class
		title string
	}{
		{compare.Forced, "Forced by the clouds"},
		{compare.Asked, "Asked for by the files"},
		{compare.Unexplained, "Explained by nothing"},
	} {
		if list := r.Of(part.class); len(list) > 0 {
			fmt.Fprintf(a.out, "\n%s (%d)\n", part.title, len(list))
			a.printDifferences(list)
		}
	}
	fmt.Fprintln(a.out)
	for _, c := range r.Compared {
		fmt.Fprintf(a.out, "Machine config of %s: %d of %d fields are the same\n", c.Nodes, c.Same, c.Fields)
	}
	for _, s := range r.StandIns {
		fmt.Fprintf(a.out, "Stood in for: %s\n", s)
	}
	for _, s := range r.NotCompared {
		fmt.Fprintf(a.out, "Not compared: %s\n", s)
	}
}

// mostOfOne is how many machine config fields are listed that have one reason:
// another version changes a hundred.
const mostOfOne = 12

// printDifferences groups differences by their reasons, in the order of the first of
// each.
func (a *app) printDifferences(list []compare.Difference) {
	groups := map[string][]compare.Difference{}
	var order []string
	for _, d := range list {
		why := reason(d)
		if _, known := groups[why]; !known {
			order = append(order, why)
		}
		groups[why] = append(groups[why], d)
	}
	for _, why := range order {
		fmt.Fprintf(a.out, "  %s:\n", why)
		for i, d := range groups[why] {
			if i == mostOfOne && len(d.Because) > 0 {
				fmt.Fprintf(a.out, "    and %s more; -o json has them all\n", count(len(groups[why])-i, "field"))
				break
			}
			a.printDifference(d)
		}
	}
}

func (a *app) printDifference(d compare.Difference) {
	field := d.Field
	if len(d.Nodes) > 0 {
		field += " (" + strings.Join(d.Nodes, ", ") + ")"
	}
	left, right := brief(d.A), brief(d.B)
	if len(left)+len(right) <= 60 {
		fmt.Fprintf(a.out, "    %s: %s -> %s\n", field, left, right)
		return
	}
	fmt.Fprintf(a.out, "    %s:\n      - %s\n      + %s\n", field, left, right)
}

// reason is why there is a difference, on one line.
func reason(d compare.Difference) string {
	parts := d.Why
	if len(d.Because) > 0 {
		parts = append([]string{"because of " + strings.Join(d.Because, ", ")}, parts...)
	}
	if len(parts) == 0 {
		return "what the files say"
	}
	return strings.Join(parts, "; ")
}

// digits are those of a schematic; the first twelve are shown, as everywhere.
var digits = regexp.MustCompile(`[0-9a-f]{64}`)

func brief(s *string) string {
	if s == nil {
		return "(nothing)"
	}
	return printable(digits.ReplaceAllStringFunc(*s, short))
}
