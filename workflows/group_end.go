package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

// report tells the lifecycle workflow what changed since the last report. When
// nobody runs there, nobody is told; who starts later asks by attach. Changes
// that come together travel together, unless somebody waits for them.
func (g *group) report(ctx workflow.Context) {
	if g.scales && g.state.Detached && g.state.Settled {
		g.details(ctx)
		return
	}
	r := GroupReport{Cluster: g.in.Cluster, Group: g.in.Group, Target: g.state.Target, Full: g.sendFull, Failure: g.state.Failure, Parked: g.parked}
	if g.state.Paused != nil {
		r.Paused = orNone(g.state.Paused.Reason)
	}
	for _, m := range g.state.Members {
		if (g.sendFull || g.reported[m.ID] != m.MemberStatus) && (!m.leaving() || !g.scales) {
			r.Members = append(r.Members, m.MemberStatus)
		}
	}
	if len(r.Members) == 0 && !g.sendFull {
		return
	}
	pause := 2 * g.timing().Poll
	if wait := pause - workflow.Now(ctx).Sub(g.reportedAt); wait > 0 && !g.sendFull && !g.uniform() {
		if !g.reportSoon {
			g.reportSoon = true
			workflow.GoNamed(ctx, "report", func(ctx workflow.Context) {
				_ = workflow.Sleep(ctx, wait)
				g.reportSoon, g.dirty = false, true
			})
		}
		return
	}
	for _, m := range r.Members {
		g.reported[m.ID] = m
	}
	g.sendFull, g.reportedAt = false, workflow.Now(ctx)
	g.details(ctx)
	g.send(ctx, r)
}

// details shows the members on the page of the run.
func (g *group) details(ctx workflow.Context) {
	var all []MemberStatus
	for _, m := range g.state.Members {
		all = append(all, m.MemberStatus)
	}
	workflow.SetCurrentDetails(ctx, membersTable(g.title(), all))
}

// uniform reports whether all members are equally far or something failed: the
// moments that somebody waits for.
func (g *group) uniform() bool {
	return g.state.Failure != nil || !slices.ContainsFunc(g.state.Members, func(m *Member) bool {
		return m.Phase != g.state.Members[0].Phase || m.CloudState != g.state.Members[0].CloudState
	})
}

// send signals the cluster's lifecycle workflow; that none runs is no error, and
// remembered.
func (g *group) send(ctx workflow.Context, r GroupReport) {
	if g.in.Standalone != nil {
		return
	}
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	err := workflow.SignalExternalWorkflow(calm, cluster.LifecycleID(g.in.Cluster.Name), "", SignalReport, r).Get(calm, nil)
	g.state.Detached = isNotRunning(err)
}

func (g *group) title() string { return "Group " + g.in.Group + " of cluster " + g.in.Cluster.Name }

// end deletes every machine and placement group of the group. Creates under way
// are waited for, and a create without an answer is settled first: what might
// still appear is looked for until it is found or proven absent.
func (g *group) end(ctx workflow.Context) error {
	if g.scales {
		g.write(ctx) // who reads without a worker sees it, too
	}
	g.stopWork()
	if err := workflow.Await(ctx, func() bool { g.receive(ctx); return g.quiet() }); err != nil {
		return err
	}
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	g.workCtx = calm
	g.state.Failure = nil
	removed := 0
	for {
		g.state.Members = slices.DeleteFunc(g.state.Members, func(m *Member) bool {
			if m.Phase == MemberGone && m.CloudID != "" {
				removed++
			}
			return m.Phase == MemberGone
		})
		if len(g.state.Members) == 0 {
			break
		}
		g.removeAll(calm)
		if slices.ContainsFunc(g.state.Members, func(m *Member) bool { return m.Phase != MemberGone }) {
			// Something refused: show it, wait, try again; nothing is given up.
			g.sendFull = true
			g.report(calm)
			if err := workflow.Sleep(calm, 5*g.timing().Backoff); err != nil {
				return err
			}
			g.receive(calm)
		}
	}
	for {
		err := g.removeShards(calm)
		if err == nil {
			break
		}
		g.state.Failure, g.sendFull = &Failure{Kind: kindOf(err), Message: "placement groups: " + messageOf(err)}, true
		g.report(calm)
		if err := workflow.Sleep(calm, 5*g.timing().Backoff); err != nil {
			return err
		}
		g.receive(calm)
	}
	g.state.Failure = nil
	g.send(calm, GroupReport{Cluster: g.in.Cluster, Group: g.in.Group, Full: true, Ended: true, Removed: removed})
	return nil
}

// removeAll makes one attempt at every member.
func (g *group) removeAll(ctx workflow.Context) {
	sem := workflow.NewSemaphore(ctx, deletesAtOnce)
	wg := workflow.NewWaitGroup(ctx)
	for _, m := range g.state.Members {
		id := m.ID
		wg.Add(1)
		workflow.GoNamed(ctx, "delete "+id, func(ctx workflow.Context) {
			defer wg.Done()
			if sem.Acquire(ctx, 1) != nil {
				return
			}
			defer sem.Release(1)
			if err := g.remove(ctx, id); err != nil {
				g.set(ctx, id, MemberDeleting, messageOf(err))
			}
		})
	}
	wg.Wait(ctx)
}

func (g *group) remove(ctx workflow.Context, id string) error {
	m := g.member(id)
	g.set(ctx, id, MemberDeleting, "")
	if err := g.deleteMachine(ctx, m); err != nil {
		return err
	}
	g.set(ctx, id, MemberGone, "")
	return nil
}

func (g *group) removeShards(ctx workflow.Context) error {
	for _, shard := range g.state.Shards {
		if shard.ID == "" && !shard.Evidence.Pending {
			continue
		}
		step, err := g.placementStep(ctx, &g.desk, shard.Index)
		if err != nil {
			return err
		}
		if err := removeResource(ctx, &g.desk, g.in.Cloud, cloud.EnsureResourceRequest{Owner: g.owner(), Step: step}, &shard.Evidence); err != nil {
			return err
		}
	}
	return nil
}
