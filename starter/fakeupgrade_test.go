package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// queryInput asks a fake upgrade what it was started with.
const queryInput = "input"

var (
	oldVersions = plan.Versions{Talos: "v1.13.5", Schematic: "aaaaaaaaaaaaaaaaaaaa", Kubernetes: "v1.36.3"}
	newVersions = plan.Versions{Talos: "v1.14.1", Schematic: "bbbbbbbbbbbbbbbbbbbb", Kubernetes: "v1.37.0"}
)

func fakeNodes(clusterName string) []plan.UpgradeNode {
	var out []plan.UpgradeNode
	for i, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker, cluster.RoleWorker} {
		group, id := "a", fmt.Sprintf("aaaa%d", i)
		n := plan.UpgradeNode{Machine: id, Role: role, Talos: oldVersions.Talos, Schematic: oldVersions.Schematic, Kubelet: oldVersions.Kubernetes, ConfigSHA256: "1234567890abcdef", WantSHA256: "1234567890abcdef"}
		if role == cluster.RoleControlPlane {
			group = cluster.ControlPlaneGroup
			n.APIServer, n.ControllerManager, n.Scheduler = n.Kubelet, n.Kubelet, n.Kubelet
		}
		n.Group, n.Name = group, cluster.MachineName(clusterName, group, id)
		out = append(out, n)
	}
	return out
}

func fakePlan(clusterName string) plan.UpgradePlan {
	items := func() []plan.RollItem {
		var out []plan.RollItem
		for _, n := range fakeNodes(clusterName) {
			out = append(out, plan.RollItem{Machine: n.Machine, Name: n.Name, Group: n.Group, Role: n.Role, State: plan.RollPending})
		}
		return out
	}
	between := oldVersions
	between.Talos, between.Schematic = newVersions.Talos, newVersions.Schematic
	return plan.UpgradePlan{Legs: []plan.LegPlan{
		{Leg: plan.Leg{Kind: plan.LegTalos, From: oldVersions, To: between, Reason: "Talos first"}, Nodes: items(), Rounds: 3},
		{Leg: plan.Leg{Kind: plan.LegKubernetes, From: between, To: newVersions}, Nodes: items(), Rounds: 3},
	}}
}

// fakeUpgrade speaks the language of an upgrade and does nothing by itself: what
// its nodes do is told by the signal become. The signal go ends it: "" well, "new"
// in a new run, anything else as a failure of that kind.
type fakeUpgrade struct {
	workflows.UpgradeStatus
	in workflows.UpgradeInput
}

func (u *fakeUpgrade) refused(op string, req workflows.UpgradeRequest) error {
	refuse := func(kind fault.Kind, format string, args ...any) error {
		return temporal.NewApplicationError(fmt.Sprintf(format, args...), string(kind))
	}
	switch {
	case op == workflows.SignalPause && u.Paused:
		return refuse(fault.Conflict, "the upgrade is paused already")
	case op == workflows.SignalResume && !u.Paused && u.Parked == "":
		return refuse(fault.Conflict, "it is neither paused nor parked")
	case op == workflows.SignalApprove && u.Asks == "":
		return refuse(fault.Conflict, "nothing waits for an approval")
	case op == workflows.SignalSkipNode && !slices.ContainsFunc(u.Nodes, func(n workflows.NodeRoll) bool { return n.Name == req.Node }):
		return refuse(fault.Invalid, "node: there is no node %q", req.Node)
	}
	return nil
}

func (u *fakeUpgrade) obey(op string, req workflows.UpgradeRequest) workflows.UpgradeAnswer {
	u.State.Notes = append(u.State.Notes, fmt.Sprintf("%s by %s: %s", op, req.RequestID, req.Reason))
	switch op {
	case workflows.SignalPause:
		u.Paused = true
	case workflows.SignalResume:
		u.Paused, u.Parked = false, ""
	case workflows.SignalApprove:
		what := u.Asks
		u.Asks = ""
		return workflows.UpgradeAnswer{Message: "approved: " + what}
	case workflows.SignalSkipNode:
		return workflows.UpgradeAnswer{Message: req.Node + " is left out"}
	}
	return workflows.UpgradeAnswer{Message: op + " it is"}
}

func runFakeUpgrade(ctx workflow.Context, in workflows.UpgradeInput) (workflows.UpgradeResult, error) {
	ref := cluster.Ref{Name: in.Cluster, UID: "0123456789ab"}
	u := &fakeUpgrade{in: in, UpgradeStatus: workflows.UpgradeStatus{Cluster: ref, Phase: string(cluster.PhaseUpgrading), Plan: fakePlan(in.Cluster)}}
	if in.State != nil {
		u.State = *in.State
	}
	began := workflow.Now(ctx)
	for name, answer := range map[string]any{
		workflows.QueryUpgrade: func() (workflows.UpgradeStatus, error) { return u.UpgradeStatus, nil },
		queryInput:             func() (workflows.UpgradeInput, error) { return u.in, nil },
		workflows.QueryProgress: func() (workflows.Progress, error) {
			step := workflows.StepStatus{Name: "leg 1", State: workflows.StepDoing, Started: began}
			return workflows.Progress{
				Cluster: ref, Kind: workflows.TypeRollingUpgrade, Phase: cluster.PhaseUpgrading, Steps: []workflows.StepStatus{step},
				Nodes: []workflows.MemberStatus{{ID: "x", Name: "a machine", Phase: workflows.MemberReady}},
			}, nil
		},
	} {
		if err := workflow.SetQueryHandler(ctx, name, answer); err != nil {
			return workflows.UpgradeResult{}, err
		}
	}
	for _, op := range []string{workflows.SignalPause, workflows.SignalResume, workflows.SignalApprove, workflows.SignalSkipNode} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, op,
			func(_ workflow.Context, req workflows.UpgradeRequest) (workflows.UpgradeAnswer, error) {
				return u.obey(op, req), nil
			},
			workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, req workflows.UpgradeRequest) error { return u.refused(op, req) }})
		if err != nil {
			return workflows.UpgradeResult{}, err
		}
	}
	return u.run(ctx)
}

func (u *fakeUpgrade) run(ctx workflow.Context) (workflows.UpgradeResult, error) {
	r := workflows.UpgradeResult{Cluster: u.Cluster, Plan: u.Plan, From: oldVersions, To: newVersions, Nodes: fakeNodes(u.Cluster.Name)}
	refusals := []plan.Refusal{{Field: r.Nodes[1].Name, Reason: "nothing is known of it: it does not answer", Kind: plan.RefusedUnknown}}
	switch {
	case u.Cluster.Name == "refused":
		u.Plan.Refusals = refusals
		return r, temporal.NewNonRetryableApplicationError("that cannot be", string(fault.Unsafe), nil)
	case u.in.PlanOnly && u.Cluster.Name == "silent":
		r.Plan, r.To = plan.UpgradePlan{Refusals: refusals}, oldVersions
		r.Nodes[1].Problem, r.Nodes[2].WantSHA256 = "it does not answer", "another"
		return r, nil
	case u.in.PlanOnly:
		r.Plan.Unchanged = []string{"demo-a-zzzzz"}
		r.Warnings = []plan.Refusal{{Field: "snapshots", Reason: "the last one is old"}}
		return r, nil
	}
	var how string
	over := false
	sel := workflow.NewSelector(ctx).
		AddReceive(workflow.GetSignalChannel(ctx, "become"), func(c workflow.ReceiveChannel, _ bool) {
			s := workflows.UpgradeStatus{}
			c.Receive(ctx, &s)
			s.Cluster, s.Phase, s.Plan, s.State = u.Cluster, u.Phase, u.Plan, u.State
			u.UpgradeStatus = s
		}).
		AddReceive(workflow.GetSignalChannel(ctx, "go"), func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, &how)
			over = true
		}).
		AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) { over = true })
	for !over {
		sel.Select(ctx)
	}
	r.Upgraded, r.Message = 3, fmt.Sprintf("cluster %q: 3 nodes were upgraded", u.Cluster.Name)
	switch {
	case ctx.Err() != nil:
		return r, temporal.NewCanceledError("1 nodes were upgraded; not done: demo-a-aaaa1")
	case how == "new":
		u.in.State = &u.State
		return r, workflow.NewContinueAsNewError(ctx, runFakeUpgrade, u.in)
	case how != "":
		return r, temporal.NewNonRetryableApplicationError("it went wrong", how, nil)
	}
	return r, nil
}

// upgradeWorker serves the fakes.
func (s *server) upgradeWorker(t *testing.T) {
	t.Helper()
	w := worker.New(s.client, workflows.TaskQueue, worker.Options{WorkerStopTimeout: time.Second})
	w.RegisterWorkflowWithOptions(runFakeUpgrade, workflow.RegisterOptions{Name: workflows.TypeRollingUpgrade})
	w.RegisterWorkflowWithOptions(fakeImage, workflow.RegisterOptions{Name: workflows.TypeProvisionCluster})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

// rolls tells a fake upgrade what its nodes do now.
func (s *server) rolls(t *testing.T, name string, status workflows.UpgradeStatus) {
	t.Helper()
	if err := s.client.SignalWorkflow(t.Context(), cluster.LifecycleID(name), "", "become", status); err != nil {
		t.Fatal(err)
	}
}

// rolling is a status in the first leg with these states of nodes.
func rolling(clusterName string, states ...plan.RollState) workflows.UpgradeStatus {
	s := workflows.UpgradeStatus{Leg: 1}
	for i, n := range fakePlan(clusterName).Legs[0].Nodes {
		n.State = states[i]
		s.Nodes = append(s.Nodes, workflows.NodeRoll{RollItem: n, Began: time.Now()})
	}
	return s
}

// renewed has a fake upgrade go on in a new run, and waits for that.
func (s *server) renewed(t *testing.T, name string) {
	t.Helper()
	before, err := describe(t.Context(), s.client, name)
	if err != nil {
		t.Fatal(err)
	}
	s.signal(t, name, "new")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		now, err := describe(t.Context(), s.client, name)
		if err == nil && now.RunID != before.RunID && now.Running {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no new run: %+v, %v", now, err)
		}
	}
}
