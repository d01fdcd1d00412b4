package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ichor-project/ichor/workflows"
)

// objectLine is what becomes of one object, as a table shows it.
type objectLine struct {
	kind, namespace, name, change string
	fields, kept                  []string
}

// changeWords say what the changes mean that leave an object alone.
var changeWords = map[string]string{
	"absent":    "not made again: somebody deleted it",
	"foreign":   "left alone: another tool claims it",
	"left":      "stays: Talos does not render it any more",
	"unchanged": "stays",
}

// printManifestDiff prints what an upgrade would change of the objects that
// manifests describe, and what that rests on.
func printManifestDiff(out io.Writer, r workflows.UpgradeResult) error {
	d := r.Manifests
	if d == nil {
		return nil
	}
	var spec, talos []objectLine
	for _, c := range d.Changes {
		spec = append(spec, objectLine{c.Kind, c.Namespace, c.Name, c.Change, c.Fields, c.Kept})
	}
	for _, c := range d.Bootstrap {
		talos = append(talos, objectLine{c.Kind, c.Namespace, c.Name, c.Change, c.Fields, c.Kept})
	}
	for _, t := range []struct {
		title string
		lines []objectLine
	}{{"Objects of the spec's manifests", spec}, {"Objects that Talos renders", talos}} {
		if err := printObjects(out, t.title, t.lines); err != nil {
			return err
		}
	}
	if len(spec)+len(talos) > 0 {
		fmt.Fprintf(out, "\n%s would stay as they are.", count(d.Unchanged, "other object"))
		if d.Omitted > 0 {
			fmt.Fprintf(out, " %s are not shown.", count(d.Omitted, "more object"))
		}
		fmt.Fprintln(out)
	}
	for i, n := range d.Notes {
		if i == 0 {
			fmt.Fprintln(out, "\nWhat this rests on:")
		}
		fmt.Fprintf(out, "  %s\n", printable(n))
	}
	return nil
}

func printObjects(out io.Writer, title string, lines []objectLine) error {
	if len(lines) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\n%s:\n", title)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "  OBJECT\tCHANGE\tFIELDS")
	for _, l := range lines {
		change := l.change
		if words, ok := changeWords[change]; ok {
			change = words
		}
		fields := append([]string(nil), l.fields...)
		for _, k := range l.kept {
			fields = append(fields, "not touched: "+k)
		}
		name := strings.TrimPrefix(l.namespace+"/"+l.name, "/")
		fmt.Fprintf(w, "  %s %s\t%s\t%s\n", printable(l.kind), printable(name), change, printable(firstText(fields)))
		for _, f := range fields[min(1, len(fields)):] {
			fmt.Fprintf(w, "  \t\t%s\n", printable(f))
		}
	}
	return w.Flush()
}

func firstText(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// objectsWouldChange says whether an upgrade without legs has something to do.
func objectsWouldChange(r workflows.UpgradeResult) bool {
	if r.Manifests == nil {
		return false
	}
	for _, c := range r.Manifests.Changes {
		if changeWords[c.Change] == "" {
			return true
		}
	}
	for _, c := range r.Manifests.Bootstrap {
		if changeWords[c.Change] == "" {
			return true
		}
	}
	return false
}

// printBootstrap prints what people have to know of the objects that Talos
// renders, behind an upgrade.
func printBootstrap(out io.Writer, r workflows.UpgradeResult) {
	b := r.Bootstrap
	for _, l := range []struct {
		label string
		names []string
	}{
		{"created", b.Created},
		{"changed", b.Changed},
		{"kept", b.Kept},
		{"absent", b.Absent},
		{"foreign", b.Foreign},
		{"left", b.Left},
	} {
		for _, n := range l.names {
			fmt.Fprintf(out, "  %-8s %s\n", l.label+":", printable(n))
		}
	}
}
