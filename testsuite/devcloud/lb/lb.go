// Package lb forwards TCP like a cloud's load balancer: it listens on the
// balancer's addresses, checks members, and connects to healthy ones from its
// own address. It knows nothing of the cloud but what its Config and Options
// say.
package lb

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Options are what a balancer needs from its surroundings. Its functions are
// called without any lock of the balancer held.
type Options struct {
	// Source is the local address of outgoing connections.
	Source netip.Addr
	// Reach returns where a member's address really is, or why packets to the
	// port would not arrive.
	Reach func(subnet string, address netip.AddrPort) (netip.Addr, error)
	// ReachFrom is Reach for packets that bear the address of a client; only
	// pools that preserve it need it.
	ReachFrom func(client netip.Addr, subnet string, address netip.AddrPort) (netip.Addr, error)
	// Identities returns the cloud addresses behind the source of a connection.
	Identities func(netip.Addr) []netip.Addr
	// Report is told the health of a member whenever it changes.
	Report func(member string, up bool)
	Log    *slog.Logger
}

// Config is everything a balancer does. It must not be changed once applied.
type Config struct {
	Binds     []netip.Addr
	Listeners []Listener
	Pools     []Pool
}

// Listener accepts connections on one port of every bind address.
type Listener struct {
	ID   string
	Port uint16
	Pool string
	// Allowed restricts clients; empty allows all.
	Allowed []netip.Prefix
	// Timeouts in real time; zero means none.
	ClientIdle, MemberIdle, Connect time.Duration
}

// Algorithms of pools.
const (
	RoundRobin       = "round_robin"
	SourceIP         = "source_ip"
	LeastConnections = "least_connections"
)

// Pool is a set of members.
type Pool struct {
	ID        string
	Algorithm string
	Members   []Member
	Monitor   *Monitor // nil: every member counts as healthy
	// Preserve connects to members from the client's address. Each connection
	// then has one member, as packets that are merely forwarded have, and a
	// member that is the client itself is not reached: a machine drops packets
	// that seem to come from itself.
	Preserve bool
	// FailOpen uses all members while none is healthy.
	FailOpen bool
}

// Member is a target.
type Member struct {
	ID          string
	Subnet      string
	Address     netip.Addr
	Port        uint16
	MonitorPort uint16
}

// Balancer forwards until Close.
type Balancer struct {
	opts   Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	apply sync.Mutex // held while a configuration is applied

	mu       sync.Mutex
	config   Config
	sockets  map[netip.AddrPort]net.Listener
	checks   map[string]*check
	conns    map[net.Conn]struct{}
	turn     map[string]int // round robin, by pool
	load     map[string]int // connections, by member
	problems map[netip.AddrPort]string
}

// New returns a balancer that does nothing until a configuration is applied.
func New(o Options) *Balancer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Balancer{
		opts: o, sockets: map[netip.AddrPort]net.Listener{}, checks: map[string]*check{}, conns: map[net.Conn]struct{}{},
		turn: map[string]int{}, load: map[string]int{}, problems: map[netip.AddrPort]string{},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Apply replaces the configuration. Listeners and checks that are in both keep
// running; connections of removed ones go on.
func (b *Balancer) Apply(c Config) {
	b.apply.Lock()
	defer b.apply.Unlock()
	if b.ctx.Err() != nil {
		return
	}
	b.mu.Lock()
	b.config = c
	b.mu.Unlock()
	b.applySockets(c)
	b.applyChecks(c)
}

// Problems returns why listeners could not be opened.
func (b *Balancer) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []string{}
	for a, p := range b.problems {
		out = append(out, a.String()+": "+p)
	}
	slices.Sort(out)
	return out
}

// Close stops listening, checking and forwarding, and waits until all of it has
// ended.
func (b *Balancer) Close() {
	b.cancel()
	b.apply.Lock()
	b.applySockets(Config{})
	b.apply.Unlock()
	b.mu.Lock()
	for c := range b.conns {
		b.closed(c.Close())
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *Balancer) closed(err error) {
	if err != nil {
		b.opts.Log.Debug("load balancer: close", "error", err)
	}
}

func (b *Balancer) applySockets(c Config) {
	want := map[netip.AddrPort]bool{}
	for _, a := range c.Binds {
		for _, l := range c.Listeners {
			want[netip.AddrPortFrom(a, l.Port)] = true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.problems)
	for at, l := range b.sockets {
		if !want[at] {
			b.closed(l.Close())
			delete(b.sockets, at)
		}
	}
	for at := range want {
		if b.sockets[at] != nil {
			continue
		}
		l, err := net.Listen("tcp", at.String())
		if err != nil {
			b.problems[at] = err.Error()
			b.opts.Log.Warn("load balancer: listen", "address", at, "error", err)
			continue
		}
		b.sockets[at] = l
		b.wg.Go(func() { b.accept(l, at.Port()) })
	}
}

// accept hands every connection to the listener that is configured for the
// port when it arrives.
func (b *Balancer) accept(l net.Listener, port uint16) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if !b.track(c) {
			return
		}
		b.wg.Go(func() {
			defer b.untrack(c)
			if err := b.forward(c, port); err != nil {
				b.opts.Log.Debug("load balancer: connection", "client", c.RemoteAddr(), "error", err)
			}
		})
	}
}

// track remembers a connection for Close; it returns false, with the connection
// closed, when that has already begun.
func (b *Balancer) track(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		b.closed(c.Close())
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *Balancer) untrack(c net.Conn) {
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
	b.closed(c.Close())
}

func (b *Balancer) listener(port uint16) (Listener, Pool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.config.Listeners {
		if l.Port != port {
			continue
		}
		for _, p := range b.config.Pools {
			if p.ID == l.Pool {
				return l, p, nil
			}
		}
		return l, Pool{}, fmt.Errorf("listener %s has no pool", l.ID)
	}
	return Listener{}, Pool{}, fmt.Errorf("nothing listens on port %d any more", port)
}
