package activities

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// etcdView is etcd as several control planes see it.
type etcdView struct {
	// seen is what those answered that run etcd, silent why the others did not.
	seen   map[string]EtcdHealth
	silent map[string]string
	// voters and learners are names, sorted, as the members know each other.
	voters, learners []string
	// leader is the name of the leader on which all agree, else empty.
	leader string
	// alarms are those that any member reports, sorted.
	alarms []string
	// split says that the members do not agree on who they are.
	split string
}

// lookAtEtcd asks control planes, all at once. Only an error that ends every
// further attempt is one; a node that does not answer is a fact.
func (u *Upgrades) lookAtEtcd(ctx context.Context, bundle secrets.Value, nodes []UpgradeTarget) (etcdView, error) {
	healths, errs := make([]EtcdHealth, len(nodes)), make([]error, len(nodes))
	_ = each(nodes, func(i int, t UpgradeTarget) error { // every error is kept
		healths[i], errs[i] = u.etcd(ctx, bundle, t)
		return nil
	})
	if err := ctx.Err(); err != nil {
		return etcdView{}, err
	}
	v := etcdView{seen: map[string]EtcdHealth{}, silent: map[string]string{}}
	for i, t := range nodes {
		switch {
		case fault.Is(errs[i], fault.Unauthorized):
			return v, errs[i]
		case errs[i] != nil:
			v.silent[t.Node.Name] = errs[i].Error()
		case !healths[i].Running:
			v.silent[t.Node.Name] = etcdDown
		default:
			v.seen[t.Node.Name] = healths[i]
		}
	}
	v.agree()
	return v, nil
}

// agree sums up what the answers have in common.
func (v *etcdView) agree() {
	leaders := map[uint64]bool{}
	byID := map[uint64]string{}
	first := true
	for _, name := range sortedKeys(v.seen) {
		h := v.seen[name]
		leaders[h.Leader] = true
		v.alarms = append(v.alarms, h.Alarms...) // each member reports those of all
		var voters, learners []string
		for _, m := range h.Members {
			byID[m.ID] = m.Name
			if m.Learner {
				learners = append(learners, m.Name)
			} else {
				voters = append(voters, m.Name)
			}
		}
		slices.Sort(voters)
		slices.Sort(learners)
		if first {
			v.voters, v.learners, first = voters, learners, false
		} else if v.split == "" && (!slices.Equal(v.voters, voters) || !slices.Equal(v.learners, learners)) {
			v.split = fmt.Sprintf("%s sees voters %s and learners %s, others voters %s and learners %s", name, listed(voters), listed(learners), listed(v.voters), listed(v.learners))
		}
	}
	if len(leaders) == 1 {
		for id := range leaders {
			v.leader = byID[id]
		}
	}
	for i, alarm := range v.alarms {
		v.alarms[i] = named(alarm, byID)
	}
	slices.Sort(v.alarms)
	v.alarms = slices.Compact(v.alarms)
}

// named adds the node's name to an alarm, which ends with the id of a member: a
// person looks for a node.
func named(alarm string, byID map[uint64]string) string {
	_, id, found := strings.Cut(alarm, " on member ")
	n, err := strconv.ParseUint(id, 16, 64)
	if name := byID[n]; found && err == nil && name != "" {
		return alarm + " (" + name + ")"
	}
	return alarm
}

// errors are what members report of themselves, beside the named one.
func (v etcdView) errors(except string) []string {
	var out []string
	for _, name := range sortedKeys(v.seen) {
		if name != except && len(v.seen[name].Errors) > 0 {
			out = append(out, name+": "+strings.Join(v.seen[name].Errors, ", "))
		}
	}
	return out
}

func sortedKeys[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// healthy counts the voters that answer and follow a leader, beside the named one.
func (v etcdView) healthy(except string) int {
	n := 0
	for name, h := range v.seen {
		if name != except && h.Leader != 0 && !h.Learner && len(h.Errors) == 0 && slices.Contains(v.voters, name) {
			n++
		}
	}
	return n
}

// strangers are members that are no known machine, and machines that are none.
func (v etcdView) strangers(machines []string) (unknown, absent []string) {
	members := slices.Concat(v.voters, v.learners)
	for _, m := range members {
		if !slices.Contains(machines, m) {
			unknown = append(unknown, m)
		}
	}
	for _, m := range machines {
		if !slices.Contains(members, m) {
			absent = append(absent, m)
		}
	}
	return unknown, absent
}

// WaitEtcdGate returns when etcd has been healthy for a while: every control plane
// is a voter, all agree on the members and on the leader, and there is no alarm.
// With a leaving one, it need not be healthy itself, but the others must all be,
// must be a quorum of all members without it, and their machines must be ready: a
// member runs well before the API server beside it. When its time is over it ends
// with NotYet, naming what is missing. Errors: Unsafe, at once, when so few members
// could never spare one, and for a single one without consent.
func (u *Upgrades) WaitEtcdGate(ctx context.Context, in EtcdGateInput) (EtcdGateResult, error) {
	var out EtcdGateResult
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return out, err
	}
	hold := stable{need: in.Stable}
	err = poll(ctx, "wait for etcd", u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		v, err := u.lookAtEtcd(ctx, bundle, in.Nodes)
		missing := ""
		if err == nil {
			missing, err = v.gate(in)
		}
		if err == nil && missing == "" && in.Leaving != "" {
			missing, err = u.peersWell(ctx, bundle, in)
		}
		if err != nil || missing != "" {
			hold.broken()
			return false, missing, err
		}
		out = EtcdGateResult{Leader: v.leader, Voters: v.voters}
		done, saw := hold.holds()
		return done, fmt.Sprintf("%d voters, led by %s; %s", len(v.voters), v.leader, saw), nil
	})
	return out, err
}

// peersWell says which control plane beside the leaving one is not ready.
func (u *Upgrades) peersWell(ctx context.Context, bundle secrets.Value, in EtcdGateInput) (missing string, err error) {
	peers := slices.DeleteFunc(slices.Clone(in.Nodes), func(t UpgradeTarget) bool { return t.Node.Name == in.Leaving })
	out := make([]string, len(peers))
	err = each(peers, func(i int, t UpgradeTarget) error {
		f, err := u.facts(ctx, bundle, t)
		switch {
		case err != nil:
			out[i] = t.Node.Name + ": its machine API does not answer"
		case f.Stage != "running" || !f.Ready:
			out[i] = fmt.Sprintf("%s: stage %s, not ready: %s", t.Node.Name, f.Stage, listed(f.Unmet))
		}
		return err
	})
	return strings.Join(slices.DeleteFunc(out, func(s string) bool { return s == "" }), "; "), err
}

// gate says what is missing, or Unsafe when waiting would not help.
func (v etcdView) gate(in EtcdGateInput) (missing string, err error) {
	const op = "take a control plane out"
	switch {
	case in.Leaving != "" && len(in.Nodes) == 1 && !in.Single:
		return "", fault.New(fault.Unsafe, op, "%s is the only control plane: the Kubernetes API is out while it is worked on, and that needs consent (strategy.singleControlPlane)", in.Leaving)
	case in.Leaving != "" && len(in.Nodes) == 2:
		_, why := plan.QuorumAllows(2, 2, 0, 1)
		return "", fault.New(fault.Unsafe, op, "%s", why)
	}
	for _, name := range names(in.Nodes) {
		if why, ok := v.silent[name]; ok && name != in.Leaving {
			return name + ": " + why, nil
		}
	}
	if len(v.seen) == 0 {
		return in.Leaving + ": " + v.silent[in.Leaving], nil
	}
	unknown, absent := v.strangers(names(in.Nodes))
	absent = slices.DeleteFunc(absent, func(name string) bool { return name == in.Leaving })
	switch {
	case v.split != "":
		return v.split, nil
	case len(unknown) > 0:
		return "members of etcd that are no control plane of this cluster: " + listed(unknown), nil
	case len(absent) > 0:
		return "control planes that are no member of etcd: " + listed(absent), nil
	case len(v.learners) > 0:
		return "learners that do not vote yet: " + listed(v.learners), nil
	case v.leader == "":
		return "there is no leader on which all agree", nil
	case len(v.alarms) > 0:
		return "alarms: " + strings.Join(v.alarms, "; "), nil
	}
	if broken := v.errors(in.Leaving); len(broken) > 0 {
		return "errors: " + strings.Join(broken, "; "), nil
	}
	if in.Leaving == "" || len(in.Nodes) == 1 {
		return "", nil
	}
	if len(v.voters) == 2 {
		_, why := plan.QuorumAllows(2, 2, 0, 1)
		return "", fault.New(fault.Unsafe, op, "%s", why)
	}
	if left, need := v.healthy(in.Leaving), plan.Quorum(len(v.voters)); left < need {
		return fmt.Sprintf("%d healthy voters would be left without %s, and quorum is %d", left, in.Leaving, need), nil
	}
	return "", nil
}

// ForfeitLeadership makes the leaving node hand etcd's leadership over and returns
// when another leads. A node that does not lead, and the only member, need nothing.
// While another is unhealthy, or a learner, to which Talos might give it, it waits.
func (u *Upgrades) ForfeitLeadership(ctx context.Context, in EtcdGateInput) error {
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return err
	}
	return poll(ctx, "hand over the leadership of "+in.Leaving, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		v, err := u.lookAtEtcd(ctx, bundle, in.Nodes)
		if err != nil {
			return false, "", err
		}
		own, runs := v.seen[in.Leaving]
		switch {
		case !runs && v.silent[in.Leaving] != etcdDown:
			return false, in.Leaving + ": " + v.silent[in.Leaving], nil
		case !runs || own.Leader != 0 && own.Leader != own.MemberID:
			return true, "another leads", nil
		case own.Leader == 0:
			return false, "there is no leader now", nil
		case len(own.Members) == 1:
			return true, "it is the only member", nil
		}
		if missing, err := v.gate(in); err != nil || missing != "" {
			return false, missing, err
		}
		err = u.Machines.Forfeit(ctx, bundle, address(in.Nodes, in.Leaving))
		return false, "asked it to hand over", err
	})
}

// etcdDown is why a node that answers has nothing to say of etcd.
const etcdDown = "etcd does not run there"
