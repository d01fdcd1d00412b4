package snapshot

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// CloudList lists all machines that one account has of the clusters, or fails. It
// may hang: nobody waits for it.
type CloudList func(ctx context.Context, account cluster.Cloud, clusters []cluster.Ref) ([]cloud.Machine, error)

// Config says where groups come from. Zero durations mean the defaults.
type Config struct {
	Temporal client.Client
	// Namespace of Temporal; client.DefaultNamespace if empty.
	Namespace string
	// Converter is the client's; the SDK's own if nil.
	Converter converter.DataConverter
	// Identity is what Temporal shows as the sender of signals.
	Identity string
	// Cluster restricts the groups to those of one cluster; empty for all.
	Cluster string
	// Cloud may be nil: then members are named by their entities only.
	Cloud CloudList
	Log   *slog.Logger

	// QueryBudget is how long a Refresh waits for the answers of entities, all
	// at once; 200 ms, which is ten times what a query takes at worst.
	QueryBudget time.Duration
	// RefreshBudget bounds a Refresh; 4 s, below the autoscaler's own 5 s.
	RefreshBudget time.Duration
	// SignalBudget bounds a request; 3 s.
	SignalBudget time.Duration
	// Requery is the time between two questions to an entity that does not
	// answer and does not change; 10 s, the autoscaler's scan interval.
	Requery time.Duration
	// ListBudget is how long a Refresh waits for the cloud's list if that is
	// needed to name members; 200 ms.
	ListBudget time.Duration
	// ListEvery is the least time between two lists of one account; 30 s.
	ListEvery time.Duration
	// ReadBudget is how long a Refresh waits for the last groups when most are read;
	// 2 s. What takes longer is read in the background.
	ReadBudget time.Duration
	// DiscoverBudget is how long a Refresh that knows groups waits for the index
	// that may name further ones; 200 ms, ten times what it takes.
	DiscoverBudget time.Duration
	// WholeUntil is until when the first Refresh leaves out no group: if it cannot
	// read one, it fails.
	WholeUntil time.Time
	// Concurrency bounds the calls to Temporal that are under way; 32.
	Concurrency int

	// now and newID are replaced by tests of the logic.
	now   func() time.Time
	newID func() string
}

func (c *Config) defaults() {
	c.Namespace = cmp.Or(c.Namespace, client.DefaultNamespace)
	if c.Converter == nil {
		c.Converter = converter.GetDefaultDataConverter()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.QueryBudget = cmp.Or(c.QueryBudget, 200*time.Millisecond)
	c.RefreshBudget = cmp.Or(c.RefreshBudget, 4*time.Second)
	c.SignalBudget = cmp.Or(c.SignalBudget, 3*time.Second)
	c.Requery = cmp.Or(c.Requery, 10*time.Second)
	c.ListBudget = cmp.Or(c.ListBudget, 200*time.Millisecond)
	c.ListEvery = cmp.Or(c.ListEvery, 30*time.Second)
	c.ReadBudget = cmp.Or(c.ReadBudget, 2*time.Second)
	c.DiscoverBudget = cmp.Or(c.DiscoverBudget, 200*time.Millisecond)
	c.Concurrency = cmp.Or(c.Concurrency, 32)
	if c.now == nil {
		c.now = time.Now
	}
	if c.newID == nil {
		c.newID = uuid.NewString
	}
}

// Source implements provider.Source.
type Source struct {
	cfg  Config
	back backend
	// ctx ends with Close; what runs in the background ends with it.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	// refreshing is held by the one Refresh that runs; neither reads nor
	// requests ask for it.
	refreshing chan struct{}
	// askers bounds the questions in the background.
	askers chan struct{}

	shown atomic.Pointer[snapshot]
	lists *lists
	count counters

	mu      sync.Mutex // held for work in memory only
	entries map[string]*entry
	// clock orders readings and requests.
	clock     uint64
	refreshed time.Time
	// discovery is the question for groups that is under way, discovered when one
	// was last answered.
	// indexed are the groups of its answer that were not looked at yet.
	discovery  *discovery
	discovered time.Time
	indexed    []string
	// paying says that owed cancellations are being sent in the background.
	paying bool

	life   sync.Mutex // between background and Close
	closed bool
}

var _ provider.Source = (*Source)(nil)

// entry is one group: its last reading and what is not in it yet.
type entry struct {
	id   string // of the workflow
	base *reading
	// pending are requests that no reading contains yet, oldest first. all is
	// the reading with every one of them, acked with those that are durable.
	pending    []*request
	all, acked *view
	// left are machines that have left the group while this process watched, or
	// that its entity told of, oldest first.
	left []workflows.GoneInstance
	// owed are requests whose cancellation must be durable before the group is
	// read again. Readings that began before notBefore may show them.
	owed      map[string]bool
	notBefore uint64
	// cancelled are requests that this process has cancelled.
	cancelled map[string]bool
	// silent says that the entity did not answer when it was last asked, at
	// asked; asking that it is being asked in the background.
	silent, asking bool
	asked          time.Time
	// unread is why the group could not be read since unreadSince, nil if it
	// could.
	unread      error
	unreadSince time.Time

	// shown is what rendered looked like, until due, and keys find its nodes.
	shown    *provider.Group
	rendered *view
	keys     map[key]place
	due      time.Time
}

// request is a change that was asked of this process.
type request struct {
	signal
	// acked says that it is durable since ackedAt, and confirmed that a reading
	// contained it.
	acked, confirmed bool
	ackedAt          uint64 // by the Source's clock
}

// snapshot is what readers see. It is never changed.
type snapshot struct {
	groups []*provider.Group // sorted by id
	byID   map[string]*provider.Group
	nodes  *index
	stats  provider.Stats
}

// Open reads all groups for the first time. It fails with Unavailable if Temporal
// does not answer, so that nothing is served before anything is known; it needs
// neither a worker nor a cloud.
func Open(ctx context.Context, cfg Config) (*Source, error) {
	cfg.defaults()
	return open(ctx, cfg, &temporal{client: cfg.Temporal, namespace: cfg.Namespace, converter: cfg.Converter, identity: cfg.Identity})
}

func open(ctx context.Context, cfg Config, back backend) (*Source, error) {
	cfg.defaults()
	s := &Source{cfg: cfg, back: back, entries: map[string]*entry{}, refreshing: make(chan struct{}, 1), askers: make(chan struct{}, cfg.Concurrency)}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.lists = newLists(s)
	s.shown.Store(&snapshot{byID: map[string]*provider.Group{}, nodes: &index{}})
	if err := s.Refresh(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends what runs in the background. Cancellations that are still owed get
// a last moment to become durable.
func (s *Source) Close() {
	s.settle(s.ctx)
	s.cancel()
	s.life.Lock()
	s.closed = true
	s.life.Unlock()
	s.tasks.Wait()
}

// settle waits a second at most for owed cancellations.
func (s *Source) settle(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	// What fails stays owed; there is nobody left to tell.
	s.sendOwed(ctx)
}

// Know adds a group whose entity was just started, which Temporal may not have
// indexed yet.
func (s *Source) Know(clusterName, group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entry(cluster.GroupID(clusterName, group))
}

// entry finds or makes the entry of a workflow id.
func (s *Source) entry(id string) *entry {
	e := s.entries[id]
	if e == nil {
		e = &entry{id: id, owed: map[string]bool{}, cancelled: map[string]bool{}}
		s.entries[id] = e
	}
	return e
}

// Groups implements provider.Source.
func (s *Source) Groups() []*provider.Group { return s.shown.Load().groups }

// Group implements provider.Source.
func (s *Source) Group(id string) (*provider.Group, bool) {
	g, ok := s.shown.Load().byID[id]
	return g, ok
}

// GroupForNode implements provider.Source.
func (s *Source) GroupForNode(ref provider.NodeRef) (string, bool) {
	return s.shown.Load().nodes.find(ref)
}

// Stats implements provider.Source.
func (s *Source) Stats() provider.Stats {
	st := s.shown.Load().stats
	st.Listed = s.lists.ages()
	return st
}

// tick is the next moment of the clock that orders readings and requests. mu is
// held.
func (s *Source) tick() uint64 {
	s.clock++
	return s.clock
}

// publish shows entries anew: those in changed, and those that look different by
// time alone. gone are entries that are no more. mu is held.
func (s *Source) publish(changed, gone []*entry) {
	now := s.cfg.now()
	old := s.shown.Load()
	next := &snapshot{groups: old.groups, byID: old.byID, nodes: old.nodes, stats: provider.Stats{Refreshed: s.refreshed}}
	for _, e := range s.entries {
		if !e.due.IsZero() && !now.Before(e.due) && !slices.Contains(changed, e) {
			changed = append(changed, e)
		}
	}
	if len(changed)+len(gone) > 0 {
		next.byID = maps.Clone(old.byID)
	}
	for _, e := range gone {
		if e.shown != nil {
			delete(next.byID, e.shown.ID)
			next.nodes = next.nodes.with(e.keys, nil)
		}
	}
	for _, e := range changed {
		if e.reshow(now) {
			next.byID[e.shown.ID] = e.shown
			continue
		}
		var keys map[key]place
		before := e.shown
		e.shown, e.rendered, e.due = nil, nil, time.Time{}
		if e.acked != nil && scales(e.acked) {
			e.shown, e.due = e.acked.render(now)
			e.shown.Unread = e.whyUnread()
			// What is shown stays as it is when the next request changes the view.
			e.rendered, e.acked.shared = e.acked.clone(), true
			keys = e.acked.keys()
			next.byID[e.shown.ID] = e.shown
		} else if before != nil {
			delete(next.byID, before.ID)
		}
		next.nodes = next.nodes.with(e.keys, keys)
		e.keys = keys
	}
	if len(changed)+len(gone) > 0 {
		next.groups = slices.SortedFunc(maps.Values(next.byID), func(a, b *provider.Group) int { return strings.Compare(a.ID, b.ID) })
	}
	s.shown.Store(next)
}

// reshow shows an entry with the instances that it was shown with before, if they
// still look the same.
func (e *entry) reshow(now time.Time) bool {
	if e.shown == nil || e.acked == nil || !scales(e.acked) || !e.due.IsZero() && !now.Before(e.due) || !e.acked.looksLike(e.rendered) {
		return false
	}
	g := *e.shown
	g.Facts, g.Generation, g.Paused, g.Unread = e.acked.facts, e.acked.generation, e.acked.whyPaused(), e.whyUnread()
	e.shown = &g
	return true
}

// whyUnread is why the group could not be read, empty if it could.
func (e *entry) whyUnread() string {
	if e.unread == nil {
		return ""
	}
	return e.unread.Error()
}

// scales reports whether the autoscaler has anything to do with a group.
func scales(v *view) bool { return v.facts.Max > 0 && v.facts.Role != cluster.RoleControlPlane }

// background runs what outlives the call that started it, until Close.
func (s *Source) background(f func(ctx context.Context)) {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return
	}
	s.tasks.Go(func() { f(s.ctx) })
}
