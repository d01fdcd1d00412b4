package talos

import (
	"context"
	"errors"
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
// Messages of a node may quote the config that it refuses; quoted text is left
// out everywhere.
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
		case strings.Contains(text, "remote error: tls"), strings.Contains(text, "authentication handshake failed"):
			kind = fault.Unauthorized
		case strings.Contains(text, "Error while dialing"):
			kind = fault.Unavailable // it was never sent
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
	out := &fault.Error{Kind: kind, Op: op, Message: quoted.ReplaceAllString(text, "…")}
	if code != codes.Unknown {
		out.Code = code.String()
	}
	return out
}
