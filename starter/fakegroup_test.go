package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// fakeGroup speaks the language of a node group and does nothing by itself: what
// its machines do is told by the signals become (a GroupStatus) and forget
// (continue as new with an empty memory of updates, as Temporal has then).
type fakeGroup struct {
	workflows.GroupStatus
}

func (g *fakeGroup) refused(req workflows.ScaleRequest, op string) error {
	refuse := func(kind fault.Kind, format string, args ...any) error {
		return temporal.NewApplicationError(fmt.Sprintf(format, args...), string(kind))
	}
	if slices.ContainsFunc(g.Requests, func(r workflows.ScaleResult) bool { return r.RequestID == req.RequestID }) {
		return nil
	}
	switch {
	case req.Cluster.UID != "" && req.Cluster.UID != g.Cluster.UID:
		return refuse(fault.Conflict, "this group belongs to another cluster of that name, uid %s", g.Cluster.UID)
	case g.Paused != nil && op != workflows.SignalResume && op != workflows.SignalPause:
		return refuse(fault.Conflict, "paused: %s", g.Paused.Reason)
	case op == workflows.SignalSetTarget && *req.Target > g.Max:
		return refuse(fault.Invalid, "target %d is above max %d", *req.Target, g.Max)
	case op == workflows.SignalDeleteNodes && !slices.ContainsFunc(g.Members, func(m workflows.GroupMember) bool { return m.Name == req.Nodes[0] }):
		return refuse(fault.Invalid, "no member %s", req.Nodes[0])
	}
	return nil
}

func (g *fakeGroup) apply(now time.Time, op string, req workflows.ScaleRequest) workflows.ScaleResult {
	for _, r := range g.Requests {
		if r.RequestID == req.RequestID {
			return r
		}
	}
	res := workflows.ScaleResult{RequestID: req.RequestID, Op: op, Accepted: true, At: now}
	switch op {
	case workflows.SignalSetTarget:
		g.Target = *req.Target
	case workflows.SignalIncreaseSize:
		if g.Target+req.Delta > g.Max { // as if somebody else had been faster
			res.Accepted, res.Kind = false, fault.Conflict
		} else {
			g.Target += req.Delta
		}
	case workflows.SignalDeleteNodes:
		g.Target -= len(req.Nodes)
	case workflows.SignalPause:
		g.Paused = &workflows.PauseStatus{Since: now, Reason: req.Reason}
	case workflows.SignalResume:
		g.Paused = nil
	}
	res.Message, res.Target = fmt.Sprintf("%s: the target is %d", op, g.Target), g.Target
	g.Requests = append(g.Requests, res)
	return res
}

func (g *fakeGroup) memo(ctx workflow.Context) error {
	m := workflows.GroupMemo{
		RunID: workflow.GetInfo(ctx).WorkflowExecution.RunID, Target: g.Target, Paused: g.Paused != nil,
		Ready: countMembers(g.GroupStatus).Ready, Wanted: []workflows.InstanceRange{{Prefix: "ichor://demo/worker/r1", From: 0, To: 1}},
		Others: []workflows.MemoInstance{{ID: "zzzzz", Instance: "ichor://demo/worker/r2-0", Phase: workflows.MemberFailed, Kind: fault.Quota, Message: "account full"}},
	}
	return workflow.UpsertMemo(ctx, map[string]any{workflows.MemoFacts: g.GroupFacts, workflows.MemoState: m})
}

func runFakeGroup(ctx workflow.Context, in workflows.GroupStatus) error {
	g := &fakeGroup{in}
	if err := g.memo(ctx); err != nil {
		return err
	}
	if err := workflow.SetQueryHandler(ctx, workflows.QueryGroup, func() (workflows.GroupStatus, error) { return g.GroupStatus, nil }); err != nil {
		return err
	}
	for _, op := range []string{workflows.SignalSetTarget, workflows.SignalIncreaseSize, workflows.SignalDeleteNodes, workflows.SignalPause, workflows.SignalResume} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, op, func(ctx workflow.Context, req workflows.ScaleRequest) (workflows.ScaleResult, error) {
			res := g.apply(workflow.Now(ctx), op, req)
			return res, g.memo(ctx)
		}, workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, req workflows.ScaleRequest) error { return g.refused(req, op) }})
		if err != nil {
			return err
		}
	}
	var resumed, again bool
	sel := workflow.NewSelector(ctx).
		AddReceive(workflow.GetSignalChannel(ctx, workflows.SignalResume), func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			resumed = true
		}).
		AddReceive(workflow.GetSignalChannel(ctx, "become"), func(c workflow.ReceiveChannel, _ bool) {
			var s workflows.GroupStatus
			c.Receive(ctx, &s)
			s.GroupFacts, s.Requests = g.GroupFacts, g.Requests
			g.GroupStatus = s
		}).
		AddReceive(workflow.GetSignalChannel(ctx, "forget"), func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			again = true
		})
	for !again {
		sel.Select(ctx)
		if resumed {
			g.Parked = "resumed by signal"
		}
	}
	return workflow.NewContinueAsNewError(ctx, runFakeGroup, g.GroupStatus)
}

// fakeImage runs until it is told to resume.
func fakeImage(ctx workflow.Context) error {
	workflow.GetSignalChannel(ctx, workflows.SignalResume).Receive(ctx, nil)
	return nil
}

// fakeProvision holds an image as its child.
func fakeProvision(ctx workflow.Context, image string) error {
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: image})
	err := workflow.ExecuteChildWorkflow(ctx, workflows.TypeHoldImage).Get(ctx, nil)
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	return err
}

// groupWorker serves the fakes until it is stopped.
func (s *server) groupWorker(t *testing.T) worker.Worker {
	t.Helper()
	w := worker.New(s.client, workflows.TaskQueue, worker.Options{WorkerStopTimeout: time.Second})
	w.RegisterWorkflowWithOptions(runFakeGroup, workflow.RegisterOptions{Name: workflows.TypeScaleNodeGroup})
	w.RegisterWorkflowWithOptions(fakeImage, workflow.RegisterOptions{Name: workflows.TypeHoldImage})
	w.RegisterWorkflowWithOptions(fakeProvision, workflow.RegisterOptions{Name: workflows.TypeProvisionCluster})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// member is one machine of a fake group.
func member(name string, phase workflows.MemberPhase, failure *workflows.Failure) workflows.GroupMember {
	return workflows.GroupMember{
		MemberStatus: workflows.MemberStatus{ID: name[len(name)-5:], Name: name, Phase: phase, Since: time.Now()}, Failure: failure,
	}
}

func workerGroup(clusterName, group string, ready int) workflows.GroupStatus {
	s := workflows.GroupStatus{
		GroupFacts: workflows.GroupFacts{
			Cluster: cluster.Ref{Name: clusterName, UID: "0123456789ab"}, Group: group, Role: cluster.RoleWorker,
			Cloud: cluster.Cloud{Provider: "cloudscale"}, Zone: "lpg1", Flavor: "flex-4-1", Min: 1, Max: 5,
		},
		Target: ready,
	}
	for i := range ready {
		s.Members = append(s.Members, member(fmt.Sprintf("%s-%s-aaaa%d", clusterName, group, i), workflows.MemberReady, nil))
	}
	return s
}

// group starts a fake group.
func (s *server) group(t *testing.T, status workflows.GroupStatus) {
	t.Helper()
	if _, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: cluster.GroupID(status.Cluster.Name, status.Group), TaskQueue: workflows.TaskQueue,
		TypedSearchAttributes: temporal.NewSearchAttributes(workflows.AttrCluster.ValueSet(status.Cluster.Name), workflows.AttrKind.ValueSet("group")),
	}, workflows.TypeScaleNodeGroup, status); err != nil {
		t.Fatal(err)
	}
}

// become tells a fake group what its machines do now.
func (s *server) become(t *testing.T, group string, target int, members ...workflows.GroupMember) {
	t.Helper()
	s.becomes(t, group, workflows.GroupStatus{Target: target, Members: members})
}

func (s *server) becomes(t *testing.T, group string, status workflows.GroupStatus) {
	t.Helper()
	g, err := parseGroup(group)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.client.SignalWorkflow(t.Context(), g.workflowID(), "", "become", status); err != nil {
		t.Fatal(err)
	}
}
