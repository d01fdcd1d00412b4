package server

import (
	"log/slog"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/internal/fault"
)

// refreshStatus is Unavailable whatever the reason: the autoscaler tells no
// codes of Refresh apart, people do by the message.
func refreshStatus(err error) error {
	return status.Errorf(codes.Unavailable, "the state of the node groups cannot be read: %v", err)
}

// changeStatus says why a request was refused. The autoscaler treats all codes
// alike; they are for its log and our metrics.
func changeStatus(err error) error {
	return status.Error(codeOf(fault.KindOf(err)), err.Error())
}

func codeOf(kind fault.Kind) codes.Code {
	switch kind {
	case fault.Invalid:
		return codes.InvalidArgument
	case fault.NotFound:
		return codes.NotFound
	case fault.Conflict, fault.Unsafe:
		return codes.FailedPrecondition
	case fault.Unauthorized:
		return codes.PermissionDenied
	case fault.Quota, fault.Capacity, fault.RateLimited:
		return codes.ResourceExhausted
	case fault.Unavailable, fault.NotYet, fault.Ambiguous:
		return codes.Unavailable
	case fault.Internal:
	}
	return codes.Internal
}

// notices logs each warning once per subject.
type notices struct {
	log  *slog.Logger
	seen sync.Map
}

func (n *notices) once(subject, message string, args ...any) {
	if _, old := n.seen.LoadOrStore(subject, true); !old {
		n.log.Warn(message, args...)
	}
}
