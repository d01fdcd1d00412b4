package talos

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/client"
	"google.golang.org/grpc/codes"

	"github.com/ichor-project/ichor/internal/fault"
)

// effect says what repeating a call does; it decides what an unknown outcome is.
type effect int

const (
	// repeatable calls read, or do nothing the second time: an unknown outcome
	// is Unavailable, because the same call may be made again.
	repeatable effect = iota
	// once is for calls that must not be repeated blindly: an unknown outcome
	// is Ambiguous.
	once
)

// callError maps the error of a machine API call to a fault.
//
// Messages of a node may repeat the config that it refuses, quoted, as unknown
// keys or as a difference; all of that is left out everywhere.
func callError(op string, e effect, err error) error {
	if err == nil {
		return nil
	}
	code := client.StatusCode(err)
	text := err.Error()
	if st := client.Status(err); st != nil {
		text = st.Message()
	}
	unknown := fault.Unavailable
	if e == once {
		unknown = fault.Ambiguous
	}
	kind := fault.Internal
	switch code {
	case codes.Unavailable:
		kind = unknown
		switch {
		case strings.Contains(text, "remote error: tls"), strings.Contains(text, "authentication handshake failed") && containsAny(text, "tls: ", "x509: "):
			kind = fault.Unauthorized
		case containsAny(text, "Error while dialing", "authentication handshake failed"):
			// It was never sent. A node that goes down breaks handshakes, too, which
			// says nothing about certificates.
			kind = fault.Unavailable
		}
	case codes.DeadlineExceeded, codes.Canceled:
		kind = unknown
	case codes.PermissionDenied, codes.Unauthenticated:
		kind = fault.Unauthorized
	case codes.InvalidArgument, codes.Unimplemented, codes.OutOfRange:
		kind = fault.Invalid
	case codes.NotFound:
		kind = fault.NotFound
	case codes.AlreadyExists, codes.Aborted:
		kind = fault.Conflict
	case codes.FailedPrecondition:
		kind = fault.NotYet
		if strings.Contains(text, "in progress") || strings.Contains(text, "already applied") || strings.Contains(text, "lock") {
			kind = fault.Conflict
		}
	case codes.ResourceExhausted:
		kind = fault.RateLimited
		if strings.Contains(text, "larger than max") {
			kind = fault.Internal
		}
	default:
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			kind = unknown
		case e == once:
			kind = fault.Ambiguous
		}
	}
	out := &fault.Error{Kind: kind, Op: op, Message: explainText(text)}
	if code != codes.Unknown {
		out.Code = code.String()
	}
	return out
}

// sharpen lets change look at a fault whose kind its code alone does not tell:
// Talos passes many errors on without a code of their own. Anything else, and no
// error, stays as it is.
func sharpen(err error, change func(*fault.Error)) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		change(f)
	}
	return err
}

func containsAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}
