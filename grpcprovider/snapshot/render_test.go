package snapshot

import (
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// What has an error is deleted by the autoscaler at once and undrained: with a
// machine its node may work by now, though nobody could see it.
func TestMachinesThatExistHaveNoError(t *testing.T) {
	w := newWorld()
	e := w.add(worker, 0, 5, 3)
	w.lock(func() {
		e.advance()
		e.members[1].Phase, e.members[1].Failure = workflows.MemberFailed, &workflows.Failure{Kind: fault.NotYet, Message: "no node"}
		e.members[2].Phase, e.members[2].Failure = workflows.MemberFailed, &workflows.Failure{Kind: fault.NotYet, Message: "no node"}
		e.members[2].ProviderID, e.members[2].CloudID = "", ""
		e.write()
	})
	s := w.start(t)
	machines := []string{"cloudscale://m0000 creating", "cloudscale://m0001 creating", "ichor://demo/worker/start-2 creating other/not-joined"}
	want(t, s, machines...)
	w.lock(func() { w.now, w.up = w.now.Add(time.Hour), false; e.lengths[0]++ })
	mustRefresh(t, s)
	want(t, s, machines...)
	want(t, w.start(t), machines...)
}
