// Package etcdsim models etcd clusters as their members see them: membership,
// learners, leadership, quorum and the refusals that follow from them. It keeps
// no keys; the datastore that really holds them is named by Cluster.Datastore.
package etcdsim

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
)

// Errors carry the texts of etcd's own, because operators search for them.
var (
	// ErrNoLeader says that the cluster is below quorum.
	ErrNoLeader = errors.New("etcdserver: no leader")
	// ErrUnhealthy says that a membership change was refused because some
	// voting member is not connected (strict reconfiguration check).
	ErrUnhealthy = errors.New("etcdserver: unhealthy cluster")
	// ErrTooManyLearners says that another learner is still waiting; etcd
	// allows one by default.
	ErrTooManyLearners = errors.New("etcdserver: too many learner members in cluster")
	// ErrNotEnoughStarted says that a removal would leave the cluster without
	// quorum.
	ErrNotEnoughStarted = errors.New("etcdserver: re-configuration failed due to not enough started members")
	// ErrMemberNotFound says that no member has this id.
	ErrMemberNotFound = errors.New("etcdserver: member not found")
	// ErrStopped says that the asked member itself is not running.
	ErrStopped = errors.New("etcdserver: server stopped")
	// ErrNotLearner says that the member to promote is a voter already.
	ErrNotLearner = errors.New("etcdserver: can only promote a learner member")
	// ErrLearnerNotReady says that a learner has not caught up.
	ErrLearnerNotReady = errors.New("etcdserver: can only promote a learner member which is in sync with leader")
	// ErrOnlyMember says that there is nobody to hand leadership to.
	ErrOnlyMember = errors.New("etcdserver: cluster has only one member")
	// ErrBadSnapshot says that bytes are no snapshot, or a damaged one.
	ErrBadSnapshot = errors.New("snapshot file integrity check failed")
)

// Member is one etcd member.
type Member struct {
	ID      uint64
	Name    string
	PeerURL string
	Learner bool
	// Alive says that the member's process runs and reaches its peers.
	Alive bool
}

// Cluster is one etcd cluster: what one Bootstrap began.
type Cluster struct {
	mu        sync.Mutex
	name      string
	datastore string
	ca        string
	members   []Member
	leader    uint64
	term      uint64
	index     uint64
	nextID    uint64
	observe   func(quorum.Change)
	alarms    map[uint64]string
}

// changed tells the observer; mu is held.
func (c *Cluster) changed(forfeit bool, cause string, args ...any) {
	if c.observe == nil {
		return
	}

	change := quorum.Change{Cluster: c.name, Cause: fmt.Sprintf(cause, args...), Forfeit: forfeit, Leader: c.leader, Members: []quorum.Member{}}
	for _, m := range c.members {
		change.Members = append(change.Members, quorum.Member{ID: m.ID, Name: m.Name, Learner: m.Learner, Alive: m.Alive})
	}

	c.observe(change)
}

// Name is unique per Bootstrap.
func (c *Cluster) Name() string { return c.name }

// Datastore names the keys behind the cluster; it differs from Name only after
// a recovery from a snapshot.
func (c *Cluster) Datastore() string { return c.datastore }

// CA is the fingerprint of the CA that peers must share.
func (c *Cluster) CA() string { return c.ca }

func (c *Cluster) newID() uint64 {
	c.nextID = c.nextID*6364136223846793005 + 1442695040888963407

	return c.nextID
}

// Members returns all members, by id.
func (c *Cluster) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()

	out := slices.Clone(c.members)
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })

	return out
}

// Member returns one member.
func (c *Cluster) Member(id uint64) (Member, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if m := c.find(id); m != nil {
		return *m, true
	}

	return Member{}, false
}

func (c *Cluster) find(id uint64) *Member {
	for i := range c.members {
		if c.members[i].ID == id {
			return &c.members[i]
		}
	}

	return nil
}

func (c *Cluster) voters() (all, alive int) {
	for _, m := range c.members {
		if m.Learner {
			continue
		}

		all++

		if m.Alive {
			alive++
		}
	}

	return all, alive
}

func (c *Cluster) quorum() bool {
	all, alive := c.voters()

	return alive > all/2
}

// HasQuorum says whether a majority of the voting members is alive.
func (c *Cluster) HasQuorum() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.quorum()
}

// elect keeps the leader a living voter while there is quorum.
func (c *Cluster) elect() {
	if m := c.find(c.leader); m != nil && m.Alive && !m.Learner && c.quorum() {
		return
	}

	c.leader = 0

	if !c.quorum() {
		return
	}

	for _, m := range c.members {
		if m.Alive && !m.Learner {
			c.leader = m.ID
			c.term++

			return
		}
	}
}

// SetAlive reports that a member's process started or stopped. It is a no-op
// for a member that is gone.
func (c *Cluster) SetAlive(id uint64, alive bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if m := c.find(id); m != nil && m.Alive != alive {
		m.Alive = alive
		c.elect()

		verb := "stopped"
		if alive {
			verb = "started"
		}

		c.changed(false, "%s %s", m.Name, verb)
	}
}

// Forfeit hands leadership from id to another voter and returns its name; it
// returns "" when id does not lead.
func (c *Cluster) Forfeit(id uint64) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.quorum() {
		return "", ErrNoLeader
	}

	if c.leader != id {
		return "", nil
	}

	if len(c.members) == 1 {
		return "", ErrOnlyMember
	}

	for _, m := range c.members {
		if m.ID != id && m.Alive && !m.Learner {
			c.leader = m.ID
			c.term++
			c.changed(true, "%s leads, the leader gave way", m.Name)

			return m.Name, nil
		}
	}

	return "", ErrUnhealthy
}

// Status is what one member says of itself.
type Status struct {
	Member Member
	Leader uint64
	Term   uint64
	Index  uint64
	// Errors is not empty when the member sees no leader.
	Errors []string
}

// Status answers for a living member, also below quorum.
func (c *Cluster) Status(id uint64) (Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	m := c.find(id)
	if m == nil {
		return Status{}, ErrMemberNotFound
	}

	if !m.Alive {
		return Status{}, ErrStopped
	}

	s := Status{Member: *m, Leader: c.leader, Term: c.term, Index: c.index}
	if c.leader == 0 {
		s.Errors = []string{ErrNoLeader.Error()}
	}

	return s, nil
}

// Snapshot returns the database of a living member with the keys of its
// datastore; without keys a recovery goes on with the datastore itself.
func (c *Cluster) Snapshot(id uint64, keys []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	m := c.find(id)

	switch {
	case m == nil:
		return nil, ErrMemberNotFound
	case !m.Alive:
		return nil, ErrStopped
	}

	return snapshot{Datastore: c.datastore, Index: c.index, keys: keys}.encode()
}
