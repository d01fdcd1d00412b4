package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// latency is how long calls of one kind took, sorted.
type latency []time.Duration

// percentile is the time within which a share of all calls were answered: the
// smallest that is not below it (nearest rank).
func (l latency) percentile(share float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	rank := int(math.Ceil(share*float64(len(l)))) - 1
	return l[min(max(rank, 0), len(l)-1)]
}

func (l latency) p50() time.Duration { return l.percentile(0.5) }
func (l latency) p99() time.Duration { return l.percentile(0.99) }
func (l latency) max() time.Duration { return l.percentile(1) }

// garbage is how much memory the measuring process may fill before it collects
// garbage in the middle of a sample.
const garbage = 1 << 30

// sample makes calls one after the other and takes the time of each. The first
// ones, a twentieth more, are not counted: they open streams and warm caches.
// What this process leaves behind is cleared away before and after, since its own
// pauses are not the server's.
func sample(ctx context.Context, n int, call func(i int) error) (latency, error) {
	runtime.GC()
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(garbage))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	warm := n / 20
	out := make(latency, 0, n)
	for i := range warm + n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := call(i); err != nil {
			return nil, fmt.Errorf("call %d: %w", i, err)
		}
		if i >= warm {
			out = append(out, time.Since(began))
		}
	}
	slices.Sort(out)
	return out, nil
}

// short shows a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
