package snapshot

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// TestModelNeverContradictsItself: any signals, in any order and number, leave a
// view that can be shown.
func TestModelNeverContradictsItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := &view{facts: workflows.GroupFacts{Cluster: cluster.Ref{Name: demo, UID: "u1"}, Group: worker, Min: 1, Max: rapid.IntRange(1, 6).Draw(t, "max")}}
		id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", ""})
		signals := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) signal {
			target := rapid.IntRange(-1, 8).Draw(t, "target")
			return signal{
				name: rapid.SampledFrom([]string{
					workflows.SignalCancelRequest, workflows.SignalIncreaseSize, workflows.SignalSetTarget, workflows.SignalDecreaseTargetSize,
					workflows.SignalDeleteNodes, workflows.SignalPause, workflows.SignalResume, workflows.SignalEnd, "other",
				}).Draw(t, "name"),
				event: rapid.Int64Range(1, 1000).Draw(t, "event"),
				req: workflows.ScaleRequest{
					RequestID: id.Draw(t, "id"), Delta: rapid.IntRange(-2, 5).Draw(t, "delta"), Target: &target, Cancel: id.Draw(t, "cancel"),
					Nodes: []string{workflows.PlaceholderInstance(demo, worker, id.Draw(t, "node"), 0), "foreign"},
				},
			}
		}), 0, 12).Draw(t, "signals")
		v.applyAll(signals, nil, nil)
		once := v.clone()
		g, _ := v.render(newWorld().now)
		counted := 0
		for _, i := range g.Instances {
			if i.State != provider.Deleting {
				counted++
			}
			if i.ID == "" || i.Error != nil && i.Error.Code == "" {
				t.Errorf("instance %+v cannot be told to the autoscaler", i)
			}
		}
		if counted != g.Target || g.Target != v.target() {
			t.Errorf("target %d, %d instances, %d members", g.Target, counted, v.target())
		}
		// All of them a second time, with ids that are known: only those without
		// an id count again.
		seen := map[string]bool{}
		var named []signal
		for _, s := range signals {
			if s.req.RequestID != "" && s.name != workflows.SignalCancelRequest {
				seen[s.req.RequestID] = true
				named = append(named, s)
			}
		}
		once.applyAll(named, seen, nil)
		if once.target() != v.target() {
			t.Errorf("repeated requests changed the target from %d to %d", v.target(), once.target())
		}
	})
}
