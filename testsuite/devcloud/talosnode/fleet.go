// Package talosnode is devcloud's stand-in for machines that run Talos Linux.
// Each booted server serves the true machine API on port 50000 of its own
// loopback address, with the true TLS and role rules, and does what the bytes
// it was given say: user data, applied configs and image properties decide
// whether a node runs, waits in maintenance or refuses, and its console says
// why.
package talosnode

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/etcdsim"
)

// Ports of Talos and Kubernetes that a node serves or that its ingress rules
// are asked about.
const (
	PortAPID       = 50000
	PortTrustd     = 50001
	PortKubernetes = 6443
	PortEtcdClient = 2379
	PortEtcdPeer   = 2380
	PortKubelet    = 10250
)

// Timings are simulated durations, before the clock scales them. They are what
// small cloud machines need, give or take.
type Timings struct {
	// Boot is from power on to the machine API.
	Boot time.Duration
	// Configure is from an accepted config in maintenance to the new apid.
	Configure time.Duration
	TimeSync  time.Duration
	Discovery time.Duration
	EtcdStart time.Duration
	// LearnerPromotion is how long a learner catches up.
	LearnerPromotion time.Duration
	KubeletStart     time.Duration
	// KubeletRestart and StaticPodRestart are how long a changed kubelet or
	// component of the control plane is away.
	KubeletRestart   time.Duration
	StaticPodRestart time.Duration
	ServiceStop      time.Duration
	ImagePull        time.Duration
	Install          time.Duration
	// Retry is the pause between attempts of the node's own loops.
	Retry time.Duration
}

// DefaultTimings are the ones New uses for zero fields.
func DefaultTimings() Timings {
	return Timings{
		Boot:             20 * time.Second,
		Configure:        3 * time.Second,
		TimeSync:         2 * time.Second,
		Discovery:        2 * time.Second,
		EtcdStart:        4 * time.Second,
		LearnerPromotion: 8 * time.Second,
		KubeletStart:     4 * time.Second,
		KubeletRestart:   3 * time.Second,
		StaticPodRestart: 10 * time.Second,
		ServiceStop:      3 * time.Second,
		ImagePull:        6 * time.Second,
		Install:          15 * time.Second,
		Retry:            2 * time.Second,
	}
}

func (t Timings) withDefaults() Timings {
	d := DefaultTimings()
	for _, f := range []struct{ have, def *time.Duration }{
		{&t.Boot, &d.Boot},
		{&t.Configure, &d.Configure},
		{&t.TimeSync, &d.TimeSync},
		{&t.Discovery, &d.Discovery},
		{&t.EtcdStart, &d.EtcdStart},
		{&t.LearnerPromotion, &d.LearnerPromotion},
		{&t.KubeletStart, &d.KubeletStart},
		{&t.KubeletRestart, &d.KubeletRestart},
		{&t.StaticPodRestart, &d.StaticPodRestart},
		{&t.ServiceStop, &d.ServiceStop},
		{&t.ImagePull, &d.ImagePull},
		{&t.Install, &d.Install},
		{&t.Retry, &d.Retry},
	} {
		if *f.have == 0 {
			*f.have = *f.def
		}
	}

	return t
}

// Options configure a Fleet. Clock, Network and Kubernetes are required.
type Options struct {
	Clock      guest.Clock
	Network    guest.Network
	Kubernetes guest.Kubernetes
	Timings    Timings
	// ExclusiveAPIServers asks for one kube-apiserver per control plane node;
	// otherwise the nodes of a cluster share one.
	ExclusiveAPIServers bool
	// Extensions returns what a schematic adds to a Talos version, and false
	// when there is no such installer; nil knows only the extensions of images
	// and every installer.
	Extensions func(schematic, version string) ([]string, bool)
	// Defects returns the faults a server is born with; nil means none.
	Defects func(guest.Server) Faults
}

// Fleet is all machines of one emulated cloud. It implements guest.Booter.
type Fleet struct {
	opts   Options
	etcd   *etcdsim.Registry
	quorum *quorum.Recorder

	// changes counts what discovery would tell.
	changes atomic.Uint64

	mu    sync.Mutex
	nodes map[string]*Node
}

var _ guest.Booter = (*Fleet)(nil)

// New returns a fleet without machines.
func New(opts Options) *Fleet {
	opts.Timings = opts.Timings.withDefaults()

	record := quorum.NewRecorder()

	return &Fleet{opts: opts, quorum: record, etcd: &etcdsim.Registry{Observe: record.Observe}, nodes: map[string]*Node{}}
}

// Boot implements guest.Booter: the machine is powered on and boots in the
// background.
func (f *Fleet) Boot(s guest.Server) guest.Guest {
	n := newNode(f, s)

	f.mu.Lock()
	f.nodes[s.UUID] = n
	f.mu.Unlock()

	n.PowerOn()

	return n
}

// Node returns the machine of a server; nil when there is none.
func (f *Fleet) Node(uuid string) *Node {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.nodes[uuid]
}

// Nodes returns all machines that exist, by UUID.
func (f *Fleet) Nodes() []*Node {
	f.mu.Lock()
	defer f.mu.Unlock()

	nodes := make([]*Node, 0, len(f.nodes))
	for _, n := range f.nodes {
		nodes = append(nodes, n)
	}

	slices.SortFunc(nodes, func(a, b *Node) int {
		if a.server.UUID < b.server.UUID {
			return -1
		}

		return 1
	})

	return nodes
}

// EtcdClusters returns every etcd cluster with at least one member: more than
// one per Talos cluster means that somebody bootstrapped twice.
func (f *Fleet) EtcdClusters() []*etcdsim.Cluster { return f.etcd.Clusters() }

// Quorum is the record of all etcd clusters and their machines.
func (f *Fleet) Quorum() *quorum.Recorder { return f.quorum }

// Close destroys all machines.
func (f *Fleet) Close() {
	var off sync.WaitGroup

	for _, n := range f.Nodes() {
		off.Go(n.PowerOff)
	}

	off.Wait()

	for _, n := range f.Nodes() {
		n.Destroy()
	}
}

func (f *Fleet) forget(n *Node) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.nodes[n.server.UUID] == n {
		delete(f.nodes, n.server.UUID)
	}
}

// nudge makes every node look at the world again at once.
func (f *Fleet) nudge() {
	for _, n := range f.Nodes() {
		if s := n.session.Load(); s != nil {
			s.nudge()
		}
	}
}

// peers returns the adverts of all nodes that run, except one.
func (f *Fleet) peers(except *Node) []*advert {
	var out []*advert

	for _, n := range f.Nodes() {
		if n == except {
			continue
		}

		if s := n.session.Load(); s != nil {
			if a := s.advert.Load(); a != nil {
				out = append(out, a)
			}
		}
	}

	return out
}
