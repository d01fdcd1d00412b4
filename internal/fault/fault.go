// Package fault names the kinds of failure that Ichor tells apart. A kind
// decides what happens next (retry, wait, park, look again, give up), so every
// error that crosses a package boundary carries one.
package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is a class of failure. Its text is also the Temporal ApplicationError
// type, so that people read it in the UI.
type Kind string

const (
	// Invalid says that our request is wrong (spec, missing image); repeating
	// it cannot help.
	Invalid Kind = "Invalid"
	// Unsafe says that a guard refused: quorum, last control plane, a lock.
	Unsafe Kind = "Unsafe"
	// Unauthorized says that credentials are missing, wrong or too weak.
	Unauthorized Kind = "Unauthorized"
	// Quota says that a limit of the account is reached.
	Quota Kind = "Quota"
	// Capacity says that the cloud is out of stock here and now.
	Capacity Kind = "Capacity"
	// NotFound says that absence is proven; nothing weaker may use it.
	NotFound Kind = "NotFound"
	// Conflict says that the object exists differently or is busy.
	Conflict Kind = "Conflict"
	// RateLimited says that the other side asks us to slow down.
	RateLimited Kind = "RateLimited"
	// NotYet says that a condition does not hold yet; waiting is the remedy.
	NotYet Kind = "NotYet"
	// Unavailable says that nothing was done and that a retry may succeed.
	Unavailable Kind = "Unavailable"
	// Ambiguous says that a write may have been done: settle, look, adopt.
	Ambiguous Kind = "Ambiguous"
	// Internal is an unknown read error or a bug of ours; an unknown write
	// error is Ambiguous instead.
	Internal Kind = "Internal"
)

// Kinds lists every kind.
func Kinds() []Kind {
	return []Kind{
		Invalid, Unsafe, Unauthorized, Quota, Capacity, NotFound, Conflict,
		RateLimited, NotYet, Unavailable, Ambiguous, Internal,
	}
}

// Retryable reports whether repeating the same call unchanged is both safe and
// sensible. Ambiguous is not: the caller must look before it repeats.
func (k Kind) Retryable() bool {
	switch k {
	case Conflict, RateLimited, NotYet, Unavailable, Internal:
		return true
	case Invalid, Unsafe, Unauthorized, Quota, Capacity, NotFound, Ambiguous:
		return false
	}
	return false
}

// Error is a failure with a kind. Message, Code and RequestID never hold
// secrets: they reach logs and workflow history.
type Error struct {
	Kind Kind
	// Op names what was attempted, in words of the reader: "create server".
	Op      string
	Message string
	// Code is the other side's own error code, when it has one.
	Code       string
	HTTPStatus int
	RequestID  string
	// RetryAfter is how long the other side asked us to wait; zero when it did
	// not say.
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	switch {
	case e.Message != "":
		b.WriteString(e.Message)
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	default:
		b.WriteString(string(e.Kind))
	}
	var extra []string
	if e.Code != "" {
		extra = append(extra, e.Code)
	}
	if e.HTTPStatus != 0 {
		extra = append(extra, fmt.Sprintf("HTTP %d", e.HTTPStatus))
	}
	if e.RequestID != "" {
		extra = append(extra, "request "+e.RequestID)
	}
	if len(extra) > 0 {
		b.WriteString(" (" + strings.Join(extra, ", ") + ")")
	}
	return b.String()
}

// Unwrap returns the cause, which may be nil.
func (e *Error) Unwrap() error { return e.Err }

// New makes a fault with a formatted message.
func New(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Message: fmt.Sprintf(format, args...)}
}

// Wrap gives err a kind and says what was attempted. A nil err gives nil.
func Wrap(kind Kind, op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Op: op, Err: err}
}

// KindOf returns the kind of the outermost fault in err's chain, "" for nil,
// Unavailable for a cancelled or expired context (the caller gave up), and
// Internal for everything that never met this package. Code that makes a write
// must classify its own errors as Ambiguous before they get here.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var f *Error
	if errors.As(err, &f) {
		return f.Kind
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Unavailable
	}
	return Internal
}

// Is reports whether err is a fault of one of the kinds.
func Is(err error, kinds ...Kind) bool {
	return err != nil && slices.Contains(kinds, KindOf(err))
}

// RetryAfter returns how long the other side asked to wait, or zero.
func RetryAfter(err error) time.Duration {
	var f *Error
	if errors.As(err, &f) {
		return f.RetryAfter
	}
	return 0
}
