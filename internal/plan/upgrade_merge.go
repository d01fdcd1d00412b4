package plan

import (
	"slices"

	"github.com/ichor-project/ichor/internal/cluster"
)

// MergeRoll brings the items of a roll up to date with nodes as they are seen
// now, for a roll during which nodes come and go. Items keep their order and what
// was decided of them. A node that is gone needs nothing any more, so it is
// skipped unless its work still runs; one that is no longer behind is done. New
// nodes that are behind go to the end of their group, so that no canary is
// taken twice.
func MergeRoll(items []RollItem, leg Leg, nodes []UpgradeNode, s UpgradeStrategy) []RollItem {
	out := slices.Clone(items)
	all := roll(nodes, func(UpgradeNode) bool { return true })
	for i := range out {
		item := &out[i]
		at := slices.IndexFunc(all, func(n RollItem) bool { return n.Machine == item.Machine })
		n := slices.IndexFunc(nodes, func(n UpgradeNode) bool { return n.Machine == item.Machine })
		switch {
		case at < 0 && item.State != RollRunning && item.State != RollDone:
			item.State = RollSkipped
		case at >= 0 && item.State == RollPending && !Behind(nodes[n], leg):
			item.State = RollDone
		}
		size := slices.IndexFunc(all, func(n RollItem) bool { return sameGroup(n, *item) })
		if size >= 0 {
			item.GroupSize = all[size].GroupSize
		}
	}
	for _, n := range RollOrder(leg, nodes, s) {
		if slices.ContainsFunc(out, func(i RollItem) bool { return i.Machine == n.Machine }) {
			continue
		}
		out = slices.Insert(out, place(out, n), n)
	}
	return out
}

// place is behind the last of the same group, else of the same role.
func place(items []RollItem, n RollItem) int {
	last := 0
	for i, o := range items {
		if sameGroup(o, n) || o.Role == cluster.RoleControlPlane {
			last = i + 1
		}
	}
	if n.Role != cluster.RoleControlPlane && !slices.ContainsFunc(items, func(o RollItem) bool { return sameGroup(o, n) }) {
		return len(items)
	}
	return last
}

func sameGroup(a, b RollItem) bool { return a.Group == b.Group && a.Role == b.Role }
