package talosnode

import (
	"context"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
)

// exitKind says what comes after a session.
type exitKind int

const (
	exitOff exitKind = iota
	exitReboot
)

// departure is a request of the node itself to end the session.
type departure struct {
	kind     exitKind
	sequence string
	stage    machine.MachineStatusEvent_MachineStage
	actor    string
	// drain cordons and drains the node first; it stays when that fails.
	drain bool
	// before runs when services have stopped; what it returns is logged and,
	// with an error, ends the sequence without a reboot.
	before func(context.Context) error
}

// depart ends the session in an orderly way. It returns false when the
// sequence failed and the node stays.
func (s *session) depart(d departure) bool {
	s.logf("%s sequence: start", d.sequence)
	s.emitSequence(d.sequence, machine.SequenceEvent_START, d.actor, nil)
	s.setStage(d.stage)

	if d.drain {
		if err := s.drain(); err != nil {
			return s.stay(d, err)
		}
	}

	s.node.away(d.sequence, true)

	stopped := s.sleep(s.timings().ServiceStop)

	time.Sleep(replyTime)

	if stopped && d.before != nil {
		if err := d.before(s.ctx); err != nil {
			return s.stay(d, err)
		}
	}

	s.logf("%s sequence: done", d.sequence)
	s.emitSequence(d.sequence, machine.SequenceEvent_STOP, d.actor, nil)

	return true
}

// stay ends a sequence that failed; always false.
func (s *session) stay(d departure, err error) bool {
	s.logf("%s sequence: failed: %v", d.sequence, err)
	s.emitSequence(d.sequence, machine.SequenceEvent_STOP, d.actor, err)
	s.setBusy("")
	s.setStage(machine.MachineStatusEvent_RUNNING)

	return false
}

// drainTimeout is how long Talos tries to drain its node.
//
// Source: DrainTimeout of Talos' pkg/kubernetes.
const drainTimeout = 5 * time.Minute

// drain empties the node as it does for its own upgrade.
func (s *session) drain() error {
	s.mu.Lock()
	kubelet := s.kube.kubelet
	s.mu.Unlock()

	if kubelet == nil {
		return nil
	}

	s.logf("[talos] cordoning and draining the node")

	ctx, cancel := context.WithTimeout(s.ctx, max(s.scale(drainTimeout), leastDrain))
	defer cancel()

	return kubelet.Drain(ctx)
}

// leastDrain is real time: a fast clock makes the real API no faster.
const leastDrain = 5 * time.Second

// request asks the session's loop to leave; false when something else already
// runs.
func (s *session) request(d departure) bool {
	if !s.setBusy(d.sequence) {
		return false
	}

	s.leave <- d

	return true
}

// setBusy claims the machine for a sequence; an empty name gives it back.
func (s *session) setBusy(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	if name != "" && s.busy != "" {
		return false
	}

	s.busy = name

	return true
}

// teardown stops everything that a power cut stops.
func (s *session) teardown() {
	// A machine that hangs in its reboot, with the power on, sends no FIN.
	hang := s.node.Faults().HangAfterReboot && s.ctx.Err() == nil
	if hang {
		for _, g := range s.openGates() {
			g.freeze()
		}
	}

	s.node.away("power off", false)
	s.cancel()
	s.advert.Store(nil)
	s.fleet.changes.Add(1)
	s.stopEtcd()
	s.stopKubernetes()

	for _, g := range s.openGates() {
		closeQuietly(g)
	}

	s.stopServers()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wg.Wait()
	s.endTrial()

	if !hang {
		s.release()
	}
}

// release closes connections that a hanging machine kept open.
func (s *session) release() {
	for _, g := range s.openGates() {
		g.release()
	}
}
