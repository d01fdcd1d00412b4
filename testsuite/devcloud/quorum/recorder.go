package quorum

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// keepEvents bounds the events of a cluster in memory.
const keepEvents = 1000

// Member is an etcd member as a recorder is told of it.
type Member struct {
	ID      uint64
	Name    string
	Learner bool
	Alive   bool
}

// Change is an etcd cluster after a change.
type Change struct {
	Cluster string
	Cause   string
	// Forfeit says that the leader changed because somebody asked.
	Forfeit bool
	Members []Member
	Leader  uint64
}

// Recorder keeps the record. Its methods never call out, so they may be called
// under any lock.
type Recorder struct {
	mu       sync.Mutex
	now      func() time.Time
	clusters []*record
}

// record is a Cluster being kept.
type record struct {
	Cluster
	members []Member
	// leader is the last one, also while there is none.
	leader uint64
	away   map[uint64]int // index into Absences
}

// NewRecorder makes an empty record.
func NewRecorder() *Recorder { return &Recorder{now: time.Now} }

func (r *Recorder) find(name string) *record {
	for _, c := range r.clusters {
		if c.Name == name {
			return c
		}
	}

	c := &record{Cluster: Cluster{Name: name}, away: map[uint64]int{}}
	r.clusters = append(r.clusters, c)

	return c
}

// Observe records an etcd cluster after a change.
func (r *Recorder) Observe(change Change) {
	r.mu.Lock()
	defer r.mu.Unlock()

	c, first := r.find(change.Cluster), false
	if c.members == nil {
		first = true
	}

	c.members = slices.Clone(change.Members)
	now := r.now()

	for id, at := range c.away {
		if !slices.ContainsFunc(c.members, func(m Member) bool { return m.ID == id }) {
			c.Absences[at].Until = now
			delete(c.away, id)
		}
	}

	if change.Leader != 0 {
		if c.leader != 0 && c.leader != change.Leader {
			c.LeaderChanges++

			if change.Forfeit {
				c.Forfeited++
			}
		}

		c.leader = change.Leader
	}

	c.note(now, change.Cause, change.Leader)

	if first {
		c.LeastMargin = c.Now.margin()
	}
}

// note records the state after something happened.
func (c *record) note(now time.Time, what string, leader uint64) {
	s := Sample{Members: len(c.members), Away: []string{}}

	for _, m := range c.members {
		if m.ID == leader {
			s.Leader = m.Name
		}

		if _, away := c.away[m.ID]; away {
			s.Away = append(s.Away, m.Name)
		}

		if m.Learner {
			continue
		}

		s.Voters++

		if m.Alive {
			s.Healthy++
		}
	}

	s.Quorum = s.margin() >= 0
	c.MostAway = max(c.MostAway, len(s.Away))

	// Without any member there is no cluster that could lose anything.
	if s.Members > 0 {
		c.LeastMargin = min(c.LeastMargin, s.margin())
	}

	last := len(c.Losses) - 1

	switch open := last >= 0 && c.Losses[last].Until.IsZero(); {
	case !open && !s.Quorum && s.Members > 0:
		c.Losses = append(c.Losses, Loss{Since: now, Cause: what})
	case open && (s.Quorum || s.Members == 0):
		c.Losses[last].Until = now
	}

	c.Now = s
	c.Events = append(c.Events, Event{At: now, What: what, Sample: s})

	if over := len(c.Events) - keepEvents; over > 0 {
		c.Events = slices.Delete(c.Events, 0, over)
	}
}

// leaderID is the leader of the current state.
func (c *record) leaderID() uint64 {
	for _, m := range c.members {
		if m.Name == c.Now.Leader && c.Now.Leader != "" {
			return m.ID
		}
	}

	return 0
}

// Away records that a member's machine goes away; sent says that the machine
// API was asked for it. A machine that is away already stays so.
func (r *Recorder) Away(cluster string, id uint64, cause string, sent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	c := r.find(cluster)
	if _, already := c.away[id]; already {
		return
	}

	at := slices.IndexFunc(c.members, func(m Member) bool { return m.ID == id })
	if at < 0 {
		return
	}

	if sent && len(c.away) > 0 {
		c.SentWhileAway++
	}

	name, now := c.members[at].Name, r.now()
	c.Absences = append(c.Absences, Absence{Member: name, Since: now, Cause: cause, Sent: sent})
	c.away[id] = len(c.Absences) - 1
	c.note(now, fmt.Sprintf("%s is away: %s", name, cause), c.leaderID())
}

// Back records that a member's machine is running and ready.
func (r *Recorder) Back(cluster string, id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()

	c := r.find(cluster)

	at, away := c.away[id]
	if !away {
		return
	}

	now := r.now()
	c.Absences[at].Until = now
	delete(c.away, id)
	c.note(now, c.Absences[at].Member+" is back", c.leaderID())
}

// Report returns a copy of the record.
func (r *Recorder) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()

	out := Report{Clusters: []Cluster{}}

	for _, c := range r.clusters {
		copied := c.Cluster
		copied.Losses = append([]Loss{}, c.Losses...)
		copied.Absences = append([]Absence{}, c.Absences...)
		copied.Events = append([]Event{}, c.Events...)
		out.Clusters = append(out.Clusters, copied)
	}

	return out
}

// Reset begins anew with the clusters as they are: what is lost or away now
// counts from now on.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.clusters = slices.DeleteFunc(r.clusters, func(c *record) bool { return len(c.members) == 0 })

	now := r.now()

	for _, c := range r.clusters {
		fresh := Cluster{Name: c.Name, LeastMargin: c.Now.margin()}

		for _, id := range slices.Sorted(maps.Keys(c.away)) {
			absence := c.Absences[c.away[id]]
			absence.Since = now
			fresh.Absences = append(fresh.Absences, absence)
			c.away[id] = len(fresh.Absences) - 1
		}

		leader := c.leaderID()
		c.Cluster = fresh
		c.note(now, "reset", leader)
	}
}
