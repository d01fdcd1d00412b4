package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// managed reports whether a member is this group's own affair: it was asked for
// by a request, or the group has been complete once. Before that a failure is
// the provisioning's.
// Control planes are never its own affair: what replaces one has to take it out of
// etcd first.
func (g *group) managed(m *Member) bool {
	return g.scales && g.in.Role == cluster.RoleWorker && (g.state.Settled || m.Origin != "")
}

// kube says how nodes are seen.
func (g *group) kube() activities.KubeTarget {
	if g.in.Standalone != nil {
		return g.in.Standalone.Kube
	}
	return activities.KubeTarget{Ref: g.in.Cluster}
}

func (g *group) provisionTime() time.Duration {
	return orDefault(g.timing().Provision, activities.DefaultTiming().Provision)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// replacements is how often a machine of one place is replaced. Without a way to
// see nodes nobody knows whether one joined.
func (g *group) replacements() int {
	if g.kube().None {
		return 0
	}
	return g.timing().Replacements
}

// first adds the members that the group begins with, completes members of older
// runs, and notes when all of the beginning are ready.
func (g *group) first(ctx workflow.Context) {
	for g.fresh && g.size() < g.in.Target {
		g.add(ctx, &Member{Slot: g.freeSlot(), Accepted: workflow.Now(ctx)})
	}
	g.fresh = false
	settled := true
	for _, m := range g.state.Members {
		if m.Instance == "" && m.counted() {
			m.Instance = PlaceholderInstance(g.in.Cluster.Name, g.in.Group, m.ID, 0)
		}
		if m.Accepted.IsZero() {
			m.Accepted = m.Since
		}
		settled = settled && (m.Origin != "" || m.Phase == MemberReady)
	}
	if g.state.Settled || !settled && g.in.Standalone == nil {
		return
	}
	g.state.Settled = true
	for _, m := range g.state.Members {
		if m.Origin == "" {
			m.Origin = OriginPerson
		}
	}
}

// due is when a managed member that is not ready counts as failed; zero for the
// others. A place has a time as a whole, each of its machines a share of that,
// and half of its share until the cloud says that it runs.
func (g *group) due(m *Member) time.Time {
	if !g.managed(m) || m.Adopted || m.leaving() || m.Phase == MemberReady || m.Phase == MemberFailed {
		return time.Time{}
	}
	whole := m.Accepted.Add(g.provisionTime())
	if m.CloudID == "" || m.Begun.IsZero() {
		return whole
	}
	share := plan.Attempt(g.provisionTime(), g.replacements())
	if m.CloudState != cloud.MachineRunning {
		share /= 2
	}
	if due := m.Begun.Add(share); due.Before(whole) {
		return due
	}
	return whole
}

// expire fails what takes too long. A machine fails only by what was seen after
// its deadline: the time may have passed while nobody looked.
func (g *group) expire(ctx workflow.Context) {
	now := workflow.Now(ctx)
	for _, m := range slices.Clone(g.state.Members) {
		due := g.due(m)
		if !due.IsZero() && m.Phase == MemberBooting && m.CloudState == cloud.MachineRunning && !m.Helped && m.Address != "" &&
			g.in.Standalone == nil && now.Sub(m.Begun) > due.Sub(m.Begun)/lateAfter {
			m.Helped = true
			g.start(g.restCtx, "help "+m.ID, func(ctx workflow.Context, _ string) error { return g.help(ctx, m.ID) })
		}
		if due.IsZero() || now.Before(due) || m.CloudID != "" && m.Seen.Before(due) {
			continue
		}
		after := now.Sub(m.Accepted).Round(time.Second)
		switch {
		case m.CloudID == "" && g.parked != "":
			g.lose(ctx, m, failureOf(fail(fault.Unauthorized, "no machine %s after it was asked for: %s", after, g.parked)))
		case m.CloudID == "" && m.Note != "":
			g.lose(ctx, m, failureOf(fail(fault.NotYet, "no machine %s after it was asked for: %s", after, m.Note)))
		case m.CloudID == "":
			g.lose(ctx, m, failureOf(fail(fault.NotYet, "no machine %s after it was asked for", after)))
		case m.CloudState != cloud.MachineRunning:
			g.lose(ctx, m, failureOf(fail(fault.NotYet, "%s did not run %s after it was asked for: %s", m.Name, after, m.Note)))
		default:
			g.lose(ctx, m, failureOf(fail(fault.NotYet, "%s did not join %s after it was asked for: %s", m.Name, after, m.Note)))
		}
	}
	g.overdue(ctx)
}

// lose gives up a member's machine, but not its place: as long as there is time
// and budget another machine takes it, under the names of the first; otherwise
// the place has failed, still counts, and waits for whoever wanted it.
func (g *group) lose(ctx workflow.Context, m *Member, why *Failure) {
	if m.Surge {
		g.dropSurge(ctx, m, why)
		return
	}
	now := workflow.Now(ctx)
	again := m.CloudID != "" && m.Replaces < g.replacements() && now.Before(m.Accepted.Add(g.provisionTime())) && g.state.Paused == nil
	place := m
	if m.CloudID != "" || m.Evidence.Pending || g.busy[m.ID] {
		place = g.inherit(ctx, m)
	}
	if again {
		place.Note = "replaces " + m.Name + ": " + why.Message
		return
	}
	place.Failure = why
	g.set(ctx, place.ID, MemberFailed, why.Message)
	g.backOff(ctx)
}

// inherit gives the place of a member, with all its names, to a new one; the
// machine of the old one leaves on its own.
func (g *group) inherit(ctx workflow.Context, m *Member) *Member {
	heir := g.add(ctx, &Member{
		Slot: g.freeSlot(), Instance: m.Instance, Aliases: m.Aliases, Origin: m.Origin, Accepted: m.Accepted, Replaces: m.Replaces + 1,
	})
	if m.ProviderID != "" {
		heir.Aliases = append(slices.Clone(m.Aliases), m.ProviderID)
	}
	m.Instance, m.Aliases = "", nil
	g.leave(ctx, m, false)
	return heir
}

// backOff keeps the group from making machines by itself for a while. What fails
// together counts once.
func (g *group) backOff(ctx workflow.Context) {
	now, n := workflow.Now(ctx), 1
	if b := g.state.Backoff; b != nil {
		if now.Before(b.Until) {
			return
		}
		n = b.Failures + 1
	}
	pause := plan.Backoff(orDefault(g.timing().GroupBackoff, activities.DefaultTiming().GroupBackoff), n)
	g.state.Backoff = &BackoffStatus{Since: now, Until: now.Add(pause), Failures: n}
}

// limit fails wanted members beyond the group's max: their requests were
// acknowledged, so they keep their place, but they are never made.
func (g *group) limit() {
	if g.in.Max == 0 {
		return
	}
	excess := g.size() - g.in.Max
	for _, m := range g.state.Members {
		if m.Beyond && m.counted() {
			excess--
		}
	}
	for i := len(g.state.Members) - 1; i >= 0 && excess > 0; i-- {
		m := g.state.Members[i]
		if m.Phase != MemberWanted || m.Surge || !g.managed(m) {
			continue
		}
		m.Beyond, m.Phase = true, MemberFailed
		why := failureOf(fail(fault.Quota, "beyond max: the group has at most %d machines", g.in.Max))
		m.Failure, m.Note = why, why.Message
		g.state.Generation++
		excess--
	}
}

// repair tries failed places of people again and keeps the group's min, unless
// the group backs off. What failed for the autoscaler is the autoscaler's to give
// up or to ask for again.
func (g *group) repair(ctx workflow.Context) {
	now := workflow.Now(ctx)
	if g.state.Paused != nil || g.state.Ending || !g.state.Settled || g.in.Role != cluster.RoleWorker || g.backsOff(now) {
		return
	}
	for _, m := range g.state.Members {
		if g.retries(m) {
			m.Failure, m.Replaces, m.Accepted, m.Begun, m.Choice = nil, 0, now, time.Time{}, 0
			g.set(ctx, m.ID, MemberWanted, "")
		}
	}
	for g.size() < g.in.Min {
		m := g.add(ctx, &Member{Slot: g.freeSlot(), Origin: OriginPerson, Accepted: now})
		m.Instance = PlaceholderInstance(g.in.Cluster.Name, g.in.Group, m.ID, 0)
	}
}

// retries reports whether a failed place is tried again by itself.
func (g *group) retries(m *Member) bool {
	return m.Phase == MemberFailed && !m.Beyond && m.Origin == OriginPerson && g.managed(m)
}

func (g *group) backsOff(now time.Time) bool {
	return g.state.Backoff != nil && now.Before(g.state.Backoff.Until)
}

// alarm wakes the group when the next thing is due that nothing else announces.
// There is one timer at most; one that rings too early costs less than many.
func (g *group) alarm(ctx workflow.Context) {
	if !g.scales {
		return
	}
	next := g.next(workflow.Now(ctx))
	if next.IsZero() || !g.alarmAt.IsZero() && !next.Before(g.alarmAt) {
		return
	}
	if g.stopAlarm != nil {
		g.stopAlarm()
	}
	alarmCtx, stop := workflow.WithCancel(ctx)
	g.alarmAt, g.stopAlarm = next, stop
	workflow.GoNamed(alarmCtx, "alarm", func(ctx workflow.Context) {
		if workflow.Sleep(ctx, max(next.Sub(workflow.Now(ctx)), time.Millisecond)) == nil {
			g.alarmAt, g.stopAlarm, g.dirty = time.Time{}, nil, true
		}
	})
}

// next is the earliest moment at which something is due. Machines are not among
// it: the watch ends in time for their deadlines.
func (g *group) next(now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	repairs := g.size() < g.in.Min
	for _, m := range g.state.Members {
		if due := g.due(m); !due.IsZero() && m.CloudID == "" {
			at(due)
		}
		repairs = repairs || g.retries(m)
		if m.Lease != nil && m.leaving() {
			at(m.Lease.Until)
		}
	}
	if b := g.state.Backoff; b != nil && repairs {
		at(b.Until)
	}
	if every := g.timing().Reconcile; every > 0 && !g.inspecting {
		at(g.state.Inspected.Add(every))
	}
	return next
}
