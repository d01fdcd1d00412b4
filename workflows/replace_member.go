package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/fault"
)

// changeControlPlanes is the version gate of control planes that are replaced:
// runs from before it refuse.
const changeControlPlanes = "replace-control-planes"

// replaceControlPlane gives the place of a control plane to a new machine, once etcd
// goes on without it; the target stays. Asked again it adds nothing: the heir
// remembers for whom it was made. It never yields.
func (g *group) replaceControlPlane(ctx workflow.Context, in activities.ReplaceInput) (activities.ReplaceResult, error) {
	var out activities.ReplaceResult
	if workflow.GetVersion(ctx, changeControlPlanes, workflow.DefaultVersion, 1) < 1 {
		return out, fail(fault.Unsafe, "a control plane is not replaced by adding one first; etcd decides about its members")
	}
	id := g.idOf(in.Machine)
	m := g.member(id)
	if heir := g.heirOf(id); heir != nil {
		g.again(ctx, heir)
		return activities.ReplaceResult{By: heir.Name, Message: "on its way"}, nil
	}
	switch {
	case m == nil && g.wasHere(in.Machine), m != nil && m.leaving():
		return activities.ReplaceResult{Message: "it has left already"}, nil
	case m == nil && !in.Lost:
		return out, fail(fault.NotFound, "group %s has no member %s", g.in.Group, in.Machine)
	case !in.Out:
		return out, fail(fault.Unsafe, "a control plane is replaced when etcd goes on without it; run: ichor replace %s %s", g.in.Cluster.Name, in.Machine)
	case g.state.Ending:
		return out, fail(fault.Conflict, "group %s is being deleted: %s", g.in.Group, g.state.Reason)
	case g.state.Paused != nil:
		return out, fail(fault.Conflict, "group %s is paused (%s); resume it first", g.in.Group, orNone(g.state.Paused.Reason))
	case m != nil && m.leased(workflow.Now(ctx)):
		return out, fail(fault.Conflict, "%s works on %s (%s)", m.Lease.Holder, m.Name, orNone(m.Lease.Reason))
	}
	heir := g.add(ctx, &Member{Slot: g.freeSlot(), For: id, Accepted: workflow.Now(ctx)})
	heir.Note = "takes the place of " + in.Machine
	g.state.Failure = nil
	if m != nil {
		heir.Note = "takes the place of " + m.Name
		g.leave(ctx, m, false)
	}
	g.dirty, g.sendFull = true, true
	return activities.ReplaceResult{By: heir.Name, Message: "added"}, nil
}

// idOf is the id of a machine that is, or was, here under a name or an id.
func (g *group) idOf(name string) string {
	for _, m := range g.state.Members {
		if m.ID == name || m.Name == name {
			return m.ID
		}
	}
	for _, m := range g.state.Gone {
		if m.ID == name || m.Name == name {
			return m.ID
		}
	}
	return name
}

// heirOf is the machine that was made for another, and has not left itself.
func (g *group) heirOf(id string) *Member {
	i := slices.IndexFunc(g.state.Members, func(m *Member) bool { return m.For == id && !m.leaving() })
	if i < 0 {
		return nil
	}
	return g.state.Members[i]
}

// again gives a member that has failed another chance.
func (g *group) again(ctx workflow.Context, m *Member) {
	if m.Phase != MemberFailed {
		return
	}
	g.state.Failure = nil
	m.Failure, m.Accepted, m.Choice = nil, workflow.Now(ctx), 0
	if m.CloudID == "" {
		g.set(ctx, m.ID, MemberWanted, "")
		return
	}
	g.set(ctx, m.ID, MemberBooting, "")
}
