package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// describes is what is asked of machines that exist.
const describes = "ec2:DescribeInstances"

// awsTables show what is particular to AWS, and what the other cloud has beside it.
func awsTables(b *strings.Builder, page string, all []series) {
	arrivalTable(b, all)
	describeTable(b, all)
	besideTable(b, page, all)
}

// shapesHead begins a table with a column for each shape.
func shapesHead(b *strings.Builder, all []series) {
	b.WriteString("| |")
	for _, one := range all {
		b.WriteString(" " + one.shape.String() + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
}

func shapesRow(b *strings.Builder, all []series, name string, f func(series) string) {
	b.WriteString("| " + name + " |")
	for _, one := range all {
		b.WriteString(" " + f(one) + " |")
	}
	b.WriteString("\n")
}

// arrivalTable shows how long the cluster's own programs take for nodes.
func arrivalTable(b *strings.Builder, all []series) {
	b.WriteString("### Nodes\n\nFrom the first sight of a node in the API until the kubelet's stand-in says that it is Ready, and until the cloud\ncontroller has initialised it, too. All of it is part of the critical path.\n\n")
	shapesHead(b, all)
	row := func(name string, pick func([]time.Duration) time.Duration, f func(arrival) time.Time) {
		shapesRow(b, all, name, func(one series) string {
			return secs(of(one.runs, func(m measurement) time.Duration {
				var took []time.Duration
				for _, n := range m.nodes {
					took = append(took, f(n).Sub(n.seen))
				}
				return pick(took)
			}))
		})
	}
	ready, initialised := func(n arrival) time.Time { return n.ready }, func(n arrival) time.Time { return n.initialised }
	row("Ready, median", median, ready)
	row("Ready, the last one", slices.Max, ready)
	row("Initialised and Ready, median", median, initialised)
	row("Initialised and Ready, the last one", slices.Max, initialised)
	shapesRow(b, all, "Requests of the cloud controller, not counted below (per node)", func(one series) string {
		n := of(one.runs, func(m measurement) int { return m.controller })
		return fmt.Sprintf("%d (%.1f)", n, float64(n)/float64(one.shape.nodes()))
	})
	b.WriteString("\n")
}

// createPath is what machines cost while they are made: launches, what spreads
// them, and what makes control planes the endpoint's.
var createPath = []struct {
	name   string
	routes []string
}{
	{"RunInstances", []string{"ec2:RunInstances"}},
	{"Calls for placement groups", []string{"ec2:CreatePlacementGroup", "ec2:DescribePlacementGroups"}},
	{"RegisterTargets and DescribeTargetHealth, for all control planes", []string{
		"elasticloadbalancing:RegisterTargets", "elasticloadbalancing:DescribeTargetHealth",
	}},
}

// describeTable shows what machines cost, and that they are asked for together.
func describeTable(b *strings.Builder, all []series) {
	b.WriteString("### Calls for machines\n\nPer node in parentheses. A group is looked at with one paged call for all of its machines, and looks for single machines\nthat come together share a call. So there are fewer describes for each machine, the more of them there are; one by one it\nwould be the same number.\n\n")
	shapesHead(b, all)
	count := func(one series, calls func(measurement) map[string]int, routes ...string) (n int, perNode float64) {
		n = of(one.runs, func(m measurement) (sum int) {
			for _, route := range routes {
				sum += calls(m)[route]
			}
			return sum
		})
		return n, float64(n) / float64(one.shape.nodes())
	}
	provisioned := func(m measurement) map[string]int { return m.calls }
	deleted := func(m measurement) map[string]int { return m.deletionCalls }
	for _, part := range createPath {
		shapesRow(b, all, "Provisioning: "+part.name, func(one series) string {
			n, perNode := count(one, provisioned, part.routes...)
			return fmt.Sprintf("%d (%.2f)", n, perNode)
		})
	}
	describing := func(name string, calls func(measurement) map[string]int) {
		shapesRow(b, all, name+": DescribeInstances, aim: fewer per node with more nodes", func(one series) string {
			n, perNode := count(one, calls, describes)
			text := fmt.Sprintf("%d (**%.2f**)", n, perNode)
			for _, smaller := range all {
				if smaller.shape.nodes() < one.shape.nodes() {
					_, before := count(smaller, calls, describes)
					return text + " " + held(perNode < before)
				}
			}
			return text
		})
	}
	describing("Provisioning", provisioned)
	describing("Deletion", deleted)
	b.WriteString("\n")
}

// besideTable shows what both clouds have, as far as the page knows the other.
func besideTable(b *strings.Builder, page string, all []series) {
	b.WriteString("### Beside cloudscale.ch\n\nWhat the section above has, and this one. The strict ratio leaves out what real processes compute, here as there.\n\n| |")
	for _, one := range all {
		b.WriteString(fmt.Sprintf(" %s, cloudscale.ch | %s, AWS |", one.shape, one.shape))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|---|", len(all)) + "\n")
	other, _ := find(page, cloudscaleText.section)
	row := func(name string, there func(shape string) string, here func(series) string) {
		b.WriteString("| " + name + " |")
		for _, one := range all {
			b.WriteString(fmt.Sprintf(" %s | %s |", there(one.shape.String()), here(one)))
		}
		b.WriteString("\n")
	}
	perNode := func(one series, f func(measurement) int) string {
		return fmt.Sprintf("%.1f", float64(of(one.runs, f))/float64(one.shape.nodes()))
	}
	speed, built, ended := cells(other, "Time"), cells(other, "Cost of provisioning"), cells(other, "Cost of deletion")
	row("Provisioning, ratio (aim ≤ 1.10)", func(sh string) string { return speed.of("Ratio", sh, "provision") },
		func(one series) string {
			ratio := of(one.runs, func(m measurement) float64 { return m.path.ratio() })
			return fmt.Sprintf("**%.2f** %s", ratio, held(ratio <= ratioAim))
		})
	row("– strict ratio", func(sh string) string { return speed.of("Strict ratio", sh, "provision") },
		func(one series) string {
			return fmt.Sprintf("%.2f", of(one.runs, func(m measurement) float64 { return m.path.strict() }))
		})
	row("– added", func(sh string) string { return speed.of("Added", sh, "provision") },
		func(one series) string {
			return secs(of(one.runs, func(m measurement) time.Duration { return m.path.added() }))
		})
	row("– actions of Temporal per node", func(sh string) string { return built.perNode(sh, actionsRow) },
		func(one series) string { return perNode(one, func(m measurement) int { return m.spent.total() }) })
	row("– API calls per node", func(sh string) string { return built.perNode(sh, callsRow) },
		func(one series) string { return perNode(one, func(m measurement) int { return sum(m.calls, "") }) })
	row("Deletion, ratio", func(sh string) string { return speed.of("Ratio", sh, "delete") },
		func(one series) string { return fmt.Sprintf("**%.2f**", of(one.runs, measurement.deletionRatio)) })
	row("– actions of Temporal per node", func(sh string) string { return ended.perNode(sh, actionsRow) },
		func(one series) string {
			return perNode(one, func(m measurement) int { return m.deletionSpent.total() })
		})
	row("– API calls per node", func(sh string) string { return ended.perNode(sh, callsRow) },
		func(one series) string {
			return perNode(one, func(m measurement) int { return sum(m.deletionCalls, "") })
		})
	b.WriteString("\n")
}

// ratioAim is the most that provisioning may take over its critical path.
const ratioAim = 1.10

// table is one of the page's, its head first.
type table [][]string

// cells reads the table below a heading; none if there is no such heading.
func cells(section, heading string) (t table) {
	_, rest, _ := strings.Cut(section, "### "+heading+"\n")
	for line := range strings.Lines(rest) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "|---"):
		case strings.HasPrefix(line, "|"):
			row := strings.Split(strings.Trim(line, "|"), "|")
			for i := range row {
				row[i] = strings.TrimSpace(row[i])
			}
			t = append(t, row)
		case len(t) > 0:
			return t
		}
	}
	return t
}

// unknown stands for what the page does not say.
const unknown = "–"

// of is the cell of a column in the row that begins with some cells.
func (t table) of(column string, begins ...string) string {
	if len(t) == 0 {
		return unknown
	}
	return t.at(slices.Index(t[0], column), begins...)
}

// perNode is the cell beside that of a shape.
func (t table) perNode(shape string, begins ...string) string {
	if len(t) == 0 || !slices.Contains(t[0], shape) {
		return unknown
	}
	return t.at(slices.Index(t[0], shape)+1, begins...)
}

func (t table) at(column int, begins ...string) string {
	for _, row := range t {
		if column >= 0 && column < len(row) && len(row) >= len(begins) && slices.Equal(row[:len(begins)], begins) {
			return row[column]
		}
	}
	return unknown
}
