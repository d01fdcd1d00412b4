package etcdsim

import (
	"fmt"
	"slices"
)

// AddLearner adds a member that does not vote yet. A member of the same name is
// replaced, as Talos does for a machine that comes back with an empty disk.
func (c *Cluster) AddLearner(name, peerURL string) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !c.quorum() {
		return 0, ErrNoLeader
	}

	for _, m := range c.members {
		if m.Name == name {
			if err := c.remove(m.ID); err != nil {
				return 0, fmt.Errorf("removing stale member %q: %w", name, err)
			}

			break
		}
	}

	for _, m := range c.members {
		switch {
		case m.Learner:
			return 0, ErrTooManyLearners
		case !m.Alive:
			return 0, ErrUnhealthy
		}
	}

	id := c.newID()
	c.members = append(c.members, Member{ID: id, Name: name, PeerURL: peerURL, Learner: true, Alive: true})
	c.index++
	c.changed(false, "%s added as a learner", name)

	return id, nil
}

// Promote makes a learner a voter.
func (c *Cluster) Promote(id uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	m := c.find(id)

	switch {
	case m == nil:
		return ErrMemberNotFound
	case !m.Learner:
		return ErrNotLearner
	case !c.quorum():
		return ErrNoLeader
	case !m.Alive:
		return ErrLearnerNotReady
	}

	m.Learner = false
	c.index++
	c.changed(false, "%s promoted", m.Name)

	return nil
}

// Remove takes a member out. It refuses what would lose quorum.
func (c *Cluster) Remove(id uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.remove(id)
}

func (c *Cluster) remove(id uint64) error {
	m := c.find(id)
	if m == nil {
		return ErrMemberNotFound
	}

	if !c.quorum() {
		return ErrNoLeader
	}

	if !m.Learner {
		all, alive := c.voters()

		all--
		if m.Alive {
			alive--
		}

		if alive < all/2+1 {
			return ErrNotEnoughStarted
		}
	}

	name := m.Name
	c.members = slices.DeleteFunc(c.members, func(m Member) bool { return m.ID == id })
	delete(c.alarms, id)
	c.index++
	c.elect()
	c.changed(false, "%s removed", name)

	return nil
}

// Destroy takes a member out whose disk is gone together with the whole
// cluster; it is allowed only for the last one.
func (c *Cluster) Destroy(id uint64) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if len(c.members) == 1 && c.members[0].ID == id {
		c.members = nil
		c.leader = 0
		c.changed(false, "the last member was destroyed")

		return true
	}

	return false
}
