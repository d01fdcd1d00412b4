// Package account is the state of one AWS account in one region: what exists,
// how long changes take, when others see them, and what is refused, with the
// codes of AWS. It knows no HTTP; whoever calls has been authenticated. All
// methods may be called concurrently; values they return are copies.
package account

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// Addresses lends loopback addresses, which are the public ones of this cloud.
type Addresses interface {
	TakeAddress() (netip.Addr, error)
	GiveAddress(netip.Addr)
}

// Options configure an Account. Clock and Addresses are required.
type Options struct {
	Clock     guest.Clock
	Addresses Addresses
	// Latencies replaces DefaultLatencies, Settings replaces DefaultSettings.
	Latencies *Latencies
	Settings  *Settings
	// TalosVersions are those that have published images, and StockSchematic is
	// what these images are made of.
	TalosVersions  []string
	StockSchematic string
	// Identify tells what a disk boots, as it was written up to the last byte that
	// is not zero; false means nothing that anybody knows.
	Identify func(disk []byte) (guest.Image, bool)
	Log      *slog.Logger
}

// Account is everything in the account.
type Account struct {
	opts  Options
	clock guest.Clock
	lat   Latencies
	log   *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	booter   guest.Booter
	settings Settings
	journal  []Event
	tags     map[string]map[string]string // by resource
	tokens   map[string]*token            // by action and client token

	instances   table[*Instance]
	images      table[*Image]
	snapshots   table[*Snapshot]
	volumes     table[*Volume]
	vpcs        table[*VPC]
	gateways    table[*InternetGateway]
	subnets     table[*Subnet]
	routeTables table[*RouteTable]
	groups      table[*SecurityGroup]
	interfaces  table[*Interface]
	placements  table[*PlacementGroup]
}

// Event is something that happened in the account.
type Event struct {
	Time    time.Time
	Name    string // an action, or something like "instance_is_running"
	Subject string
	Label   string // what the subject is called by its tag "Name", if it is
}

// New returns an account without resources, except the published images. Close
// ends everything it runs.
func New(o Options) *Account {
	a := &Account{
		opts: o, clock: o.Clock, lat: DefaultLatencies(), settings: DefaultSettings(), log: o.Log,
	}
	if o.Latencies != nil {
		a.lat = *o.Latencies
	}
	if o.Settings != nil {
		a.settings = *o.Settings
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.empty()
	return a
}

func (a *Account) empty() {
	a.tags, a.tokens, a.journal = map[string]map[string]string{}, map[string]*token{}, nil
	a.instances, a.images, a.snapshots, a.volumes = table[*Instance]{}, table[*Image]{}, table[*Snapshot]{}, table[*Volume]{}
	a.vpcs, a.gateways, a.subnets = table[*VPC]{}, table[*InternetGateway]{}, table[*Subnet]{}
	a.routeTables, a.groups = table[*RouteTable]{}, table[*SecurityGroup]{}
	a.interfaces, a.placements = table[*Interface]{}, table[*PlacementGroup]{}
	a.publish()
}

// SetBooter sets what boots on instances from now on. It exists because booters
// need the network, which is the account.
func (a *Account) SetBooter(b guest.Booter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.booter = b
}

// Clock returns the clock that scales every duration.
func (a *Account) Clock() guest.Clock { return a.clock }

// Latencies returns how long things take, before scaling.
func (a *Account) Latencies() Latencies { return a.lat }

// Reset removes every resource at once, as if nobody had ever used the account.
// Settings stay.
func (a *Account) Reset() {
	a.mu.Lock()
	var guests sync.WaitGroup
	for _, i := range a.instances.all() {
		i.cancel()
		guests.Go(i.machine.Destroy)
	}
	lent := map[netip.Addr]bool{}
	for _, i := range a.interfaces.all() {
		lent[i.Loopback] = true
	}
	for l := range lent {
		a.opts.Addresses.GiveAddress(l)
	}
	a.empty()
	a.mu.Unlock()
	guests.Wait()
}

// Close removes everything and waits until nothing of it runs any more.
func (a *Account) Close() {
	a.Reset()
	a.mu.Lock()
	a.cancel()
	a.mu.Unlock()
	a.wg.Wait()
}

// background runs f until done or until the account is closed. The caller holds
// the lock.
func (a *Account) background(f func()) {
	if a.ctx.Err() == nil {
		a.wg.Go(f)
	}
}

// Timeline returns everything that happened, oldest first.
func (a *Account) Timeline() []Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.journal)
}

func (a *Account) note(name, subject string) {
	a.journal = append(a.journal, Event{time.Now().UTC(), name, subject, a.tags[subject]["Name"]})
	a.log.Debug(name, "id", subject)
}

// NewID returns a fresh id, such as i-0123456789abcdef0 for the prefix "i".
func NewID(prefix string) string {
	b := make([]byte, 9)
	if _, err := rand.Read(b); err != nil {
		panic(err) // documented never to happen
	}
	return prefix + "-0" + hex.EncodeToString(b)[:16]
}

// Record is what all resources have in common.
type Record struct {
	ID      string
	Created time.Time
}

func (r *Record) record() *Record { return r }

func newRecord(prefix string) Record { return Record{NewID(prefix), time.Now().UTC()} }

type entity interface{ record() *Record }

// table keeps resources in order of creation.
type table[T entity] struct {
	rows  map[string]T
	order []string
}

func (t *table[T]) add(v T) {
	if t.rows == nil {
		t.rows = map[string]T{}
	}
	t.rows[v.record().ID] = v
	t.order = append(t.order, v.record().ID)
}

func (t *table[T]) remove(id string) {
	if _, ok := t.rows[id]; ok {
		delete(t.rows, id)
		t.order = slices.DeleteFunc(t.order, func(s string) bool { return s == id })
	}
}

func (t *table[T]) all() []T {
	out := make([]T, 0, len(t.order))
	for _, id := range t.order {
		out = append(out, t.rows[id])
	}
	return out
}

// remove forgets a resource and its tags.
func remove[T entity](a *Account, t *table[T], id string) {
	t.remove(id)
	delete(a.tags, id)
}

// Tags returns the tags of a resource, sorted by key.
func (a *Account) Tags(id string) []Tag {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tagsOf(id)
}

func (a *Account) tagsOf(id string) []Tag {
	out := []Tag{}
	for _, k := range slices.Sorted(maps.Keys(a.tags[id])) {
		out = append(out, Tag{k, a.tags[id][k]})
	}
	return out
}

// ID returns the number of the account.
func (a *Account) ID() string { return AccountID }

func describe(kind, id string) string {
	return fmt.Sprintf("The %s '%s' does not exist", kind, cmp.Or(id, "null"))
}
