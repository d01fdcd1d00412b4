package snapshot

import (
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// A request that waits until the group knows its machines counts, also for a
// provider that begins then.
func TestWhatWaitsInTheInboxCounts(t *testing.T) {
	increase := func(id string) workflows.QueuedRequest {
		return workflows.QueuedRequest{Op: workflows.SignalIncreaseSize, Request: workflows.ScaleRequest{RequestID: id, Delta: 1}}
	}
	w := newWorld()
	e := w.add(worker, 0, 2, 1)
	w.lock(func() {
		e.inbox = []workflows.QueuedRequest{
			increase("a"), increase("a"), increase("b"),
			{Op: workflows.SignalCancelRequest, Request: workflows.ScaleRequest{RequestID: "cancel-c", Cancel: "c"}},
			increase("c"),
			{Op: workflows.SignalCancelRequest, Request: workflows.ScaleRequest{RequestID: "cancel-b", Cancel: "b"}},
		}
	})
	s := w.start(t)
	want(t, s, "ichor://demo/worker/a-0 creating", "ichor://demo/worker/b-0 deleting", "ichor://demo/worker/start-0 creating")
	wantKind(t, s.IncreaseSize(t.Context(), group, 1), fault.Invalid)
	for _, m := range s.entries["cluster/demo/group/worker"].acked.members {
		if m.Accepted.IsZero() {
			t.Errorf("%s was accepted at no time", m.Instance)
		}
	}
}
