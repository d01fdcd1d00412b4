package snapshot

import (
	"slices"

	"github.com/ichor-project/ichor/workflows"
)

// A memo names so many members that are not ready and only counts the others
// (GroupMemo.More): places that failed, as a rule, when a large scale-up met a
// quota. Their instance ids follow from what was known before or, after a restart,
// from the requests in the run's history. So they keep the ids under which the
// autoscaler knows them.

// nameMore gives the members that the memo counts without naming their ids.
func (v *view) nameMore(p parts) {
	if p.memo == nil || p.memo.More == 0 {
		return
	}
	taken := map[string]bool{}
	unnamed := 0
	for _, m := range v.members {
		for _, id := range ids(m) {
			taken[id] = true
		}
		if anonymous(m) {
			unnamed++
		}
	}
	free := func(m workflows.GroupMember) bool {
		return m.Instance != "" && !slices.ContainsFunc(ids(m), func(id string) bool { return taken[id] })
	}
	var known, places []workflows.GroupMember
	if before := p.before(); before != nil {
		for _, m := range before.members {
			if m.Counted() && !anonymous(m) && m.Phase != workflows.MemberReady && free(m) {
				known = append(known, m)
			}
		}
	} else {
		places = slices.DeleteFunc(p.places(), func(m workflows.GroupMember) bool { return !free(m) })
	}
	// Who was known before is meant. Of places that follow from requests it is
	// certain only if there are no more of them than are missing: the others are
	// ready, or were given up.
	n := min(p.memo.More, unnamed)
	sure := len(known)+len(places) <= n && unnamed == n
	v.put(append(known, places...), n, sure)
}

// put replaces anonymous members, n at most.
func (v *view) put(named []workflows.GroupMember, n int, sure bool) {
	named = named[:min(len(named), n)]
	for i := range v.members {
		if len(named) == 0 {
			break
		}
		if !anonymous(v.members[i]) {
			continue
		}
		m := named[0]
		named = named[1:]
		v.members[i] = m
		if !sure {
			v.unsure = append(v.unsure, m.Instance)
		}
		is := func(id string) bool { return id == m.Instance }
		v.gone = slices.DeleteFunc(slices.Clone(v.gone), func(g workflows.GoneInstance) bool { return is(g.Instance) })
		v.doubtful = slices.DeleteFunc(slices.Clone(v.doubtful), func(d workflows.GroupMember) bool { return is(d.Instance) })
	}
}

// places are the members that the run began with and those that requests of its
// history added, as far as nothing says that they have left. Those that the memo
// left out come first: it names members in the order of their places.
func (p parts) places() []workflows.GroupMember {
	var out []workflows.GroupMember
	if in := p.begun(); in != nil && in.State != nil {
		for _, m := range in.State.Members {
			if g := fromMember(*m); g.Counted() && g.Phase != workflows.MemberReady {
				out = append(out, g)
			}
		}
	}
	for _, s := range p.applied {
		id := s.req.RequestID
		if s.name != workflows.SignalIncreaseSize || s.req.Delta <= 0 || s.req.Delta > atOnceMost || id != "" && p.cancelled[id] {
			continue
		}
		if uid := s.req.Cluster.UID; uid != "" && uid != p.facts.Cluster.UID {
			continue
		}
		for n := range s.req.Delta {
			m := workflows.GroupMember{
				Instance: workflows.PlaceholderInstance(p.facts.Cluster.Name, p.facts.Group, cause(s), n),
				Origin:   s.req.Origin, Accepted: s.at,
			}
			m.Group, m.Role, m.Phase, m.Since = p.facts.Group, p.facts.Role, workflows.MemberWanted, s.at
			if !p.leaves("", "", m.Instance, "") {
				out = append(out, m)
			}
		}
	}
	last := 0
	if len(p.memo.Others) > 0 {
		end := p.memo.Others[len(p.memo.Others)-1].Instance
		last = 1 + slices.IndexFunc(out, func(m workflows.GroupMember) bool { return m.Instance == end })
	}
	return slices.Concat(out[last:], out[:last])
}

// guessed reports whether it is not certain that a member with this id is not
// another one that is ready: then nothing may be asked of it.
func (v *view) guessed(m workflows.GroupMember) bool {
	return slices.ContainsFunc(v.unsure, func(id string) bool { return id == m.Instance })
}
