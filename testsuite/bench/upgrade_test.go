package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

func TestIdealWindow(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		nodes  []time.Duration
		window int
		want   time.Duration
	}{
		{nil, 3, 0},
		{[]time.Duration{5 * s}, 3, 5 * s},
		{[]time.Duration{5 * s, 5 * s, 5 * s, 5 * s}, 2, 10 * s},
		{[]time.Duration{5 * s, 5 * s, 5 * s}, 2, 10 * s},
		// The third begins when the second ends, the fourth after that.
		{[]time.Duration{9 * s, 2 * s, 3 * s, 4 * s}, 2, 9 * s},
		{[]time.Duration{1 * s, 2 * s, 3 * s}, 1, 6 * s},
	} {
		if got := ideal(c.nodes, c.window); got != c.want {
			t.Errorf("ideal(%v, %d) = %s, want %s", c.nodes, c.window, got, c.want)
		}
	}
}

// No window is faster than its slowest node or than all slots busy all the time.
func TestIdealWindowBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.SliceOfN(rapid.Map(rapid.IntRange(1, 100), func(n int) time.Duration { return time.Duration(n) * time.Second }), 1, 60).Draw(t, "nodes")
		window := rapid.IntRange(1, 20).Draw(t, "window")
		got, slowest, sum := ideal(nodes, window), time.Duration(0), time.Duration(0)
		for _, d := range nodes {
			slowest, sum = max(slowest, d), sum+d
		}
		if got < slowest || got*time.Duration(window) < sum {
			t.Fatalf("%s is faster than possible: slowest %s, all %s", got, slowest, sum)
		}
		if got > sum/time.Duration(window)+slowest {
			t.Fatalf("%s leaves slots idle", got)
		}
	})
}

func TestReadNode(t *testing.T) {
	input, err := converter.GetDefaultDataConverter().ToPayloads(map[string]any{
		"work": "talos", "target": map[string]any{"role": "worker", "node": map[string]any{"name": "w1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var events []*historypb.HistoryEvent
	add := func(seconds int, kind enumspb.EventType) *historypb.HistoryEvent {
		e := &historypb.HistoryEvent{EventId: int64(len(events) + 1), EventTime: timestamppb.New(time.Unix(int64(seconds), 0)), EventType: kind}
		events = append(events, e)
		return e
	}
	add(10, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED).Attributes = &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{Input: input},
	}
	activity := func(name string, scheduled, started, completed int) {
		s := add(scheduled, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
		s.Attributes = &historypb.HistoryEvent_ActivityTaskScheduledEventAttributes{
			ActivityTaskScheduledEventAttributes: &historypb.ActivityTaskScheduledEventAttributes{ActivityType: &commonpb.ActivityType{Name: name}},
		}
		add(started, enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED).Attributes = &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{
			ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{ScheduledEventId: s.GetEventId(), Attempt: 2},
		}
		add(completed, enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED).Attributes = &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{
			ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{ScheduledEventId: s.GetEventId()},
		}
	}
	activity("LeaseMember", 10, 11, 14)
	activity("InstallTalos", 15, 16, 20)
	activity("WaitGates", 20, 22, 23)
	activity("WaitGates", 24, 25, 26)
	add(30, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED)

	n, worker, err := readNode(events)
	if err != nil || !worker || n.name != "w1" || n.took() != 20*time.Second {
		t.Errorf("%+v, worker %t, %v", n, worker, err)
	}
	if diff := cmp.Diff(map[string]time.Duration{"InstallTalos": 4 * time.Second, "WaitGates": 2 * time.Second}, n.waits); diff != "" {
		t.Error(diff)
	}
	if u := (usage{}).with(events); u.events != len(events) || u.actions["activity attempts"] != 8 || u.actions["workflow starts"] != 1 {
		t.Errorf("%+v", u)
	}
	if _, _, err := readNode(events[:len(events)-1]); err == nil {
		t.Error("a node that is not done is read")
	}
}

// someRoll is three nodes in a window of two, the third right after the second.
func someRoll() roll {
	r := roll{workers: 3, window: 2, holds: time.Second, node: 4 * time.Second, whole: 20 * time.Second, spent: map[string]usage{}}
	for i, span := range [][2]int{{0, 9}, {0, 6}, {7, 13}} {
		n := rolled{name: string(rune('a' + i)), began: time.Unix(int64(span[0]), 0), ended: time.Unix(int64(span[1]), 0), waits: map[string]time.Duration{}}
		for _, name := range machineWaits {
			n.waits[name] = time.Second
		}
		r.nodes = append(r.nodes, n)
	}
	return r
}

func TestRoll(t *testing.T) {
	r := someRoll()
	if err := r.check(); err != nil {
		t.Error(err)
	}
	got := []time.Duration{r.wall(), r.idealNodes(), r.idealWaits(), r.idealCloud()}
	if diff := cmp.Diff([]time.Duration{13 * time.Second, 12 * time.Second, 12 * time.Second, 10 * time.Second}, got); diff != "" {
		t.Error(diff)
	}
	text := upgradeText(settings{window: 2, rollSpeed: 4}, "here", []roll{r, r})
	for _, want := range []string{
		"| At work at once, at most | 2 | 2 |", "| – ratio, aim ≤ 1.10 | **1.08** held | **1.08** held |",
		"| – ratio, aim ≤ 1.10 | **1.30** **missed** |", "| From its beginning to its end | 6.00 s |", "-rolls 3,3 -window 2 -roll-speed 4 -out",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestRollRefusals(t *testing.T) {
	for name, spoil := range map[string]func(*roll){
		"a node is missing":   func(r *roll) { r.nodes = r.nodes[1:] },
		"three at once":       func(r *roll) { r.nodes[2].began = r.nodes[1].began },
		"a node did not boot": func(r *roll) { delete(r.nodes[1].waits, "WaitBooted") },
	} {
		r := someRoll()
		spoil(&r)
		if r.check() == nil {
			t.Errorf("%s, and it is shown", name)
		}
	}
}
