package snapshot

import (
	"sync/atomic"
	"time"
)

type counters struct {
	queries, unanswered, unchanged, recalls, discarded, failed, undiscovered, cancelled, lists, listsFailed atomic.Int64
}

// Numbers are the state of the snapshot for metrics. Counters grow from the start
// of the process.
type Numbers struct {
	// Refreshed is when the last successful Refresh began; Listed is by account.
	Refreshed time.Time
	Listed    map[string]time.Time
	Groups    int
	Instances int
	// Unconfirmed requests are durable or on their way, and in no reading yet;
	// Owed are cancellations that are not durable yet.
	Unconfirmed, Owed int
	// Unnamed members are shown without knowing which machines they are.
	Unnamed int
	// Discovered is when Temporal was last asked for all groups and answered.
	Discovered time.Time
	// Unread groups are shown as they were last read, LeftOut ones were never read
	// and are not shown.
	Unread, LeftOut int
	// Silent groups are read without their entity: no worker answers for them.
	Silent int

	Queries, QueriesUnanswered int64
	// QueriesSkipped counts groups that had not changed since their last reading.
	QueriesSkipped int64
	// Recalls counts readings from memo and history, Discarded readings that came
	// too late, RefreshesFailed refreshes that could not read the state.
	Recalls, Discarded, RefreshesFailed int64
	// Undiscovered counts refreshes that were not told of new groups in time.
	Undiscovered int64
	// Cancelled counts requests of unknown fate whose cancellation is durable.
	Cancelled int64
	// Lists and ListsFailed count the clouds' lists.
	Lists, ListsFailed int64
}

// Numbers reads the numbers of this moment.
func (s *Source) Numbers() Numbers {
	shown := s.shown.Load()
	n := Numbers{
		Refreshed: shown.stats.Refreshed, Listed: s.lists.ages(), Groups: len(shown.groups),
		Queries: s.count.queries.Load(), QueriesUnanswered: s.count.unanswered.Load(), QueriesSkipped: s.count.unchanged.Load(),
		Recalls: s.count.recalls.Load(), Discarded: s.count.discarded.Load(), RefreshesFailed: s.count.failed.Load(),
		Undiscovered: s.count.undiscovered.Load(), Cancelled: s.count.cancelled.Load(), Lists: s.count.lists.Load(), ListsFailed: s.count.listsFailed.Load(),
	}
	for _, g := range shown.groups {
		n.Instances += len(g.Instances)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.Discovered = s.discovered
	for _, e := range s.entries {
		switch {
		case e.unread != nil && e.base != nil:
			n.Unread++
		case e.unread != nil:
			n.LeftOut++
		}
		n.Unconfirmed += len(e.pending)
		n.Owed += len(e.owed)
		if e.base != nil && !e.base.asked {
			n.Silent++
			for _, m := range e.base.view.members {
				if anonymous(m) {
					n.Unnamed++
				}
			}
		}
	}
	return n
}
