package plan

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func candidates() *rapid.Generator[[]Candidate] {
	one := rapid.Custom(func(t *rapid.T) Candidate {
		c := Candidate{
			ID: rapid.StringMatching("[a-z]{5}").Draw(t, "id"), Made: rapid.Bool().Draw(t, "made"), Failed: rapid.Bool().Draw(t, "failed"),
			Accepted: time.Unix(rapid.Int64Range(0, 5).Draw(t, "accepted"), 0),
		}
		c.Joined = c.Made && rapid.Bool().Draw(t, "joined")
		c.Ready = c.Joined && rapid.Bool().Draw(t, "ready")
		return c
	})
	return rapid.SliceOfNDistinct(one, 0, 12, func(c Candidate) string { return c.ID })
}

// The choice depends on the members alone, never on their order, and nothing
// that works goes before something that does not.
func TestVictims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := candidates().Draw(t, "all")
		n := rapid.IntRange(0, 14).Draw(t, "n")
		got := Victims(all, n)
		if len(got) != min(n, len(all)) {
			t.Fatalf("%d of %d chosen, %d asked for", len(got), len(all), n)
		}
		if diff := cmp.Diff(got, Victims(rapid.Permutation(all).Draw(t, "shuffled"), n)); diff != "" {
			t.Fatalf("order matters: %s", diff)
		}
		working, broken := 0, 0
		for _, c := range all {
			chosen := slices.Contains(got, c.ID)
			if chosen && c.Ready && !c.Failed {
				working++
			}
			if !chosen && (c.Failed || !c.Ready) {
				broken++
			}
		}
		if working > 0 && broken > 0 {
			t.Fatalf("%d working members go while %d that do not work stay", working, broken)
		}
		for _, id := range Unmade(all, n) {
			i := slices.IndexFunc(all, func(c Candidate) bool { return c.ID == id })
			if all[i].Made && !all[i].Failed {
				t.Fatalf("%s exists", id)
			}
		}
	})
}

func TestFreeSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		taken := rapid.SliceOfDistinct(rapid.IntRange(0, 9), rapid.ID[int]).Draw(t, "taken")
		free := FreeSlot(taken)
		if slices.Contains(taken, free) {
			t.Fatalf("%d is taken", free)
		}
		for s := range free {
			if !slices.Contains(taken, s) {
				t.Fatalf("%d is lower than %d and free", s, free)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	var got []time.Duration
	for n := range 6 {
		got = append(got, Backoff(5*time.Minute, n))
	}
	want := []time.Duration{5 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, 30 * time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a := Attempt(14*time.Minute, 1); a != 7*time.Minute {
		t.Errorf("attempt %s", a)
	}
}
