package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// fromMemo rebuilds a group from its memo. The memo counts ready members without
// naming them: they are taken from the previous view, from the machines that the
// cloud listed, from what the run began with, in this order; who stays unnamed is
// anonymous. prev and in may be nil.
func fromMemo(facts workflows.GroupFacts, memo workflows.GroupMemo, prev *view, machines []cloud.Machine, in *workflows.GroupInput) *view {
	v := &view{facts: facts, generation: memo.Generation, ending: memo.Ending}
	if memo.Paused {
		v.paused = pauseReason("")
		if prev != nil && prev.paused != "" {
			v.paused = prev.paused
		}
	}
	r := rebuild{view: v, known: map[string]workflows.GroupMember{}, taken: map[string]bool{}}
	if prev != nil {
		for _, m := range prev.members {
			for _, id := range ids(m) {
				r.known[id] = m
			}
		}
	}
	for _, w := range memo.Wanted {
		for n := w.From; n <= w.To && n-w.From < atOnceMost; n++ {
			m := workflows.GroupMember{Instance: fmt.Sprintf("%s-%d", w.Prefix, n), Accepted: w.Since}
			m.Phase, m.Since = workflows.MemberWanted, w.Since
			r.add(m)
		}
	}
	for _, o := range memo.Others {
		m := workflows.GroupMember{Instance: o.Instance, Accepted: o.Since}
		m.ID, m.ProviderID, m.Phase, m.Since = o.ID, o.ProviderID, o.Phase, o.Since
		if o.Phase == workflows.MemberFailed {
			m.Failure = &workflows.Failure{Kind: o.Kind, Message: o.Message}
		}
		r.add(m)
	}
	missing, ready := memo.Target-v.target(), memo.Ready
	// What was there before, and what is not known to have left it.
	var before []workflows.GroupMember
	if prev != nil {
		before = slices.Concat(prev.members, prev.doubtful)
	}
	for _, m := range r.candidates(before, machines, in) {
		if missing <= 0 {
			break
		}
		if r.used(m) {
			continue
		}
		m.Phase, m.Failure = workflows.MemberBooting, nil
		if ready > 0 {
			m.Phase = workflows.MemberReady
			ready--
		}
		r.add(m)
		missing--
	}
	for n := range min(max(missing, 0), atOnceMost) {
		m := workflows.GroupMember{Instance: workflows.PlaceholderInstance(facts.Cluster.Name, facts.Group, "unnamed", n)}
		m.Phase = workflows.MemberReady
		r.add(m)
	}
	if prev != nil {
		var left []workflows.GoneInstance
		for _, m := range before {
			if anonymous(m) || r.used(m) {
				continue
			}
			left = append(left, goneMember(m))
			if m.Counted() {
				v.doubtful = append(v.doubtful, m)
			}
		}
		v.gone = joined(prev.gone, left)
	} else if in != nil && in.State != nil {
		v.gone = in.State.Gone
	}
	v.name(machines)
	return v
}

// rebuild puts members together from parts.
type rebuild struct {
	*view
	known map[string]workflows.GroupMember // by every id
	taken map[string]bool
}

func (r *rebuild) used(m workflows.GroupMember) bool {
	return slices.ContainsFunc(ids(m), func(id string) bool { return r.taken[id] })
}

// add takes a member in, with what was known of it before.
func (r *rebuild) add(m workflows.GroupMember) {
	for _, id := range ids(m) {
		if k, ok := r.known[id]; ok {
			m.Aliases, m.Origin = k.Aliases, k.Origin
			if m.ID != "" && k.ID != "" && m.ID != k.ID {
				// The heir of a place: the machine was its predecessor's.
				if k.ProviderID != "" && k.ProviderID != m.ProviderID {
					m.Aliases = append(slices.Clone(k.Aliases), k.ProviderID)
				}
			} else {
				m.ID, m.Instance, m.ProviderID = cmp.Or(m.ID, k.ID), cmp.Or(m.Instance, k.Instance), cmp.Or(m.ProviderID, k.ProviderID)
				m.Name, m.CloudID = cmp.Or(m.Name, k.Name), cmp.Or(m.CloudID, k.CloudID)
			}
			if m.Accepted.IsZero() {
				m.Accepted = k.Accepted
			}
			break
		}
	}
	m.Group, m.Role = r.facts.Group, r.facts.Role
	if m.Name == "" && m.ID != "" {
		m.Name = cluster.MachineName(r.facts.Cluster.Name, r.facts.Group, m.ID)
	}
	for _, id := range ids(m) {
		r.taken[id] = true
	}
	r.members = append(r.members, m)
}

// candidates are members that the memo may mean without naming them, the most
// likely first.
func (r *rebuild) candidates(before []workflows.GroupMember, machines []cloud.Machine, in *workflows.GroupInput) []workflows.GroupMember {
	var out []workflows.GroupMember
	listed := map[string]bool{}
	for _, m := range machines {
		listed[m.Ref.ID] = true
	}
	for _, m := range before {
		if m.Counted() && !anonymous(m) && m.Phase != workflows.MemberFailed {
			out = append(out, m)
		}
	}
	order := func(m workflows.GroupMember) int {
		switch {
		case m.Phase == workflows.MemberReady && (machines == nil || listed[m.ID]):
			return 0
		case m.Phase == workflows.MemberReady:
			return 1
		case made(m):
			return 2
		}
		return 3
	}
	slices.SortStableFunc(out, func(a, b workflows.GroupMember) int { return order(a) - order(b) })
	sorted := slices.Clone(machines)
	slices.SortStableFunc(sorted, func(a, b cloud.Machine) int { return a.CreatedAt.Compare(b.CreatedAt) })
	for _, m := range sorted {
		if m.State != cloud.MachineDeleting {
			out = append(out, fromMachine(m))
		}
	}
	if in != nil && in.State != nil {
		for _, m := range in.State.Members {
			if m.Phase == workflows.MemberReady && m.ProviderID != "" {
				out = append(out, fromMember(*m))
			}
		}
	}
	return out
}

func fromMember(m workflows.Member) workflows.GroupMember {
	return workflows.GroupMember{
		MemberStatus: m.MemberStatus, Instance: m.Instance, Aliases: m.Aliases, Failure: m.Failure,
		Replaces: m.Replaces, Origin: m.Origin, Accepted: m.Accepted,
	}
}

func fromMachine(m cloud.Machine) workflows.GroupMember {
	var g workflows.GroupMember
	g.ID, g.Name, g.ProviderID, g.CloudID, g.CloudState = m.Ref.ID, m.Name, m.ProviderID, m.Ref.Cloud, m.State
	return g
}

// name completes members with what the cloud knows of their machines. It only
// ever adds.
func (v *view) name(machines []cloud.Machine) {
	byID := map[string]cloud.Machine{}
	for _, m := range machines {
		byID[m.Ref.ID] = m
	}
	for i, m := range v.members {
		c, ok := byID[m.ID]
		if !ok || m.ID == "" {
			continue
		}
		v.members[i].ProviderID = cmp.Or(m.ProviderID, c.ProviderID)
		v.members[i].CloudID = cmp.Or(m.CloudID, c.Ref.Cloud)
		v.members[i].Name = cmp.Or(m.Name, c.Name)
	}
}

// defaultProvision is what an entity assumes that was not told: a minute less
// than the autoscaler's own default.
const defaultProvision = 14 * time.Minute

// fromInput rebuilds a group that has not run since it was started, or whose
// entity is older than its memo: from what its run began with.
func fromInput(in workflows.GroupInput) *view {
	v := &view{facts: workflows.GroupFacts{
		Cluster: in.Cluster, Group: in.Group, Role: in.Role, Cloud: in.Cloud, Zone: in.Zone, Flavor: in.Flavor,
		Min: in.Min, Max: in.Max, Autoscaling: in.Autoscaling, Standalone: in.Standalone != nil,
		Provision: cmp.Or(in.Site.Timing.Provision, defaultProvision),
	}}
	target := in.Target
	if in.State != nil {
		target, v.ending, v.gone, v.generation = in.State.Target, in.State.Ending, in.State.Gone, in.State.Generation
		if in.State.Paused != nil {
			v.paused = pauseReason(in.State.Paused.Reason)
		}
		for _, m := range in.State.Members {
			g := fromMember(*m)
			if unannounced(g) {
				continue
			}
			if g.Instance == "" && g.Counted() {
				g.Instance = workflows.PlaceholderInstance(in.Cluster.Name, in.Group, m.ID, 0)
			}
			v.members = append(v.members, g)
		}
	}
	for n := range min(max(target-v.target(), 0), atOnceMost) {
		m := workflows.GroupMember{Instance: workflows.PlaceholderInstance(in.Cluster.Name, in.Group, "start", n)}
		m.Group, m.Role, m.Phase = in.Group, in.Role, workflows.MemberWanted
		v.members = append(v.members, m)
	}
	return v
}
