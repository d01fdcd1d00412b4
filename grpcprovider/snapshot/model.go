package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// view is a group as far as it is known. Its target is the number of counted
// members, by construction.
type view struct {
	facts      workflows.GroupFacts
	generation int64
	members    []workflows.GroupMember
	gone       []workflows.GoneInstance
	// doubtful are members of which a memo does not say whether they are still
	// there: it counts who is ready, and those taken for them are as many.
	doubtful []workflows.GroupMember
	// unsure are instance ids of members that may be other ones than they seem.
	unsure []string
	// paused is why nothing may be changed by the autoscaler, or empty.
	paused string
	ending bool
	// shared says that another view has the same members: they are copied before
	// they are changed.
	shared bool
	// byID finds members by provider ID, instance id, alias and machine id,
	// byName by the Node's name; both are built when first needed.
	byID, byName       map[string]int
	goneIDs, goneNames map[string]bool
}

// clone makes a view that may be changed without v being so. What changes is
// copied then, which for most views is never.
func (v *view) clone() *view {
	c := *v
	c.shared = true
	c.byID, c.byName, c.goneIDs, c.goneNames = nil, nil, nil, nil
	return &c
}

// own copies what a view shares with others.
func (v *view) own() {
	if v.shared {
		v.members, v.shared = slices.Clone(v.members), false
		v.byID, v.byName = nil, nil
	}
}

func (v *view) target() int {
	n := 0
	for _, m := range v.members {
		if m.Counted() {
			n++
		}
	}
	return n
}

// atOnceMost bounds one request as the entity does: it is the most that a spec's
// max allows.
const atOnceMost = 500

// rank is the order in which the entity applies the signals of one workflow
// task.
var rank = map[string]int{
	workflows.SignalCancelRequest: 1, workflows.SignalIncreaseSize: 2, workflows.SignalSetTarget: 3,
	workflows.SignalDecreaseTargetSize: 4, workflows.SignalDeleteNodes: 5, workflows.SignalPause: 6,
	workflows.SignalResume: 7, workflows.SignalEnd: 8,
}

// signal is one request as it stands in history, or as this process sends it.
type signal struct {
	name  string
	event int64
	at    time.Time
	req   workflows.ScaleRequest
}

// applyAll applies signals as the entity does in one workflow task: in the order
// of rank, each request id once, none that is cancelled. seen are request ids
// that were applied before.
func (v *view) applyAll(signals []signal, seen, cancelled map[string]bool) {
	sorted := slices.Clone(signals)
	slices.SortStableFunc(sorted, func(a, b signal) int { return cmp.Compare(rank[a.name], rank[b.name]) })
	done := map[string]bool{}
	for _, s := range sorted {
		id := s.req.RequestID
		if id != "" && (done[id] || seen[id] || cancelled[id]) {
			continue
		}
		if s.name != workflows.SignalCancelRequest && id != "" {
			done[id] = true
		}
		v.apply(s)
	}
}

// apply changes the view as the entity will change its state on that signal. It
// never refuses: what was accepted counts.
func (v *view) apply(s signal) {
	if uid := s.req.Cluster.UID; uid != "" && uid != v.facts.Cluster.UID || v.ending {
		return
	}
	v.own()
	accepted := s.at
	// A clock of elsewhere is believed as far as it makes sense.
	if age := accepted.Sub(s.req.At); !s.req.At.IsZero() && age > 0 && age < 24*time.Hour {
		accepted = s.req.At
	}
	switch s.name {
	case workflows.SignalIncreaseSize:
		if s.req.Delta > atOnceMost {
			return
		}
		v.increase(cause(s), s.req.Delta, s.req.Origin, accepted)
	case workflows.SignalSetTarget:
		if v.paused != "" {
			return // the entity refuses it as well
		}
		if s.req.Target != nil && *s.req.Target >= v.facts.Min && *s.req.Target <= v.facts.Max {
			v.setTarget(s, *s.req.Target, accepted)
		}
	case workflows.SignalDecreaseTargetSize:
		if s.req.Delta > atOnceMost {
			return
		}
		v.giveUp(v.unmade(s.req.Delta))
	case workflows.SignalDeleteNodes:
		if len(s.req.Nodes) > atOnceMost {
			return
		}
		for _, id := range s.req.Nodes {
			if i, ok := v.member(id, id); ok {
				v.remove(i)
			}
		}
	case workflows.SignalCancelRequest:
		v.cancel(s.req.Cancel)
	case workflows.SignalPause:
		v.paused = pauseReason(s.req.Reason)
	case workflows.SignalResume:
		v.paused = ""
		v.retry()
	case workflows.SignalEnd:
		v.ending = true
	default:
		return
	}
	v.generation++
}

// cause names what the placeholder ids of a signal are made of.
func cause(s signal) string {
	if s.req.RequestID != "" {
		return s.req.RequestID
	}
	return fmt.Sprintf("event-%d", s.event)
}

func pauseReason(reason string) string {
	if reason == "" {
		return "the group is paused"
	}
	return "the group is paused: " + reason
}

func (v *view) increase(cause string, n int, origin workflows.Origin, at time.Time) {
	target := v.target()
	for i := range n {
		m := workflows.GroupMember{
			Instance: workflows.PlaceholderInstance(v.facts.Cluster.Name, v.facts.Group, cause, i),
			Origin:   origin, Accepted: at,
		}
		m.Group, m.Role, m.Phase, m.Since = v.facts.Group, v.facts.Role, workflows.MemberWanted, at
		if target+i >= v.facts.Max {
			m.Phase = workflows.MemberFailed
			m.Failure = &workflows.Failure{Kind: fault.Quota, Message: fmt.Sprintf("%s %d", beyondMax, v.facts.Max)}
		}
		v.add(m)
	}
}

func (v *view) add(m workflows.GroupMember) {
	v.members = append(v.members, m)
	if v.byID != nil {
		v.index(len(v.members) - 1)
	}
}

func (v *view) setTarget(s signal, target int, at time.Time) {
	if d := target - v.target(); d > 0 {
		v.increase(cause(s), d, s.req.Origin, at)
	} else if d < 0 {
		for _, i := range v.chosen(plan.Victims, -d) {
			v.remove(i)
		}
	}
}

// retry gives what failed another chance, as a resume does, except what no
// attempt can help.
func (v *view) retry() {
	for i, m := range v.members {
		if m.Phase != workflows.MemberFailed || m.Failure != nil && isBeyondMax(*m.Failure) {
			continue
		}
		v.members[i].Phase, v.members[i].Failure = workflows.MemberWanted, nil
		if m.CloudID != "" || m.ProviderID != "" {
			v.members[i].Phase = workflows.MemberBooting
		}
	}
}

// cancel takes back what a request added.
func (v *view) cancel(id string) {
	if id == "" {
		return
	}
	prefix := workflows.PlaceholderPrefix(v.facts.Cluster.Name, v.facts.Group, id)
	for i, m := range v.members {
		if m.Counted() && placeOf(m.Instance, prefix) {
			v.remove(i)
		}
	}
}

// placeOf reports whether an instance id is a placeholder of a cause, and not of
// one whose name merely begins like it.
func placeOf(instance, prefix string) bool {
	rest, ok := strings.CutPrefix(instance, prefix+"-")
	_, err := strconv.ParseUint(rest, 10, 31)
	return ok && err == nil
}

// unmade are the members that a decrease by n gives up.
func (v *view) unmade(n int) []int { return v.chosen(plan.Unmade, n) }

// chosen lets a decision of package plan choose among the counted members.
func (v *view) chosen(choose func([]plan.Candidate, int) []string, n int) []int {
	where := map[string]int{}
	var all []plan.Candidate
	for i, m := range v.members {
		if !m.Counted() || anonymous(m) {
			continue
		}
		key := m.ID
		if key == "" {
			key = m.Instance
		}
		where[key] = i
		all = append(all, plan.Candidate{
			ID: key, Made: made(m), Failed: m.Phase == workflows.MemberFailed,
			Joined: m.Phase == workflows.MemberJoined, Ready: m.Phase == workflows.MemberReady, Accepted: m.Accepted,
		})
	}
	var out []int
	for _, key := range choose(all, n) {
		out = append(out, where[key])
	}
	return out
}

// made says that a machine exists. One that is being created may exist as well,
// but can be given up: the entity then deletes it.
func made(m workflows.GroupMember) bool {
	switch m.Phase {
	case workflows.MemberBooting, workflows.MemberJoined, workflows.MemberReady:
		return true
	case workflows.MemberWanted, workflows.MemberCreating, workflows.MemberFailed, workflows.MemberDraining, workflows.MemberDeleting, workflows.MemberGone:
	}
	return m.CloudID != "" || m.ProviderID != ""
}

// remove takes a member out of the target. One without a machine is gone at
// once for the entity as well, but is shown until the entity says so: the
// autoscaler takes what it sees no more for what never was.
func (v *view) remove(i int) {
	if v.members[i].Counted() {
		v.members[i].Phase = workflows.MemberDeleting
	}
}

// giveUp takes members without machines out of the target and out of sight: that
// is what the autoscaler asked for.
func (v *view) giveUp(which []int) {
	for _, i := range which {
		v.members[i].Phase = workflows.MemberGone
	}
}

// member finds a member that is not gone, by id and, failing that, by name. A
// name does not find a member whose provider ID is another one.
func (v *view) member(id, name string) (int, bool) {
	if v.byID == nil {
		v.byID, v.byName = make(map[string]int, 3*len(v.members)), make(map[string]int, len(v.members))
		for i := range v.members {
			v.index(i)
		}
	}
	if i, ok := v.byID[id]; ok && id != "" {
		return i, true
	}
	i, ok := v.byID[name]
	if !ok {
		i, ok = v.byName[name]
	}
	if !ok || name == "" {
		return 0, false
	}
	if have := v.members[i].ProviderID; id != name && id != "" && have != "" && have != id {
		return 0, false
	}
	return i, true
}

// index makes a member known by its ids. One that counts goes before one that
// leaves: a replacement answers to the names of its predecessors, until its node
// works. From then on whoever names a predecessor does not mean it.
func (v *view) index(i int) {
	m := v.members[i]
	if stateOf(m.Phase) == provider.Running {
		m.Aliases = nil
	}
	for _, id := range ids(m) {
		if o, ok := v.byID[id]; !ok || !v.members[o].Counted() {
			v.byID[id] = i
		}
	}
	if m.Name != "" {
		v.byName[m.Name] = i
	}
}

// ids are all ids of a member.
func ids(m workflows.GroupMember) []string {
	out := make([]string, 0, 3+len(m.Aliases))
	for _, id := range [...]string{m.ProviderID, m.Instance, m.ID} {
		if id != "" {
			out = append(out, id)
		}
	}
	return append(out, m.Aliases...)
}

// beyondMax begins the message of members that exceed the group's max.
const beyondMax = "beyond max"

func isBeyondMax(f workflows.Failure) bool { return strings.Contains(f.Message, beyondMax) }

// anonymous members are known to be there, but not which machines they are.
func anonymous(m workflows.GroupMember) bool { return m.ID == "" && m.Phase == workflows.MemberReady }

// unannounced members are machines that an upgrade adds to take the place of
// others. The autoscaler does not hear of them before they have: it would take
// their nodes for more than it asked for.
func unannounced(m workflows.GroupMember) bool { return m.Surge && !m.Leaving() }

func fromStatus(s workflows.GroupStatus) *view {
	v := &view{facts: s.GroupFacts, generation: s.Generation, gone: s.Gone, ending: s.Ending, members: s.Members}
	if slices.ContainsFunc(v.members, unannounced) {
		v.members = slices.DeleteFunc(slices.Clone(v.members), unannounced)
	}
	if s.Paused != nil {
		v.paused = pauseReason(s.Paused.Reason)
	}
	return v
}
