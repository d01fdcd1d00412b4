package talosnode

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// session is one boot of a node: everything that a reboot forgets.
type session struct {
	node  *Node
	fleet *Fleet

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	leave chan departure
	wake  chan struct{}

	bootID  string
	slot    slot
	entry   int // which of the disk's slots that is
	version talosVersion
	booted  time.Time

	cosi      state.State
	machined  *grpc.Server
	local     *grpc.ClientConn
	pipe      *bufconn.Listener
	gates     []*gate // guarded by mu
	advert    atomic.Pointer[advert]
	applyLock sync.Mutex
	etcdLock  sync.Mutex // holds etcd's data directory empty or not
	apidRetry retry
	joinRetry retry
	seen      memberView

	mu       sync.Mutex
	stage    machine.MachineStatusEvent_MachineStage
	ready    bool
	config   *nodeConfig // nil in maintenance
	pending  *nodeConfig // accepted in maintenance, about to become config
	timeSync bool
	apid     *apidState
	services *services
	etcd     etcdState
	kube     kubeState
	fetching map[string]bool // images that the node itself pulls
	trial    *trial
	busy     string // the sequence or install that runs
	closed   bool   // nothing new may start in the background
}

// advert is what a running node tells others, replaced as a whole.
type advert struct {
	node      *Node
	hostname  string
	nodename  string
	addresses []netip.Addr
	config    *nodeConfig
	since     time.Time
	etcd      etcdData // empty unless etcd runs here
	version   string
}

func newSession(ctx context.Context, n *Node) *session {
	s := &session{
		node:     n,
		fleet:    n.fleet,
		leave:    make(chan departure, 1),
		wake:     make(chan struct{}, 1),
		bootID:   newBootID(),
		booted:   time.Now(),
		services: newServices(),
		fetching: map[string]bool{},
	}
	s.ctx, s.cancel = context.WithCancel(ctx)

	return s
}

func newID() string {
	var b [16]byte
	// crypto/rand never fails on the platforms Go supports.
	_, _ = rand.Read(b[:])

	return hex.EncodeToString(b[:])
}

// newBootID has the form of /proc/sys/kernel/random/boot_id.
func newBootID() string {
	id := newID()

	return fmt.Sprintf("%s-%s-%s-%s-%s", id[:8], id[8:12], id[12:16], id[16:20], id[20:])
}

// run boots the machine and keeps it going until its power goes or it leaves
// by itself.
func (s *session) run() exitKind {
	defer s.teardown()

	if !s.boot() {
		<-s.ctx.Done()

		return exitOff
	}

	interval := max(s.scale(time.Second), 100*time.Millisecond)
	tick := time.NewTicker(interval)

	defer tick.Stop()

	for {
		s.reconcile()

		select {
		case <-s.ctx.Done():
			return exitOff
		case d := <-s.leave:
			if s.depart(d) {
				return d.kind
			}
		case <-s.wake:
		case <-tick.C:
		}
	}
}

// reconcile moves everything one step on. It never blocks for long; whatever
// would has a goroutine.
func (s *session) reconcile() {
	s.configure()
	s.reconcileTime()
	s.reconcileAPID()
	s.reconcileTrustd()
	s.reconcileDiscovery()
	s.reconcileEtcd()
	s.reconcileKubernetes()
	s.reconcileStatus()
}

// nudge makes the session look again at once.
func (s *session) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sleep waits for a simulated duration; false means that the session ended.
func (s *session) sleep(d time.Duration) bool {
	return s.fleet.opts.Clock.Sleep(s.ctx, d) == nil && s.ctx.Err() == nil
}

func (s *session) scale(d time.Duration) time.Duration { return s.fleet.opts.Clock.Scale(d) }

// since is whether a simulated duration has passed after t.
func (s *session) elapsed(t time.Time, d time.Duration) bool {
	return !t.IsZero() && time.Since(t) >= s.scale(d)
}

func (s *session) timings() Timings { return s.fleet.opts.Timings }

func (s *session) logf(format string, args ...any) { s.node.console.printf(format, args...) }

// background runs f until the session ends; f must heed s.ctx. After that it
// runs nothing.
func (s *session) background(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.closed {
		return
	}

	s.wg.Add(1)

	go func() {
		defer s.wg.Done()
		f()
	}()
}

// listen opens a port of the node behind its ingress rules.
func (s *session) listen(port uint16) (*gate, error) {
	g, err := newGate(netip.AddrPortFrom(s.node.server.Loopback, port), func(source netip.Addr) bool {
		return s.admits(port, source)
	})
	if err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	// Teardown cancels before it looks for gates to close.
	if err := s.ctx.Err(); err != nil {
		closeQuietly(g)

		return nil, err
	}

	s.gates = append(s.gates, g)

	return g, nil
}

func (s *session) openGates() []*gate {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Clone(s.gates)
}

// admits decides about one connection to this node and puts refusals on the
// console.
func (s *session) admits(port uint16, source netip.Addr) bool {
	if s.permitted(port, source) {
		return true
	}

	s.node.console.onChange("firewall", "dropped connection from %v to port %d", s.fleet.opts.Network.Identities(source), port)

	return false
}

// permitted is the decision itself: the network may filter, a machine without a
// public interface is out of reach from outside, and a running one has its
// ingress rules.
func (s *session) permitted(port uint16, source netip.Addr) bool {
	if source == s.node.server.Loopback {
		return true
	}

	if f, ok := s.fleet.opts.Network.(guest.PacketFilter); ok && !f.Delivers(source, s.node.server.Loopback, port) {
		return false
	}

	identities := s.fleet.opts.Network.Identities(source)
	if !s.node.server.Public && !private(s.fleet.opts.Network, source, identities) {
		return false
	}

	config := s.current()

	return config == nil || config.firewall.allows(port, identities)
}

// private says whether a source has an address in some private network.
func private(n guest.Network, source netip.Addr, identities []netip.Addr) bool {
	for _, a := range identities {
		if a == source {
			continue
		}

		if a.IsPrivate() {
			return true
		}

		if l, ok := n.Loopback(a); ok && l != a {
			return true
		}
	}

	return false
}

func (s *session) current() *nodeConfig {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.config
}

func (s *session) hostname() string {
	name := s.node.server.Name
	if c := s.current(); c != nil && c.hostname != "" {
		name = c.hostname
	}

	return name
}

// addresses are the node's own, private ones first, as Talos sorts them.
func (s *session) addresses() []netip.Addr {
	out := append([]netip.Addr{}, s.node.server.Private...)
	if s.node.server.Public {
		out = append(out, s.node.server.Loopback)
	}

	return out
}

// dialer connects from the node's own address.
func (s *session) dialer() *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: s.node.server.Loopback.AsSlice()}, Timeout: dialTimeout}
}

// replyTime is what the answer to a call gets to leave before the connection
// breaks because of it. It is real time: a fast clock speeds up no network.
const replyTime = 100 * time.Millisecond

// dialTimeout is real time; everything is on this host.
const dialTimeout = 3 * time.Second

// retry spaces the attempts of a loop; only the session's own loop uses it.
type retry struct{ next time.Time }

// due says whether it is time, and if so puts the next time off.
func (r *retry) due(s *session) bool {
	if time.Now().Before(r.next) {
		return false
	}

	r.next = time.Now().Add(s.scale(s.timings().Retry))

	return true
}
