package talos

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

const (
	// stallTimeout is how long a stream may be silent before the node counts as
	// gone: one that went through kexec never closes its connections. It is what
	// talosctl 1.14 allows its streams.
	stallTimeout = 5 * time.Minute
	// pullTimeout bounds a pull by Talos before 1.13, which reports nothing while
	// it works: the largest image (an installer with drivers, half a gigabyte)
	// through a line of 5 Mbit/s.
	pullTimeout = 15 * time.Minute
)

// receiver is the client's half of a stream from a node.
type receiver[M any] interface{ Recv() (*M, error) }

// receive opens a stream and hands over its messages until the node ends it. A
// stream that is silent for longer than stall is given up. An error of each ends
// it too and is returned as it is.
func receive[M any, S receiver[M]](ctx context.Context, n *Node, op string, e effect, stall time.Duration, open func(context.Context) (S, error), each func(*M) error) error {
	op += " of " + n.address
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := errors.New("silent")
	watch := time.AfterFunc(stall, func() { cancel(silent) })
	defer watch.Stop()
	failed := func(err error) error {
		out := callError(op, e, err)
		if f, ok := errors.AsType[*fault.Error](out); ok && errors.Is(context.Cause(ctx), silent) {
			f.Message = "the node said nothing for " + stall.String()
		}
		return out
	}
	s, err := open(ctx)
	if err != nil {
		return failed(err)
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failed(err)
		}
		watch.Reset(stall)
		if err := each(m); err != nil {
			return err
		}
	}
}
