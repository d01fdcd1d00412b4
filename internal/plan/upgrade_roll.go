package plan

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Components of Kubernetes that an upgrade changes on nodes, in its order.
const (
	ComponentAPIServer         = "kube-apiserver"
	ComponentControllerManager = "kube-controller-manager"
	ComponentScheduler         = "kube-scheduler"
	ComponentKubelet           = "kubelet"
)

// Components are the components that run on nodes of a role.
func Components(role cluster.Role) []string {
	if role == cluster.RoleControlPlane {
		return []string{ComponentAPIServer, ComponentControllerManager, ComponentScheduler, ComponentKubelet}
	}
	return []string{ComponentKubelet}
}

func (n UpgradeNode) component(name string) string {
	switch name {
	case ComponentAPIServer:
		return n.APIServer
	case ComponentControllerManager:
		return n.ControllerManager
	case ComponentScheduler:
		return n.Scheduler
	case ComponentKubelet:
		return n.Kubelet
	}
	return ""
}

// Behind says that a node still needs a leg. A node of which nothing is known,
// or not what matters, is behind; one that is ahead is not, since nothing is
// ever downgraded.
func Behind(n UpgradeNode, leg Leg) bool {
	if n.Problem != "" {
		return true
	}
	switch leg.Kind {
	case LegTalos:
		c, ok := CompareVersions(n.Talos, leg.To.Talos)
		return !ok || c < 0 || c == 0 && leg.To.Schematic != "" && n.Schematic != leg.To.Schematic
	case LegKubernetes:
		return slices.ContainsFunc(Components(n.Role), func(name string) bool { return BehindComponent(n, name, leg.To.Kubernetes) })
	case LegConfig:
		return n.ConfigSHA256 != n.WantSHA256
	}
	return false
}

// BehindComponent says that a component of a node is older than version, or not
// known; components that nodes of its role do not have are never behind.
func BehindComponent(n UpgradeNode, component, version string) bool {
	return slices.Contains(Components(n.Role), component) && (n.Problem != "" || older(n.component(component), version))
}

// Lowest is what the nodes that answered run at least: the lowest Talos and the
// lowest version of any Kubernetes component, and a schematic other than want
// when any node has one. What no node tells is empty.
func Lowest(nodes []UpgradeNode, want string) Versions {
	var v Versions
	schematics := []string{}
	lower := func(have *string, version string) {
		if r, ok := parse(version); ok && (*have == "" || newer(*have, version)) {
			*have = r.String()
		}
	}
	for _, n := range nodes {
		if n.Problem != "" {
			continue
		}
		lower(&v.Talos, n.Talos)
		for _, name := range Components(n.Role) {
			lower(&v.Kubernetes, n.component(name))
		}
		schematics = append(schematics, n.Schematic)
	}
	slices.Sort(schematics)
	for _, s := range schematics {
		if v.Schematic = s; s != want {
			break
		}
	}
	return v
}

// RollOrder puts the nodes that need a leg into the order in which they are
// begun: control planes by name and the leader of etcd last, then workers by
// group and name. The order of the input does not matter. The canary of a
// strategy is the first worker; one that works is preferred, since a node that
// was broken before proves nothing.
func RollOrder(leg Leg, nodes []UpgradeNode, s UpgradeStrategy) []RollItem {
	items := roll(nodes, func(n UpgradeNode) bool { return Behind(n, leg) })
	if !s.Canary {
		return items
	}
	first := slices.IndexFunc(items, func(i RollItem) bool { return i.Role != cluster.RoleControlPlane })
	works := slices.IndexFunc(items, func(i RollItem) bool {
		return i.Role != cluster.RoleControlPlane && slices.ContainsFunc(nodes, func(n UpgradeNode) bool {
			return n.Machine == i.Machine && n.Problem == "" && n.Ready && n.NodeReady && !n.Cordoned
		})
	})
	if works <= first {
		return items
	}
	canary := items[works]
	return slices.Insert(slices.Delete(items, works, works+1), first, canary)
}

func roll(nodes []UpgradeNode, needs func(UpgradeNode) bool) []RollItem {
	sorted := slices.Clone(nodes)
	slices.SortFunc(sorted, inOrder)
	var out []RollItem
	for _, n := range sorted {
		if !needs(n) {
			continue
		}
		size := 0
		for _, o := range nodes {
			if o.Group == n.Group && o.Role == n.Role {
				size++
			}
		}
		out = append(out, RollItem{Machine: n.Machine, Name: n.Name, Group: n.Group, Role: n.Role, State: RollPending, GroupSize: size})
	}
	return out
}

func inOrder(a, b UpgradeNode) int {
	return cmp.Or(
		yesLast(a.Role != cluster.RoleControlPlane, b.Role != cluster.RoleControlPlane),
		yesLast(a.Role == cluster.RoleControlPlane && a.Leader, b.Role == cluster.RoleControlPlane && b.Leader),
		strings.Compare(a.Group, b.Group),
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.Machine, b.Machine),
	)
}

func yesLast(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// MaxUnavailable is how many nodes of a group of this size may be at work or
// broken at once, at least one. What cannot be read counts as one.
func MaxUnavailable(s UpgradeStrategy, group string, size int) int {
	value := s.MaxUnavailable
	for _, g := range s.Groups {
		if g.Group == group && g.Surge > 0 {
			return g.Surge
		}
		if g.Group == group && g.MaxUnavailable != "" {
			value = g.MaxUnavailable
		}
	}
	n, percent, ok := amount(value)
	if ok && percent {
		n = size * n / 100
	}
	return max(n, 1)
}

// amount reads "3" and "10%".
func amount(s string) (n int, percent, ok bool) {
	digits, percent := strings.CutSuffix(s, "%")
	n, ok = number(digits)
	return n, percent, ok
}

// NextNodes decides what to begin in a roll of which items is the state, in the
// order of RollOrder. Control planes go one at a time and before all workers,
// and one that failed ends the roll. Groups of workers follow each other in the
// order of their first item; within one, running and failed nodes together never
// exceed MaxUnavailable. When it begins nothing, either something runs that will
// be reported, or it says until when to wait, or the roll is done or stopped.
func NextNodes(items []RollItem, s UpgradeStrategy, now time.Time) RollDecision {
	if !slices.ContainsFunc(items, func(i RollItem) bool { return unfinished(i) || i.State == RollFailed }) {
		return RollDecision{Done: true}
	}
	running := count(items, RollRunning)
	d := begin(items, s, now)
	switch {
	case d.Stop != "":
		return d
	case len(d.Start) == 0 && running == 0 && d.Wait.IsZero():
		// Only failed nodes are left, which is not done.
		return RollDecision{Stop: names(items, RollFailed) + " failed"}
	case len(d.Start) == 0 && d.Wait.IsZero():
		return d
	}
	opening, ever := NextOpening(s.Windows, later(now, d.Wait))
	switch {
	case !ever:
		return RollDecision{Stop: "no maintenance window ever opens"}
	case !d.Wait.IsZero():
		d.Wait = opening
	case opening.After(now):
		d = RollDecision{Wait: opening, Reason: "waits for the maintenance window"}
	}
	return d
}

// begin is NextNodes without windows; Wait is the end of the soak.
func begin(items []RollItem, s UpgradeStrategy, now time.Time) RollDecision {
	planes, workers := byRole(items)
	if failed := names(planes, RollFailed); failed != "" {
		return RollDecision{Stop: "control plane " + failed + " failed"}
	}
	if failed := count(workers, RollFailed); failed > max(s.FailureBudget, 0) {
		return RollDecision{Stop: names(workers, RollFailed) + " failed, which is more than the failure budget"}
	}
	if slices.ContainsFunc(planes, unfinished) {
		if count(items, RollRunning) > 0 {
			return RollDecision{Reason: "control planes go one at a time"}
		}
		return RollDecision{Start: pending(planes, 1)}
	}
	if s.Canary {
		if d, holds := canary(workers, s, now); holds {
			return d
		}
	}
	for _, group := range groups(workers) {
		if !slices.ContainsFunc(group, unfinished) {
			continue
		}
		size := max(group[0].GroupSize, len(group))
		limit := MaxUnavailable(s, group[0].Group, size)
		failed := count(group, RollFailed)
		free := limit - count(group, RollRunning) - failed
		if start := pending(group, free); len(start) > 0 {
			return RollDecision{Start: start}
		}
		if count(group, RollRunning) == 0 {
			return RollDecision{Stop: names(group, RollFailed) + " failed, so group " + group[0].Group + " has no node more to spare"}
		}
		return RollDecision{Reason: "group " + group[0].Group + " waits for its nodes at work"}
	}
	return RollDecision{}
}

// canary decides as long as the first worker that is not skipped is not proven.
// Its failure ends the roll, whatever the budget: to find that out is its task.
func canary(workers []RollItem, s UpgradeStrategy, now time.Time) (RollDecision, bool) {
	i := slices.IndexFunc(workers, func(w RollItem) bool { return w.State != RollSkipped })
	if i < 0 {
		return RollDecision{}, false
	}
	first := workers[i]
	soaked := first.Ended.Add(time.Duration(s.Soak))
	switch {
	case first.State == RollFailed:
		return RollDecision{Stop: "canary " + first.Name + " failed"}, true
	case first.State == RollPending && count(workers, RollRunning) == 0:
		return RollDecision{Start: []string{first.Machine}, Reason: "canary"}, true
	case first.State != RollDone:
		return RollDecision{Reason: "the canary goes alone"}, true
	case now.Before(soaked) && slices.ContainsFunc(workers, func(w RollItem) bool { return w.State == RollPending }):
		return RollDecision{Wait: soaked, Reason: "canary " + first.Name + " soaks"}, true
	}
	return RollDecision{}, false
}

func unfinished(i RollItem) bool { return i.State == RollPending || i.State == RollRunning }

func byRole(items []RollItem) (planes, workers []RollItem) {
	for _, i := range items {
		if i.Role == cluster.RoleControlPlane {
			planes = append(planes, i)
		} else {
			workers = append(workers, i)
		}
	}
	return planes, workers
}

// groups splits by group, in the order of their first items.
func groups(items []RollItem) [][]RollItem {
	var out [][]RollItem
	for _, i := range items {
		at := slices.IndexFunc(out, func(g []RollItem) bool { return g[0].Group == i.Group })
		if at < 0 {
			out, at = append(out, nil), len(out)
		}
		out[at] = append(out[at], i)
	}
	return out
}

func count(items []RollItem, state RollState) int {
	n := 0
	for _, i := range items {
		if i.State == state {
			n++
		}
	}
	return n
}

func pending(items []RollItem, most int) []string {
	var out []string
	for _, i := range items {
		if i.State == RollPending && len(out) < most {
			out = append(out, i.Machine)
		}
	}
	return out
}

func names(items []RollItem, state RollState) string {
	var out []string
	for _, i := range items {
		if i.State == state {
			out = append(out, i.Name)
		}
	}
	return strings.Join(out, ", ")
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
