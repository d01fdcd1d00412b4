package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/workflows"
)

// explain shows one roll while others are still to come.
func (r roll) explain() string {
	return fmt.Sprintf("  %d workers in %s, at most %d at once; ideal %s of whole nodes, %s of waits, %s of the cloud; the whole run %s\n",
		r.workers, ms(r.wall()), r.together(), ms(r.idealNodes()), ms(r.idealWaits()), ms(r.idealCloud()), ms(r.whole))
}

func over(wall, least time.Duration) float64 { return wall.Seconds() / least.Seconds() }

func upgradeText(s settings, host string, all []roll) string {
	var b strings.Builder
	b.WriteString("## Rolling upgrade\n\nWorkers that get another schematic, each installed, drained, rebooted and verified, in a sliding window.\n\n")
	counts := make([]string, 0, len(all))
	for _, r := range all {
		counts = append(counts, fmt.Sprint(r.workers))
	}
	b.WriteString(made(fmt.Sprintf("-only upgrade -rolls %s -window %d -roll-speed %g", strings.Join(counts, ","), s.window, s.rollSpeed), host))
	b.WriteString(fmt.Sprintf(rollPreface, s.rollSpeed, s.rollSpeed, secs(all[0].node), secs(all[0].holds)))
	table := newColumns(&b, all)
	table.row("Workers, `maxUnavailable`", func(r roll) string { return fmt.Sprintf("%d, %d", r.workers, r.window) })
	table.row("At work at once, at most", func(r roll) string { return fmt.Sprint(r.together()) })
	table.row("**First worker begun to last worker done**", func(r roll) string { return secs(r.wall()) })
	for _, i := range ideals {
		table.row(i.name, func(r roll) string { return secs(i.of(r)) })
		table.row("– ratio, aim ≤ 1.10", func(r roll) string {
			ratio := over(r.wall(), i.of(r))
			return fmt.Sprintf("**%.2f** %s", ratio, held(ratio <= rollAim))
		})
	}
	table.row("The whole `RollingUpgrade`, with plan, pre-flight, images, control plane", func(r roll) string { return secs(r.whole) })
	table.row("Processors busy, with everything that ran", func(r roll) string { return fmt.Sprintf("%.0f%%", 100*r.busy) })

	b.WriteString("\n### A worker, medians\n\n")
	table = newColumns(&b, all)
	table.row("From its beginning to its end", func(r roll) string { return secs(of(r.nodes, rolled.took)) })
	for _, name := range machineWaits {
		table.row("– "+name, func(r roll) string {
			return secs(of(r.nodes, func(n rolled) time.Duration { return n.waits[name] }))
		})
	}
	table.row("– between these: leases, looks, holds, and the way through Temporal", func(r roll) string {
		return secs(of(r.nodes, func(n rolled) time.Duration { return n.took() - n.waited() }))
	})

	b.WriteString("\n### Cost, per node in parentheses\n\n")
	table = newColumns(&b, all)
	perNode := func(r roll, n int) string { return fmt.Sprintf("%d (%.1f)", n, float64(n)/float64(r.workers+1)) }
	for _, kind := range []string{workflows.TypeRollingUpgrade, workflows.TypeUpgradeNode, workflows.TypeScaleNodeGroup} {
		table.row(fmt.Sprintf("History events of `%s`", kind), func(r roll) string { return perNode(r, r.spent[kind].events) })
	}
	table.row("History, KiB, of all three", func(r roll) string { return perNode(r, int(r.total().bytes>>10)) })
	table.row("Billable actions of Temporal Cloud, estimated", func(r roll) string { return perNode(r, r.total().total()) })
	for _, kind := range rollActions(all) {
		table.row("– "+kind, func(r roll) string { return perNode(r, r.total().actions[kind]) })
	}
	b.WriteString("\nThe events of `ScaleNodeGroup` are leases and whatever else the groups did meanwhile. Watching a roll is left out: each\nlook at it is an action, too.\n\n")
	return b.String()
}

// ideals are what a roll is compared with.
var ideals = []struct {
	name string
	of   func(roll) time.Duration
}{
	{"Ideal window of whole nodes", roll.idealNodes},
	{"Ideal window of the waits for machines, as measured", roll.idealWaits},
	{"Ideal window of what the machines are set to need", roll.idealCloud},
}

const rollPreface = `- The cloud ran %g times faster than real time, and every wait of the product was its default divided by the same number.
  What everything computes is not divided, so it weighs %g times as much as on a real cloud.
- One control plane, so that the machine has one kube-apiserver to run; it is upgraded before the workers and not part of
  their time. Nodes run no pods that a drain would have to wait for.
- Ideal is a window in which a node begins in the moment in which another one ends, and in which each takes as long as
  - the same node took here, from the start to the end of its workflow: what the roll adds between nodes;
  - the activities took in which the same machine was waited for (pull, install, drain, reboot, boot, gates): this adds
    what Temporal and bookkeeping take within a node;
  - devcloud's machines are set to need (pull, install, stop, boot, kubelet: %s here) and the time for which gates must
    hold, once (%s here): this adds how late polls notice, a busy machine, and that the gates hold a second time.

`

// total is what everything spent, heartbeats with it.
func (r roll) total() usage {
	sum := usage{actions: map[string]int{"heartbeats": r.heartbeats}}
	for _, u := range r.spent {
		sum.runs, sum.events, sum.bytes = sum.runs+u.runs, sum.events+u.events, sum.bytes+u.bytes
		for k, n := range u.actions {
			sum.actions[k] += n
		}
	}
	return sum
}

func rollActions(all []roll) []string {
	seen := map[string]bool{}
	for _, r := range all {
		for k := range r.total().actions {
			seen[k] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// columns is a table with one column for each roll.
type columns struct {
	b   *strings.Builder
	all []roll
}

func newColumns(b *strings.Builder, all []roll) columns {
	b.WriteString("| |")
	for _, r := range all {
		b.WriteString(fmt.Sprintf(" %d workers |", r.workers))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
	return columns{b, all}
}

func (c columns) row(name string, f func(roll) string) {
	c.b.WriteString("| " + name + " |")
	for _, r := range c.all {
		c.b.WriteString(" " + f(r) + " |")
	}
	c.b.WriteString("\n")
}
