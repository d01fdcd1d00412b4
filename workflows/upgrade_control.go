package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// steering are the requests by which people steer a roll.
var steering = []string{SignalPause, SignalResume, SignalApprove, SignalSkipNode}

// handlers registers everything by which a roll is told and asked. Signals that
// make no sense leave a note; updates are refused with the reason.
func (u *upgrade) handlers(ctx workflow.Context) error {
	if err := workflow.SetQueryHandler(ctx, QueryUpgrade, func() (UpgradeStatus, error) { return u.status(), nil }); err != nil {
		return err
	}
	for _, op := range steering {
		if op != SignalResume { // which the desk receives
			ch := workflow.GetSignalChannel(ctx, op)
			workflow.GoNamed(ctx, op, func(ctx workflow.Context) {
				var req UpgradeRequest
				for ch.Receive(ctx, &req) {
					if _, err := u.obey(ctx, op, req); err != nil {
						u.note(ctx, "%s: %s", op, messageOf(err))
					}
					req = UpgradeRequest{}
				}
			})
		}
		err := workflow.SetUpdateHandlerWithOptions(ctx, op,
			func(ctx workflow.Context, req UpgradeRequest) (UpgradeAnswer, error) {
				text, err := u.obey(ctx, op, req)
				return UpgradeAnswer{Message: text}, err
			},
			workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, req UpgradeRequest) error { return u.refuse(op, req) }},
		)
		if err != nil {
			return err
		}
	}
	u.handleResumed(ctx)
	u.handleNodes(ctx)
	return nil
}

// handleResumed obeys resume signals, which the desk counts.
func (u *upgrade) handleResumed(ctx workflow.Context) {
	workflow.GoNamed(ctx, "resumed", func(ctx workflow.Context) {
		for seen := u.resumed; ; {
			if workflow.Await(ctx, func() bool { return u.resumed > seen }) != nil {
				return
			}
			seen = u.resumed // goOn waits: what arrives meanwhile counts anew
			u.goOn(ctx)
		}
	})
}

// handleNodes hears from the workflows of nodes.
func (u *upgrade) handleNodes(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalNode)
	workflow.GoNamed(ctx, "nodes", func(ctx workflow.Context) {
		var r NodeReport
		for ch.Receive(ctx, &r) {
			if n := u.rolling(r.Machine); n != nil && n.State == plan.RollRunning {
				n.Parked, n.Note = r.Parked, r.Note
				u.page(ctx)
			}
			r = NodeReport{}
		}
	})
}

// drain obeys what arrived last, so that a new run knows of it. It never yields.
func (u *upgrade) drain(ctx workflow.Context) {
	for _, op := range steering {
		for ch := workflow.GetSignalChannel(ctx, op); ; {
			var req UpgradeRequest
			if !ch.ReceiveAsync(&req) {
				break
			}
			if op == SignalResume {
				u.state.Paused = false
			} else if _, err := u.obey(ctx, op, req); err != nil {
				workflow.GetLogger(ctx).Warn("a request made no sense", "request", op, "reason", messageOf(err))
			}
		}
	}
}

// refuse says why a request makes no sense now.
func (u *upgrade) refuse(op string, req UpgradeRequest) error {
	if u.stopped() {
		return fail(fault.Conflict, "the upgrade of %s is being cancelled", u.in.Cluster)
	}
	switch op {
	case SignalPause:
		if u.state.Paused {
			return fail(fault.Conflict, "the upgrade of %s is paused already", u.in.Cluster)
		}
	case SignalResume:
		if !u.state.Paused && u.parked == "" && !slices.ContainsFunc(u.nodes, func(n *rolling) bool { return n.Parked }) && u.groupParked() == "" {
			return fail(fault.Conflict, "the upgrade of %s is neither paused nor parked", u.in.Cluster)
		}
	case SignalApprove:
		if u.asks == "" {
			return fail(fault.Conflict, "nothing waits for an approval")
		}
		if n := u.rolling(req.Node); req.Node != "" && (n == nil || !strings.HasSuffix(u.asks, asksFor(n.Name))) {
			return fail(fault.Conflict, "%s does not wait for an approval; what waits is: %s", req.Node, u.asks)
		}
	case SignalSkipNode:
		return u.refuseSkip(req)
	}
	return nil
}

func (u *upgrade) refuseSkip(req UpgradeRequest) error {
	if req.Node == "" {
		return fail(fault.Invalid, "node: is required")
	}
	if err := u.refuseOlderAPI(req.Node); err != nil {
		return err
	}
	if n := u.rolling(req.Node); n != nil {
		switch n.State {
		case plan.RollDone:
			if u.last() {
				return fail(fault.Conflict, "%s is done", n.Name)
			}
		case plan.RollSkipped:
			return fail(fault.Conflict, "%s is left out already", n.Name)
		case plan.RollRunning:
			if !n.Parked {
				return fail(fault.Conflict, "%s is at work since %s; it can be left out when it parks, or cancel the upgrade", n.Name, n.Began.UTC().Format(time.RFC3339))
			}
		case plan.RollPending, plan.RollFailed:
		}
		return nil
	}
	if len(u.seen) == 0 {
		return fail(fault.Conflict, "the nodes of %s are not known yet; they are being looked at", u.in.Cluster)
	}
	if !slices.ContainsFunc(u.seen, func(n plan.UpgradeNode) bool { return n.Name == req.Node || n.Machine == req.Node }) {
		return fail(fault.Invalid, "node: cluster %s has no node %q", u.in.Cluster, req.Node)
	}
	return nil
}

// refuseOlderAPI says why a control plane may not be left out: its API server would
// stay older than the kubelets that ask it.
func (u *upgrade) refuseOlderAPI(name string) error {
	i := slices.IndexFunc(u.seen, func(n plan.UpgradeNode) bool { return n.Name == name || n.Machine == name })
	if i < 0 || u.seen[i].Role != cluster.RoleControlPlane {
		return nil
	}
	for at := u.ended; at < len(u.plan.Legs); at++ {
		leg := u.plan.Legs[at].Leg
		if leg.Kind != plan.LegKubernetes || at == u.leg && u.doing == WorkKubelet {
			continue
		}
		if plan.BehindComponent(u.seen[i], plan.ComponentAPIServer, leg.To.Kubernetes) {
			return fail(fault.Conflict, "%s is a control plane and %s follows: no kubelet may be newer than an API server; cancel the upgrade instead", u.seen[i].Name, describeLeg(leg))
		}
	}
	return nil
}

// last reports whether the nodes of the roll under way are done for good when they
// are done with it.
func (u *upgrade) last() bool {
	i := u.leg
	return i == len(u.plan.Legs)-1 && (u.plan.Legs[i].Kind != plan.LegKubernetes || u.doing == WorkKubelet)
}

// asksFor is how a question about a node ends.
func asksFor(node string) string { return " on " + node }

// obey does what a person asks.
func (u *upgrade) obey(ctx workflow.Context, op string, req UpgradeRequest) (string, error) {
	if err := u.refuse(op, req); err != nil {
		return "", err
	}
	u.dirty = true
	defer u.page(ctx)
	switch op {
	case SignalPause:
		u.state.Paused = true
		if req.Reason != "" {
			u.note(ctx, "paused: %s", req.Reason)
		}
		return "paused: nodes at work are finished, no other is begun", nil
	case SignalResume:
		u.resumed++ // handleResumed does the rest
		return "resumed", nil
	case SignalApprove:
		what := u.asks
		u.approved = true
		return "approved: " + what, nil
	case SignalSkipNode:
		return u.skip(req.Node), nil
	}
	return "", fail(fault.Invalid, "%q is no request of an upgrade", op)
}

// goOn ends a pause and has parked nodes try again.
func (u *upgrade) goOn(ctx workflow.Context) {
	u.state.Paused, u.dirty = false, true
	for _, n := range u.nodes {
		if n.State == plan.RollRunning && n.Parked {
			calm, cancel := workflow.NewDisconnectedContext(ctx)
			// One that has ended meanwhile needs no signal.
			_ = workflow.SignalExternalWorkflow(calm, n.Workflow, "", SignalResume, nil).Get(calm, nil)
			cancel()
		}
	}
	u.page(ctx)
}

// skip leaves a node out, now and in what follows.
func (u *upgrade) skip(name string) string {
	n := u.rolling(name)
	id := name
	for _, s := range u.seen {
		if s.Name == name {
			id = s.Machine
		}
	}
	if n != nil {
		id = n.Machine
		switch n.State {
		case plan.RollRunning:
			n.skip = true
			n.stop()
		case plan.RollPending, plan.RollFailed:
			n.State = plan.RollSkipped
		case plan.RollDone, plan.RollSkipped:
		}
	}
	if !slices.Contains(u.state.Skipped, id) {
		u.state.Skipped = append(u.state.Skipped, id)
	}
	return u.nameOf(id) + " is left out, with what it runs now"
}

// ask waits for an approval, unless it is over by itself.
func (u *upgrade) ask(ctx workflow.Context, what string, over func() bool) error {
	if slices.Contains(u.state.Approved, what) {
		return nil
	}
	u.asks, u.approved = what, false
	u.page(ctx)
	err := workflow.Await(ctx, func() bool { return u.approved || over() })
	u.asks = ""
	if err == nil && u.approved {
		u.state.Approved = append(u.state.Approved, what)
	}
	u.page(ctx)
	return err
}

func (u *upgrade) groupParked() string {
	for _, name := range u.groupNames() {
		if p := u.groups[name].parked; p != "" {
			return p
		}
	}
	return ""
}

// idle notes for what nothing is begun now.
func (u *upgrade) idle(ctx workflow.Context, why string, until time.Time) {
	u.waits, u.until = why, until
	u.page(ctx)
}

func (u *upgrade) status() UpgradeStatus {
	s := UpgradeStatus{
		Cluster: u.ref(), Phase: string(u.progress.Phase), Plan: u.plan, Waits: u.waits, Until: u.until,
		Parked: u.snapshot().Parked, Paused: u.state.Paused, Asks: u.asks, Warnings: u.warnings, State: u.state,
		Manifests: u.diff, Bootstrap: u.bootstrap,
	}
	if u.state.Begun {
		s.Leg, s.Work = u.leg+1, u.doing
	}
	for _, n := range u.nodes {
		s.Nodes = append(s.Nodes, n.NodeRoll)
	}
	return s
}

// snapshot is the progress with what parks, of the roll or of one of its nodes.
func (u *upgrade) snapshot() Progress {
	p := u.lifecycle.snapshot()
	for _, n := range u.nodes {
		if p.Parked == "" && n.Parked {
			p.Parked = n.Name + ": " + n.Note
		}
	}
	return p
}

// page shows plan and nodes on the page of the run.
func (u *upgrade) page(ctx workflow.Context) {
	var b strings.Builder
	b.WriteString(progressMarkdown(u.snapshot()))
	if u.state.Paused {
		b.WriteString("\n\n**Paused:** nodes at work are finished, no other is begun\n")
	}
	if u.asks != "" {
		b.WriteString(fmt.Sprintf("\n\n**Asks:** %s — send the signal %s\n", cell(u.asks), SignalApprove))
	}
	if u.waits != "" {
		b.WriteString(fmt.Sprintf("\n\nWaits: %s\n", cell(u.waits)))
	}
	if len(u.nodes) > 0 {
		b.WriteString("\n\n| Node | Role | State | Note |\n|---|---|---|---|\n")
		for _, n := range u.nodes {
			b.WriteString(fmt.Sprintf("| %s | %s | %s | %s |\n", n.Name, n.Role, n.State, cell(n.Note)))
		}
	}
	workflow.SetCurrentDetails(ctx, b.String())
}
