package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// groupView is a group as it answers, or, while no worker runs, as its memo says.
type groupView struct {
	Name string `json:"name"` // CLUSTER/GROUP
	workflows.GroupStatus
	Counts counts `json:"counts"`
	// Stale says that the group itself was not heard: no worker answers, and
	// what it was asked lately is not part of this.
	Stale string `json:"stale,omitempty"`
}

func newGroups(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "groups [CLUSTER]",
		Short: "List node groups with their sizes and what ails them",
		Long: `groups lists the node groups that run, of one cluster or of all. While no worker
runs, the numbers come from what the groups wrote down last, and are marked so.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, only := cmd.Context(), ""
			if len(args) == 1 {
				if only = args[0]; !label.MatchString(only) {
					return usageError{fmt.Errorf("%q is not the name of a cluster", only)}
				}
			}
			t, err := a.dial(ctx)
			if err != nil {
				return err
			}
			defer t.Close()
			names, err := runningGroups(ctx, t, only)
			if err != nil {
				return err
			}
			views := a.views(ctx, t, names)
			if a.cfg.Output == outputJSON {
				return a.printJSON(views)
			}
			if len(views) == 0 {
				fmt.Fprintln(a.out, "No node groups.")
				return nil
			}
			return printGroups(a.out, views, time.Now())
		},
	}
}

func newGroup(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "group CLUSTER/GROUP",
		Short: "Say what a node group is, what it does, and what has failed",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := parseGroup(args[0])
			if err != nil {
				return err
			}
			t, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer t.Close()
			v, err := a.view(cmd.Context(), t, g)
			if err != nil {
				return err
			}
			if a.cfg.Output == outputJSON {
				return a.printJSON(v)
			}
			return v.print(a.out, time.Now())
		},
	}
}

// runningGroups lists the groups that run, of one cluster or of all, by name.
func runningGroups(ctx context.Context, t client.Client, only string) ([]groupName, error) {
	query := "IchorKind = 'group' AND WorkflowType = '" + workflows.TypeScaleNodeGroup + "' AND ExecutionStatus = 'Running'"
	if only != "" {
		query += " AND IchorCluster = '" + only + "'"
	}
	out := []groupName{}
	for page := []byte(nil); ; {
		r, err := t.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, NextPageToken: page})
		if err != nil {
			return nil, temporalFault("list node groups", err)
		}
		for _, e := range r.GetExecutions() {
			parts := strings.Split(e.GetExecution().GetWorkflowId(), "/")
			if len(parts) == 4 && !slices.Contains(out, groupName{parts[1], parts[3]}) {
				out = append(out, groupName{parts[1], parts[3]})
			}
		}
		if page = r.GetNextPageToken(); len(page) == 0 {
			break
		}
	}
	slices.SortFunc(out, func(a, b groupName) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

// queriesAtOnce bounds questions under way: each keeps a worker busy for about
// 2 ms.
const queriesAtOnce = 16

// views asks groups at once. Those that have ended since they were listed are
// left out.
func (a *app) views(ctx context.Context, t client.Client, names []groupName) []groupView {
	answers := make([]*groupView, len(names))
	free := make(chan struct{}, queriesAtOnce)
	var wg sync.WaitGroup
	for i, g := range names {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			v, err := a.view(ctx, t, g)
			switch {
			case err == nil:
				answers[i] = &v
			case !fault.Is(err, fault.NotFound):
				answers[i] = &groupView{Name: g.String(), Stale: err.Error()}
			}
		})
	}
	wg.Wait()
	out := []groupView{}
	for _, v := range answers {
		if v != nil {
			out = append(out, *v)
		}
	}
	return out
}

// view asks a group, and reads its memo when it does not answer.
func (a *app) view(ctx context.Context, t client.Client, g groupName) (groupView, error) {
	v := groupView{Name: g.String()}
	s, err := groupOf(ctx, t, g.workflowID())
	if err == nil {
		v.GroupStatus, v.Counts = s, countMembers(s)
		return v, nil
	}
	if ended(err) {
		return v, fault.New(fault.NotFound, "find group "+g.String(), "no such group runs; ichor groups lists those that do")
	}
	if errors.Is(err, context.Canceled) {
		return v, err
	}
	facts, memo, merr := a.memo(ctx, t, g)
	if merr != nil {
		return v, temporalFault("ask group "+g.String(), err)
	}
	v.GroupFacts, v.Target, v.Generation, v.Ending, v.Counts = facts, memo.Target, memo.Generation, memo.Ending, memo.counts()
	if memo.Paused {
		v.Paused = &workflows.PauseStatus{}
	}
	for _, o := range memo.Others {
		m := workflows.GroupMember{MemberStatus: workflows.MemberStatus{ID: o.ID, Name: o.ID, Phase: o.Phase, ProviderID: o.ProviderID}, Instance: o.Instance}
		if o.Kind != "" {
			m.Failure = &workflows.Failure{Kind: o.Kind, Message: o.Message}
		}
		v.Members = append(v.Members, m)
	}
	v.Stale = "the group does not answer: " + a.silence(ctx, t, err)
	return v, nil
}

// groupMemo is what a group wrote down for readers without a worker.
type groupMemo struct{ workflows.GroupMemo }

func (a *app) memo(ctx context.Context, t client.Client, g groupName) (workflows.GroupFacts, groupMemo, error) {
	var facts workflows.GroupFacts
	var state groupMemo
	d, err := t.DescribeWorkflow(ctx, g.workflowID(), "")
	if err != nil {
		return facts, state, err
	}
	for name, to := range map[string]any{workflows.MemoFacts: &facts, workflows.MemoState: &state.GroupMemo} {
		p := d.Memo.GetFields()[name]
		if p == nil {
			return facts, state, fault.New(fault.NotFound, "read the memo of group "+g.String(), "it has no field %s", name)
		}
		if err := a.payloads.FromPayload(p, to); err != nil {
			return facts, state, err
		}
	}
	return facts, state, nil
}

func (m groupMemo) counts() counts {
	c := counts{Ready: m.Ready}
	for _, r := range m.Wanted {
		c.Creating += r.To - r.From + 1
	}
	for _, o := range m.Others {
		c.add(o.Phase)
	}
	return c
}

// groupsOf are the names of a cluster's groups, from the ids of their workflows.
func groupsOf(name string, rec cluster.Record) []groupName {
	var out []groupName
	for _, id := range rec.Entities {
		if _, g, ok := strings.Cut(id, "/group/"); ok {
			out = append(out, groupName{name, g})
		}
	}
	return out
}
