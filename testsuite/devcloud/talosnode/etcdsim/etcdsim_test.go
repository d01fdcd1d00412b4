package etcdsim

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func grow(t *testing.T, size int) (*Registry, *Cluster, []uint64) {
	t.Helper()

	r := &Registry{}

	c, first, err := r.Bootstrap("ca", "cp-0", "https://10.0.0.1:2380", nil)
	if err != nil {
		t.Fatal(err)
	}

	ids := []uint64{first}

	for i := 1; i < size; i++ {
		id, err := c.AddLearner(string(rune('a'+i)), "https://10.0.0.9:2380")
		if err != nil {
			t.Fatal(err)
		}

		if err := c.Promote(id); err != nil {
			t.Fatal(err)
		}

		ids = append(ids, id)
	}

	return r, c, ids
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name string
		size int
		do   func(c *Cluster, ids []uint64) error
		want error
	}{
		{"last member stays", 1, func(c *Cluster, ids []uint64) error { return c.Remove(ids[0]) }, ErrNotEnoughStarted},
		{"two to one", 2, func(c *Cluster, ids []uint64) error { return c.Remove(ids[1]) }, nil},
		{"removed twice", 3, func(c *Cluster, ids []uint64) error {
			return errors.Join(c.Remove(ids[1]), c.Remove(ids[1]))
		}, ErrMemberNotFound},
		{"below quorum", 2, func(c *Cluster, ids []uint64) error {
			c.SetAlive(ids[1], false)

			return c.Remove(ids[1])
		}, ErrNoLeader},
		{"dead member of three", 3, func(c *Cluster, ids []uint64) error {
			c.SetAlive(ids[1], false)

			return c.Remove(ids[1])
		}, nil},
		{"living member while one is dead", 3, func(c *Cluster, ids []uint64) error {
			c.SetAlive(ids[1], false)

			return c.Remove(ids[2])
		}, ErrNotEnoughStarted},
		{"join while one is dead", 3, func(c *Cluster, ids []uint64) error {
			c.SetAlive(ids[1], false)
			_, err := c.AddLearner("new", "")

			return err
		}, ErrUnhealthy},
		{"second learner", 1, func(c *Cluster, _ []uint64) error {
			if _, err := c.AddLearner("x", ""); err != nil {
				return err
			}
			_, err := c.AddLearner("y", "")

			return err
		}, ErrTooManyLearners},
		{"forfeit alone", 1, func(c *Cluster, ids []uint64) error {
			_, err := c.Forfeit(ids[0])

			return err
		}, ErrOnlyMember},
	}

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, c, ids := grow(t, tt.size)
			if err := tt.do(c, ids); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestSecondBootstrapIsASecondCluster(t *testing.T) {
	r, first, _ := grow(t, 1)

	second, _, err := r.Bootstrap("ca", "cp-1", "", nil)
	if err != nil {
		t.Fatal(err)
	}

	if first.Name() == second.Name() || first.Datastore() == second.Datastore() || len(r.Clusters()) != 2 {
		t.Fatalf("one cluster: %s, %s", first.Name(), second.Name())
	}
}

func TestRecoveryKeepsTheDatastore(t *testing.T) {
	r, c, ids := grow(t, 1)

	data, err := c.Snapshot(ids[0], nil)
	if err != nil {
		t.Fatal(err)
	}

	again, _, err := r.Bootstrap("ca", "cp-1", "", &Recovery{Snapshot: data})
	if err != nil {
		t.Fatal(err)
	}

	if again.Datastore() != c.Datastore() || again.Name() == c.Name() {
		t.Fatalf("recovered %s on %s", again.Name(), again.Datastore())
	}

	for name, bad := range map[string][]byte{"junk": []byte("junk"), "empty": {}, "truncated": data[:len(data)-1], "no hash": data[:len(data)-32]} {
		if _, _, err := r.Bootstrap("ca", "cp-1", "", &Recovery{Snapshot: bad}); !errors.Is(err, ErrBadSnapshot) {
			t.Errorf("%s: got %v", name, err)
		}
	}

	if _, _, err := r.Bootstrap("ca", "cp-1", "", &Recovery{Snapshot: data[:len(data)-32], SkipHashCheck: true}); err != nil {
		t.Errorf("copy of a database: %v", err)
	}
}

func TestReplacedNameLeavesOneMember(t *testing.T) {
	_, c, _ := grow(t, 3)

	if _, err := c.AddLearner("b", ""); err != nil {
		t.Fatal(err)
	}

	seen := 0

	for _, m := range c.Members() {
		if m.Name == "b" {
			seen++
		}
	}

	if seen != 1 || len(c.Members()) != 3 {
		t.Fatalf("members: %+v", c.Members())
	}
}

// A leader exists exactly when there is quorum, and it is a living voter,
// whatever happened before.
func TestLeaderInvariant(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &Registry{}

		c, _, err := r.Bootstrap("ca", "n0", "", nil)
		if err != nil {
			rt.Fatal(err)
		}

		for i := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			members := c.Members()
			m := members[rapid.IntRange(0, len(members)-1).Draw(rt, "member")]

			switch rapid.IntRange(0, 4).Draw(rt, "op") {
			case 0:
				_, err = c.AddLearner(string(rune('A'+i)), "")
			case 1:
				err = c.Promote(m.ID)
			case 2:
				err = c.Remove(m.ID)
			case 3:
				c.SetAlive(m.ID, !m.Alive)
			case 4:
				_, err = c.Forfeit(m.ID)
			}

			quorumLost := !c.HasQuorum()
			if errors.Is(err, ErrNoLeader) && !quorumLost {
				rt.Fatalf("no leader with quorum")
			}

			err = nil

			if len(c.Members()) == 0 {
				rt.Fatal("the last member was removed")
			}

			for _, m := range c.Members() {
				s, serr := c.Status(m.ID)
				if !m.Alive {
					if !errors.Is(serr, ErrStopped) {
						rt.Fatalf("dead member answered: %v", serr)
					}

					continue
				}

				if (s.Leader == 0) != quorumLost {
					rt.Fatalf("leader %x, quorum lost %v", s.Leader, quorumLost)
				}

				if lead, ok := c.Member(s.Leader); s.Leader != 0 && (!ok || !lead.Alive || lead.Learner) {
					rt.Fatalf("leader is %+v", lead)
				}
			}
		}
	})
}
