package talosnode

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/etcdsim"
)

// Node is one machine with its disk. It implements guest.Guest.
type Node struct {
	fleet   *Fleet
	server  guest.Server
	console console
	events  eventLog

	// power serialises PowerOn, PowerOff, Reboot and Destroy.
	power     sync.Mutex
	cancel    context.CancelFunc
	done      chan struct{}
	destroyed bool

	session atomic.Pointer[session]

	mu     sync.Mutex
	disk   disk
	faults Faults
}

var (
	_ guest.Guest      = (*Node)(nil)
	_ guest.Firewalled = (*Node)(nil)
)

// slot is one of the two installed systems.
type slot struct {
	version   string // "v1.14.1"
	schematic string
}

func (s slot) empty() bool { return s.version == "" }

// disk is what survives a reboot.
type disk struct {
	// config is the STATE partition.
	config []byte
	// staged waits for the next boot.
	staged []byte
	// nodeID is the discovery identity, kept in STATE.
	nodeID string
	// slots are the two boot entries; active is the one that boots next.
	slots  [2]slot
	active int
	// fallback is armed by an upgrade until the machine was ready once.
	fallback bool
	etcd     etcdData
	// recovery is a snapshot uploaded for the next bootstrap.
	recovery []byte
	// images are the pulled image references.
	images []string
}

// etcdData is etcd's data directory.
type etcdData struct {
	cluster *etcdsim.Cluster
	id      uint64
}

func (e etcdData) empty() bool { return e.cluster == nil }

func newNode(f *Fleet, s guest.Server) *Node {
	n := &Node{fleet: f, server: s}
	n.disk.slots[0] = slot{version: s.Image.TalosVersion, schematic: s.Image.Schematic}
	n.disk.nodeID = newID()

	if f.opts.Defects != nil {
		n.faults = f.opts.Defects(s)
	}

	return n
}

// PowerOn implements guest.Guest.
func (n *Node) PowerOn() {
	n.power.Lock()
	defer n.power.Unlock()

	n.powerOn()
}

func (n *Node) powerOn() {
	if n.destroyed {
		return
	}

	if n.done != nil {
		select {
		case <-n.done: // it shut itself down
		default:
			return
		}
	}

	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.done = make(chan struct{})

	go n.live(ctx, n.done)
}

// PowerOff implements guest.Guest.
func (n *Node) PowerOff() {
	n.power.Lock()
	defer n.power.Unlock()

	n.powerOff()
}

func (n *Node) powerOff() {
	if n.done == nil {
		return
	}

	n.cancel()
	<-n.done
	n.done = nil
}

// Reboot implements guest.Guest: a hard reset, as by the cloud's API.
func (n *Node) Reboot() {
	n.power.Lock()
	defer n.power.Unlock()

	n.powerOff()
	n.powerOn()
}

// Destroy implements guest.Guest.
func (n *Node) Destroy() {
	n.power.Lock()
	defer n.power.Unlock()

	n.powerOff()

	if n.destroyed {
		return
	}

	n.destroyed = true
	n.fleet.forget(n)

	n.mu.Lock()
	data := n.disk.etcd
	n.disk = disk{}
	n.mu.Unlock()

	if !data.empty() {
		n.fleet.quorum.Away(data.cluster.Name(), data.id, "destroyed", false)
	}

	n.fleet.etcdDataLost(data)
}

// Log implements guest.Guest.
func (n *Node) Log() []string { return n.console.all() }

// Admits implements guest.Firewalled. A machine that does not run Talos filters
// nothing.
func (n *Node) Admits(source netip.Addr, port uint16) bool {
	if s := n.session.Load(); s != nil {
		return s.permitted(port, source)
	}

	return true
}

// platform is whose metadata service the machine finds.
func (n *Node) platform() string { return cmp.Or(n.server.Platform, "openstack") }

// Server returns what the machine was made from.
func (n *Node) Server() guest.Server { return n.server }

// live runs the machine until its power goes: boot after boot.
func (n *Node) live(ctx context.Context, done chan struct{}) {
	defer close(done)

	for ctx.Err() == nil {
		s := newSession(ctx, n)

		n.events.clear()
		n.session.Store(s)
		next := s.run()
		n.session.Store(nil)

		if next == exitOff {
			n.console.printf("power off")
			s.release()

			return
		}

		if n.takeFault(func(f *Faults) *bool { return &f.HangAfterReboot }) {
			n.console.printf("kexec: starting new kernel")
			<-ctx.Done() // and nothing ever again
			s.release()

			return
		}

		s.release()
	}
}

// read gives a consistent look at the disk.
func (n *Node) read() disk {
	n.mu.Lock()
	defer n.mu.Unlock()

	d := n.disk
	d.images = slices.Clone(d.images)

	return d
}

// write changes the disk.
func (n *Node) write(change func(*disk)) {
	n.mu.Lock()
	defer n.mu.Unlock()

	change(&n.disk)
}

// away records that a control plane machine goes away, by the machine API or
// not; back that it is ready again.
func (n *Node) away(cause string, sent bool) {
	if data := n.read().etcd; !data.empty() {
		n.fleet.quorum.Away(data.cluster.Name(), data.id, cause, sent)
	}
}

func (n *Node) back() {
	if data := n.read().etcd; !data.empty() {
		n.fleet.quorum.Back(data.cluster.Name(), data.id)
	}
}

// etcdDataLost tells Kubernetes when the last copy of a datastore is gone.
func (f *Fleet) etcdDataLost(data etcdData) {
	if data.empty() {
		return
	}

	data.cluster.SetAlive(data.id, false)
	data.cluster.Destroy(data.id)

	for _, n := range f.Nodes() {
		if d := n.read(); !d.etcd.empty() && d.etcd.cluster.Datastore() == data.cluster.Datastore() {
			return
		}
	}

	f.opts.Kubernetes.DropCluster(data.cluster.Datastore())
}
