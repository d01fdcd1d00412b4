package plan

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cluster"
)

func hours(n float64) cluster.Duration { return cluster.Duration(n * float64(time.Hour)) }

func TestNextOpening(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("Mon 2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	night := Window{Start: "22:00", Length: hours(6)}
	tuesdays := Window{Days: []string{"tue"}, Start: "22:00", Length: hours(6)}
	weekend := Window{Days: []string{"fri"}, Start: "20:00", Length: hours(58)}
	noons := Window{Days: []string{"mon", "wed"}, Start: "12:00", Length: hours(0.5)}
	for _, c := range []struct {
		name      string
		windows   []Window
		now, want string
	}{
		{"always", nil, "Wed 2026-11-18 12:00", "Wed 2026-11-18 12:00"},
		{"before", []Window{night}, "Wed 2026-11-18 12:00", "Wed 2026-11-18 22:00"},
		{"its first moment", []Window{night}, "Wed 2026-11-18 22:00", "Wed 2026-11-18 22:00"},
		{"after midnight it is open still", []Window{night}, "Thu 2026-11-19 03:59", "Thu 2026-11-19 03:59"},
		{"its end is outside", []Window{night}, "Thu 2026-11-19 04:00", "Thu 2026-11-19 22:00"},
		{"the day is the one on which it begins", []Window{tuesdays}, "Wed 2026-11-18 03:00", "Wed 2026-11-18 03:00"},
		{"not the one on which it ends", []Window{tuesdays}, "Tue 2026-11-17 03:00", "Tue 2026-11-17 22:00"},
		{"in a week", []Window{tuesdays}, "Wed 2026-11-18 04:00", "Tue 2026-11-24 22:00"},
		{"over days", []Window{weekend}, "Mon 2026-11-16 05:59", "Mon 2026-11-16 05:59"},
		{"over days, ended", []Window{weekend}, "Mon 2026-11-16 06:00", "Fri 2026-11-20 20:00"},
		{"several, the nearest", []Window{tuesdays, noons}, "Thu 2026-11-19 00:00", "Mon 2026-11-23 12:00"},
		{"several, one open", []Window{tuesdays, weekend}, "Sat 2026-11-21 00:00", "Sat 2026-11-21 00:00"},
		{"overlapping", []Window{night, {Start: "23:00", Length: hours(12)}}, "Thu 2026-11-19 10:59", "Thu 2026-11-19 10:59"},
		{"over the end of a year", []Window{night}, "Fri 2027-01-01 01:00", "Fri 2027-01-01 01:00"},
		{"into a leap day", []Window{{Days: []string{"tue"}, Start: "00:00", Length: hours(1)}}, "Mon 2028-02-28 23:00", "Tue 2028-02-29 00:00"},
		{"all week", []Window{{Days: []string{"sun"}, Start: "13:00", Length: hours(168)}}, "Sun 2026-11-22 12:59", "Sun 2026-11-22 12:59"},
	} {
		got, ever := NextOpening(c.windows, at(c.now))
		if !ever || !got.Equal(at(c.want)) {
			t.Errorf("%s: %v, %v, want %s", c.name, got, ever, c.want)
		}
	}
	zone := time.FixedZone("UTC+5", 5*3600)
	if got, _ := NextOpening([]Window{night}, time.Date(2026, 11, 19, 2, 0, 0, 0, zone)); got.Format(time.RFC3339) != "2026-11-18T22:00:00Z" {
		t.Errorf("windows are in UTC, not in the zone of the clock: %v", got)
	}
	for _, w := range []Window{{Start: "25:00", Length: hours(1)}, {Start: "22:00"}, {Start: "22:00", Length: -1}, {Days: []string{"noday"}, Start: "22:00", Length: hours(1)}} {
		if _, ever := NextOpening([]Window{w}, noon); ever {
			t.Errorf("%+v opens", w)
		}
	}
}

func windows() *rapid.Generator[[]Window] {
	one := rapid.Custom(func(t *rapid.T) Window {
		return Window{
			Days:   rapid.SliceOfNDistinct(rapid.SampledFrom(weekdays[:]), 0, 3, rapid.ID).Draw(t, "days"),
			Start:  rapid.SampledFrom([]string{"00:00", "01:30", "12:00", "22:00", "23:59"}).Draw(t, "start"),
			Length: cluster.Duration(rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 8 * time.Hour, day, 60 * time.Hour, MaxWindow}).Draw(t, "length")),
		}
	})
	return rapid.SliceOfN(one, 0, 3)
}

// open looks at every window of the last eight days, minute by minute of its
// beginning, without the code under test.
func open(windows []Window, now time.Time) bool {
	if len(windows) == 0 {
		return true
	}
	for _, w := range windows {
		for back := time.Duration(0); back < time.Duration(w.Length); back += time.Minute {
			began := now.Truncate(time.Minute).Add(-back)
			if began.Format("15:04") != w.Start || now.Sub(began) >= time.Duration(w.Length) {
				continue
			}
			name := began.Weekday().String()
			if len(w.Days) == 0 || slices.ContainsFunc(w.Days, func(d string) bool { return d == string(name[0]+'a'-'A')+name[1:3] }) {
				return true
			}
		}
	}
	return false
}

// The next opening is open, and nothing between now and then is.
func TestNextOpeningIsTheNext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := windows().Draw(t, "windows")
		now := noon.Add(time.Duration(rapid.IntRange(0, 14*24*3600).Draw(t, "now")) * time.Second)
		at, ever := NextOpening(w, now)
		if !ever || at.Before(now) || !open(w, at) {
			t.Fatalf("%v, %v after %v", at, ever, now)
		}
		if InWindow(w, now) != open(w, now) {
			t.Fatalf("open at %v: %v", now, !open(w, now))
		}
		if gap := at.Sub(now); gap > 0 {
			for range 8 {
				probe := now.Add(time.Duration(rapid.Int64Range(0, int64(gap)-1).Draw(t, "probe")))
				if open(w, probe) {
					t.Fatalf("is open at %v, before %v", probe, at)
				}
			}
		}
	})
}
