package snapshot

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

// lists are the machines that the clouds told of. Nothing ever waits for a cloud
// that has not answered by then.
type lists struct {
	s  *Source
	mu sync.Mutex
	// accounts by provider and credentials.
	accounts map[string]*account
}

type account struct {
	label    string
	asked    time.Time
	running  chan struct{} // closed at the end of the list under way; nil if none
	listed   time.Time
	machines []cloud.Machine
}

// listPatience bounds a list, so that one that hangs is asked again some day.
const listPatience = 2 * time.Minute

func newLists(s *Source) *lists { return &lists{s: s, accounts: map[string]*account{}} }

// ages tells when each account was last listed.
func (l *lists) ages() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]time.Time, len(l.accounts))
	for _, a := range l.accounts {
		out[a.label] = a.listed
	}
	return out
}

// start asks the accounts of groups whose last list is older than the given time
// and returns what is closed at the end of each list that this call began.
func (l *lists) start(views []*view, older time.Duration) []chan struct{} {
	if l.s.cfg.Cloud == nil {
		return nil
	}
	type ask struct {
		cloud cluster.Cloud
		refs  []cluster.Ref
	}
	asks := map[string]*ask{}
	for _, v := range views {
		k := accountOf(v)
		if asks[k] == nil {
			asks[k] = &ask{cloud: v.facts.Cloud}
		}
		if !slices.Contains(asks[k].refs, v.facts.Cluster) {
			asks[k].refs = append(asks[k].refs, v.facts.Cluster)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var begun []chan struct{}
	now := l.s.cfg.now()
	for _, k := range slices.Sorted(maps.Keys(asks)) {
		q := asks[k]
		a := l.accounts[k]
		if a == nil {
			a = &account{label: strings.TrimSpace(q.cloud.Provider + " " + q.cloud.Zone)}
			l.accounts[k] = a
		}
		if a.running != nil || !a.asked.IsZero() && now.Sub(a.asked) < older {
			continue
		}
		done := make(chan struct{})
		a.running, a.asked = done, now
		begun = append(begun, done)
		l.s.background(func(ctx context.Context) { l.list(ctx, a, q.cloud, q.refs, done) })
	}
	return begun
}

func accountOf(v *view) string { return v.facts.Cloud.Provider + " " + v.facts.Cloud.Credentials }

func (l *lists) list(ctx context.Context, a *account, c cluster.Cloud, refs []cluster.Ref, done chan struct{}) {
	ctx, stop := context.WithTimeout(ctx, listPatience)
	defer stop()
	l.s.count.lists.Add(1)
	machines, err := l.s.cfg.Cloud(ctx, c, refs)
	l.mu.Lock()
	if a.running = nil; err == nil {
		a.listed, a.machines = l.s.cfg.now(), machines
	}
	l.mu.Unlock()
	close(done)
	if err != nil {
		l.s.count.listsFailed.Add(1)
		l.s.cfg.Log.Warn("the cloud's list of machines failed; the last one stays in use", "account", a.label, "error", err)
		return
	}
	l.s.nameShown()
}

// of returns the machines of a group as last listed; nil if there is no list.
func (l *lists) of(v *view) []cloud.Machine {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[accountOf(v)]
	if a == nil || a.listed.IsZero() {
		return nil
	}
	out := []cloud.Machine{}
	for _, m := range a.machines {
		if m.Ref.Owner.Group == v.facts.Group && m.Ref.Owner.Cluster.UID == v.facts.Cluster.UID {
			out = append(out, m)
		}
	}
	return out
}

// name lets a refresh wait for lists if there are members that only they can
// name, and names them.
func (l *lists) name(ctx context.Context, begun []chan struct{}, readings []*reading) {
	ctx, stop := context.WithTimeout(ctx, l.s.cfg.ListBudget)
	defer stop()
	for _, r := range readings {
		if !r.unnamed() {
			continue
		}
		for _, done := range begun {
			select {
			case <-done:
			case <-ctx.Done():
			}
		}
		if machines := l.of(r.view); machines != nil {
			r.compose(machines)
		}
	}
}

// nameShown names members of what is shown already, after a list has come late.
func (s *Source) nameShown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed []*entry
	for _, e := range s.entries {
		if e.base == nil || !e.base.unnamed() {
			continue
		}
		r := *e.base
		if machines := s.lists.of(r.view); machines != nil {
			r.compose(machines)
			if s.take(e, &r) {
				changed = append(changed, e)
			}
		}
	}
	if len(changed) > 0 {
		s.publish(changed, nil)
	}
}
