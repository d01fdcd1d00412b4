package activities

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// silent makes a node answer nothing.
func (s *scene) silent(t UpgradeTarget) {
	s.nodes[t.Node.Address].err = fault.New(fault.Unavailable, "dial", "refused")
}

func TestWaitEtcdGate(t *testing.T) {
	two := planes[:2]
	for _, tc := range []struct {
		name  string
		set   func(*scene)
		in    EtcdGateInput
		want  fault.Kind
		words []string
	}{
		{name: "all well", in: EtcdGateInput{Nodes: planes}},
		{name: "one leaves", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"}},
		{name: "the leader leaves", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-2"}},
		{name: "a broken one leaves", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"}, set: func(s *scene) { s.silent(planes[0]) }},
		{name: "a stopped one leaves", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"}, set: func(s *scene) { s.nodes["192.0.2.1"].etcd = EtcdHealth{} }},
		{name: "its own errors do not count", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"}, set: func(s *scene) { s.nodes["192.0.2.1"].etcd.Errors = []string{"corrupt"} }},
		{
			name: "unhealthy peer", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"}, set: func(s *scene) { s.silent(planes[2]) },
			want: fault.NotYet, words: []string{"demo-cp-3: dial: refused"},
		},
		{
			name: "peer without etcd", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"}, set: func(s *scene) { s.nodes["192.0.2.3"].etcd = EtcdHealth{} },
			want: fault.NotYet, words: []string{"demo-cp-3: etcd does not run there"},
		},
		{
			name: "peer with errors", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"}, set: func(s *scene) { s.nodes["192.0.2.3"].etcd.Errors = []string{"corrupt"} },
			want: fault.NotYet, words: []string{"errors: demo-cp-3: corrupt"},
		},
		{
			name: "peer that is not ready yet", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"},
			set:  func(s *scene) { s.nodes["192.0.2.3"].facts.Ready = false },
			want: fault.NotYet, words: []string{"demo-cp-3: stage running, not ready"},
		},
		{name: "learner", in: EtcdGateInput{Nodes: planes, Leaving: "demo-cp-1"}, set: func(s *scene) {
			for _, n := range s.nodes {
				if n.etcd.Running {
					n.etcd.Members = append([]EtcdMemberView{}, n.etcd.Members...)
					n.etcd.Members[2].Learner = true
				}
			}
		}, want: fault.NotYet, words: []string{"learners that do not vote yet: demo-cp-3"}},
		{name: "alarm", in: EtcdGateInput{Nodes: planes}, set: func(s *scene) {
			for _, n := range s.nodes {
				n.etcd.Alarms = []string{"NOSPACE on member 1"}
			}
		}, want: fault.NotYet, words: []string{"alarms: NOSPACE on member 1 (demo-cp-1)"}},
		{name: "no leader", in: EtcdGateInput{Nodes: planes}, set: func(s *scene) { s.lead(0) }, want: fault.NotYet, words: []string{"no leader"}},
		{name: "two leaders", in: EtcdGateInput{Nodes: planes}, set: func(s *scene) { s.nodes["192.0.2.1"].etcd.Leader = 1 }, want: fault.NotYet, words: []string{"no leader on which all agree"}},
		{name: "another member", in: EtcdGateInput{Nodes: planes}, set: func(s *scene) {
			for _, n := range s.nodes {
				n.etcd.Members = append([]EtcdMemberView{{ID: 7, Name: "ghost"}}, n.etcd.Members...)
			}
		}, want: fault.NotYet, words: []string{"no control plane of this cluster: ghost"}},
		{name: "no member", in: EtcdGateInput{Nodes: planes}, set: func(s *scene) {
			for _, n := range s.nodes {
				if n.etcd.Running {
					n.etcd.Members = n.etcd.Members[:2]
				}
			}
		}, want: fault.NotYet, words: []string{"no member of etcd: demo-cp-3"}},
		{
			name: "they disagree", in: EtcdGateInput{Nodes: planes}, set: func(s *scene) { s.nodes["192.0.2.3"].etcd.Members = s.nodes["192.0.2.3"].etcd.Members[:2] },
			want: fault.NotYet, words: []string{"demo-cp-3 sees voters demo-cp-1, demo-cp-2"},
		},
		{name: "two members", in: EtcdGateInput{Nodes: two, Leaving: "demo-cp-1"}, want: fault.Unsafe, words: []string{"two members, neither of which can be spared"}},
		{name: "single without consent", in: EtcdGateInput{Nodes: planes[:1], Leaving: "demo-cp-1"}, want: fault.Unsafe, words: []string{"only control plane", "singleControlPlane"}},
		{name: "single with consent", in: EtcdGateInput{Nodes: planes[:1], Leaving: "demo-cp-1", Single: true}, set: func(s *scene) {
			n := s.nodes["192.0.2.1"]
			n.etcd.Members, n.etcd.Leader = n.etcd.Members[:1], 1
		}},
		{name: "wrong credentials", in: EtcdGateInput{Nodes: planes}, set: func(s *scene) {
			s.nodes["192.0.2.2"].err = fault.New(fault.Unauthorized, "dial", "another cluster")
		}, want: fault.Unauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			if tc.set != nil {
				tc.set(s)
			}
			tc.in.Ref = testRef
			out, err := act(t, s.upgrades().WaitEtcdGate, tc.in)
			wantType(t, err, tc.want, tc.words...)
			if tc.want == "" && (len(out.Voters) != len(tc.in.Nodes) || out.Leader == "") {
				t.Errorf("got %+v", out)
			}
		})
	}
}

func TestForfeitLeadership(t *testing.T) {
	for _, tc := range []struct {
		name     string
		leaving  UpgradeTarget
		nodes    []UpgradeTarget
		set      func(*scene)
		want     fault.Kind
		forfeits int
	}{
		{name: "leader", leaving: planes[1], forfeits: 1},
		{name: "another leads", leaving: planes[0]},
		{name: "runs no etcd", leaving: planes[1], set: func(s *scene) { s.nodes["192.0.2.2"].etcd = EtcdHealth{} }},
		{name: "only member", leaving: planes[0], nodes: planes[:1], set: func(s *scene) {
			n := s.nodes["192.0.2.1"]
			n.etcd.Members, n.etcd.Leader = n.etcd.Members[:1], 1
		}},
		{name: "unhealthy peer", leaving: planes[1], set: func(s *scene) { s.silent(planes[2]) }, want: fault.NotYet},
		{name: "silent", leaving: planes[1], set: func(s *scene) { s.silent(planes[1]) }, want: fault.NotYet},
		{name: "answer lost", leaving: planes[1], forfeits: 1, set: func(s *scene) {
			s.hook = func(method, _ string, after bool) error {
				if method == "forfeit" && after {
					return fault.New(fault.Unavailable, "forfeit", "the connection broke")
				}
				return nil
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			if tc.set != nil {
				tc.set(s)
			}
			if tc.nodes == nil {
				tc.nodes = planes
			}
			err := do(t, s.upgrades().ForfeitLeadership, EtcdGateInput{Ref: testRef, Nodes: tc.nodes, Leaving: tc.leaving.Node.Name})
			wantType(t, err, tc.want)
			if got := s.count("forfeit"); got != tc.forfeits {
				t.Errorf("asked %d times, want %d", got, tc.forfeits)
			}
		})
	}
}

func TestSnapshotEtcdIsTakenOnce(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	in := SnapshotInput{NodeWorkInput: workOn(planes[0]), Name: "before"}
	s.hook = func(method, _ string, after bool) error {
		if method == "snapshot" && after && s.count("snapshot") == 1 {
			return fault.New(fault.Unavailable, "snapshot", "the stream broke")
		}
		return nil
	}
	_, err := act(t, u.SnapshotEtcd, in)
	wantType(t, err, fault.Unavailable)
	if len(s.streams) != 0 {
		t.Fatal("half a snapshot is kept")
	}
	first, err := act(t, u.SnapshotEtcd, in)
	wantType(t, err, "")
	in.Target = planes[1]
	again, err := act(t, u.SnapshotEtcd, in)
	wantType(t, err, "")
	if diff := cmp.Diff(first, again); diff != "" || s.count("snapshot") != 2 || first.Bytes == 0 {
		t.Errorf("taken %d times: %s", s.count("snapshot"), diff)
	}
}

func TestRemoveEtcdMember(t *testing.T) {
	in := RemoveEtcdMemberInput{Ref: testRef, Nodes: planes, Name: "demo-cp-1"}
	for _, tc := range []struct {
		name  string
		set   func(*scene)
		want  fault.Kind
		words []string
		calls map[string]int
	}{
		{name: "dead", set: func(s *scene) { s.silent(planes[0]) }, calls: map[string]int{"remove 1 192.0.2.2": 1, "leave": 0}},
		{name: "stopped", set: func(s *scene) { s.nodes["192.0.2.1"].etcd = EtcdHealth{} }, calls: map[string]int{"remove 1 192.0.2.2": 1}},
		{name: "alive", calls: map[string]int{"leave 192.0.2.1": 1, "remove": 0}},
		{name: "gone already", set: func(s *scene) {
			s.silent(planes[0])
			for _, n := range s.nodes {
				if n.etcd.Running {
					n.etcd.Members = n.etcd.Members[1:]
				}
			}
		}, calls: map[string]int{"remove": 0}},
		{name: "answer lost", set: func(s *scene) {
			s.silent(planes[0])
			s.hook = func(method, _ string, after bool) error {
				if strings.HasPrefix(method, "remove") && after {
					return fault.New(fault.Ambiguous, "remove", "lost")
				}
				return nil
			}
		}, calls: map[string]int{"remove": 1}},
		{name: "no quorum", set: func(s *scene) {
			s.silent(planes[0])
			s.silent(planes[1])
		}, want: fault.Unsafe, words: []string{"no quorum: 1 of 3", "ichor restore demo"}, calls: map[string]int{"remove": 0}},
		{name: "all gone", set: func(s *scene) {
			for _, p := range planes {
				s.silent(p)
			}
		}, want: fault.Unsafe, words: []string{"ichor restore demo"}},
		{name: "no leader", set: func(s *scene) {
			s.silent(planes[0])
			s.lead(0)
		}, want: fault.Unsafe, calls: map[string]int{"remove": 0}},
		{name: "quorum comes back", set: func(s *scene) {
			s.silent(planes[0])
			looks := 0
			s.hook = func(_, address string, _ bool) error {
				if address == "192.0.2.2" {
					if looks++; looks < 3 {
						return fault.New(fault.Unavailable, "dial", "restarts")
					}
				}
				return nil
			}
		}, calls: map[string]int{"remove 1": 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			if tc.set != nil {
				tc.set(s)
			}
			u := s.upgrades()
			err := do(t, u.RemoveEtcdMember, in)
			wantType(t, err, tc.want, tc.words...)
			for call, want := range tc.calls {
				if got := s.count(call); got != want {
					t.Errorf("%q was called %d times, want %d: %v", call, got, want, s.calls)
				}
			}
			if tc.want == "" {
				wantType(t, do(t, u.RemoveEtcdMember, in), "")
			}
		})
	}
}

func TestRestoreEtcd(t *testing.T) {
	fresh := UpgradeTarget{Role: cluster.RoleControlPlane, Group: "cp", Node: cluster.NodeAddress{MachineID: "n1", Name: "demo-cp-n1", Address: "192.0.2.50"}}
	setup := func() (*scene, RestoreEtcdInput) {
		s := newScene()
		for _, p := range planes {
			s.silent(p)
		}
		s.nodes["192.0.2.50"] = &fakeNode{name: "demo-cp-n1", address: "192.0.2.50"}
		s.streams["etcd/before"] = canary + " snapshot"
		return s, RestoreEtcdInput{
			NodeWorkInput: workOn(fresh), Replaces: "c1", Peers: planes,
			Snapshot: SnapshotResult{Key: "etcd/before", SHA256: digestOf(s.streams["etcd/before"])},
		}
	}
	t.Run("restores once", func(t *testing.T) {
		s, in := setup()
		lost := true
		s.hook = func(method, _ string, after bool) error {
			if strings.HasPrefix(method, "recover") && after && lost {
				lost = false
				return fault.New(fault.Ambiguous, "recover", "lost")
			}
			return nil
		}
		for range 2 {
			wantType(t, do(t, s.upgrades().RestoreEtcd, in), "")
		}
		if s.count("recover snapshot") != 1 || s.rec.BootstrapMachine != "n1" {
			t.Errorf("bootstrap machine %s after %v", s.rec.BootstrapMachine, s.calls)
		}
	})
	t.Run("another node was recorded", func(t *testing.T) {
		s, in := setup()
		s.rec.BootstrapMachine = "n2"
		wantType(t, do(t, s.upgrades().RestoreEtcd, in), fault.Unsafe, "the record names machine n2")
	})
	t.Run("a peer lives", func(t *testing.T) {
		s, in := setup()
		s.nodes["192.0.2.3"].err = nil
		wantType(t, do(t, s.upgrades().RestoreEtcd, in), fault.Unsafe, "demo-cp-3 runs etcd already")
		if s.count("recover") != 0 {
			t.Error("it was restored over a living cluster")
		}
	})
	t.Run("another snapshot", func(t *testing.T) {
		s, in := setup()
		in.Snapshot.SHA256 = digestOf("other")
		wantType(t, do(t, s.upgrades().RestoreEtcd, in), fault.Invalid)
		if s.nodes["192.0.2.50"].etcd.Running {
			t.Error("etcd was begun from nothing")
		}
	})
	t.Run("two nodes at once", func(t *testing.T) {
		s, in := setup()
		s.nodes["192.0.2.51"] = &fakeNode{name: "demo-cp-n2", address: "192.0.2.51"}
		other := in
		other.Target.Node = cluster.NodeAddress{MachineID: "n2", Name: "demo-cp-n2", Address: "192.0.2.51"}
		errs := make([]error, 2)
		var both sync.WaitGroup
		for i, in := range []RestoreEtcdInput{in, other} {
			both.Go(func() { errs[i] = do(t, s.upgrades().RestoreEtcd, in) })
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || s.count("recover") != 1 {
			t.Errorf("one must win: %v and %v; %v", errs[0], errs[1], s.calls)
		}
	})
}
