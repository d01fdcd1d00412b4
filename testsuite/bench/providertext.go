package main

import (
	"fmt"
	"strings"
	"time"
)

// Aims of the provider.
const (
	readAim     = 2 * time.Millisecond   // p99 of every read
	refreshAim  = 300 * time.Millisecond // p50
	refreshMost = time.Second            // p99
	increaseAim = 50 * time.Millisecond  // p99, while the cloud hangs
	foreignAim  = time.Second            // all of them
	// loopAim is the autoscaler's own scan interval: a loop that takes longer
	// delays the next one.
	loopAim = 10 * time.Second
)

// providerText is the page's section on the provider.
func providerText(s settings, host string, all []served) string {
	var b strings.Builder
	sizes := make([]string, 0, len(all))
	for _, one := range all {
		sizes = append(sizes, one.size.String())
	}
	b.WriteString("## The autoscaler's provider\n\nHow fast `ichor-grpcprovider` answers, in groups x machines per group.\n\n")
	b.WriteString(made(fmt.Sprintf("-only provider -sizes %s -calls %d", strings.Join(sizes, ","), s.calls), host))
	b.WriteString(providerMethod)
	for _, one := range all {
		one.write(&b)
	}
	return b.String()
}

func (o served) write(b *strings.Builder) {
	b.WriteString(fmt.Sprintf("### %d groups, %d nodes\n\n| Call | Calls | p50 | p99 | max | Aim | |\n|---|---|---|---|---|---|---|\n", o.size.groups, o.size.nodes()))
	row := func(name string, l latency, aim string, ok *bool) {
		verdict := ""
		if ok != nil {
			verdict = held(*ok)
		}
		b.WriteString(fmt.Sprintf("| %s | %d | %s | %s | %s | %s | %s |\n", name, len(l), short(l.p50()), short(l.p99()), short(l.max()), aim, verdict))
	}
	row("gRPC health check (the floor)", o.floor, "", nil)
	for _, r := range o.reads {
		ok := r.p99() <= readAim
		row(r.name, r.latency, "p99 ≤ 2 ms", &ok)
	}
	for _, r := range []struct {
		name string
		refreshed
	}{
		{"Refresh, nothing changed", refreshed{latency: o.quiet}},
		{"Refresh, every group just changed", o.changed},
		{"Refresh, every group just changed and the cloud hangs", o.hanging},
		{"Refresh, every group just changed and no worker runs", o.workerless},
	} {
		ok := r.p50() <= refreshAim && r.p99() <= refreshMost && r.refused == 0
		if r.refused > 0 {
			r.name += fmt.Sprintf(" (%d answered Unavailable)", r.refused)
		}
		row(r.name, r.latency, "p50 ≤ 300 ms, p99 ≤ 1 s", &ok)
	}
	row("A signal straight to Temporal while the cloud hangs (the floor of requests)", o.signal, "", nil)
	for _, r := range []timed{{"IncreaseSize, the cloud hangs", o.increase}, {"IncreaseSize, the cloud hangs and no worker runs", o.increaseWorkerless}} {
		ok := r.p99() <= increaseAim
		row(r.name, r.latency, "p99 ≤ 50 ms", &ok)
	}
	loop := median(o.loop)
	b.WriteString("\n| | | Aim | |\n|---|---|---|---|\n")
	b.WriteString(fmt.Sprintf("| One loop of the autoscaler, %d calls in a row, median of %d | %s | below its scan interval, 10 s | %s |\n", o.calls, len(o.loop), short(loop), held(loop <= loopAim)))
	if floor := time.Duration(o.calls) * o.floor.p50(); floor > 0 {
		b.WriteString(fmt.Sprintf("| – over as many health checks at their p50 | %.2f | | |\n", loop.Seconds()/floor.Seconds()))
	}
	b.WriteString(fmt.Sprintf("| %d foreign nodes in a row | %s | ≤ 1 s | %s |\n", foreign, short(o.foreign), held(o.foreign <= foreignAim)))
	b.WriteString(fmt.Sprintf("| Resident memory of the provider, all groups read | %s | | |\n", o.started))
	b.WriteString(fmt.Sprintf("| – after all of the above, %d more machines wanted | %s | | |\n\n", 2*(increases+increases/20), o.after))
}

const providerMethod = `- The provider runs behind mutual TLS with its default settings; one client asks, one call after the other, as the
  autoscaler does. Temporal's development server, the worker and devcloud run beside it.
- Every machine is a server that devcloud has, with Ichor's tags; every group is a running ` + "`ScaleNodeGroup`" + ` that was started
  with the state of an earlier run, in which they are ready. Half of the groups configure ` + "`autoscaling`" + `.
- The first calls of each kind, a twentieth more, are not counted. Answers are checked; a wrong one ends the measurement.
  The measuring client decodes each answer, and collects its own garbage between the kinds.
- The health check of the same connection shows what TLS, gRPC and the busy machine take by themselves.
- "Just changed": each group gets a signal that takes no machine, then the refresh is asked for at once, so that it has to
  query every entity anew; half a second later comes the next one. The autoscaler itself comes every ten seconds.
- "The cloud hangs": no request to its API is ever answered. "No worker runs": it was killed, so that entities do not answer
  and the refresh waits for its budget of 200 ms before it uses memo and history.
- The loop is that of the autoscaler 1.36.1 while all nodes are candidates for removal, counted with a recording server:
  1 Refresh, 1 NodeGroups, 1 NodeGroupForNode per node and 7 per foreign node (three here), 3 NodeGroupTargetSize per group,
  4 NodeGroupGetOptions per node, strictly one after the other.

`
