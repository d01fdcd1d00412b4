package workflows

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
)

// status answers QueryGroup.
func (g *group) status() GroupStatus {
	s := GroupStatus{
		GroupFacts: g.factsNow(), Target: g.state.Target, Generation: g.state.Generation, Gone: g.state.Gone,
		Failure: g.state.Failure, Parked: g.parked, Paused: g.state.Paused, Backoff: g.state.Backoff, Unknown: g.state.Unknown,
		Requests: lastOf(g.state.Requests, shown), Inbox: g.state.Inbox, Ending: g.state.Ending,
	}
	if g.scales {
		s.Target = g.size()
	}
	for _, m := range g.state.Members {
		s.Members = append(s.Members, GroupMember{
			MemberStatus: m.MemberStatus, Instance: m.Instance, Aliases: m.Aliases, Failure: m.Failure,
			Replaces: m.Replaces, Origin: m.Origin, Accepted: m.Accepted, Lease: m.Lease,
			For: m.For, ReplaceFailed: m.ReplaceFailed,
		})
	}
	slices.SortFunc(s.Members, func(a, b GroupMember) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

// shown is how many results a status shows.
const shown = 20

func lastOf[T any](all []T, n int) []T { return all[max(0, len(all)-n):] }

func (g *group) factsNow() GroupFacts {
	return GroupFacts{
		Cluster: g.in.Cluster, Group: g.in.Group, Role: g.in.Role, Cloud: g.in.Cloud, Zone: g.in.Zone, Flavor: g.in.Flavor,
		Min: g.in.Min, Max: g.in.Max, Template: g.state.Template, Autoscaling: g.in.Autoscaling,
		Standalone: g.in.Standalone != nil, Provision: g.provisionTime(),
	}
}

// publish writes the memo when it has something new. What a request changed is
// written at once; machines on their way are gathered for a moment.
func (g *group) publish(ctx workflow.Context) {
	if !g.scales {
		return
	}
	state := g.memo(ctx)
	if !g.heard && g.published.same(state) && g.facts.same(g.factsNow()) {
		return
	}
	pause := 2 * g.timing().Poll
	wait := pause - workflow.Now(ctx).Sub(g.publishedAt)
	if wait > 0 && !g.heard && state.Target == g.published.Target && failures(state) == failures(g.published) && !g.complete() {
		if !g.publishSoon {
			g.publishSoon = true
			workflow.GoNamed(ctx, "publish", func(ctx workflow.Context) {
				_ = workflow.Sleep(ctx, wait) // either way: look again
				g.publishSoon, g.dirty = false, true
			})
		}
		return
	}
	g.write(ctx)
}

// complete reports whether every member is ready: then nothing more comes that
// could be gathered.
func (g *group) complete() bool {
	return !slices.ContainsFunc(g.state.Members, func(m *Member) bool { return m.Phase != MemberReady })
}

func failures(m GroupMemo) int {
	n := 0
	for _, o := range m.Others {
		if o.Phase == MemberFailed {
			n++
		}
	}
	return n
}

// write puts state and facts into the memo. Facts change rarely and are left out
// then; each write is kept whole in history.
func (g *group) write(ctx workflow.Context) {
	fields := map[string]any{}
	g.published, g.publishedAt, g.heard = g.memo(ctx), workflow.Now(ctx), false
	fields[MemoState] = g.published
	if now := g.factsNow(); !g.facts.same(now) {
		g.facts = now
		fields[MemoFacts] = now
	}
	_ = workflow.UpsertMemo(ctx, fields) // fails only for values that cannot be encoded
}

func (g *group) memo(ctx workflow.Context) GroupMemo {
	info := workflow.GetInfo(ctx)
	out := GroupMemo{
		RunID: info.WorkflowExecution.RunID, EventID: int64(info.GetCurrentHistoryLength()), Target: g.size(),
		Generation: g.state.Generation, Paused: g.state.Paused != nil, Ending: g.state.Ending,
	}
	for _, m := range g.state.Members {
		switch {
		case m.Surge && !m.leaving(): // no reader is to know of it yet
		case m.Phase == MemberReady:
			out.Ready++
		case m.counted() && m.CloudID == "" && m.Failure == nil && len(m.Aliases) == 0:
			out.want(m)
		case len(out.Others) == MemoInstances:
			out.More++
		default:
			o := MemoInstance{ID: m.ID, Instance: m.Instance, ProviderID: m.ProviderID, Phase: m.Phase, Since: m.Accepted}
			if m.Failure != nil {
				o.Kind, o.Message = m.Failure.Kind, clip(m.Failure.Message, 120)
			}
			out.Others = append(out.Others, o)
		}
	}
	slices.SortFunc(out.Wanted, func(a, b InstanceRange) int {
		if c := cmp.Compare(a.Prefix, b.Prefix); c != 0 {
			return c
		}
		return a.From - b.From
	})
	return out
}

// want adds a member to the ranges of those without a machine.
func (m *GroupMemo) want(member *Member) {
	i := strings.LastIndex(member.Instance, "-")
	n, err := strconv.Atoi(member.Instance[i+1:])
	if i < 0 || err != nil {
		m.Others = append(m.Others, MemoInstance{ID: member.ID, Instance: member.Instance, Phase: member.Phase, Since: member.Accepted})
		return
	}
	prefix := member.Instance[:i]
	for k := range m.Wanted {
		r := &m.Wanted[k]
		switch {
		case r.Prefix != prefix || !r.Since.Equal(member.Accepted):
		case n == r.To+1:
			r.To = n
			return
		case n == r.From-1:
			r.From = n
			return
		}
	}
	m.Wanted = append(m.Wanted, InstanceRange{Prefix: prefix, From: n, To: n, Since: member.Accepted})
}

// same compares what readers can see; when it was written is no part of that.
func (m GroupMemo) same(o GroupMemo) bool {
	return m.RunID == o.RunID && m.Target == o.Target && m.Ready == o.Ready && m.More == o.More && m.Paused == o.Paused && m.Ending == o.Ending &&
		slices.EqualFunc(m.Wanted, o.Wanted, func(a, b InstanceRange) bool {
			return a.Prefix == b.Prefix && a.From == b.From && a.To == b.To && a.Since.Equal(b.Since)
		}) &&
		slices.EqualFunc(m.Others, o.Others, func(a, b MemoInstance) bool {
			same := a.Since.Equal(b.Since)
			a.Since, b.Since = time.Time{}, time.Time{}
			return same && a == b
		})
}

func (f GroupFacts) same(o GroupFacts) bool {
	if !sameTemplate(f.Template, o.Template) || (f.Autoscaling == nil) != (o.Autoscaling == nil) ||
		f.Autoscaling != nil && *f.Autoscaling != *o.Autoscaling {
		return false
	}
	f.Template, o.Template, f.Autoscaling, o.Autoscaling = nil, nil, nil, nil
	return f == o
}

func sameTemplate(a, b *cluster.NodeTemplate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Capacity == b.Capacity && a.Allocatable == b.Allocatable && a.Observed == b.Observed &&
		slices.Equal(a.Labels, b.Labels) && slices.Equal(a.Taints, b.Taints)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// learn finds out what the next node of the group will look like.
func (g *group) learn() {
	if g.learning || g.state.Template != nil || g.in.Role != cluster.RoleWorker {
		return
	}
	g.learning = true
	workflow.GoNamed(g.restCtx, "learn", func(ctx workflow.Context) {
		defer func() { g.learning, g.dirty = false, true }()
		in := activities.GetNodeTemplateInput{
			Ref: g.in.Cluster, Cloud: g.in.Cloud, Group: g.in.Group, Role: g.in.Role, Zone: g.in.Zone, Flavor: g.in.Flavor, DiskGiB: g.in.DiskGiB,
		}
		if s := g.in.Standalone; s != nil {
			in.Standalone, in.Labels, in.Taints = true, s.Labels, s.Taints
		}
		out, err := call(ctx, &g.desk, g.short("learn what nodes of "+g.in.Flavor+" look like"), aCloud.GetNodeTemplate, in)
		if err != nil {
			g.failedToLearn++
			_ = workflow.Sleep(ctx, g.pause(g.failedToLearn)) // either way: the next run or round tries again
			return
		}
		g.state.Template = &out
		g.state.Generation++
	})
}

// learnFrom corrects the template by what real nodes have: it never promises
// more than the least of them.
func (g *group) learnFrom(real *activities.Observed) {
	t := g.state.Template
	if real == nil || t == nil {
		return
	}
	now := *t
	now.Capacity, now.Allocatable = least(t.Capacity, real.Capacity), least(t.Allocatable, real.Allocatable)
	now.Observed = true
	if !sameTemplate(t, &now) {
		g.state.Template = &now
		g.state.Generation++
	}
}

func least(a, b cluster.NodeResources) cluster.NodeResources {
	lower := func(x *int64, y int64) {
		if y > 0 && y < *x {
			*x = y
		}
	}
	lower(&a.MilliCPU, b.MilliCPU)
	lower(&a.MemoryBytes, b.MemoryBytes)
	lower(&a.StorageBytes, b.StorageBytes)
	lower(&a.Pods, b.Pods)
	return a
}
