package etcdsim

import (
	"fmt"
	"sync"

	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
)

// Registry holds every etcd cluster that was ever started in one emulated
// cloud, so that two bootstraps are visibly two clusters.
type Registry struct {
	// Observe, if set, is told of each change of each cluster; it must not call
	// back.
	Observe func(quorum.Change)

	mu       sync.Mutex
	clusters []*Cluster
}

// Recovery starts a cluster from a snapshot instead of empty.
type Recovery struct {
	Snapshot []byte
	// SkipHashCheck accepts a plain copy of a member's database file.
	SkipHashCheck bool
	// Restore puts the snapshot's keys into the new cluster's datastore.
	Restore func(datastore string, keys []byte) error
}

// Bootstrap starts a new cluster with one voting member. ca is a fingerprint of
// the etcd CA; only nodes with the same one can join. A recovery, when given,
// names the datastore that the new cluster goes on with.
func (r *Registry) Bootstrap(ca, name, peerURL string, recovery *Recovery) (*Cluster, uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	n := len(r.clusters) + 1
	c := &Cluster{
		name:   fmt.Sprintf("etcd-%d", n),
		ca:     ca,
		term:   2,
		index:  8,
		nextID: uint64(n)<<32 | 0x8e9e05c52164694d,
	}
	c.datastore = c.name

	if recovery != nil {
		s, err := decodeSnapshot(recovery.Snapshot, recovery.SkipHashCheck)
		if err != nil {
			return nil, 0, err
		}

		c.index = s.Index

		if len(s.keys) == 0 {
			c.datastore = s.Datastore
		} else if err := recovery.Restore(c.datastore, s.keys); err != nil {
			return nil, 0, err
		}
	}

	id := c.newID()
	c.members = []Member{{ID: id, Name: name, PeerURL: peerURL, Alive: true}}
	c.leader = id
	c.observe = r.Observe
	c.changed(false, "bootstrapped by %s", name)
	r.clusters = append(r.clusters, c)

	return c, id, nil
}

// Clusters returns all clusters that still have a member, oldest first.
func (r *Registry) Clusters() []*Cluster {
	r.mu.Lock()
	defer r.mu.Unlock()

	var alive []*Cluster

	for _, c := range r.clusters {
		if len(c.Members()) > 0 {
			alive = append(alive, c)
		}
	}

	return alive
}
