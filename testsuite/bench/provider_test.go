package main

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/google/go-cmp/cmp"
)

// upTo are latencies of 1 to n milliseconds.
func upTo(n int) latency {
	var l latency
	for i := range n {
		l = append(l, time.Duration(i+1)*time.Millisecond)
	}
	return l
}

func TestPercentiles(t *testing.T) {
	for _, c := range []struct {
		l             latency
		p50, p99, max time.Duration
	}{
		{nil, 0, 0, 0},
		{upTo(1), time.Millisecond, time.Millisecond, time.Millisecond},
		{upTo(2), time.Millisecond, 2 * time.Millisecond, 2 * time.Millisecond},
		{upTo(100), 50 * time.Millisecond, 99 * time.Millisecond, 100 * time.Millisecond},
		{upTo(101), 51 * time.Millisecond, 100 * time.Millisecond, 101 * time.Millisecond},
		{upTo(1000), 500 * time.Millisecond, 990 * time.Millisecond, time.Second},
	} {
		got := []time.Duration{c.l.p50(), c.l.p99(), c.l.max()}
		if diff := cmp.Diff([]time.Duration{c.p50, c.p99, c.max}, got); diff != "" {
			t.Errorf("of %d calls:\n%s", len(c.l), diff)
		}
	}
}

func TestSample(t *testing.T) {
	calls := 0
	l, err := sample(t.Context(), 40, func(i int) error {
		if i != calls {
			t.Errorf("call %d has number %d", calls, i)
		}
		calls++
		return nil
	})
	if err != nil || calls != 42 || len(l) != 40 || !slices.IsSorted(l) {
		t.Errorf("%d calls, %d times, sorted %t: %v", calls, len(l), slices.IsSorted(l), err)
	}
	broken := errors.New("broken")
	if _, err := sample(t.Context(), 10, func(int) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a call that fails is %v", err)
	}
	// The tests' own garbage is collected as before.
	if _, err := sample(t.Context(), 1, func(int) error {
		if percent := debug.SetGCPercent(-1); percent != -1 {
			t.Errorf("garbage is collected in the middle of a sample, at %d%%", percent)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); percent != 100 || limit < garbage*2 {
		t.Errorf("garbage is collected at %d%% and %d bytes after a sample", percent, limit)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := sample(ended, 10, func(int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end it is %v", err)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		70 * time.Microsecond: "0.07 ms", 2345 * time.Microsecond: "2.35 ms", 45600 * time.Microsecond: "46 ms", 1234 * time.Millisecond: "1.23 s",
	} {
		if got := short(d); got != want {
			t.Errorf("%s is shown as %s, want %s", d, got, want)
		}
	}
}

func TestWants(t *testing.T) {
	none := status.Error(codes.Unimplemented, "none")
	for _, c := range []struct {
		err  error
		want codes.Code
		ok   bool
	}{
		{nil, codes.OK, true},
		{none, codes.Unimplemented, true},
		{none, codes.OK, false},
		{nil, codes.Unimplemented, false},
		{errors.New("lost"), codes.Unimplemented, false},
	} {
		if err := wants(c.err, c.want); (err == nil) != c.ok {
			t.Errorf("%v for %s: %v", c.err, c.want, err)
		}
	}
}

// The formula has to give what was counted with the real autoscaler: 5,012 calls
// for 1,000 nodes of one group beside one other node.
func TestLoopCalls(t *testing.T) {
	if n := loopCalls(size{1, 1000}, 1); n != 5012 {
		t.Errorf("%d calls for 1,000 nodes of one group", n)
	}
	if n := loopCalls(size{20, 50}, 3); n != 5083 {
		t.Errorf("%d calls for 1,000 nodes of twenty groups", n)
	}
}

func TestParallel(t *testing.T) {
	done := make(chan int, 100)
	if err := parallel(100, func(i int) error { done <- i; return nil }); err != nil {
		t.Fatal(err)
	}
	close(done)
	var all []int
	for i := range done {
		all = append(all, i)
	}
	slices.Sort(all)
	if len(all) != 100 || all[0] != 0 || all[99] != 99 {
		t.Errorf("did %v", all)
	}
	broken := errors.New("broken")
	for _, at := range []int{0, 50, 99} {
		err := parallel(100, func(i int) error {
			if i >= at {
				return broken
			}
			return nil
		})
		if !errors.Is(err, broken) {
			t.Errorf("an error of call %d is %v", at, err)
		}
	}
	if err := parallel(0, func(int) error { return broken }); err != nil {
		t.Error(err)
	}
}

func TestMembersOfAFleet(t *testing.T) {
	in := groupInput("here", 3, 2)
	one, two := readyMember(in, 6, 0, start), readyMember(in, 7, 1, start)
	if one.ID == two.ID || one.Name == two.Name || one.Instance == two.Instance {
		t.Errorf("two members are one: %+v %+v", one, two)
	}
	if in.Autoscaling != nil || groupInput("here", 4, 2).Autoscaling == nil {
		t.Error("half of the groups have options")
	}
	if a, b := stranger(1).GetProviderID(), stranger(2).GetProviderID(); a == b || len(a) != len("cloudscale://00000000-0000-4000-8000-000000000001") {
		t.Errorf("strangers are %s and %s", a, b)
	}
}

func TestProviderText(t *testing.T) {
	slow := upTo(1000)
	got := providerText(settings{calls: 100}, "a machine", []served{{
		size: size{2, 10}, floor: latency{time.Millisecond}, reads: []timed{{"Quick", latency{time.Millisecond}}, {"Slow", slow}},
		quiet: latency{time.Millisecond}, changed: refreshed{latency: latency{time.Millisecond}}, hanging: refreshed{slow, 7}, workerless: refreshed{latency: latency{time.Second}},
		increase: latency{40 * time.Millisecond}, increaseWorkerless: slow,
		loop: []time.Duration{time.Second, 11 * time.Second, 12 * time.Second}, calls: 129, foreign: time.Second,
		started: memory{50 << 20, 60 << 20}, after: memory{70 << 20, 80 << 20},
	}})
	for _, want := range []string{
		"-only provider -sizes 2x10 -calls 100 -out",
		"| Quick | 1 | 1.00 ms | 1.00 ms | 1.00 ms | p99 ≤ 2 ms | held |",
		"| Slow | 1000 | 0.50 s | 0.99 s | 1.00 s | p99 ≤ 2 ms | **missed** |",
		"| Refresh, nothing changed | 1 | 1.00 ms | 1.00 ms | 1.00 ms | p50 ≤ 300 ms, p99 ≤ 1 s | held |",
		"the cloud hangs (7 answered Unavailable) | 1000 |",
		"just changed and no worker runs | 1 | 1.00 s | 1.00 s | 1.00 s | p50 ≤ 300 ms, p99 ≤ 1 s | **missed** |",
		"| IncreaseSize, the cloud hangs | 1 | 40 ms | 40 ms | 40 ms | p99 ≤ 50 ms | held |",
		"129 calls in a row, median of 3 | 11.00 s | below its scan interval, 10 s | **missed** |",
		"health checks at their p50 | 85.27 |",
		"| 1000 foreign nodes in a row | 1.00 s | ≤ 1 s | held |",
		"all groups read | 50 MiB (at most 60 MiB) |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
}
