package etcdsim

import "maps"

// Raise raises an alarm of a member.
func (c *Cluster) Raise(id uint64, alarm string) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.find(id) == nil {
		return
	}

	if c.alarms == nil {
		c.alarms = map[uint64]string{}
	}

	c.alarms[id] = alarm
}

// Alarms returns the raised alarms by member, and with disarm ends them.
func (c *Cluster) Alarms(disarm bool) map[uint64]string {
	c.mu.Lock()
	defer c.mu.Unlock()

	out := c.alarms
	if disarm {
		c.alarms = nil
	} else {
		out = maps.Clone(out)
	}

	return out
}
