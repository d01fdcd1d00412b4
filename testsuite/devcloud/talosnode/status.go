package talosnode

import (
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

// stages maps the event's stage to the resource's.
var stages = map[machine.MachineStatusEvent_MachineStage]runtime.MachineStage{
	machine.MachineStatusEvent_BOOTING:       runtime.MachineStageBooting,
	machine.MachineStatusEvent_INSTALLING:    runtime.MachineStageInstalling,
	machine.MachineStatusEvent_MAINTENANCE:   runtime.MachineStageMaintenance,
	machine.MachineStatusEvent_RUNNING:       runtime.MachineStageRunning,
	machine.MachineStatusEvent_REBOOTING:     runtime.MachineStageRebooting,
	machine.MachineStatusEvent_SHUTTING_DOWN: runtime.MachineStageShuttingDown,
	machine.MachineStatusEvent_RESETTING:     runtime.MachineStageResetting,
	machine.MachineStatusEvent_UPGRADING:     runtime.MachineStageUpgrading,
}

// setStage enters a stage and says so.
func (s *session) setStage(stage machine.MachineStatusEvent_MachineStage) {
	s.mu.Lock()
	s.stage = stage
	s.mu.Unlock()

	s.reconcileStatus()
}

// unmet lists what keeps the machine from being ready in its stage.
func (s *session) unmet() []runtime.UnmetCondition {
	s.mu.Lock()
	config, stage, synced, kube := s.config, s.stage, s.timeSync, s.kube
	s.mu.Unlock()

	if config == nil || stage != machine.MachineStatusEvent_RUNNING {
		return nil
	}

	var out []runtime.UnmetCondition

	add := func(name, reason string) { out = append(out, runtime.UnmetCondition{Name: name, Reason: reason}) }

	if !synced {
		add("time", "time is not synced")
	}

	var waiting string

	for _, st := range s.serviceStatuses() {
		if st.state != stateRunning || (!st.healthy && !st.unknown) {
			if waiting != "" {
				waiting += ", "
			}

			waiting += st.id + " not running or unhealthy"
		}
	}

	if waiting != "" {
		add("services", waiting)
	}

	if config.kubernetes == nil {
		return out
	}

	if config.controlPlane {
		if reason := s.staticPodsUnmet(config, kube); reason != "" {
			add("staticPods", reason)
		}
	}

	if kube.kubelet == nil || !kube.kubelet.Ready() {
		reason := "node not ready"

		if kube.kubelet != nil && kube.kubelet.LastError() != "" {
			reason = kube.kubelet.LastError()
		}

		add("nodeReady", reason)
	}

	return out
}

// staticPodsUnmet names the static pods that are not ready; empty when all are.
func (s *session) staticPodsUnmet(config *nodeConfig, kube kubeState) string {
	var waiting []string

	for _, cc := range config.componentConfigs() {
		c, runs := kube.components[cc.id]
		if kube.control == nil || !runs || !s.componentReady(kube, cc.id, c) {
			waiting = append(waiting, "kube-system/"+cc.id+"-"+s.nodename(config)+" not ready")
		}
	}

	return strings.Join(waiting, ", ")
}

// reconcileStatus publishes stage, readiness and services when they changed.
func (s *session) reconcileStatus() {
	if s.cosi == nil {
		return
	}

	unmet := s.unmet()

	s.mu.Lock()
	stage := s.stage
	ready := (stage == machine.MachineStatusEvent_RUNNING || stage == machine.MachineStatusEvent_MAINTENANCE) && len(unmet) == 0
	turned := ready && !s.ready
	s.ready = ready
	s.mu.Unlock()

	if turned && stage == machine.MachineStatusEvent_RUNNING {
		s.logf("[talos] machine is running and ready")
		s.node.write(func(d *disk) { d.fallback = false })
		s.node.back()
	}

	if s.publishStatus(stages[stage], ready, unmet) {
		s.emitMachineStatus(stage, ready, unmet)
	}

	statuses := s.serviceStatuses()
	for _, st := range s.services.record(statuses) {
		s.emitService(st)
		s.publishService(st)
	}

	if config := s.current(); config != nil {
		s.publishTime()
		s.publishKubernetes(config)
	}
}
