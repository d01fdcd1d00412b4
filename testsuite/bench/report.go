package main

import (
	"fmt"
	"strings"
	"time"
)

// provisioningText is a section of the page on whole clusters.
func provisioningText(s settings, on manner, host string, all []series) string {
	var b strings.Builder
	shapes := make([]string, 0, len(all))
	for _, one := range all {
		shapes = append(shapes, one.shape.String())
	}
	b.WriteString("## " + on.text.title + "\n\n" + on.text.about + "\n\n")
	b.WriteString(made(fmt.Sprintf("-only %s -shapes %s -runs %d -speed %g", on.text.section, strings.Join(shapes, ","), s.runs, s.speed), host))
	b.WriteString(fmt.Sprintf(`- On it ran at once: Temporal's development server, the worker, devcloud with one real kube-apiserver per control plane
  node%s, the judge, and work of others: the machine is small and noisy.
- Figures are medians of %s of each shape.
- The cloud ran %g times faster than real time, and every wait of the product (polls, backoff, heartbeats, request rate)
  was its default divided by the same number. What the product, Temporal and Kubernetes compute is not divided, so it
  weighs %g times as much here as on a real cloud. Times are as measured, not multiplied.
%s
`, on.text.beside, times(s.runs), s.speed, s.speed, on.text.remarks))
	speedTable(&b, all)
	pathTable(&b, all)
	if on.text.extra != nil {
		on.text.extra(&b, s.page, all)
	}
	costTable(&b, "Cost of provisioning", on, all, func(m measurement) (usage, map[string]int) { return m.spent, m.calls })
	costTable(&b, "Cost of deletion", on, all, func(m measurement) (usage, map[string]int) { return m.deletionSpent, m.deletionCalls })
	b.WriteString(on.text.method + accounting)
	return b.String()
}

func times(n int) string {
	if n == 1 {
		return "one run"
	}
	return fmt.Sprintf("%d runs", n)
}

func speedTable(b *strings.Builder, all []series) {
	b.WriteString("### Time\n\nA shape is control planes + workers. The ratio is wall time over critical path, of each run; 1.00 cannot be beaten. The\nstrict ratio takes what Ichor added over the simulated part of the path alone, as if API servers started and nodes\njoined in no time.\n\n")
	b.WriteString("| Shape | Operation | Wall | Critical path | Added | Ratio | Ratios of all runs | Strict ratio | Processors busy |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, one := range all {
		ratio := func(m measurement) float64 { return m.path.ratio() }
		b.WriteString(fmt.Sprintf("| %s | provision | %s | %s | %s | **%.2f** | %s | %.2f | %.0f%% |\n", one.shape,
			secs(of(one.runs, func(m measurement) time.Duration { return m.path.wall })),
			secs(of(one.runs, func(m measurement) time.Duration { return m.path.critical() })),
			secs(of(one.runs, func(m measurement) time.Duration { return m.path.added() })),
			of(one.runs, ratio), list(one.runs, ratio),
			of(one.runs, func(m measurement) float64 { return m.path.strict() }),
			100*of(one.runs, func(m measurement) float64 { return m.busy })))
		ratio = measurement.deletionRatio
		b.WriteString(fmt.Sprintf("| %s | delete | %s | %s | %s | **%.2f** | %s | | |\n", one.shape,
			secs(of(one.runs, func(m measurement) time.Duration { return m.deletion })),
			secs(of(one.runs, func(m measurement) time.Duration { return m.deletionPath })),
			secs(of(one.runs, func(m measurement) time.Duration { return m.deletion - m.deletionPath })),
			of(one.runs, ratio), list(one.runs, ratio)))
	}
	b.WriteString("\n")
}

func list(runs []measurement, f func(measurement) float64) string {
	var out []string
	for _, m := range runs {
		out = append(out, fmt.Sprintf("%.2f", f(m)))
	}
	return strings.Join(out, ", ")
}

// pathTable shows where the time of provisioning goes.
func pathTable(b *strings.Builder, all []series) {
	b.WriteString("### Where the time goes\n\nFor each part of the critical path: what the cloud needed, how long nothing was under way before it, and how much later\nit ended than it could have (slightly negative when the slowest machine was not the last).\n\n")
	b.WriteString("| Shape | Part | Cloud | Waited before | Late within |\n|---|---|---|---|---|\n")
	for _, one := range all {
		for i, s := range one.runs[0].path.segments {
			part := func(f func(segment) time.Duration) string {
				return secs(of(one.runs, func(m measurement) time.Duration { return f(m.path.segments[i]) }))
			}
			b.WriteString(fmt.Sprintf("| %s | %s | %s | %s | %s |\n", one.shape, s.name,
				part(func(s segment) time.Duration { return s.cloud }),
				part(func(s segment) time.Duration { return s.gap }),
				part(func(s segment) time.Duration { return s.lag })))
		}
		b.WriteString(fmt.Sprintf("| %s | end of the workflow | | %s | |\n", one.shape,
			secs(of(one.runs, func(m measurement) time.Duration { return m.path.tail }))))
	}
	b.WriteString("\n")
}

// Rows that are read again.
const (
	actionsRow = "Billable actions of Temporal Cloud, estimated"
	callsRow   = "Cloud API calls"
)

// costTable shows what one operation costs, per cluster and per node.
func costTable(b *strings.Builder, title string, on manner, all []series, pick func(measurement) (usage, map[string]int)) {
	b.WriteString(fmt.Sprintf("### %s\n\n| Cost |", title))
	for _, one := range all {
		b.WriteString(fmt.Sprintf(" %s | per node |", one.shape))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|---|", len(all)) + "\n")
	row := func(name string, f func(usage, map[string]int) int) {
		line, some := "| "+name+" |", 0
		for _, one := range all {
			n := of(one.runs, func(m measurement) int { return f(pick(m)) })
			line += fmt.Sprintf(" %d | %.1f |", n, float64(n)/float64(one.shape.nodes()))
			some += n
		}
		if some > 0 {
			b.WriteString(line + "\n")
		}
	}
	row("History events", func(u usage, _ map[string]int) int { return u.events })
	row("History, KiB", func(u usage, _ map[string]int) int { return int(u.bytes >> 10) })
	row(actionsRow, func(u usage, _ map[string]int) int { return u.total() })
	var accounts []usage
	for _, one := range all {
		for _, m := range one.runs {
			u, _ := pick(m)
			accounts = append(accounts, u)
		}
	}
	for _, kind := range kinds(accounts...) {
		row("– "+kind, func(u usage, _ map[string]int) int { return u.actions[kind] })
	}
	row(callsRow, func(_ usage, calls map[string]int) int { return sum(calls, "") })
	for _, part := range on.kinds(allCalls(all, pick)) {
		row("– "+part, func(_ usage, calls map[string]int) int { return sum(calls, part) })
	}
	b.WriteString("\n")
}

// allCalls adds up the calls of all runs.
func allCalls(all []series, pick func(measurement) (usage, map[string]int)) map[string]int {
	out := map[string]int{}
	for _, one := range all {
		for _, m := range one.runs {
			_, calls := pick(m)
			for route, n := range calls {
				out[route] += n
			}
		}
	}
	return out
}

// sum adds up the calls whose route is, or begins with the word, part; or all.
func sum(calls map[string]int, part string) int {
	n := 0
	for route, c := range calls {
		if part == "" || route == part || strings.HasPrefix(route, part+" ") {
			n += c
		}
	}
	return n
}
