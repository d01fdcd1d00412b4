package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseMemory(t *testing.T) {
	m, err := parseMemory("Name:\tichor worker\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n")
	if err != nil || m != (memory{1 << 20, 2 << 20}) {
		t.Errorf("%+v %v", m, err)
	}
	for _, bad := range []string{"", "VmRSS: 5 kB\n", "VmRSS: many kB\nVmHWM: 5 kB\n"} {
		if m, err := parseMemory(bad); err == nil {
			t.Errorf("%q is %+v", bad, m)
		}
	}
}

func TestParseProcessor(t *testing.T) {
	d, err := parseProcessor("77 (a (b) c) S 1 77 77 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 12 0 345 678 9")
	if err != nil || d != 2*time.Second {
		t.Errorf("%s %v", d, err)
	}
	for _, bad := range []string{"", "77 (x) S 1 2", "77 (x) S 1 77 77 0 -1 4194560 9 0 0 0 many 50"} {
		if d, err := parseProcessor(bad); err == nil {
			t.Errorf("%q is %s", bad, d)
		}
	}
}

func TestProcessorOfItself(t *testing.T) {
	if d, err := processorOf(1); err != nil || d < 0 {
		t.Errorf("%s %v", d, err)
	}
	if m, err := memoryOf(1 << 30); err == nil {
		t.Errorf("a process that does not exist has %s", m)
	}
}

func TestReadBurst(t *testing.T) {
	var b burst
	b.read([]request{
		asked(1, "GET", "/v1/servers", 100), asked(1.5, "POST", "/v1/server-groups", 100), asked(2, "POST", "/v1/servers", 100),
		asked(2.5, "GET", "/v1/servers", 100), asked(3, "POST", "/v1/servers", 100), asked(9, "GET", "/v1/servers", 100),
	}, at(0))
	want := burst{
		first: 2 * time.Second, last: 3 * time.Second, creates: 2, untilLast: 5,
		calls: map[string]int{"GET /v1/servers": 3, "POST /v1/servers": 2, "POST /v1/server-groups": 1},
	}
	if diff := cmp.Diff(want, b, cmp.AllowUnexported(burst{}, usage{})); diff != "" {
		t.Error(diff)
	}
	if least := b.least(); least != 500*time.Millisecond {
		t.Errorf("five calls take %s at the limit", least)
	}
}

func TestScaleUpText(t *testing.T) {
	run := func(last time.Duration) burst {
		return burst{
			answer: 5 * time.Millisecond, first: time.Second, last: last, ready: last + 30*time.Second, boot: 25 * time.Second,
			creates: 10, untilLast: 20, calls: map[string]int{"POST /v1/servers": 10, "GET /v1/servers": 15},
			spent: usage{events: 55, bytes: 20 << 10, actions: map[string]int{"signals": 1, "activity attempts": 22}},
		}
	}
	got := scaleUpText(settings{burst: 10, runs: 3}, "a machine", map[bool][]burst{
		true: {run(9 * time.Second), run(4 * time.Second), run(5 * time.Second)}, false: {run(2 * time.Second)},
	})
	for _, want := range []string{
		"-only scale-up -burst 10 -runs 3 -out",
		"| `IncreaseSize` answered after | 5.00 ms | 5.00 ms |",
		"| **Last create call sent after** | 5.00 s | 2.00 s |",
		"| – at the rate's limit | 2.00 s | 2.00 s |",
		"| – ratio | 2.50 | 1.00 |",
		"| – last create and slowest server after it | 30.00 s | 27.00 s |",
		"| API calls, per machine in parentheses | 25 (2.5) | 25 (2.5) |",
		"| History events | 55 (5.5) | 55 (5.5) |",
		"| Billable actions of Temporal Cloud, estimated | 23 (2.3) | 23 (2.3) |",
		"| – signals | 1 (0.1) | 1 (0.1) |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
}

// 100 groups that compared themselves three times in three minutes, each time
// with two actions, do so four times an hour by default.
func TestIdleText(t *testing.T) {
	o := idleness{
		groups: 100, every: time.Minute, window: 3 * time.Minute, before: memory{50 << 20, 50 << 20}, memory: memory{60 << 20, 70 << 20},
		used: 9 * time.Second, rounds: 3, calls: 300,
		spent: usage{events: 3300, actions: map[string]int{"activity attempts": 300, "timers": 300, "heartbeats": 0}},
	}
	got := idleText(settings{idle: 100, idleEvery: time.Minute, idleRounds: 3}, "a machine", o)
	for _, want := range []string{
		"-only idle -idle 100 -idle-every 1m0s -idle-rounds 3 -out",
		"| | Measured at 1m | At the default, 15m |",
		"| Resident memory of the worker | 60 MiB (at most 70 MiB) | the same |",
		"| – per group | 102 KiB | |",
		"| Processor time of the worker, of one processor | 5.0% | 0.33% |",
		"| Billable actions per hour | 12000 | 800 |",
		"| – timers per hour | 6000 | 400 |",
		"| History events per hour | 66000 | 4400 |",
		"| Cloud API calls per hour | 6000 | 400 |",
		"| Billable actions per group and hour | 120.0 | 8.0 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "heartbeats") {
		t.Error("a kind of action that did not occur is shown")
	}
}

func TestInterval(t *testing.T) {
	for d, want := range map[time.Duration]string{
		20 * time.Second: "20s", time.Minute: "1m", 15 * time.Minute: "15m", time.Hour: "1h", 90 * time.Minute: "1h30m", 200 * time.Second: "3m20s",
	} {
		if got := interval(d); got != want {
			t.Errorf("%s is shown as %s, want %s", d, got, want)
		}
	}
}
