package snapshot_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/workflows"
)

// carried is what the small entity of these tests begins with and carries on.
type carried struct {
	workflows.GroupInput
	Places []string        `json:"places"`
	Done   map[string]bool `json:"done"` // request ids, cancelled ones too
	Runs   int             `json:"runs"`
	// Results are the last ones, as many as a status shows.
	Results []workflows.ScaleResult `json:"results"`
}

// renewAfter is the number of signals after which it continues as new.
const renewAfter = 5

// entity keeps the contract of a group without any machine: places are asked for
// and given up, and the memo says what there is.
func entity(ctx workflow.Context, in carried) error {
	if in.Done == nil {
		in.Done = map[string]bool{}
	}
	facts := workflows.GroupFacts{Cluster: in.Cluster, Group: in.Group, Role: in.Role, Cloud: in.Cloud, Min: in.Min, Max: in.Max, Provision: time.Hour}
	err := workflow.SetQueryHandler(ctx, workflows.QueryGroup, func() (workflows.GroupStatus, error) {
		s := workflows.GroupStatus{GroupFacts: facts, Target: len(in.Places), Requests: in.Results}
		for _, p := range in.Places {
			s.Members = append(s.Members, workflows.GroupMember{Instance: p, MemberStatus: workflows.MemberStatus{ID: p, Phase: workflows.MemberWanted}})
		}
		return s, nil
	})
	if err != nil {
		return err
	}
	publish := func() error {
		info := workflow.GetInfo(ctx)
		m := workflows.GroupMemo{RunID: info.WorkflowExecution.RunID, EventID: int64(info.GetCurrentHistoryLength()), Target: len(in.Places)}
		for _, p := range in.Places {
			cut := strings.LastIndex(p, "-")
			var n int
			if _, err := fmt.Sscan(p[cut+1:], &n); err != nil {
				return err
			}
			m.Wanted = append(m.Wanted, workflows.InstanceRange{Prefix: p[:cut], From: n, To: n})
		}
		return workflow.UpsertMemo(ctx, map[string]any{workflows.MemoFacts: facts, workflows.MemoState: m})
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, workflows.AttrCluster.ValueSet("demo"), workflows.AttrKind.ValueSet("group")); err != nil {
		return err
	}
	ops := []string{workflows.SignalCancelRequest, workflows.SignalIncreaseSize, workflows.SignalDeleteNodes}
	for n := 0; ; {
		if err := publish(); err != nil {
			return err
		}
		if n >= renewAfter {
			in.Runs++
			return workflow.NewContinueAsNewError(ctx, workflows.TypeScaleNodeGroup, in)
		}
		if err := workflow.Await(ctx, func() bool {
			return slices.ContainsFunc(ops, func(op string) bool { return workflow.GetSignalChannel(ctx, op).Len() > 0 })
		}); err != nil {
			return err
		}
		for _, op := range ops {
			for {
				var req workflows.ScaleRequest
				if !workflow.GetSignalChannel(ctx, op).ReceiveAsync(&req) {
					break
				}
				n++
				in.apply(op, req)
				in.Results = append(in.Results, workflows.ScaleResult{RequestID: req.RequestID, Op: op, Accepted: true, At: workflow.Now(ctx)})
				in.Results = in.Results[max(0, len(in.Results)-20):]
			}
		}
	}
}

func (in *carried) apply(op string, req workflows.ScaleRequest) {
	if in.Done[req.RequestID] {
		return
	}
	in.Done[req.RequestID] = true
	switch op {
	case workflows.SignalCancelRequest:
		in.Done[req.Cancel] = true
		prefix := workflows.PlaceholderPrefix("demo", "worker", req.Cancel) + "-"
		in.Places = slices.DeleteFunc(in.Places, func(p string) bool { return strings.HasPrefix(p, prefix) })
	case workflows.SignalIncreaseSize:
		for n := range req.Delta {
			in.Places = append(in.Places, workflows.PlaceholderInstance("demo", "worker", req.RequestID, n))
		}
	case workflows.SignalDeleteNodes:
		in.Places = slices.DeleteFunc(in.Places, func(p string) bool { return slices.Contains(req.Nodes, p) })
	}
}
