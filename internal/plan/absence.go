// Package plan has the pure decisions of Ichor: no clock, no calls, the same
// answer for the same question.
package plan

import "time"

// Evidence is what is known of a create whose outcome may be unknown. It lives
// in workflow state, so it survives every process.
type Evidence struct {
	// Pending says that a create was sent, or may have been, without a recorded
	// answer.
	Pending bool `json:"pending,omitempty"`
	// Since is the latest moment at which that create may have been sent.
	Since time.Time `json:"since,omitzero"`
	// Empty are the times of complete looks that found nothing, oldest first.
	Empty []time.Time `json:"empty,omitempty"`
}

// Action is what to do next about a create.
type Action string

// Actions.
const (
	// Wait: do nothing for the returned time.
	Wait Action = "wait"
	// Look: look by identity; adopt what is found, note it when there is
	// nothing.
	Look Action = "look"
	// Create: nothing can be under way.
	Create Action = "create"
)

// NextCreate decides whether a create may be sent. After one without an answer a
// first look may find what was made; if not, the cloud gets settle to finish it;
// then absence is proven by at least two empty looks that are window apart. So
// the last look begins settle plus window after the create, or later, and a
// create that takes effect before that is never doubled. Where the cloud
// deduplicates by a token the same create may simply be sent again.
func NextCreate(e Evidence, now time.Time, settle, window time.Duration, dedupes bool) (Action, time.Duration) {
	if !e.Pending || dedupes {
		return Create, 0
	}
	if len(e.Empty) == 0 {
		return Look, 0 // what was made can be adopted at once
	}
	settled := e.Since.Add(settle)
	if now.Before(settled) {
		return Wait, settled.Sub(now)
	}
	var first, last time.Time
	count := 0
	for _, t := range e.Empty {
		if t.Before(settled) {
			continue // too early to mean anything
		}
		if count == 0 || t.Before(first) {
			first = t
		}
		if count == 0 || t.After(last) {
			last = t
		}
		count++
	}
	switch {
	case count == 0:
		return Look, 0
	case count > 1 && last.Sub(first) >= window:
		return Create, 0
	case now.Sub(first) < window:
		return Wait, first.Add(window).Sub(now)
	}
	return Look, 0
}
