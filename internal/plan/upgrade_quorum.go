package plan

import (
	"fmt"
	"strings"
)

// Quorum is how many voters must agree in an etcd of this many.
func Quorum(voters int) int { return voters/2 + 1 }

// QuorumAllows says whether out of the healthy voters of an etcd may be taken
// away at once for a while; the reason says why not. Learners are not counted as
// voters. Zero out asks whether work on a member that is out already is safe.
func QuorumAllows(voters, healthy, learners, out int) (bool, string) {
	no := func(format string, args ...any) (bool, string) { return false, fmt.Sprintf(format, args...) }
	switch {
	case voters < 1:
		return no("etcd has no voters")
	case learners > 0:
		return no("etcd has %s, which must be promoted first", many(learners, "learner"))
	case out > 0 && voters == 1:
		return no("etcd has one member, so the API is out while its node is; this needs consent")
	case out > 0 && voters == 2:
		return no("etcd has two members, neither of which can be spared; add a third control plane first")
	case out > 0 && healthy < voters:
		return no("only %d of %d members of etcd are healthy; repair the others first", healthy, voters)
	case healthy-out < Quorum(voters):
		return no("%d of %d members of etcd would be left, and quorum is %d", max(healthy-out, 0), voters, Quorum(voters))
	}
	return true, ""
}

// EtcdState is etcd as all of its control planes see it.
type EtcdState struct {
	// Machines are the control planes that Ichor knows, Voters and Learners the
	// members of etcd, Healthy the voters that answer and have no errors.
	Machines, Voters, Learners, Healthy int
	// Leader says that there is one on which all agree.
	Leader bool
	// Alarms are raised alarms, sorted.
	Alarms []string
}

// EtcdAllows says whether one control plane may be taken out for work; the reason
// says why not. Consent is the operator's, to an outage of a cluster that has a
// single control plane.
func EtcdAllows(e EtcdState, consent bool) (bool, string) {
	switch {
	case len(e.Alarms) > 0:
		return false, "etcd has alarms: " + strings.Join(e.Alarms, ", ")
	case e.Voters+e.Learners != e.Machines:
		return false, fmt.Sprintf("etcd has %s for %s", many(e.Voters+e.Learners, "member"), many(e.Machines, "control plane"))
	case !e.Leader:
		return false, "etcd has no leader on which all members agree"
	case consent && e.Voters == 1 && e.Learners == 0 && e.Healthy == 1:
		return true, ""
	}
	return QuorumAllows(e.Voters, e.Healthy, e.Learners, 1)
}

// RemovalAllows says whether a dead member may be removed from etcd: the living
// need quorum among all who vote now. healthy does not count the dead one.
func RemovalAllows(voters, healthy, learners int) (bool, string) {
	switch {
	case learners > 0:
		return false, fmt.Sprintf("etcd has %s, which must be promoted or removed first", many(learners, "learner"))
	case healthy < Quorum(voters):
		return false, fmt.Sprintf("etcd has no quorum: %d of %d members are healthy and %d are needed; only a snapshot can be restored", healthy, voters, Quorum(voters))
	}
	return true, ""
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
