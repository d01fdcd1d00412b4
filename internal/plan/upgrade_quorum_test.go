package plan

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQuorumAllows(t *testing.T) {
	for _, c := range []struct {
		voters, healthy, learners, out int
		why                            string // empty: allowed
	}{
		{3, 3, 0, 1, ""},
		{5, 5, 0, 1, ""},
		{5, 5, 0, 2, ""},
		{4, 4, 0, 1, ""},
		{3, 3, 0, 2, "1 of 3 members of etcd would be left, and quorum is 2"},
		{5, 5, 0, 3, "quorum is 3"},
		{4, 4, 0, 2, "quorum is 3"},
		{3, 2, 0, 1, "only 2 of 3 members of etcd are healthy"},
		{5, 4, 0, 1, "only 4 of 5 members of etcd are healthy"},
		{3, 3, 1, 1, "1 learner, which must be promoted"},
		{2, 2, 0, 1, "two members"},
		{1, 1, 0, 1, "needs consent"},
		{0, 0, 0, 1, "no voters"},
		// A member that is out already takes nobody else out.
		{3, 2, 0, 0, ""},
		{2, 2, 0, 0, ""},
		{3, 1, 0, 0, "1 of 3 members of etcd would be left"},
		{2, 1, 0, 0, "quorum is 2"},
	} {
		ok, why := QuorumAllows(c.voters, c.healthy, c.learners, c.out)
		if ok != (c.why == "") || !strings.Contains(why, c.why) || ok && why != "" {
			t.Errorf("%+v: %v, %q", c, ok, why)
		}
	}
}

// What is allowed leaves a majority, and what is not has a reason.
func TestQuorumAllowsLeavesMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		voters := rapid.IntRange(0, 9).Draw(t, "voters")
		healthy := rapid.IntRange(0, voters).Draw(t, "healthy")
		learners := rapid.IntRange(0, 1).Draw(t, "learners")
		out := rapid.IntRange(0, 3).Draw(t, "out")
		ok, why := QuorumAllows(voters, healthy, learners, out)
		if ok && 2*(healthy-out) <= voters {
			t.Fatal("no majority is left")
		}
		if ok != (why == "") {
			t.Fatalf("%v, %q", ok, why)
		}
		if removal, _ := RemovalAllows(voters, healthy, learners); removal && 2*healthy <= voters {
			t.Fatal("a member is removed without a majority")
		}
	})
}

func TestEtcdAllows(t *testing.T) {
	good := EtcdState{Machines: 3, Voters: 3, Healthy: 3, Leader: true}
	single := EtcdState{Machines: 1, Voters: 1, Healthy: 1, Leader: true}
	change := func(e EtcdState, f func(*EtcdState)) EtcdState { f(&e); return e }
	for _, c := range []struct {
		name    string
		state   EtcdState
		consent bool
		why     string
	}{
		{"three", good, false, ""},
		{"an alarm", change(good, func(e *EtcdState) { e.Alarms = []string{"NOSPACE"} }), true, "NOSPACE"},
		{"a machine without a member", change(good, func(e *EtcdState) { e.Machines = 4 }), true, "3 members for 4 control planes"},
		{"a member without a machine", change(good, func(e *EtcdState) { e.Machines = 2 }), true, "3 members for 2 control planes"},
		{"a learner", change(good, func(e *EtcdState) { e.Voters, e.Learners, e.Healthy = 2, 1, 2 }), true, "1 learner"},
		{"a learner beside a single voter", EtcdState{Machines: 2, Voters: 1, Learners: 1, Healthy: 1, Leader: true}, true, "1 learner"},
		{"no leader", change(good, func(e *EtcdState) { e.Leader = false }), true, "no leader"},
		{"an unhealthy peer", change(good, func(e *EtcdState) { e.Healthy = 2 }), true, "only 2 of 3"},
		{"two", EtcdState{Machines: 2, Voters: 2, Healthy: 2, Leader: true}, true, "two members"},
		{"one without consent", single, false, "needs consent"},
		{"one with consent", single, true, ""},
		{"a broken one with consent", change(single, func(e *EtcdState) { e.Healthy = 0 }), true, "needs consent"},
	} {
		ok, why := EtcdAllows(c.state, c.consent)
		if ok != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %v, %q", c.name, ok, why)
		}
	}
}

func TestRemovalAllows(t *testing.T) {
	for _, c := range []struct {
		voters, healthy, learners int
		why                       string
	}{
		{3, 2, 0, ""},
		{5, 3, 0, ""},
		{4, 3, 0, ""},
		{3, 1, 0, "no quorum: 1 of 3 members are healthy and 2 are needed"},
		{2, 1, 0, "no quorum"},
		{4, 2, 0, "no quorum"},
		{1, 0, 0, "no quorum"},
		{3, 2, 1, "1 learner"},
	} {
		ok, why := RemovalAllows(c.voters, c.healthy, c.learners)
		if ok != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%+v: %v, %q", c, ok, why)
		}
	}
}
