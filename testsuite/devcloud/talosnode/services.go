package talosnode

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
)

// Service states, as `talosctl services` prints them.
const (
	stateWaiting   = "Waiting"
	statePreparing = "Preparing"
	stateRunning   = "Running"
	stateFinished  = "Finished"
	stateFailed    = "Failed"
)

// serviceStatus is one line of `talosctl services`.
type serviceStatus struct {
	id      string
	state   string
	healthy bool
	unknown bool
	message string
}

// services remembers when each service changed.
type services struct {
	mu      sync.Mutex
	started map[string]bool
	history map[string][]*machine.ServiceEvent
	last    map[string]serviceStatus
}

func newServices() *services {
	return &services{started: map[string]bool{}, history: map[string][]*machine.ServiceEvent{}, last: map[string]serviceStatus{}}
}

// once is true the first time it is asked about a service.
func (s *services) once(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.started[id] {
		return false
	}

	s.started[id] = true

	return true
}

// record notes changes and returns those that differ from before.
func (s *services) record(now []serviceStatus) []serviceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()

	var changed []serviceStatus

	for _, st := range now {
		if s.last[st.id] == st {
			continue
		}

		s.last[st.id] = st
		changed = append(changed, st)

		msg := st.message
		if msg == "" {
			msg = "Service is " + st.state
		}

		events := append(s.history[st.id], &machine.ServiceEvent{Msg: msg, State: st.state, Ts: timestamppb.New(time.Now())})
		if len(events) > 20 {
			events = slices.Delete(events, 0, len(events)-20)
		}

		s.history[st.id] = events
	}

	return changed
}

// info is the answer of the ServiceList RPC.
func (s *services) info(now []serviceStatus) []*machine.ServiceInfo {
	s.record(now)

	s.mu.Lock()
	defer s.mu.Unlock()

	out := make([]*machine.ServiceInfo, 0, len(now))

	for _, st := range now {
		events := slices.Clone(s.history[st.id])
		out = append(out, &machine.ServiceInfo{
			Id:     st.id,
			State:  st.state,
			Events: &machine.ServiceEvents{Events: events},
			Health: &machine.ServiceHealth{
				Unknown:     st.unknown,
				Healthy:     st.healthy,
				LastMessage: st.message,
				LastChange:  events[len(events)-1].GetTs(),
			},
		})
	}

	return out
}

// serviceStatuses describes the services as they are now, by id.
func (s *session) serviceStatuses() []serviceStatus {
	s.mu.Lock()
	config, apid, etcd, kube := s.config, s.apid, s.etcd, s.kube
	s.mu.Unlock()

	always := func(id string) serviceStatus { return serviceStatus{id: id, state: stateRunning, healthy: true} }
	unchecked := func(id string) serviceStatus { return serviceStatus{id: id, state: stateRunning, unknown: true} }

	out := []serviceStatus{unchecked("auditd"), always("containerd"), unchecked("dashboard"), always("machined"), always("syslogd"), always("udevd")}

	front := serviceStatus{id: "apid", state: stateWaiting, unknown: true, message: "waiting for api certificates"}
	if apid != nil {
		front = always("apid")
	}

	out = append(out, front)

	if config == nil {
		return sorted(out)
	}

	out = append(out, always("cri"), s.kubeletStatus(config, kube))

	if config.controlPlane {
		out = append(out, always("trustd"), s.etcdStatus(etcd))
	}

	return sorted(out)
}

func (s *session) etcdStatus(etcd etcdState) serviceStatus {
	switch {
	case etcd.left:
		return serviceStatus{id: "etcd", state: stateFinished, unknown: true, message: etcd.failure}
	case !etcd.running && etcd.failure != "":
		return serviceStatus{id: "etcd", state: statePreparing, unknown: true, message: etcd.failure}
	case !etcd.running:
		return serviceStatus{id: "etcd", state: stateWaiting, unknown: true, message: "waiting for time to be synced"}
	case s.etcdHealthy():
		return serviceStatus{id: "etcd", state: stateRunning, healthy: true, message: "Health check successful"}
	default:
		return serviceStatus{id: "etcd", state: stateRunning, message: "Health check failed: context deadline exceeded"}
	}
}

func (s *session) kubeletStatus(config *nodeConfig, kube kubeState) serviceStatus {
	switch {
	case !kube.restarting.IsZero():
		return serviceStatus{id: "kubelet", state: statePreparing, unknown: true, message: "Creating service runner"}
	case kube.kubelet == nil && config.kubernetes == nil:
		return serviceStatus{id: "kubelet", state: stateFailed, unknown: true, message: "no kubelet configuration"}
	case kube.kubelet == nil:
		return serviceStatus{id: "kubelet", state: stateWaiting, unknown: true, message: "waiting for kubelet spec"}
	default:
		return serviceStatus{id: "kubelet", state: stateRunning, healthy: true, message: "Health check successful"}
	}
}

func sorted(in []serviceStatus) []serviceStatus {
	slices.SortFunc(in, func(a, b serviceStatus) int {
		if a.id < b.id {
			return -1
		}

		return 1
	})

	return in
}
