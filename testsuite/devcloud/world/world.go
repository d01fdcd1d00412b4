// Package world is the state of devcloud's one account: what exists, in which
// state, how long changes take and what is refused. It knows no HTTP. All
// methods may be called concurrently; values they return are copies.
package world

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// World is one account of the cloud.
type World struct {
	clock    Clock
	lat      Latencies
	booter   guest.Booter
	client   *http.Client
	imageURL func(string) (string, error)
	describe DescribeFunc
	log      *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	limits    Limits
	pool      *pool
	lastStamp time.Time
	journal   []Action

	servers   table[*Server]
	groups    table[*ServerGroup]
	volumes   table[*Volume]
	snapshots table[*Snapshot]
	networks  table[*Network]
	subnets   table[*Subnet]
	floating  table[*FloatingIP]
	images    table[*Image]
	imports   table[*Import]
	users     table[*ObjectsUser]
	balancers table[*LoadBalancer]
	pools     table[*Pool]
	members   table[*Member]
	listeners table[*Listener]
	monitors  table[*Monitor]
}

// Action is something that happened in the account.
type Action struct {
	Time    time.Time `json:"time"`
	Name    string    `json:"name"`    // "server_create"
	Subject string    `json:"subject"` // UUID
	Message string    `json:"message"`
	// Internal marks what nobody asked for, such as a server that has become
	// running: the project log does not show it.
	Internal bool `json:"internal"`
}

// New returns an empty world. Close ends everything it runs.
func New(o Options) (*World, error) {
	p, err := newPool(o.LoopbackPrefix)
	if err != nil {
		return nil, err
	}
	w := &World{
		clock: NewClock(o.Speed), lat: DefaultLatencies(), limits: o.Limits, pool: p,
		booter: o.Booter, client: o.ImageClient, imageURL: o.ImageURL, describe: o.Describe, log: o.Log,
	}
	if o.Latencies != nil {
		w.lat = *o.Latencies
	}
	if w.client == nil {
		w.client = &http.Client{Timeout: 30 * time.Second}
	}
	if w.imageURL == nil {
		w.imageURL = func(u string) (string, error) { return u, nil }
	}
	if w.describe == nil {
		w.describe = func(string) (guest.Image, bool) { return guest.Image{}, false }
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w, nil
}

// SetBooter sets what boots on servers from now on. It exists because booters
// need the world's clock and network.
func (w *World) SetBooter(b guest.Booter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.booter = b
}

// Clock returns the world's clock.
func (w *World) Clock() Clock { return w.clock }

// Latencies returns how long things take, before scaling.
func (w *World) Latencies() Latencies { return w.lat }

// Limits returns the quotas.
func (w *World) Limits() Limits {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.limits
}

// SetLimits replaces the quotas.
func (w *World) SetLimits(l Limits) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limits = l
}

// Close removes everything and waits until nothing of it runs any more.
func (w *World) Close() {
	w.Reset()
	w.mu.Lock()
	w.cancel()
	w.mu.Unlock()
	w.wg.Wait()
}

// Reset removes every resource at once, as if nobody had ever used the account.
func (w *World) Reset() {
	w.mu.Lock()
	var guests sync.WaitGroup
	for _, s := range w.servers.all() {
		w.forget(s)
		guests.Go(s.machine.Destroy)
	}
	for _, b := range w.balancers.all() {
		w.forgetBalancer(b)
		guests.Go(b.stop)
	}
	w.servers, w.groups, w.volumes = table[*Server]{}, table[*ServerGroup]{}, table[*Volume]{}
	w.snapshots, w.networks, w.subnets = table[*Snapshot]{}, table[*Network]{}, table[*Subnet]{}
	w.floating, w.images, w.imports = table[*FloatingIP]{}, table[*Image]{}, table[*Import]{}
	w.users, w.balancers, w.pools = table[*ObjectsUser]{}, table[*LoadBalancer]{}, table[*Pool]{}
	w.members, w.listeners, w.monitors = table[*Member]{}, table[*Listener]{}, table[*Monitor]{}
	w.journal = nil
	w.mu.Unlock()
	guests.Wait()
}

// Journal returns the project log since a time, oldest first.
func (w *World) Journal(since time.Time) []Action {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []Action{}
	for _, a := range w.journal {
		if !a.Internal && !a.Time.Before(since) {
			out = append(out, a)
		}
	}
	return out
}

// Timeline returns everything that happened, also what nobody asked for.
func (w *World) Timeline() []Action {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Action{}, w.journal...)
}

// record notes what a request has done.
func (w *World) record(action string, m Meta) { w.happened(action, m, false) }

// note notes what happened by itself.
func (w *World) note(action string, m Meta) { w.happened(action, m, true) }

func (w *World) happened(action string, m Meta, internal bool) {
	w.journal = append(w.journal, Action{
		Time: time.Now().UTC(), Name: action, Subject: m.UUID, Message: action + " " + m.UUID + " " + m.Name, Internal: internal,
	})
	w.log.Debug(action, "uuid", m.UUID, "name", m.Name)
}

// newMeta fills the common part; creation times are strictly increasing, so
// that "the oldest" is always one.
func (w *World) newMeta(name, zone string, tags map[string]string) Meta {
	now := time.Now().UTC().Truncate(time.Microsecond)
	if !now.After(w.lastStamp) {
		now = w.lastStamp.Add(time.Microsecond)
	}
	w.lastStamp = now
	if tags == nil {
		tags = map[string]string{}
	}
	return Meta{UUID: uuid.NewString(), Name: name, Zone: zone, Tags: tags, CreatedAt: now}
}

// background runs f until done or until the world is closed. The caller holds
// the lock.
func (w *World) background(f func(ctx context.Context)) {
	if w.ctx.Err() != nil {
		return
	}
	w.wg.Go(func() { f(w.ctx) })
}

func pickZone(zone string) (string, error) {
	if zone == "" {
		return DefaultZone, nil
	}
	if !zoneExists(zone) {
		return "", invalid("zone", "Object with slug=%s does not exist.", zone)
	}
	return zone, nil
}

// IsKind reports whether err is a refusal of this kind.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}
