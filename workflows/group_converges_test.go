package workflows

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/fault"
)

// Whatever is asked in whatever order, with refusals and lost answers in
// between: the target is always the number of places that count, and in the end
// there are as many machines.
func TestScalingConverges(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newFakeWorld()
		kinds := []fault.Kind{"", "", "", fault.Quota, fault.Ambiguous, fault.RateLimited, fault.Unavailable}
		calm := false
		w.inject = func(op string, n int) (error, error) {
			if calm || op != "create machine" || n < 2 {
				return nil, nil
			}
			switch kind := kinds[(n*7+len(w.machines)*3)%len(kinds)]; kind {
			case "":
				return nil, nil
			case fault.Ambiguous:
				if n%2 == 0 {
					return nil, fault.New(kind, op, "answer lost")
				}
				return fault.New(kind, op, "request lost"), nil
			default:
				return fault.New(kind, op, "injected"), nil
			}
		}
		events := map[time.Duration]act{}
		at := time.Hour
		for i := range rapid.IntRange(1, 8).Draw(r, "events") {
			at += time.Duration(rapid.IntRange(0, 600).Draw(r, "pause")) * time.Second
			id := fmt.Sprintf("r%d", rapid.IntRange(0, 5).Draw(r, "id"))
			n := rapid.IntRange(1, 3).Draw(r, "n")
			var f act
			switch rapid.IntRange(0, 4).Draw(r, "op") {
			case 0, 1:
				f = more(id, n)
			case 2:
				f = sends(SignalSetTarget, ScaleRequest{RequestID: "t" + id, Target: target(n)})
			case 3:
				f = sends(SignalDecreaseTargetSize, ScaleRequest{RequestID: "d" + id, Delta: n})
			default:
				f = sends(SignalDeleteNodes, ScaleRequest{RequestID: "x" + id, Nodes: []string{PlaceholderInstance("demo", "worker", id, 0)}, Origin: OriginAutoscaler})
			}
			events[at+time.Duration(i)] = f
		}
		events[at+time.Hour] = func(*testsuite.TestWorkflowEnvironment) { w.change(func() { calm = true }) }
		events[at+3*time.Hour] = func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(SignalResume, nil) }
		events[at+6*time.Hour] = func(env *testsuite.TestWorkflowEnvironment) {
			s := status(t, env)
			got, beyond := map[MemberPhase]int{}, s.Target
			for _, m := range s.Members {
				if m.Failure == nil || !strings.HasPrefix(m.Failure.Message, "beyond max") {
					got[m.Phase]++
					beyond--
				}
			}
			if len(got) > 1 || got[MemberReady] != len(w.machines) || len(w.machines) != s.Target-beyond {
				r.Errorf("%d machines, target %d: %v", len(w.machines), s.Target, got)
			}
		}
		events[at+7*time.Hour] = end(demoRef)
		runGroup(t, w, scalable(1, 0, 6), events)
		for id, n := range w.creates {
			if n > 1 {
				r.Errorf("%s created %d times", id, n)
			}
		}
		if len(w.machines) != 0 {
			r.Errorf("left: %v", w.machines)
		}
	})
}
