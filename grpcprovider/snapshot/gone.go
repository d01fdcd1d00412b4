package snapshot

import (
	"slices"

	"github.com/ichor-project/ichor/workflows"
)

// keptGone bounds how many deleted machines are remembered of a group. What an
// entity keeps itself is less.
const keptGone = 1000

// leave notes which machines have left since the view before, and shows them as
// gone: whatever the next readings are made of, a repeated request to delete one
// stays a success. Only what was shown, and so may have been answered for, counts.
func (e *entry) leave(before *view) {
	next := slices.Clone(e.base.view.gone)
	if before != nil && !sameMembers(before, e.acked) {
		there := make(map[string]bool, 3*len(e.acked.members))
		for _, m := range e.acked.members {
			for _, id := range ids(m) {
				there[id] = true
			}
		}
		for _, m := range before.members {
			if !anonymous(m) && slices.ContainsFunc(ids(m), func(id string) bool { return !there[id] }) {
				next = append(next, goneMember(m))
			}
		}
	}
	e.left = joined(e.left, next)
	e.showLeft()
}

// showLeft lets the views of an entry know of all that has left. The list is
// never changed in place, so views may share it.
func (e *entry) showLeft() {
	e.all.gone, e.acked.gone = e.left, e.left
}

func goneMember(m workflows.GroupMember) workflows.GoneInstance {
	return workflows.GoneInstance{ID: m.ID, Name: m.Name, Instance: m.Instance, ProviderID: m.ProviderID, Aliases: m.Aliases}
}

// joined adds to a list what it does not have yet, without changing it, and
// forgets the oldest beyond keptGone. One that is known by now under further ids
// is another one.
func joined(old, more []workflows.GoneInstance) []workflows.GoneInstance {
	if len(more) == 0 {
		return old
	}
	type names struct{ id, name, instance, providerID string }
	of := func(g workflows.GoneInstance) names { return names{g.ID, g.Name, g.Instance, g.ProviderID} }
	have := make(map[names]bool, len(old))
	for _, g := range old {
		have[of(g)] = true
	}
	out := old[:len(old):len(old)]
	for _, g := range more {
		if n := of(g); !have[n] {
			have[n] = true
			out = append(out, g)
		}
	}
	if len(out) == len(old) {
		return old
	}
	return out[max(0, len(out)-keptGone):]
}

// wasMember reports whether a machine was deleted lately, or replaced by one that
// works: its successor is not what a request for it means. A name stands for its
// machine unless that is known to have another provider ID.
func (v *view) wasMember(id, name string) bool {
	if v.goneIDs == nil {
		v.goneIDs = map[string]bool{}
		v.goneNames = map[string]bool{}
		for _, g := range v.gone {
			for _, k := range append([]string{g.ID, g.Name, g.Instance, g.ProviderID}, g.Aliases...) {
				v.goneIDs[k] = k != ""
			}
			if g.ProviderID == "" && g.Name != "" {
				v.goneNames[g.Name] = true
			}
		}
		for _, m := range v.members {
			for _, k := range m.Aliases {
				v.goneIDs[k] = k != ""
			}
		}
	}
	return id != "" && (v.goneIDs[id] || v.goneNames[name]) || id == "" && v.goneIDs[name]
}
