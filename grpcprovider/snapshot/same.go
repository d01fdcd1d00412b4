package snapshot

import (
	"slices"

	"github.com/ichor-project/ichor/workflows"
)

// Most readings say what the one before said. To see that takes a hundredth of
// the work of showing a group anew.

// sameMembers reports whether two views have the same members in the same order.
// Views that share theirs are told at once.
func sameMembers(a, b *view) bool {
	if len(a.members) != len(b.members) {
		return false
	}
	return len(a.members) == 0 || &a.members[0] == &b.members[0] || slices.EqualFunc(a.members, b.members, sameMember)
}

// sameMember compares all that is shown of a member, or found by.
func sameMember(a, b workflows.GroupMember) bool {
	return a.ID == b.ID && a.Phase == b.Phase && a.Surge == b.Surge && a.ProviderID == b.ProviderID && a.CloudID == b.CloudID && a.Name == b.Name &&
		a.Instance == b.Instance && a.Note == b.Note && a.Accepted.Equal(b.Accepted) && slices.Equal(a.Aliases, b.Aliases) &&
		(a.Failure == b.Failure || a.Failure != nil && b.Failure != nil && *a.Failure == *b.Failure)
}

// sameList reports whether two lists are one and the same.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// looksLike reports whether a view shows the same instances as another one, and
// finds the same nodes, as long as no deadline passes.
func (v *view) looksLike(o *view) bool {
	return v.facts.Cluster == o.facts.Cluster && v.facts.Group == o.facts.Group && v.facts.Provision == o.facts.Provision &&
		sameList(v.gone, o.gone) && sameMembers(v, o)
}
