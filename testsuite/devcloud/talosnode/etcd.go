package talosnode

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/etcdsim"
)

// etcdState is this boot's etcd process.
type etcdState struct {
	running bool
	left    bool      // through the API: no new attempt before the next boot
	joined  time.Time // as a learner
	failure string
}

// etcdFingerprint is the fingerprint of the CA that peers compare.
func etcdFingerprint(config *nodeConfig) string {
	sum := sha256.Sum256(config.etcdCA.Crt)

	return hex.EncodeToString(sum[:])
}

func (s *session) peerURL() string {
	return "https://" + net.JoinHostPort(s.preferredAddress().String(), strconv.Itoa(PortEtcdPeer))
}

// runningEtcd is the member of this node while its process runs.
func (s *session) runningEtcd() etcdData {
	s.mu.Lock()
	running := s.etcd.running
	s.mu.Unlock()

	if !running {
		return etcdData{}
	}

	return s.node.read().etcd
}

// etcdHealthy says whether etcd of this node answers linearizable reads: a
// voter in a cluster with quorum.
func (s *session) etcdHealthy() bool {
	data := s.runningEtcd()
	if data.empty() {
		return false
	}

	m, ok := data.cluster.Member(data.id)

	return ok && !m.Learner && data.cluster.HasQuorum()
}

// reconcileEtcd starts, joins and promotes.
func (s *session) reconcileEtcd() {
	config := s.current()
	if config == nil || !config.controlPlane || !s.timeSynced() {
		return
	}

	if config.etcdCA == nil {
		s.setEtcdFailure("etcd CA is missing in the machine configuration (cluster.etcd.ca)")

		return
	}

	if data := s.node.read().etcd; !data.empty() {
		s.keepEtcd(data)

		return
	}

	s.mu.Lock()
	left := s.etcd.left
	s.mu.Unlock()

	if !left && s.joinRetry.due(s) {
		s.joinEtcd(config)
	}
}

// keepEtcd runs the member that the data directory holds.
func (s *session) keepEtcd(data etcdData) {
	m, ok := data.cluster.Member(data.id)
	if !ok {
		data.cluster.SetAlive(data.id, false)
		s.setEtcdRunning(false)
		s.setEtcdFailure("the member has been permanently removed from the cluster")

		return
	}

	s.mu.Lock()
	running, joined := s.etcd.running, s.etcd.joined
	s.mu.Unlock()

	if !running {
		if !s.elapsed(s.booted, s.timings().EtcdStart) && joined.IsZero() {
			return
		}

		data.cluster.SetAlive(data.id, true)
		s.setEtcdRunning(true)
		s.setEtcdFailure("")
		s.logf("[etcd] member %x runs", data.id)
		s.publishEtcdMember(data.id)
		s.fleet.nudge()
	}

	if alarm := s.node.takeAlarm(); alarm != "" {
		data.cluster.Raise(data.id, alarm)
	}

	if !m.Learner || s.node.Faults().LearnerNeverPromotes {
		return
	}

	if joined.IsZero() {
		s.mu.Lock()
		s.etcd.joined = time.Now()
		s.mu.Unlock()

		return
	}

	if s.elapsed(joined, s.timings().LearnerPromotion) {
		if err := data.cluster.Promote(data.id); err != nil {
			s.node.console.onChange("etcd", "promotion: %v", err)

			return
		}

		s.logf("[etcd] member %x promoted to voter", data.id)
		s.fleet.nudge()
	}
}

// joinEtcd looks for a cluster to join; without one the node waits for
// Bootstrap.
func (s *session) joinEtcd(config *nodeConfig) {
	s.etcdLock.Lock()
	defer s.etcdLock.Unlock()

	if !s.node.read().etcd.empty() {
		return
	}

	reason := "waiting for bootstrap: no etcd member in sight"

	for _, p := range s.members(config) {
		if !p.config.controlPlane || p.etcd.empty() {
			continue
		}

		switch {
		case p.etcd.cluster.CA() != etcdFingerprint(config):
			reason = fmt.Sprintf("%s: x509: certificate signed by unknown authority (etcd CA differs)", p.hostname)
		case !s.reaches(p, PortEtcdClient) || !s.reaches(p, PortEtcdPeer) || !s.reachedBy(p, config, PortEtcdPeer):
			reason = fmt.Sprintf("%s: etcd ports %d-%d are not reachable in both directions", p.hostname, PortEtcdClient, PortEtcdPeer)
		default:
			id, err := p.etcd.cluster.AddLearner(s.hostname(), s.peerURL())
			if err == nil {
				s.ownEtcd(etcdData{cluster: p.etcd.cluster, id: id}, true)
				s.logf("[etcd] joined the cluster of %s as learner %x", p.hostname, id)

				return
			}

			reason = fmt.Sprintf("join through %s: %v", p.hostname, err)
		}
	}

	s.setEtcdFailure(reason)
}

// ownEtcd records a new member in the data directory and starts it.
func (s *session) ownEtcd(data etcdData, learner bool) {
	s.node.write(func(d *disk) { d.etcd = data })
	s.mu.Lock()

	s.etcd.running, s.etcd.left = true, false
	s.etcd.failure = ""

	if learner {
		s.etcd.joined = time.Now()
	}
	s.mu.Unlock()

	// A call may still run when the power goes.
	if s.ctx.Err() != nil {
		data.cluster.SetAlive(data.id, false)
	}

	s.publishEtcdMember(data.id)
	s.fleet.nudge()
}

// bootstrapEtcd starts a cluster of one.
func (s *session) bootstrapEtcd(config *nodeConfig, recovery *etcdsim.Recovery) error {
	cluster, id, err := s.fleet.etcd.Bootstrap(etcdFingerprint(config), s.hostname(), s.peerURL(), recovery)
	if err != nil {
		return err
	}

	s.logf("[etcd] bootstrapped cluster %s, member %x", cluster.Name(), id)
	s.ownEtcd(etcdData{cluster: cluster, id: id}, false)

	return nil
}

// leaveEtcd removes this node's member and empties the data directory.
func (s *session) leaveEtcd() error {
	s.etcdLock.Lock()
	defer s.etcdLock.Unlock()

	data := s.node.read().etcd
	if data.empty() {
		return nil
	}

	if err := data.cluster.Remove(data.id); err != nil && !errors.Is(err, etcdsim.ErrMemberNotFound) {
		return err
	}

	s.stopEtcd()
	s.mu.Lock()
	s.etcd.left = true
	s.etcd.failure = "left the cluster"
	s.mu.Unlock()
	s.node.write(func(d *disk) { d.etcd = etcdData{} })
	s.logf("[etcd] member %x left the cluster", data.id)
	s.fleet.etcdDataLost(data)
	s.fleet.nudge()

	return nil
}

// stopEtcd ends the process; the data stays.
func (s *session) stopEtcd() {
	data := s.node.read().etcd

	s.mu.Lock()
	running := s.etcd.running
	s.etcd = etcdState{}
	s.mu.Unlock()

	if running && !data.empty() {
		data.cluster.SetAlive(data.id, false)
		s.fleet.nudge()
	}
}

func (s *session) setEtcdRunning(running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.etcd.running = running
}

func (s *session) setEtcdFailure(reason string) {
	s.mu.Lock()
	s.etcd.failure = reason
	s.mu.Unlock()

	if reason != "" {
		s.node.console.onChange("etcd", "%s", reason)
	}
}
