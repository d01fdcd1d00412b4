package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cluster"
)

// handlers registers everything by which the group is told and asked. All
// signals are applied by one root loop that never yields between the last
// receive and the decision to continue as new: a receiver of its own would lose
// some. Updates are applied at once and never yield either.
func (g *group) handlers(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, QueryGroup, func() (GroupStatus, error) { return g.status(), nil }); err != nil {
		return err
	}
	for _, name := range append([]string{SignalEnd, SignalAsk, SignalAttach, SignalConfigure}, scaleOps...) {
		g.channels = append(g.channels, workflow.GetSignalChannel(ctx, name))
	}
	for _, op := range scaleOps {
		err := workflow.SetUpdateHandlerWithOptions(ctx, op,
			func(ctx workflow.Context, req ScaleRequest) (ScaleResult, error) {
				// The SDK runs updates before the root: what was acknowledged
				// earlier comes first.
				if err := workflow.Await(ctx, func() bool { return g.ready }); err != nil {
					return ScaleResult{}, err
				}
				g.receive(ctx)
				out := g.apply(ctx, op, withID(ctx, req), true)
				// The answer leaves with this workflow task, and so must the memo:
				// an update is not in history for those who read without a worker.
				g.limit()
				g.write(ctx)
				return out, refusal(out)
			},
			workflow.UpdateHandlerOptions{Validator: func(ctx workflow.Context, req ScaleRequest) error { return g.validate(op, withID(ctx, req)) }},
		)
		if err != nil {
			return err
		}
	}
	return g.handleLeases(ctx)
}

// withID lets an update without a request id count by its update id.
func withID(ctx workflow.Context, req ScaleRequest) ScaleRequest {
	if req.RequestID == "" {
		req.RequestID = workflow.GetCurrentUpdateInfo(ctx).ID
	}
	return req
}

// receive applies every signal that has arrived, requests in the order of
// scaleOps: a cancellation may overtake what it cancels, and a deletion may name
// what an increase of the same moment asks for.
func (g *group) receive(ctx workflow.Context) {
	for _, op := range scaleOps {
		for ch := workflow.GetSignalChannel(ctx, op); ; {
			var req ScaleRequest
			if !ch.ReceiveAsync(&req) {
				break
			}
			g.take(ctx, op, req)
		}
	}
	for ch := workflow.GetSignalChannel(ctx, SignalConfigure); ; {
		var req ConfigureRequest
		if !ch.ReceiveAsync(&req) {
			break
		}
		g.configure(ctx, req)
	}
	for _, name := range []string{SignalAsk, SignalAttach} {
		for ch := workflow.GetSignalChannel(ctx, name); ; {
			var m GroupMessage
			if !ch.ReceiveAsync(&m) {
				break
			}
			g.heard = true
			if g.foreign(m.Cluster) {
				continue
			}
			if name == SignalAttach {
				g.tryAgain(ctx)
			}
			g.state.Detached = false
			g.sendFull, g.dirty = true, true
		}
	}
	end := workflow.GetSignalChannel(ctx, SignalEnd)
	for {
		var req EndGroup
		if !end.ReceiveAsync(&req) {
			break
		}
		g.heard = true
		if g.foreign(req.Cluster) {
			continue
		}
		g.state.Ending, g.state.Reason, g.dirty = true, req.Reason, true
	}
}

// take applies one request that came as a signal.
func (g *group) take(ctx workflow.Context, op string, req ScaleRequest) {
	g.heard, g.dirty = true, true
	switch {
	case g.ready:
		g.apply(ctx, op, req, false)
	case op == SignalResume:
		g.resumed++
	default:
		g.state.Inbox = append(g.state.Inbox, QueuedRequest{Op: op, Request: req})
	}
}

// unpack applies what could not be applied before it was known what there is, or
// by an earlier run.
func (g *group) unpack(ctx workflow.Context) {
	if !g.scales {
		return
	}
	g.first(ctx)
	g.ready = true
	inbox := g.state.Inbox
	g.state.Inbox = nil
	for _, q := range inbox {
		g.apply(ctx, q.Op, q.Request, false)
	}
	g.receive(ctx)
}

// foreign reports whether a message is meant for another cluster of the same
// name, and has it answered.
func (g *group) foreign(ref cluster.Ref) bool {
	if ref.UID == "" || ref.UID == g.in.Cluster.UID {
		return false
	}
	g.sendFull, g.dirty = true, true
	return true
}

// pending reports whether a signal waits to be applied. Validators of updates ask
// too, where only what was opened before may be used.
func (g *group) pending() bool {
	return slices.ContainsFunc(g.channels, func(ch workflow.ReceiveChannel) bool { return ch.Len() > 0 })
}

// wait sleeps until there is something to do and applies what arrived.
func (g *group) wait(ctx workflow.Context) error {
	g.alarm(ctx)
	if err := workflow.Await(ctx, func() bool { return g.dirty || g.pending() }); err != nil {
		return err
	}
	g.dirty = false
	g.receive(ctx)
	return nil
}
