package world

import "fmt"

// Kind tells why an operation was refused.
type Kind int

// The kinds of refusal.
const (
	Invalid  Kind = iota // the request contradicts a rule
	NotFound             // the addressed resource does not exist
	Busy                 // the resource is changing; the same request may succeed later
	InUse                // something else still needs the resource
	Quota                // a limit of the account
	NoStock              // the cloud has no capacity for the flavor in the zone
)

// Error is a refusal. Field names the request field it is about, if it is about
// one.
type Error struct {
	Kind    Kind
	Field   string
	Message string
}

func (e *Error) Error() string {
	if e.Field != "" {
		return e.Field + ": " + e.Message
	}
	return e.Message
}

func invalid(field, format string, args ...any) error {
	return &Error{Kind: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

func refuse(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// errNotFound is what the API says about anything it does not know.
var errNotFound = &Error{Kind: NotFound, Message: "Not found."}
