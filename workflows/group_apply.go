package workflows

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// scaleOps are the requests of scaling in the order in which those of one moment
// are applied.
var scaleOps = []string{
	SignalCancelRequest, SignalIncreaseSize, SignalSetTarget, SignalDecreaseTargetSize, SignalDeleteNodes, SignalPause, SignalResume,
}

// remembered bounds the ring of results. A request is repeated within seconds;
// 256 of them are hours of scaling, and 50 KB in the worst case.
const remembered = 256

// goneKept bounds what is remembered of deleted machines: the autoscaler may
// name one for as long as it sees its Node object, which is minutes.
const goneKept = 128

// atOnceMost bounds one request; it is the most that a spec's max allows.
const atOnceMost = 500

// refusal is the error of an update whose request was refused.
func refusal(r ScaleResult) error {
	if r.Accepted {
		return nil
	}
	return fail(r.Kind, "%s", r.Message)
}

// apply obeys one request, whichever way it came, and remembers the answer: a
// request id counts once. With asked, its sender waits for the answer. It never
// yields.
func (g *group) apply(ctx workflow.Context, op string, req ScaleRequest, asked bool) ScaleResult {
	g.heard = true
	if req.RequestID == "" {
		g.state.Signals++
		req.RequestID = fmt.Sprintf("%.8s-%d", g.state.Seed, g.state.Signals)
	}
	if known := g.recall(req.RequestID); known != nil {
		return *known
	}
	r := ScaleResult{RequestID: req.RequestID, Op: op, At: workflow.Now(ctx)}
	message, err := g.obey(ctx, op, req, asked || op == SignalSetTarget)
	r.Accepted, r.Message = err == nil, message
	if err != nil {
		r.Kind, r.Message = kindOf(err), messageOf(err)
	} else {
		g.state.Generation++
	}
	r.Target, r.Generation = g.size(), g.state.Generation
	g.remember(r)
	g.dirty = true
	return r
}

func (g *group) recall(id string) *ScaleResult {
	if i := slices.IndexFunc(g.state.Requests, func(r ScaleResult) bool { return r.RequestID == id }); i >= 0 {
		return &g.state.Requests[i]
	}
	return nil
}

func (g *group) remember(r ScaleResult) {
	g.state.Requests = append(g.state.Requests, r)
	if n := len(g.state.Requests) - remembered; n > 0 {
		g.state.Requests = slices.Clone(g.state.Requests[n:])
	}
}

// validate refuses an update before it is recorded. A repeated one is answered;
// one that older signals may still change is left to the handler.
func (g *group) validate(op string, req ScaleRequest) error {
	if req.RequestID != "" && g.recall(req.RequestID) != nil {
		return nil
	}
	if !g.scales {
		return fail(fault.Conflict, "this run of the group began before it could answer; send the signal %s instead", op)
	}
	return g.refuse(op, req, g.ready && !g.pending())
}

// refuse says why a request cannot be obeyed. An increase that came as a signal
// was acknowledged to its sender already and keeps its place whatever the bounds
// say; with asked, the sender waits for the answer.
func (g *group) refuse(op string, req ScaleRequest, asked bool) error {
	if uid := req.Cluster.UID; uid != "" && uid != g.in.Cluster.UID {
		return fail(fault.Conflict, "this is group %s of cluster %s with uid %s, not %s", g.in.Group, g.in.Cluster.Name, g.in.Cluster.UID, uid)
	}
	if g.state.Ending && op != SignalResume {
		return fail(fault.Conflict, "group %s is being deleted: %s", g.in.Group, g.state.Reason)
	}
	if p := g.state.Paused; p != nil && asked && op != SignalPause && op != SignalResume && op != SignalCancelRequest {
		return fail(fault.Conflict, "group %s is paused since %s (%s); resume it first", g.in.Group, p.Since.UTC().Format(time.RFC3339), orNone(p.Reason))
	}
	if scaling := op == SignalIncreaseSize || op == SignalSetTarget || op == SignalDecreaseTargetSize || op == SignalDeleteNodes; scaling && g.in.Role != cluster.RoleWorker {
		return fail(fault.Invalid, "group %s is the control plane, which does not scale by request", g.in.Group)
	}
	switch op {
	case SignalIncreaseSize, SignalDecreaseTargetSize:
		if req.Delta < 1 || req.Delta > atOnceMost {
			return fail(fault.Invalid, "delta: %d is not between 1 and %d", req.Delta, atOnceMost)
		}
		if op == SignalIncreaseSize && asked && g.size()+req.Delta > g.in.Max {
			return fail(fault.Invalid, "delta: %d more than the %d of now would be above the group's max of %d", req.Delta, g.size(), g.in.Max)
		}
	case SignalSetTarget:
		switch {
		case req.Target == nil:
			return fail(fault.Invalid, "target: is required")
		case *req.Target < g.in.Min || *req.Target > g.in.Max:
			return fail(fault.Invalid, "target: %d is outside of the group's min %d and max %d", *req.Target, g.in.Min, g.in.Max)
		}
	case SignalDeleteNodes:
		return g.refuseNodes(req, asked)
	case SignalCancelRequest:
		if req.Cancel == "" {
			return fail(fault.Invalid, "cancel: is required, the id of the request to cancel")
		}
	}
	return nil
}

func (g *group) refuseNodes(req ScaleRequest, asked bool) error {
	if len(req.Nodes) == 0 || len(req.Nodes) > atOnceMost {
		return fail(fault.Invalid, "nodes: %d nodes are not between 1 and %d", len(req.Nodes), atOnceMost)
	}
	if !asked {
		return nil
	}
	leave := map[string]bool{}
	for _, n := range req.Nodes {
		m := g.holder(n)
		switch {
		case m != nil && m.counted():
			leave[m.ID] = true
		case m == nil && !g.wasHere(n):
			return fail(fault.Invalid, "nodes: %q is no node of group %s; nothing was deleted", n, g.in.Group)
		}
	}
	if left := g.size() - len(leave); req.Origin != OriginAutoscaler && left < g.in.Min {
		return fail(fault.Invalid, "nodes: %d would be left, fewer than the group's min of %d", left, g.in.Min)
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "no reason given"
	}
	return s
}

// obey makes members of wishes; the machines follow.
func (g *group) obey(ctx workflow.Context, op string, req ScaleRequest, asked bool) (string, error) {
	if err := g.refuse(op, req, asked); err != nil {
		return "", err
	}
	switch op {
	case SignalIncreaseSize:
		g.want(ctx, req, req.Delta)
		return fmt.Sprintf("%d more, %d in all", req.Delta, g.size()), nil
	case SignalSetTarget:
		return g.setTarget(ctx, req), nil
	case SignalDecreaseTargetSize:
		return g.decrease(ctx, req)
	case SignalDeleteNodes:
		return g.deleteNodes(ctx, req), nil
	case SignalPause:
		if g.state.Paused == nil {
			g.state.Paused = &PauseStatus{Since: workflow.Now(ctx), Reason: req.Reason}
		}
		return "paused: what is under way is finished, nothing else begins", nil
	case SignalResume:
		g.resumed++
		if g.state.Ending {
			return "resumed", nil
		}
		g.state.Paused, g.state.Backoff = nil, nil
		g.state.Inspected = workflow.Now(ctx).Add(-g.timing().Reconcile) // look at the cloud now
		g.tryAgain(ctx)
		return "resumed: what failed is tried again", nil
	case SignalCancelRequest:
		return g.cancelRequest(ctx, req), nil
	}
	return "", fail(fault.Invalid, "%q is no request of scaling", op)
}

// want adds n places. Their ids follow from the request, so that its sender
// knows them without an answer.
func (g *group) want(ctx workflow.Context, req ScaleRequest, n int) {
	accepted := workflow.Now(ctx)
	// A clock of elsewhere is believed as far as it makes sense.
	if age := accepted.Sub(req.At); !req.At.IsZero() && age > 0 && age < 24*time.Hour {
		accepted = req.At
	}
	origin := req.Origin
	if origin == "" {
		origin = OriginPerson
	}
	for i := range n {
		g.add(ctx, &Member{
			Slot: g.freeSlot(), Instance: PlaceholderInstance(g.in.Cluster.Name, g.in.Group, req.RequestID, i), Origin: origin, Accepted: accepted,
		})
	}
}

func (g *group) freeSlot() int {
	var taken []int
	for _, m := range g.state.Members {
		taken = append(taken, m.Slot)
	}
	return plan.FreeSlot(taken)
}

// size is the target: every place that is not given up.
func (g *group) size() int {
	n := 0
	for _, m := range g.state.Members {
		if m.counted() {
			n++
		}
	}
	return n
}

func (g *group) setTarget(ctx workflow.Context, req ScaleRequest) string {
	have := g.size()
	switch want := *req.Target; {
	case want > have:
		g.want(ctx, req, want-have)
		return fmt.Sprintf("from %d to %d", have, want)
	case want < have:
		for _, id := range plan.Victims(g.candidates(), have-want) {
			g.leave(ctx, g.member(id), req.Origin != OriginAutoscaler && !req.Force)
		}
		return fmt.Sprintf("from %d to %d", have, want)
	}
	return fmt.Sprintf("the target is %d already", have)
}

func (g *group) candidates() []plan.Candidate {
	var out []plan.Candidate
	for _, m := range g.state.Members {
		if m.counted() {
			out = append(out, plan.Candidate{
				ID: m.ID, Made: m.CloudID != "", Joined: m.Phase == MemberJoined, Ready: m.Phase == MemberReady,
				Failed: m.Phase == MemberFailed, Accepted: m.Accepted,
			})
		}
	}
	return out
}

func (g *group) decrease(ctx workflow.Context, req ScaleRequest) (string, error) {
	victims := plan.Unmade(g.candidates(), req.Delta)
	if len(victims) == 0 {
		return "", fail(fault.Conflict, "all %d machines of group %s exist; delete nodes instead", g.size(), g.in.Group)
	}
	for _, id := range victims {
		g.leave(ctx, g.member(id), false)
	}
	return fmt.Sprintf("%d of %d given up, %d in all", len(victims), req.Delta, g.size()), nil
}

func (g *group) deleteNodes(ctx workflow.Context, req ScaleRequest) string {
	deleted, before, unknown := 0, 0, 0
	for _, n := range req.Nodes {
		switch m := g.holder(n); {
		case m != nil && m.counted():
			g.leave(ctx, m, req.Origin != OriginAutoscaler && !req.Force)
			deleted++
		case m != nil || g.wasHere(n):
			if m != nil && req.Force {
				m.Drain = false
			}
			before++
		default:
			unknown++
		}
	}
	s := fmt.Sprintf("%d deleted, %d in all", deleted, g.size())
	if before > 0 {
		s += fmt.Sprintf("; %d were deleted before", before)
	}
	if unknown > 0 {
		s += fmt.Sprintf("; %d are not known here", unknown)
	}
	return s
}

// cancelRequest makes sure that a request has no effect from now on, whether it
// was obeyed already or never arrives.
func (g *group) cancelRequest(ctx workflow.Context, req ScaleRequest) string {
	known := g.recall(req.Cancel)
	if known == nil {
		g.remember(ScaleResult{
			RequestID: req.Cancel, Op: SignalCancelRequest, Kind: fault.Conflict, Message: "cancelled before it came",
			Target: g.size(), Generation: g.state.Generation, At: workflow.Now(ctx),
		})
		return req.Cancel + " will not count"
	}
	if !known.Accepted {
		return req.Cancel + " had no effect: " + known.Message
	}
	if known.Op != SignalIncreaseSize {
		return req.Cancel + " was obeyed before: " + known.Message
	}
	prefix, n := PlaceholderPrefix(g.in.Cluster.Name, g.in.Group, req.Cancel)+"-", 0
	for _, m := range slices.Clone(g.state.Members) {
		rest, of := strings.CutPrefix(m.Instance, prefix)
		if _, err := strconv.Atoi(rest); of && err == nil && m.counted() {
			g.leave(ctx, m, false)
			n++
		}
	}
	known.Accepted, known.Kind, known.Message = false, fault.Conflict, "cancelled"
	return fmt.Sprintf("%d machines of %s given up", n, req.Cancel)
}

// leave takes a member out of the target. What has no machine, and may not get
// one, is gone at once.
func (g *group) leave(ctx workflow.Context, m *Member, drain bool) {
	m.Failure, m.Beyond, m.Drain = nil, false, drain && m.joined()
	if m.CloudID == "" && !m.Evidence.Pending && !g.busy[m.ID] {
		g.gone(m)
		return
	}
	if m.Drain {
		g.set(ctx, m.ID, MemberDraining, "")
		return
	}
	g.set(ctx, m.ID, MemberDeleting, "")
}

// gone forgets a member but for its names.
func (g *group) gone(m *Member) {
	g.state.Members = slices.DeleteFunc(g.state.Members, func(o *Member) bool { return o.ID == m.ID })
	g.state.Gone = append(g.state.Gone, GoneInstance{ID: m.ID, Name: m.Name, Instance: m.Instance, ProviderID: m.ProviderID, Aliases: m.Aliases})
	if n := len(g.state.Gone) - goneKept; n > 0 {
		g.state.Gone = slices.Clone(g.state.Gone[n:])
	}
	g.state.Generation++
	g.dirty, g.sendFull = true, true
}

// holder finds the member that a name means: the one that counts before one that
// leaves, since a replacement answers to the names of its predecessors. It does so
// until its own node has joined: who names the old machine then means that one.
func (g *group) holder(name string) *Member {
	var leaving *Member
	for _, m := range g.state.Members {
		own := name != "" && names(name, m.ID, m.Name, m.Instance, m.ProviderID, m.CloudID, nil)
		switch {
		case !own && !slices.Contains(m.Aliases, name):
		case !m.counted():
			leaving = m
		case own || !m.joined():
			return m
		}
	}
	return leaving
}

func (m *Member) joined() bool { return m.Phase == MemberJoined || m.Phase == MemberReady }

func (g *group) wasHere(name string) bool {
	if slices.ContainsFunc(g.state.Members, func(m *Member) bool { return slices.Contains(m.Aliases, name) }) {
		return true
	}
	return slices.ContainsFunc(g.state.Gone, func(m GoneInstance) bool {
		return names(name, m.ID, m.Name, m.Instance, m.ProviderID, "", m.Aliases)
	})
}

func names(name, id, node, instance, provider, cloudID string, aliases []string) bool {
	return name == id || name == node || name == instance || name == provider || name == cloudID && cloudID != "" || slices.Contains(aliases, name)
}
