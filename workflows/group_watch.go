package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// watchable are the members whose next change comes by itself.
func (g *group) watchable(ctx workflow.Context) []activities.MemberFact {
	return g.factsOf(ctx, func(m *Member) bool { return m.Phase == MemberBooting || m.Phase == MemberJoined })
}

// factsOf tells activities what is known of some members, sorted by id.
func (g *group) factsOf(ctx workflow.Context, which func(*Member) bool) []activities.MemberFact {
	var out []activities.MemberFact
	for _, m := range g.state.Members {
		if which(m) {
			out = append(out, activities.MemberFact{
				ID: m.ID, CloudID: m.CloudID, Name: m.Name, State: m.CloudState, Public: m.Address, Private: m.Private,
				ProviderID: m.ProviderID, Fresh: !g.scales || g.young(ctx, m), Joined: m.Phase != MemberBooting, NodeReady: m.Phase == MemberReady,
			})
		}
	}
	slices.SortFunc(out, func(a, b activities.MemberFact) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// identities tells InspectGroup what it has to know of some members, sorted by
// id. Each look leaves all of them in history, so nothing else is told.
func (g *group) identities(which func(*Member) bool) []activities.MemberFact {
	var out []activities.MemberFact
	for _, m := range g.state.Members {
		if which(m) {
			out = append(out, activities.MemberFact{ID: m.ID, CloudID: m.CloudID, Name: m.Name, NodeReady: m.Phase == MemberReady})
		}
	}
	slices.SortFunc(out, func(a, b activities.MemberFact) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// watch sees members through from booting to ready, one activity for all.
func (g *group) watch(ctx workflow.Context) {
	defer func() { g.watching, g.dirty = false, true }()
	known := g.watchable(ctx)
	opts := g.waiting(fmt.Sprintf("watch %d machines of %s", len(known), g.in.Group), g.window(ctx))
	opts.ScheduleToCloseTimeout = 3 * opts.StartToCloseTimeout
	out, err := call(ctx, &g.desk, opts, aWatch.WatchGroup, activities.WatchGroupInput{Cloud: g.in.Cloud, Owner: g.owner(), Known: known, Kube: g.kube(), Account: g.site.Account})
	if err != nil {
		if ctx.Err() == nil {
			for _, f := range known {
				if m := g.member(f.ID); m != nil {
					g.set(ctx, f.ID, m.Phase, "cannot be watched: "+messageOf(err))
					if !g.managed(m) {
						m.Seen = workflow.Now(ctx)
					}
				}
			}
			g.blind++
			pause := g.timing().Backoff
			if g.scales {
				pause = g.pause(g.blind)
			}
			_ = workflow.Sleep(ctx, pause)
		}
		return
	}
	g.blind, g.unseen = 0, out.Unseen != ""
	for _, f := range out.Members {
		m := g.member(f.ID)
		if m == nil || m.Phase != MemberBooting && m.Phase != MemberJoined {
			continue
		}
		m.CloudState, m.Address, m.Private = f.State, f.Public, f.Private
		// Whoever could not look at nodes has not seen that one is missing.
		if out.Unseen == "" || f.State != cloud.MachineRunning || !g.managed(m) {
			m.Seen = workflow.Now(ctx)
		}
		if f.ProviderID != "" {
			m.ProviderID = f.ProviderID
		}
		switch {
		case f.NodeReady:
			g.arrived(ctx, m)
		case f.State == cloud.MachineFailed && !m.Adopted:
			g.fails(ctx, f.ID, fail(fault.Internal, "the cloud says that the machine failed"))
		case f.Joined:
			m.Node = true
			g.set(ctx, f.ID, MemberJoined, f.Detail)
		default:
			g.set(ctx, f.ID, MemberBooting, f.Detail)
		}
	}
	if g.scales {
		g.learnFrom(out.Observed)
		g.missing(ctx, out.Missing)
		g.dawdle(ctx, known, out.Members)
	} else {
		// Only what was seen after its deadline fails: the time may have passed
		// while nobody looked.
		g.overdue(ctx)
	}
}

// dawdle lets watches of machines that no time runs out for become rare while
// nothing happens: somebody else made them, and their nodes may never be seen.
func (g *group) dawdle(ctx workflow.Context, known, now []activities.MemberFact) {
	same := slices.EqualFunc(known, now, func(a, b activities.MemberFact) bool {
		m := g.member(a.ID)
		a.Detail, b.Detail = "", ""
		return a == b && (m == nil || m.Adopted)
	})
	if !same {
		g.idle = 0
		return
	}
	g.idle++
	_ = workflow.Sleep(ctx, g.pause(g.idle)) // either way: look again
}

// arrived notes that a node is ready.
func (g *group) arrived(ctx workflow.Context, m *Member) {
	g.set(ctx, m.ID, MemberReady, "")
	m.Failure, m.Node, m.Adopted = nil, true, false
	if b := g.state.Backoff; b != nil && m.Begun.After(b.Since) {
		g.state.Backoff = nil // what was begun since then works again
	}
	if m.Surge {
		g.takeOver(ctx, m)
	}
}

// watchWindow is how long one watch lasts without a change: long enough to cost
// little, short enough to notice a deadline.
func watchWindow(t activities.Timing) time.Duration {
	return max(20*t.Poll, t.Heartbeat)
}

// shortestWatch leaves time for one look at nodes.
const shortestWatch = 2 * time.Second

// window is watchWindow, cut so that a look ends soon after the next deadline.
// The activity keeps a tenth of its time for its answer.
func (g *group) window(ctx workflow.Context) time.Duration {
	window := watchWindow(g.timing())
	if !g.scales {
		return window
	}
	now := workflow.Now(ctx)
	for _, m := range g.state.Members {
		// There is no hurry where nodes cannot be seen: nothing would be decided.
		if due := g.due(m); !due.IsZero() && m.CloudID != "" && (!g.unseen || !now.After(due)) {
			left := due.Sub(now)*10/9 + g.timing().Poll
			window = min(window, max(left, 3*g.timing().Poll, shortestWatch))
		}
	}
	return window
}

func (g *group) restartWatch() {
	if g.watching && g.stopWatch != nil && !g.creating() {
		g.stopWatch()
	}
}

// lateAfter is the fraction of the deadline after which a node that has not
// joined is looked at more closely.
const lateAfter = 4

// help looks at a late node through its machine API: one that waits for its
// config gets it, and what another says is noted. Its failure is no failure of
// the member, which still has time.
func (g *group) help(ctx workflow.Context, id string) error {
	m := g.member(id)
	_, err := call(ctx, &g.desk, g.waiting("machine API of "+m.Name, g.timing().Joined/2), aTalos.WaitMachineAPI, activities.WaitMachineAPIInput{
		Ref: g.in.Cluster, Group: g.in.Group, Role: g.in.Role,
		Node: cluster.NodeAddress{MachineID: id, Name: m.Name, Address: m.Address, Private: m.Private},
	})
	if err != nil && ctx.Err() == nil && m.Phase == MemberBooting {
		g.set(ctx, id, m.Phase, messageOf(err))
	}
	return nil
}

// overdue fails members of a group that has not settled which take longer than
// any machine should.
func (g *group) overdue(ctx workflow.Context) {
	t := g.timing()
	now := workflow.Now(ctx)
	for _, m := range g.state.Members {
		if g.managed(m) {
			continue
		}
		age := now.Sub(m.Since)
		if m.Phase == MemberBooting && m.CloudState == cloud.MachineRunning && age > t.Joined/lateAfter && !m.Helped && m.Address != "" && g.in.Standalone == nil {
			m.Helped = true
			g.start(g.workCtx, m.ID, g.help)
		}
		limit := t.Joined
		if m.Phase == MemberBooting {
			limit += t.Running
		}
		if g.scales && m.Seen.Before(m.Since.Add(limit)) {
			continue // not looked at since then
		}
		switch {
		case m.Phase == MemberBooting && age > limit:
			g.fails(ctx, m.ID, fail(fault.NotYet, "no node after %s: %s", limit, m.Note))
		case m.Phase == MemberJoined && age > limit:
			g.fails(ctx, m.ID, fail(fault.NotYet, "the node was not ready after %s: %s", limit, m.Note))
		}
	}
}
