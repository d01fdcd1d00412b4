package plan

import (
	"slices"
	"strings"
	"time"
)

const day = 24 * time.Hour

// MaxWindow is the longest maintenance window: a week, which is always open.
const MaxWindow = 7 * day

// weekdays are the names of days, in the order of time.Weekday.
var weekdays = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// NextOpening is the first moment from now on at which a window is open, which
// is now itself when one is. The beginning of a window belongs to it, the end
// does not. Without windows it is always now; false means that none of them ever
// opens.
func NextOpening(windows []Window, now time.Time) (time.Time, bool) {
	if len(windows) == 0 {
		return now, true
	}
	now = now.UTC()
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	var best time.Time
	for _, w := range windows {
		start, ok := clock(w.Start)
		length := min(time.Duration(w.Length), MaxWindow)
		if !ok || length <= 0 {
			continue
		}
		// A window that began up to its length ago may be open still, and one that
		// opens on one day of the week may be a week away.
		for n := -7; n <= 7; n++ {
			opens := midnight.AddDate(0, 0, n)
			if !onDay(w.Days, opens.Weekday()) {
				continue
			}
			opens = opens.Add(start)
			if !now.Before(opens.Add(length)) {
				continue
			}
			if opens = later(opens, now); best.IsZero() || opens.Before(best) {
				best = opens
			}
			break
		}
	}
	return best, !best.IsZero()
}

// InWindow says that a new node may be begun now.
func InWindow(windows []Window, now time.Time) bool {
	at, ever := NextOpening(windows, now)
	return ever && !at.After(now)
}

func onDay(days []string, d time.Weekday) bool {
	return len(days) == 0 || slices.Contains(days, weekdays[d])
}

// clock reads "22:00" as the time since midnight.
func clock(s string) (time.Duration, bool) {
	h, m, found := strings.Cut(s, ":")
	hours, okH := number(h)
	minutes, okM := number(m)
	if !found || !okH || !okM || len(h) != 2 || len(m) != 2 || hours > 23 || minutes > 59 {
		return 0, false
	}
	return time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute, true
}
