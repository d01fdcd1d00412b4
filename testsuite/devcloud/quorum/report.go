// Package quorum records what happens to the etcd clusters of an emulated cloud
// while something is done to their machines: members and voters, quorum, leaders,
// and which machines are away. It is told of each change as it happens; nothing
// is sampled, so nothing can be missed.
package quorum

import "time"

// Report is everything since the recorder was made or reset.
type Report struct {
	// Clusters are all etcd clusters with a member, oldest first, and those
	// that lost their last one since.
	Clusters []Cluster `json:"clusters"`
}

// Cluster is the record of one etcd cluster: what one Bootstrap began.
type Cluster struct {
	Name string `json:"name"`
	// Now is how it is.
	Now Sample `json:"now"`
	// LeastMargin is the least number of healthy voters above the quorum that
	// the cluster ever had; negative when the quorum was lost.
	LeastMargin int `json:"leastMargin"`
	// Losses are the times without quorum.
	Losses []Loss `json:"losses"`
	// LeaderChanges counts new leaders after the first one, Forfeited those of
	// them that somebody asked for.
	LeaderChanges int `json:"leaderChanges"`
	Forfeited     int `json:"forfeited"`
	// Absences are the times that members' machines were away, oldest first.
	Absences []Absence `json:"absences"`
	// MostAway is the greatest number of machines that were away at once.
	MostAway int `json:"mostAway"`
	// SentWhileAway counts machines that the machine API was told to take away
	// while another one of the cluster was away.
	SentWhileAway int `json:"sentWhileAway"`
	// Events are the last changes, oldest first.
	Events []Event `json:"events"`
}

// Sample is an etcd cluster at one moment.
type Sample struct {
	Members int `json:"members"`
	Voters  int `json:"voters"`
	// Healthy are the voters whose process runs.
	Healthy int    `json:"healthy"`
	Quorum  bool   `json:"quorum"`
	Leader  string `json:"leader"` // name; empty without one
	// Away are the members whose machines are away, by name.
	Away []string `json:"away"`
}

// margin is how many healthy voters the cluster could lose.
func (s Sample) margin() int { return s.Healthy - (s.Voters/2 + 1) }

// Loss is a time without quorum.
type Loss struct {
	Since time.Time `json:"since"`
	// Until is zero while it lasts.
	Until time.Time `json:"until,omitzero"`
	Cause string    `json:"cause"`
}

// Absence is a time that a control plane machine was away: from the start of
// its shutdown, or the loss of its power, until it is running and ready again or
// no longer a member.
type Absence struct {
	Member string    `json:"member"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`
	// Cause is the sequence ("reboot", "upgrade", "reset", "shutdown"), "power
	// off" or "destroyed".
	Cause string `json:"cause"`
	// Sent says that the machine API was asked for it.
	Sent bool `json:"sent"`
}

// Event is one change.
type Event struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
	Sample
}

// Intact says whether the quorum was never lost, no two machines were away at
// once, and no leader changed but as somebody asked.
func (c Cluster) Intact() bool {
	return len(c.Losses) == 0 && c.MostAway <= 1 && c.LeaderChanges == c.Forfeited
}
