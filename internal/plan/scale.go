package plan

import (
	"slices"
	"strings"
	"time"
)

// Candidate is a member of a group that could be given up.
type Candidate struct {
	ID string
	// Made says that the machine exists, or may exist.
	Made bool
	// Joined and Ready are how far its node is.
	Joined, Ready bool
	// Failed is a place without a working machine.
	Failed bool
	// Accepted is when the member was asked for.
	Accepted time.Time
}

// Victims chooses the n members whose loss costs least, in the order in which
// they go: what failed, what does not exist, what boots, what has joined, and
// then the youngest of those that work. The order of the input does not matter.
func Victims(all []Candidate, n int) []string {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Candidate) int {
		if d := a.worth() - b.worth(); d != 0 {
			return d
		}
		if d := b.Accepted.Compare(a.Accepted); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	var out []string
	for _, c := range sorted[:min(max(n, 0), len(sorted))] {
		out = append(out, c.ID)
	}
	return out
}

func (c Candidate) worth() int {
	switch {
	case c.Failed:
		return 0
	case !c.Made:
		return 1
	case c.Ready:
		return 4
	case c.Joined:
		return 3
	}
	return 2
}

// Unmade are the candidates that a decrease of the target may give up: those
// without a machine, in the order of Victims.
func Unmade(all []Candidate, n int) []string {
	return Victims(slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return c.Made && !c.Failed }), n)
}

// FreeSlot is the lowest slot that is not taken: slots are reused from the
// lowest, so that placement groups stay full.
func FreeSlot(taken []int) int {
	sorted := slices.Clone(taken)
	slices.Sort(sorted)
	free := 0
	for _, s := range sorted {
		if s == free {
			free++
		}
	}
	return free
}

// Backoff is the pause after the n-th failure in a row, n from 1: it doubles,
// up to six times the first, as the autoscaler's own does.
func Backoff(first time.Duration, n int) time.Duration {
	limit := 6 * first
	for d := first; ; d *= 2 {
		if n <= 1 || d >= limit {
			return min(d, limit)
		}
		n--
	}
}

// Attempt is how long one machine of a place may take when attempts of them
// share the time of the whole.
func Attempt(whole time.Duration, replacements int) time.Duration {
	return whole / time.Duration(1+max(replacements, 0))
}
