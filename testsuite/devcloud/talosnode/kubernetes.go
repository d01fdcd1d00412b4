package talosnode

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// kubeState is what of Kubernetes runs in this boot.
type kubeState struct {
	starting   bool
	control    guest.RunningControlPlane
	quorum     bool
	components map[string]component // replaced as a whole

	kubelet     guest.RunningKubelet
	kubeletSpec guest.Kubelet
	restarting  time.Time // since the kubelet ended to start again
}

// reconcileKubernetes runs the control plane while etcd is healthy, and the
// kubelet always.
func (s *session) reconcileKubernetes() {
	config := s.current()
	if config == nil || config.kubernetes == nil || !s.timeSynced() {
		return
	}

	if config.controlPlane {
		s.reconcileControlPlane(config)
	}

	s.reconcileKubelet(config)
}

func (s *session) reconcileControlPlane(config *nodeConfig) {
	healthy := s.etcdHealthy()

	s.mu.Lock()
	running, starting := s.kube.control, s.kube.starting
	quorumChanged := running != nil && s.kube.quorum != healthy
	s.kube.quorum = healthy
	s.mu.Unlock()

	switch {
	case starting:
		return
	case running == nil && healthy:
		s.startControlPlane(config)

		return
	case running == nil:
		return
	case quorumChanged:
		s.logf("[kube] etcd healthy: %v", healthy)
		running.SetQuorum(healthy)
	}

	if s.reconcileComponents(config) {
		s.restartAPIServer(config, running)
	}
}

// restartAPIServer replaces the process behind the node's API, in the background.
func (s *session) restartAPIServer(config *nodeConfig, running guest.RunningControlPlane) {
	data := s.runningEtcd()
	if data.empty() {
		return
	}

	spec := s.controlPlaneSpec(config, data)

	s.mu.Lock()
	s.kube.starting = true
	s.mu.Unlock()

	s.background(func() {
		err := running.Restart(spec)

		s.mu.Lock()
		s.kube.starting = false
		s.mu.Unlock()

		if err != nil && s.ctx.Err() == nil {
			s.node.console.onChange("kube-apiserver", "not started: %v", err)
		}

		s.nudge()
	})
}

func (s *session) controlPlaneSpec(config *nodeConfig, data etcdData) guest.ControlPlane {
	k := config.kubernetes
	names := slices.Clone(k.certSANs)

	if config.endpointHost != "" {
		names = append(names, config.endpointHost)
	}

	names = append(names, s.nodename(config))
	for _, a := range s.reachable() {
		names = append(names, a.String())
	}

	slices.Sort(names)

	return guest.ControlPlane{
		EtcdCluster:       data.cluster.Datastore(),
		ClusterName:       config.clusterName,
		NodeName:          s.nodename(config),
		KubernetesVersion: imageTag(k.apiServerImage),
		Listen:            s.node.server.Loopback,
		Endpoint:          config.endpoint,
		CertSANs:          slices.Compact(names),
		CACert:            k.caCert,
		CAKey:             k.caKey,
		AggregatorCACert:  k.aggregatorCert,
		AggregatorCAKey:   k.aggregKey,
		ServiceAccount:    k.serviceAccount,
		BootstrapToken:    k.bootstrapToken,
		PodCIDRs:          k.podCIDRs,
		ServiceCIDRs:      k.serviceCIDRs,
		DefaultCNI:        k.flannel,
		Manifests:         s.objects(config),
		Exclusive:         s.fleet.opts.ExclusiveAPIServers,
	}
}

// startControlPlane renders the static pods, in the background because real
// processes start.
func (s *session) startControlPlane(config *nodeConfig) {
	data := s.runningEtcd()
	if data.empty() {
		return
	}

	spec := s.controlPlaneSpec(config, data)

	s.mu.Lock()
	s.kube.starting = true
	s.mu.Unlock()

	s.background(func() {
		running, err := s.fleet.opts.Kubernetes.StartControlPlane(s.ctx, spec)

		s.mu.Lock()
		s.kube.starting = false
		late := err == nil && s.ctx.Err() != nil

		if err == nil && !late {
			s.kube.control = running
			s.kube.quorum = true
		}
		s.mu.Unlock()

		switch {
		case err != nil:
			s.node.console.onChange("kube-apiserver", "not started: %v", err)

			return
		case late: // the power went while it started
			running.Stop()

			return
		}

		s.logf("[kube] control plane %s started", spec.KubernetesVersion)
		s.forwardAPI()
		s.nudge()
	})
}

func (s *session) kubeletSpec(config *nodeConfig) (guest.Kubelet, bool) {
	k := config.kubernetes

	ip, ok := s.nodeIP(k.nodeSubnets)
	if !ok {
		s.node.console.onChange("kubelet", "no address of this node is in the node IP subnets %v", k.nodeSubnets)

		return guest.Kubelet{}, false
	}

	spec := guest.Kubelet{
		NodeName:              s.nodename(config),
		Endpoint:              config.endpoint,
		CACert:                k.caCert,
		BootstrapToken:        k.bootstrapToken,
		Version:               imageTag(k.kubeletImage),
		TalosVersion:          s.slot.version,
		ControlPlane:          config.controlPlane,
		Labels:                k.labels,
		Taints:                k.taints,
		ExternalCloudProvider: k.externalCloud,
		ProviderID:            k.providerID,
		InternalIP:            ip,
		VCPUs:                 s.node.server.VCPUs,
		MemoryMiB:             s.node.server.MemoryMiB,
		DiskGiB:               s.node.server.DiskGiB,
		GPUs:                  s.drivenGPUs(),
		Arch:                  s.node.server.Image.Arch,
		Source:                s.node.server.Loopback,
		ServerUUID:            s.node.server.UUID,
		BootID:                s.bootID,
		Private:               len(s.node.server.Private) > 0,
	}

	if s.node.server.Public && ip != s.node.server.Loopback {
		spec.ExternalIP = s.node.server.Loopback
	}

	if config.controlPlane {
		spec.StaticPods = s.staticPods
	}

	if data := s.node.read().etcd; config.controlPlane && !data.empty() {
		spec.EtcdCluster = data.cluster.Datastore()
	}

	return spec, true
}

// drivenGPUs counts the GPUs that containers can use: NVIDIA's, if the system that
// runs has kernel modules for them and what gives them to containers.
func (s *session) drivenGPUs() int {
	has := func(part string) bool {
		return slices.ContainsFunc(s.extensions(), func(e string) bool { return strings.Contains(e, part) })
	}
	driven := has("nvidia-container-toolkit") && (has("nvidia-open-gpu-kernel-modules") || has("nonfree-kmod-nvidia"))

	if !driven || !strings.HasPrefix(s.node.server.GPU, "NVIDIA") {
		return 0
	}

	return s.node.server.GPUs
}

// nodeIP is the first address inside the configured subnets.
func (s *session) nodeIP(subnets []string) (netip.Addr, bool) {
	all := s.addresses()
	if len(subnets) == 0 && len(all) > 0 {
		return all[0], true
	}

	for _, a := range all {
		for _, subnet := range subnets {
			if p, err := netip.ParsePrefix(subnet); err == nil && p.Contains(a) {
				return a, true
			}
		}
	}

	return netip.Addr{}, false
}

// reconcileKubelet starts the kubelet and restarts it when its config changed.
func (s *session) reconcileKubelet(config *nodeConfig) {
	s.mu.Lock()
	running, old, restarting := s.kube.kubelet, s.kube.kubeletSpec, s.kube.restarting
	s.mu.Unlock()

	if config.kubernetes.skipRegistration || s.node.Faults().NeverJoins {
		return
	}

	if running == nil && !s.elapsed(s.booted, s.timings().KubeletStart) {
		return
	}

	if config.controlPlane && s.node.read().etcd.empty() {
		return
	}

	spec, ok := s.kubeletSpec(config)
	if !ok {
		return
	}

	switch {
	case running != nil && sameKubelet(old, spec):
		if reason := running.LastError(); reason != "" && !running.Ready() {
			s.node.console.onChange("kubelet", "%s", reason)
		}

		return
	case running != nil:
		s.logf("[kubelet] restarts with %s", config.kubernetes.kubeletImage)
		s.restartKubelet()

		return
	case !restarting.IsZero() && !s.elapsed(restarting, s.timings().KubeletRestart):
		return
	case !restarting.IsZero() && s.fetch(config.kubernetes.kubeletImage):
		return
	}

	running = s.fleet.opts.Kubernetes.StartKubelet(spec)

	s.mu.Lock()
	s.kube.kubelet, s.kube.kubeletSpec, s.kube.restarting = running, spec, time.Time{}
	s.mu.Unlock()
}

// restartKubelet ends the kubelet; the next look starts it again.
func (s *session) restartKubelet() {
	s.mu.Lock()
	kubelet := s.kube.kubelet
	s.kube.kubelet, s.kube.restarting = nil, time.Now()
	s.mu.Unlock()

	if kubelet != nil {
		kubelet.Stop()
	}

	s.destroyService("kubelet")
}

// sameKubelet compares what a running kubelet cannot change.
func sameKubelet(a, b guest.Kubelet) bool {
	return a.Version == b.Version && a.Endpoint == b.Endpoint && a.NodeName == b.NodeName && a.ProviderID == b.ProviderID &&
		a.EtcdCluster == b.EtcdCluster && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Taints, b.Taints) && a.InternalIP == b.InternalIP
}

// stopKubernetes ends everything of this node; data stays with the cluster.
func (s *session) stopKubernetes() {
	s.mu.Lock()
	kube := s.kube
	s.kube.control, s.kube.kubelet = nil, nil
	s.mu.Unlock()

	if kube.kubelet != nil {
		kube.kubelet.Stop()
	}

	if kube.control != nil {
		kube.control.Stop()
	}
}
