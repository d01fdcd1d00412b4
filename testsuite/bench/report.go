package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// provisioningText is the page's section on whole clusters.
func provisioningText(s settings, host string, all []series) string {
	var b strings.Builder
	shapes := make([]string, 0, len(all))
	for _, one := range all {
		shapes = append(shapes, one.shape.String())
	}
	b.WriteString("## Provisioning and deletion\n\nWhat Ichor adds to the time that the cloud itself needs, and what a cluster costs in Temporal and in API calls.\n\n")
	b.WriteString(made(fmt.Sprintf("-only provisioning -shapes %s -runs %d -speed %g", strings.Join(shapes, ","), s.runs, s.speed), host))
	b.WriteString(fmt.Sprintf(`- On it ran at once: Temporal's development server, the worker, devcloud with one real kube-apiserver per control plane
  node, the judge, and work of others: the machine is small and noisy.
- Figures are medians of %s of each shape.
- The cloud ran %g times faster than real time, and every wait of the product (polls, backoff, heartbeats, request rate)
  was its default divided by the same number. What the product, Temporal and Kubernetes compute is not divided, so it
  weighs %g times as much here as on a real cloud. Times are as measured, not multiplied.

`, times(s.runs), s.speed, s.speed))
	speedTable(&b, all)
	pathTable(&b, all)
	costTable(&b, "Cost of provisioning", all, func(m measurement) (usage, map[string]int) { return m.spent, m.calls })
	costTable(&b, "Cost of deletion", all, func(m measurement) (usage, map[string]int) { return m.deletionSpent, m.deletionCalls })
	b.WriteString(method)
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
		ratio = func(m measurement) float64 { return m.deletion.Seconds() / m.deletionPath.Seconds() }
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

// costTable shows what one operation costs, per cluster and per node.
func costTable(b *strings.Builder, title string, all []series, pick func(measurement) (usage, map[string]int)) {
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
	row("Billable actions of Temporal Cloud, estimated", func(u usage, _ map[string]int) int { return u.total() })
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
	row("Cloud API calls", func(_ usage, calls map[string]int) int { return sum(calls, "") })
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		row("– "+method, func(_ usage, calls map[string]int) int { return sum(calls, method) })
	}
	b.WriteString("\n")
}

// sum adds up the calls with a method, or all.
func sum(calls map[string]int, method string) int {
	n := 0
	for route, c := range calls {
		if strings.HasPrefix(route, method) {
			n += c
		}
	}
	return n
}

const method = `### Method

The critical path is what no orchestrator could avoid, each part as long as it took in the same run:

1. the import of the image (request to image), or the creation of network, subnet, load balancer, pool, listener and
   monitor in a row with the time until the load balancer runs, whichever is longer;
2. control planes: one create of a placement group and the creates of one shard in a row, as the cloud requires (at most
   four), then the longest time from created to running;
3. the longest boot of a control plane, from running until its console says that it runs Talos;
4. from the bootstrap of etcd (console) until ` + "`/readyz`" + ` answers through the load balancer;
5. workers: creates as in 2, then the longest time from created until the node is Ready, has its provider ID and has lost
   the ` + "`uninitialized`" + ` taint.

Server, image and load balancer times are those of devcloud's own timeline. Consoles, ` + "`/readyz`" + ` and nodes are watched by
the judge, every 100 ms or by a watch. Wall time is from start to close of the ` + "`ProvisionCluster`" + ` workflow. For a deletion
the path is: the longest deletion of a machine (request to gone, all at once), the load balancer's, and one call each for
network and image; wall time is that of ` + "`DeleteCluster`" + `.

Events, bytes and actions are counted in the histories of all workflows that took part. Actions follow
<https://docs.temporal.io/cloud/actions>: every start of a workflow (client, child, continue-as-new), attempt of an
activity, timer, signal, update and upsert; heartbeats are those that the worker really sent. Watching a run with
` + "`ichor provision`" + ` or ` + "`ichor watch`" + ` adds two queries, hence two actions, per second and is left out. API calls are the
product's own; those of the cluster's cloud controller are left out.
`
