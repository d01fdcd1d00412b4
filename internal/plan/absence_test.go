package plan

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }

func TestNextCreate(t *testing.T) {
	const settle, window = 30 * time.Second, 60 * time.Second
	for _, tc := range []struct {
		name    string
		ev      Evidence
		now     time.Time
		dedupes bool
		want    Action
		wait    time.Duration
	}{
		{"nothing sent", Evidence{}, t0, false, Create, 0},
		{"sent, never looked", Evidence{Pending: true, Since: t0}, t0, false, Look, 0},
		{"the cloud deduplicates", Evidence{Pending: true, Since: t0}, t0, true, Create, 0},
		{"looked too early", Evidence{Pending: true, Since: t0, Empty: []time.Time{at(1)}}, at(2), false, Wait, 28 * time.Second},
		{"settled", Evidence{Pending: true, Since: t0, Empty: []time.Time{at(1)}}, at(30), false, Look, 0},
		{"one empty look", Evidence{Pending: true, Since: t0, Empty: []time.Time{at(1), at(31)}}, at(40), false, Wait, 51 * time.Second},
		{"time for the second", Evidence{Pending: true, Since: t0, Empty: []time.Time{at(1), at(31)}}, at(91), false, Look, 0},
		{"proven", Evidence{Pending: true, Since: t0, Empty: []time.Time{at(1), at(31), at(91)}}, at(92), false, Create, 0},
		{"two looks not far enough apart", Evidence{Pending: true, Since: t0, Empty: []time.Time{at(31), at(80)}}, at(81), false, Wait, 10 * time.Second},
		{"in any order", Evidence{Pending: true, Since: t0, Empty: []time.Time{at(95), at(31)}}, at(96), false, Create, 0},
		{"two looks too close", Evidence{Pending: true, Since: t0, Empty: []time.Time{at(31), at(32)}}, at(33), false, Wait, 58 * time.Second},
	} {
		got, wait := NextCreate(tc.ev, tc.now, settle, window, tc.dedupes)
		if got != tc.want || wait != tc.wait {
			t.Errorf("%s: got %s after %v, want %s after %v", tc.name, got, wait, tc.want, tc.wait)
		}
	}
}

// One look is no proof even where no time between looks is asked for.
func TestNextCreateWithoutWindow(t *testing.T) {
	ev := Evidence{Pending: true, Since: t0, Empty: []time.Time{at(1)}}
	if got, _ := NextCreate(ev, at(1), 0, 0, false); got != Look {
		t.Errorf("after one look: %s", got)
	}
	ev.Empty = append(ev.Empty, at(1))
	if got, _ := NextCreate(ev, at(1), 0, 0, false); got != Create {
		t.Errorf("after two looks: %s", got)
	}
}

// A create is sent again only after settle plus window, whatever the looks, and
// somebody who follows the advice always gets there.
func TestNextCreateProvesAbsence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		settle := time.Duration(rapid.IntRange(0, 90).Draw(t, "settle")) * time.Second
		window := time.Duration(rapid.IntRange(1, 120).Draw(t, "window")) * time.Second
		now := t0
		ev := Evidence{Pending: true, Since: t0}
		for i := 0; ; i++ {
			if i > 20 {
				t.Fatal("the advice never leads to a create")
			}
			action, wait := NextCreate(ev, now, settle, window, false)
			if action == Create {
				break
			}
			if action == Wait {
				if wait <= 0 {
					t.Fatalf("wait of %v", wait)
				}
				now = now.Add(wait)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "slack")) * time.Second)
			if action == Look {
				ev.Empty = append(ev.Empty, now)
			}
		}
		if now.Sub(t0) < settle+window {
			t.Fatalf("a create was allowed after %v, before settle %v + window %v", now.Sub(t0), settle, window)
		}
	})
}

// The cloud of this test makes what was asked for only after a delay, and shows
// it later still. As long as both together stay below settle plus window there
// is never a second one, however slow the looks are: they are recorded when they
// end, and see what was there when they began.
func TestNextCreateNeverDoubles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := func(name string, low, high int) time.Duration {
			return time.Duration(rapid.IntRange(low, high).Draw(t, name)) * time.Second
		}
		settle, window := seconds("settle", 1, 60), seconds("window", 1, 120)
		lost := rapid.IntRange(1, 4).Draw(t, "lost answers")
		now := t0
		var ev Evidence
		var visible []time.Time // when each thing that is made can be seen
		for found := false; !found; {
			switch action, wait := NextCreate(ev, now, settle, window, false); action {
			case Wait:
				now = now.Add(wait)
			case Look:
				began := now
				now = now.Add(seconds("look", 0, 30))
				if len(visible) > 0 && !visible[0].After(began) {
					found = true
					break
				}
				ev.Empty = append(ev.Empty, now)
			case Create:
				if len(visible) > 0 {
					t.Fatalf("a second create at %v; the first can be seen from %v on", now.Sub(t0), visible[0].Sub(t0))
				}
				sent := now
				now = now.Add(seconds("call", 0, 30))
				ev = Evidence{Pending: true, Since: now} // the answer never came
				if lost--; lost <= 0 || rapid.Bool().Draw(t, "made") {
					visible = append(visible, sent.Add(seconds("delay", 0, int((settle+window)/time.Second))))
				}
			}
		}
	})
}

func TestShard(t *testing.T) {
	for _, tc := range []struct{ slot, limit, want int }{{0, 4, 0}, {3, 4, 0}, {4, 4, 1}, {11, 4, 2}, {7, 0, 0}} {
		if got := Shard(tc.slot, tc.limit); got != tc.want {
			t.Errorf("Shard(%d, %d) = %d, want %d", tc.slot, tc.limit, got, tc.want)
		}
	}
}
