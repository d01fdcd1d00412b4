package chaos

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
)

// A judge that sees nothing would pass everything: each kind of damage to etcd
// must be told, and nothing else.
func TestChaosUpgradeJudge(t *testing.T) {
	t.Parallel()
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	now := quorum.Sample{Members: 3, Voters: 3, Healthy: 3, Quorum: true, Leader: "a"}
	event := func(n int, what, leader string, healthy int) quorum.Event {
		return quorum.Event{At: at(n), What: what, Sample: quorum.Sample{Members: 3, Voters: 3, Healthy: healthy, Leader: leader}}
	}
	out := func(member string, from, to int, sent bool) quorum.Absence {
		a := quorum.Absence{Member: member, Since: at(from), Sent: sent, Cause: "reboot"}
		if to > 0 {
			a.Until = at(to)
		}
		return a
	}
	for _, tc := range []struct {
		name  string
		talos bool
		c     quorum.Cluster
		want  string // empty: nothing is wrong
	}{
		{name: "nothing happened", c: quorum.Cluster{}},
		{
			name: "one after the other", talos: true,
			c: quorum.Cluster{LeaderChanges: 1, Absences: []quorum.Absence{out("b", 1, 2, true), out("c", 2, 3, true), out("a", 4, 5, true)}},
		},
		{
			name: "quorum lost", talos: true,
			c:    quorum.Cluster{LeastMargin: -1, Losses: []quorum.Loss{{Since: at(1), Cause: "b stopped"}}},
			want: "the quorum was lost",
		},
		{
			name: "quorum lost, by the margin alone", talos: true,
			c:    quorum.Cluster{LeastMargin: -2},
			want: "the quorum was lost by 2",
		},
		{
			name: "two taken out at once", talos: true,
			c:    quorum.Cluster{Absences: []quorum.Absence{out("b", 1, 3, true), out("c", 2, 4, true)}},
			want: "c was taken out while b was out",
		},
		{
			name: "two taken out in one moment", talos: true,
			c:    quorum.Cluster{Absences: []quorum.Absence{out("b", 1, 3, true), out("c", 1, 4, true)}},
			want: "c was taken out while b was out",
		},
		{
			name: "one taken out while another one never came back", talos: true,
			c:    quorum.Cluster{Absences: []quorum.Absence{out("b", 1, 0, true), out("c", 9, 10, true)}},
			want: "c was taken out while b was out",
		},
		{
			name: "one taken out while a trouble keeps another one's voter away", talos: true,
			c: quorum.Cluster{
				Absences: []quorum.Absence{out("b", 1, 0, false), out("c", 2, 3, true)},
				Events:   []quorum.Event{event(1, "b is away", "a", 2), event(2, "c is away", "a", 2)},
			},
			want: "2 of 3 voters were healthy",
		},
		{
			name: "one taken out while a kubelet starts after a trouble", talos: true,
			c: quorum.Cluster{
				Absences: []quorum.Absence{out("b", 1, 0, false), out("c", 2, 3, true)},
				Events:   []quorum.Event{event(1, "b is away", "a", 2), event(2, "c is away", "a", 3)},
			},
		},
		{
			name: "a trouble hits one while another one is out", talos: true,
			c: quorum.Cluster{Absences: []quorum.Absence{out("b", 1, 5, true), out("c", 2, 3, false)}},
		},
		{
			name: "one leader too many, of which one is allowed", talos: true,
			c: quorum.Cluster{LeaderChanges: 2},
		},
		{
			name: "every node led once", talos: true,
			c:    quorum.Cluster{LeaderChanges: 3},
			want: "3 leaders followed each other, 0 of them forced",
		},
		{
			name: "leaders without a reboot",
			c:    quorum.Cluster{LeaderChanges: 2},
			want: "2 leaders followed each other",
		},
		{
			name: "a leader that a trouble took", talos: true,
			c: quorum.Cluster{
				LeaderChanges: 4, Absences: []quorum.Absence{out("a", 1, 3, false)},
				Events: []quorum.Event{event(0, "begun", "a", 3), event(1, "a is away", "a", 3), event(2, "a stopped", "b", 2)},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.c.Name, tc.c.Now = "etcd", now
			err := judgeQuorum(quorum.Report{Clusters: []quorum.Cluster{tc.c}}, tc.talos)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("the judge finds fault: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("the judge says %v, want something about %q", err, tc.want)
			}
		})
	}
	two := quorum.Report{Clusters: []quorum.Cluster{{Name: "etcd", Now: now}, {Name: "twin", Now: now}}}
	if err := judgeQuorum(two, true); err == nil || !strings.Contains(err.Error(), "2 etcd clusters") {
		t.Errorf("two etcd clusters: %v", err)
	}
}

// A report is true only if it tells of what happened.
func TestChaosUpgradeReports(t *testing.T) {
	t.Parallel()
	hang := &trouble{kind: "hang", node: "demo-cp-aaaaa", says: []string{"answer"}}
	budget := &trouble{kind: "budget", says: []string{"budget"}}
	st := &upgradeStorm{ctx: t.Context(), troubles: []*trouble{hang, budget}}
	wants := func(text string, explained bool) {
		t.Helper()
		if err := st.explains(text); (err == nil) != explained {
			t.Errorf("%q: %v", text, err)
		}
	}
	wants("demo-cp-aaaaa does not answer", false) // nothing has happened yet
	hang.began()
	wants("demo-cp-aaaaa does not answer", true)
	wants("demo-cp-bbbbb does not answer", false)
	wants("demo-cp-aaaaa is tired", false)
	wants("pod web: disruption budget", false)
	budget.began()
	wants("pod web: disruption budget", true)
}

// A CI's worth of seeds must not leave out what the suite is about.
func TestChaosUpgradeDraws(t *testing.T) {
	t.Parallel()
	seen, none := map[string]int{}, 0
	const many = 200
	for seed := range uint64(many) {
		dice := rand.New(rand.NewPCG(seed+1, 0)) // reproducible by seed, not secret
		k := &kitchen{
			upgrading: &upgrading{kube: fake.NewClientset()}, dice: dice, talos: (seed+1)%kubernetesEvery != 0,
			planes: []string{"cp-a", "cp-b", "cp-c"}, works: []string{"w-a", "w-b"},
		}
		all := k.draw()
		if len(all) == 0 {
			none++
		}
		for _, x := range all {
			seen[x.kind]++
		}
	}
	t.Logf("%d seeds: %d without trouble, %v", many, none, seen)
	for _, kind := range []string{
		"hang", "old slot", "exit code 1", "exit code 4", "silent installer", "broken stream", "lost answer to reboot", "lost answer to apply",
		"slow boot", "no pulls", "full disk", "alarm", "learner", "budget", "worker off", "control plane off", "deleted by hand",
	} {
		if seen[kind] == 0 {
			t.Errorf("no seed draws %s", kind)
		}
	}
	if none == 0 {
		t.Error("no seed is without trouble")
	}
}
