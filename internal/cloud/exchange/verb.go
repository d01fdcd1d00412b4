package exchange

import "github.com/ichor-project/ichor/internal/fault"

// Verb is what a call does; it decides what an unknown outcome means.
type Verb int

// Verbs.
const (
	Read Verb = iota
	// Create makes something new: repeating it blindly doubles it.
	Create
	// Change and Remove have the same effect however often they are done, so an
	// unknown outcome is only a reason to look and repeat.
	Change
	Remove
)

// Unknown is the kind of an outcome that nobody knows: Ambiguous for a create,
// NotYet for what can be done again, Unavailable for a read. It is never absence.
func (v Verb) Unknown() fault.Kind {
	switch v {
	case Create:
		return fault.Ambiguous
	case Change, Remove:
		return fault.NotYet
	case Read:
	}
	return fault.Unavailable
}
