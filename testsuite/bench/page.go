package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// series is all runs of one shape.
type series struct {
	shape shape
	runs  []measurement
}

func of[T any, V interface{ ~int | ~int64 | ~float64 }](all []T, f func(T) V) V {
	values := make([]V, 0, len(all))
	for _, v := range all {
		values = append(values, f(v))
	}
	return median(values)
}

// explain shows one run in full, for whoever makes it faster.
func (m measurement) explain(speed float64) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "  segment\tcloud\twaited before\tlate within\n")
	for _, s := range m.path.segments {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", s.name, ms(s.cloud), ms(s.gap), ms(s.lag))
	}
	fmt.Fprintf(w, "  end\t\t%s\t\n", ms(m.path.tail))
	fmt.Fprintf(w, "  provision\twall %s\tcritical %s\tratio %.3f\n", ms(m.path.wall), ms(m.path.critical()), m.path.ratio())
	fmt.Fprintf(w, "  strictly\tadded %s\tcritical %s\tratio %.3f\n", ms(m.path.added()), ms(m.path.simulated), m.path.strict())
	fmt.Fprintf(w, "  delete\twall %s\tcritical %s\tratio %.3f\n", ms(m.deletion), ms(m.deletionPath), m.deletionRatio())
	fmt.Fprintf(w, "  provision\t%d runs\t%d events\t%d actions %v\n", m.spent.runs, m.spent.events, m.spent.total(), m.spent.actions)
	fmt.Fprintf(w, "  delete\t%d runs\t%d events\t%d actions %v\n", m.deletionSpent.runs, m.deletionSpent.events, m.deletionSpent.total(), m.deletionSpent.actions)
	fmt.Fprintf(w, "  processors busy\t%.0f%%\tspeed %g\t\n", 100*m.busy, speed)
	_ = w.Flush() // into memory
	for _, calls := range []map[string]int{m.calls, m.deletionCalls} {
		for _, k := range slices.Sorted(maps.Keys(calls)) {
			fmt.Fprintf(&b, "    %4d %s\n", calls[k], k)
		}
	}
	return b.String()
}

func (m measurement) deletionRatio() float64 { return m.deletion.Seconds() / m.deletionPath.Seconds() }

func ms(d time.Duration) string { return d.Round(time.Millisecond).String() }

func secs(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
