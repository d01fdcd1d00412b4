package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// takeOut sees a member that has left the target through to its end: cordon,
// drain if a person asked, machine, Node object. It goes on until it succeeds, or
// leaves off where the next run begins.
func (g *group) takeOut(ctx workflow.Context, id string) error {
	m, n := g.member(id), 0
	for !g.taken(ctx, m, &n) {
		continue
	}
	return nil
}

// taken makes one attempt and reports whether there is nothing more to do here:
// the member is gone, or the next run takes it up again by its phase.
func (g *group) taken(ctx workflow.Context, m *Member, failures *int) bool {
	err := g.deleting(ctx, m)
	switch {
	case err == nil:
		g.gone(m)
		return true
	case ctx.Err() != nil:
		return true
	}
	g.set(ctx, m.ID, m.Phase, messageOf(err))
	*failures++
	seen := g.resumed
	_, err = workflow.AwaitWithTimeout(ctx, g.pause(*failures), func() bool { return g.resumed > seen })
	return err != nil || g.state.Paused != nil
}

// pause is how long to wait after the n-th failure in a row of what is tried for
// ever: what nobody repairs for days must cost little.
func (g *group) pause(n int) time.Duration {
	return min(5*g.timing().Backoff<<min(max(n-1, 0), 6), longestPause)
}

// longestPause is how late at most a repaired cloud is noticed.
const longestPause = 10 * time.Minute

// leaving bounds what is done for a node of which nothing depends: the
// autoscaler has drained it.
const leaving = 30 * time.Second

func (g *group) deleting(ctx workflow.Context, m *Member) error {
	// A node may have joined since the machine was last looked at.
	if (m.Node || m.CloudID != "") && !g.kube().None {
		opts := g.short("cordon " + m.Name)
		if !m.Drain {
			opts.ScheduleToCloseTimeout = leaving
		}
		err := do(ctx, &g.desk, opts, aKube.CordonNode, activities.CordonNodeInput{Kube: g.kube(), Name: m.Name})
		if err != nil && (m.Drain || ctx.Err() != nil) {
			return err
		}
		if err := g.drained(ctx, m); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	g.set(ctx, m.ID, MemberDeleting, "")
	// Only now: a node that waits for a disruption budget holds nobody up.
	if err := g.deletes.Acquire(ctx, 1); err != nil {
		return err
	}
	err := g.deleteMachine(ctx, m)
	g.deletes.Release(1)
	if err != nil {
		return err
	}
	if m.CloudID == "" || g.kube().None {
		return nil
	}
	opts := g.short("delete the Node object " + m.Name)
	if !m.Node {
		// It was never seen, but may have come since.
		opts.ScheduleToCloseTimeout = leaving
		opts.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 2}
	}
	err = do(ctx, &g.desk, opts, aKube.DeleteNode, activities.DeleteNodeInput{Ref: g.in.Cluster, Kube: g.kube(), Name: m.Name})
	if err != nil && !m.Node && ctx.Err() == nil {
		return nil
	}
	return err
}

// drained evicts the pods of a node, for as long as disruption budgets take. A
// request to force ends it.
func (g *group) drained(ctx workflow.Context, m *Member) error {
	for m.Drain {
		total := orDefault(g.timing().Drain, activities.DefaultTiming().Drain)
		drainCtx, stop := workflow.WithCancel(ctx)
		var err error
		done := false
		workflow.GoNamed(drainCtx, "drain "+m.ID, func(ctx workflow.Context) {
			err = do(ctx, &g.desk, g.waiting("drain "+m.Name, total), aKube.DrainNode, activities.DrainNodeInput{Kube: g.kube(), Name: m.Name})
			done = true
		})
		werr := workflow.Await(ctx, func() bool { return done || !m.Drain })
		stop()
		if werr != nil {
			return werr
		}
		switch {
		case !done:
			return nil // forced
		case err == nil:
			m.Drain = false
			return nil
		case kindOf(err) != fault.NotYet:
			return err
		}
		g.set(ctx, m.ID, m.Phase, messageOf(err))
		if err := workflow.Sleep(ctx, g.timing().Backoff); err != nil {
			return err
		}
	}
	return nil
}

// deleteMachine deletes a member's machine, once it is known whether there is
// one.
func (g *group) deleteMachine(ctx workflow.Context, m *Member) error {
	if m.CloudID == "" && m.Evidence.Pending {
		machine, err := find(ctx, &g.desk, &m.Evidence, g.try(&g.desk, m.ID, ""))
		if err != nil {
			return err
		}
		if machine != nil {
			m.CloudID = machine.Ref.Cloud
		}
	}
	if m.CloudID == "" {
		return nil
	}
	return do(ctx, &g.desk, g.waiting("delete "+m.Name, g.timing().Delete), aCloud.DeleteMachine, activities.DeleteMachineInput{
		Cloud: g.in.Cloud, Ref: cloud.MachineRef{Owner: g.owner(), ID: m.ID, Cloud: m.CloudID}, Account: g.site.Account,
	})
}

// inspect compares the group with the cloud from time to time.
func (g *group) inspect(ctx workflow.Context) {
	every, now := g.timing().Reconcile, workflow.Now(ctx)
	if every <= 0 || g.inspecting || !g.state.Settled {
		return
	}
	if g.state.Inspected.IsZero() {
		g.state.Inspected = now // it has just been made
	}
	if now.Before(g.state.Inspected.Add(every)) {
		return
	}
	g.state.Inspected, g.state.Looked, g.inspecting = now, now, true
	workflow.GoNamed(g.restCtx, "inspect", func(ctx workflow.Context) {
		defer func() { g.inspecting, g.dirty = false, true }()
		known := g.identities(func(m *Member) bool { return m.Phase == MemberReady })
		out, err := call(ctx, &g.desk, g.short("compare with the cloud"), aWatch.InspectGroup,
			activities.InspectGroupInput{Cloud: g.in.Cloud, Owner: g.owner(), Kube: g.kube(), Known: known, Account: g.site.Account})
		if err == nil {
			g.inspected(ctx, out)
		}
	})
}

// inspected draws the consequences: a machine that somebody deleted is replaced,
// a duplicate is deleted, and what only a person can judge is shown.
func (g *group) inspected(ctx workflow.Context, out activities.InspectGroupResult) {
	g.missing(ctx, out.Missing)
	note := func(ids []string, text string) {
		for _, id := range ids {
			if m := g.member(id); m != nil && m.Phase == MemberReady && !m.leased(workflow.Now(ctx)) {
				g.set(ctx, id, m.Phase, text)
			}
		}
	}
	for _, m := range g.state.Members {
		if m.Phase == MemberReady && !m.leased(workflow.Now(ctx)) {
			m.Note = ""
		}
	}
	note(out.NotReady, "the node is not Ready")
	note(out.Stopped, "somebody stopped the machine")
	g.state.Unknown = nil
	for _, machine := range out.Unknown {
		switch {
		case g.member(machine.Ref.ID) != nil || machine.State == cloud.MachineDeleting:
		case g.wasHere(machine.Ref.ID):
			// Its absence was proven and it came all the same. Ids are not used
			// again, so nobody wants it.
			g.state.Members = append(g.state.Members, &Member{Slot: g.freeSlot(), MemberStatus: MemberStatus{
				ID: machine.Ref.ID, Name: machine.Name, Group: g.in.Group, Role: g.in.Role, Phase: MemberDeleting,
				Since: workflow.Now(ctx), CloudID: machine.Ref.Cloud, ProviderID: machine.ProviderID,
			}})
		default:
			g.state.Unknown = append(g.state.Unknown, fmt.Sprintf("%s (%s)", machine.Name, machine.Ref.Cloud))
		}
	}
	g.learnFrom(out.Observed)
	for _, ref := range out.Duplicates {
		g.undouble(ctx, ref)
	}
}

// undouble has the cloud keep one machine of a member's identity. To delete the
// other by its identity would delete both; a look keeps the older one, as every
// look does, and that may not be the one that the member had.
func (g *group) undouble(ctx workflow.Context, ref cloud.MachineRef) {
	m := g.member(ref.ID)
	if m == nil || m.CloudID == "" || m.CloudID == ref.Cloud || m.leaving() {
		return
	}
	kept, err := g.try(&g.desk, ref.ID, "")(ctx, false)
	if m = g.member(ref.ID); err != nil || kept == nil || m == nil || m.leaving() || kept.Ref.Cloud == m.CloudID {
		return // an error is in the note; a machine that is not there is missing next time
	}
	if m.ProviderID != "" {
		m.Aliases = append(slices.Clone(m.Aliases), m.ProviderID)
	}
	m.Begun, m.Node = workflow.Now(ctx), false
	g.created(ctx, m.ID, *kept)
}

// missing replaces members whose machine somebody deleted. The target stays.
func (g *group) missing(ctx workflow.Context, ids []string) {
	for _, id := range ids {
		m := g.member(id)
		if m == nil || m.leaving() || m.CloudID == "" || g.young(ctx, m) || m.leased(workflow.Now(ctx)) {
			continue
		}
		if !g.managed(m) || m.Surge {
			g.fails(ctx, id, fail(fault.NotFound, "the machine was deleted by somebody else"))
			continue
		}
		heir := g.inherit(ctx, m)
		heir.Accepted, heir.Replaces = workflow.Now(ctx), 0
		heir.Note = "replaces " + m.Name + ", which somebody deleted"
	}
}

// young machines may be missing from reads that lag behind their creation.
func (g *group) young(ctx workflow.Context, m *Member) bool {
	c := g.site.Capabilities
	return workflow.Now(ctx).Sub(m.Begun) < c.Settle+c.AbsenceWindow
}
