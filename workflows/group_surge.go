package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// UpdateReplace replaces a member by a new machine (activities.ReplaceInput): the
// new one is ready before the old one is drained, and the target never changes.
const UpdateReplace = "replace-member"

// handleReplace registers the update by which a member is replaced.
func (g *group) handleReplace(ctx workflow.Context) error {
	return workflow.SetUpdateHandlerWithOptions(ctx, UpdateReplace,
		func(ctx workflow.Context, in activities.ReplaceInput) (activities.ReplaceResult, error) {
			if err := workflow.Await(ctx, func() bool { return g.ready }); err != nil {
				return activities.ReplaceResult{}, err
			}
			g.receive(ctx)
			return g.replaceMember(ctx, in)
		},
		workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, in activities.ReplaceInput) error {
			if !g.scales {
				return fail(fault.Conflict, "this run of the group began before it knew replacements; it goes on in a new run within a day")
			}
			if in.Machine == "" {
				return fail(fault.Invalid, "machine is required")
			}
			return nil
		}},
	)
}

// replaceMember adds a machine that will take a member's place. Asked again while
// it is on its way, or after the member has gone, it adds nothing.
func (g *group) replaceMember(ctx workflow.Context, in activities.ReplaceInput) (activities.ReplaceResult, error) {
	var out activities.ReplaceResult
	m := g.member(in.Machine)
	switch {
	case in.Ref.UID != "" && in.Ref.UID != g.in.Cluster.UID:
		return out, fail(fault.Conflict, "this is group %s of cluster %s with uid %s, not %s", g.in.Group, g.in.Cluster.Name, g.in.Cluster.UID, in.Ref.UID)
	case g.in.Role != cluster.RoleWorker:
		return g.replaceControlPlane(ctx, in)
	case m == nil && g.wasHere(in.Machine), m != nil && m.leaving():
		return activities.ReplaceResult{Message: "it has left already"}, nil
	case m == nil:
		return out, fail(fault.NotFound, "group %s has no member %s", g.in.Group, in.Machine)
	case m.Surge:
		return out, fail(fault.Conflict, "%s is itself being added", m.Name)
	case g.state.Ending:
		return out, fail(fault.Conflict, "group %s is being deleted: %s", g.in.Group, g.state.Reason)
	case g.state.Paused != nil:
		return out, fail(fault.Conflict, "group %s is paused (%s); resume it first", g.in.Group, orNone(g.state.Paused.Reason))
	}
	if s := g.surgeFor(m.ID); s != nil {
		return activities.ReplaceResult{By: s.Name, Message: "on its way"}, nil
	}
	m.ReplaceFailed = ""
	s := g.add(ctx, &Member{Slot: g.freeSlot(), For: m.ID, Origin: OriginPerson, Accepted: workflow.Now(ctx)})
	s.Surge, s.Note = true, "will take the place of "+m.Name
	g.dirty = true
	return activities.ReplaceResult{By: s.Name, Message: "added"}, nil
}

func (g *group) surgeFor(id string) *Member {
	i := slices.IndexFunc(g.state.Members, func(m *Member) bool { return m.Surge && m.For == id && !m.leaving() })
	if i < 0 {
		return nil
	}
	return g.state.Members[i]
}

// takeOver gives a surge machine that is ready the place and the names of the
// member that it was made for, which is drained and leaves.
func (g *group) takeOver(ctx workflow.Context, s *Member) {
	old := g.member(s.For)
	if old == nil || !old.counted() {
		return // spare drops it
	}
	s.Surge, s.For = false, ""
	s.Instance, s.Aliases, s.Origin = old.Instance, slices.Clone(old.Aliases), old.Origin
	if old.ProviderID != "" {
		s.Aliases = append(s.Aliases, old.ProviderID)
	}
	old.Instance, old.Aliases = "", nil
	g.leave(ctx, old, true)
}

// spare drops surge machines whose member has left meanwhile: with them the group
// would be larger than anybody asked for.
func (g *group) spare(ctx workflow.Context) {
	for _, s := range slices.Clone(g.state.Members) {
		if !s.Surge || s.leaving() {
			continue
		}
		if old := g.member(s.For); old == nil || !old.counted() {
			g.leave(ctx, s, false)
		}
	}
}

// dropSurge gives up a replacement that came to nothing: the member stays, and
// says why.
func (g *group) dropSurge(ctx workflow.Context, s *Member, why *Failure) {
	if old := g.member(s.For); old != nil {
		old.ReplaceFailed = why.Message
	}
	g.leave(ctx, s, false)
}
