package snapshot

import (
	"slices"

	"github.com/ichor-project/ichor/workflows"
)

// A memo counts the members that are ready without naming them. Who they are
// follows from what was known before, unless some of it has left meanwhile: then
// any of it may have. Whatever is known of who left keeps the choice right, and
// what stays in doubt is never taken for deleted.

// noteAsked notes which machines were to be deleted by requests that the memo
// contains: those in the run's history up to its event, and those that this
// process has sent, also to an earlier run. Such requests are always obeyed, so
// none of their machines is counted.
func (p *parts) noteAsked(past, sent []signal, event int64) {
	p.asked = map[string]bool{}
	note := func(s signal) {
		if s.name != workflows.SignalDeleteNodes || p.cancelled[s.req.RequestID] || len(s.req.Nodes) > atOnceMost {
			return
		}
		if uid := s.req.Cluster.UID; p.facts != nil && uid != "" && uid != p.facts.Cluster.UID {
			return // of another cluster of this name
		}
		for _, n := range s.req.Nodes {
			p.asked[n] = true
		}
	}
	later := map[string]bool{}
	for _, s := range p.tail {
		later[s.req.RequestID] = true
	}
	for _, s := range past {
		if s.event <= event {
			note(s)
		}
	}
	for _, s := range sent {
		if !later[s.req.RequestID] {
			note(s)
		}
	}
}

// leaves reports whether a member was to be deleted by one of its own names. Who
// named a predecessor did not mean it.
func (p parts) leaves(id, name, instance, providerID string) bool {
	return slices.ContainsFunc([]string{id, name, instance, providerID}, func(n string) bool { return n != "" && p.asked[n] })
}

// before is the previous view as it was when the memo was written: without what
// the tail asks for, since the entity does not know of that yet, and with what
// was to be deleted on its way out.
func (p parts) before() *view {
	if p.prev == nil || p.facts == nil {
		return nil
	}
	v := p.prev.clone()
	v.members = slices.DeleteFunc(slices.Clone(v.members), func(m workflows.GroupMember) bool {
		return slices.ContainsFunc(p.tail, func(s signal) bool {
			return placeOf(m.Instance, workflows.PlaceholderPrefix(p.facts.Cluster.Name, p.facts.Group, cause(s)))
		})
	})
	for n := range p.asked {
		if i, ok := v.member(n, n); ok {
			v.remove(i)
		}
	}
	v.doubtful = slices.DeleteFunc(slices.Clone(v.doubtful), func(m workflows.GroupMember) bool {
		return p.leaves(m.ID, m.Name, m.Instance, m.ProviderID)
	})
	return v
}

// begun is what the run began with, less what was to be deleted since.
func (p parts) begun() *workflows.GroupInput {
	if p.input == nil || p.input.State == nil || len(p.asked) == 0 {
		return p.input
	}
	in, state := *p.input, *p.input.State
	var left []workflows.GoneInstance
	state.Members = slices.DeleteFunc(slices.Clone(state.Members), func(m *workflows.Member) bool {
		leaves := p.leaves(m.ID, m.Name, m.Instance, m.ProviderID)
		if leaves {
			left = append(left, goneMember(fromMember(*m)))
		}
		return leaves
	})
	state.Gone = joined(state.Gone, left)
	in.State = &state
	return &in
}

// doubts reports whether a node is one of which it is not known whether it is
// still a member.
func (v *view) doubts(id, name string) bool {
	return slices.ContainsFunc(v.doubtful, func(m workflows.GroupMember) bool {
		own := ids(m)
		if id != "" && slices.Contains(own, id) {
			return true
		}
		return name != "" && (name == m.Name || slices.Contains(own, name)) && (id == "" || m.ProviderID == "" || id == m.ProviderID)
	})
}
