package talosnode

import (
	"maps"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// componentConfig is what the machine config says about one static pod of the
// control plane.
type componentConfig struct {
	id        string
	image     string
	extraArgs map[string][]string
	env       map[string]string
}

// component is a static pod as this boot runs it. Other than real ones it runs
// as soon as the API server's process has been started.
type component struct {
	// version is that of the config resource that it was rendered from, the
	// secrets' and the config files' never change here.
	version string
	image   string
	since   time.Time
	// pulling says that the image is not there yet.
	pulling bool
}

// componentConfigs are the static pods of a control plane, in the order in which
// Kubernetes wants them upgraded.
func (c *nodeConfig) componentConfigs() []componentConfig {
	if c.kubernetes == nil || !c.controlPlane {
		return nil
	}

	return c.kubernetes.components
}

func (c *nodeConfig) readComponents(k *kubernetesConfig) {
	if api := c.provider.K8sAPIServerConfig(); api != nil {
		k.components = append(k.components, componentConfig{k8s.APIServerID, api.Image(), api.ExtraArgs(), api.Env()})
	}

	if m := c.provider.K8sControllerManagerConfig(); m != nil && m.Enabled() {
		k.components = append(k.components, componentConfig{k8s.ControllerManagerID, m.Image(), m.ExtraArgs(), m.Env()})
	}

	if s := c.provider.K8sSchedulerConfig(); s != nil && s.Enabled() {
		k.components = append(k.components, componentConfig{k8s.SchedulerID, s.Image(), s.ExtraArgs(), s.Env()})
	}
}

// configIDs are the ids of a component's config resource; the last one is what
// its pod is rendered from.
func (s *session) configIDs(component string) []resource.ID {
	if s.version.atLeast(14) {
		return []resource.ID{component, k8s.FinalPrefix + component}
	}

	return []resource.ID{component}
}

// publishComponents publishes the config resources of the static pods, whose
// versions count the changes since boot.
func (s *session) publishComponents(c *nodeConfig) {
	for _, cc := range c.componentConfigs() {
		args := map[string]k8s.ArgValues{}
		for name, values := range cc.extraArgs {
			args[name] = k8s.ArgValues{Values: values}
		}

		for _, id := range s.configIDs(cc.id) {
			switch cc.id {
			case k8s.APIServerID:
				publish(s, k8s.NewAPIServerConfig(id), func(r *k8s.APIServerConfig) {
					spec := r.TypedSpec()
					spec.Image, spec.ExtraArgs, spec.EnvironmentVariables = cc.image, args, cc.env
					spec.ControlPlaneEndpoint, spec.LocalPort = c.endpoint, PortKubernetes
					spec.ServiceCIDRs = c.kubernetes.serviceCIDRs
				})
			case k8s.ControllerManagerID:
				publish(s, k8s.NewControllerManagerConfig(id), func(r *k8s.ControllerManagerConfig) {
					spec := r.TypedSpec()
					spec.Image, spec.ExtraArgs, spec.EnvironmentVariables = cc.image, args, cc.env
				})
			case k8s.SchedulerID:
				publish(s, k8s.NewSchedulerConfig(id), func(r *k8s.SchedulerConfig) {
					spec := r.TypedSpec()
					spec.Image, spec.ExtraArgs, spec.EnvironmentVariables = cc.image, args, cc.env
				})
			}
		}
	}
}

// configVersion is the version that the annotation of a static pod names.
func (s *session) configVersion(component string) (string, bool) {
	ids := s.configIDs(component)
	id := ids[len(ids)-1]

	var md resource.Pointer

	switch component {
	case k8s.APIServerID:
		md = k8s.NewAPIServerConfig(id).Metadata()
	case k8s.ControllerManagerID:
		md = k8s.NewControllerManagerConfig(id).Metadata()
	default:
		md = k8s.NewSchedulerConfig(id).Metadata()
	}

	r, err := s.cosi.Get(s.ctx, md)
	if err != nil {
		return "", false
	}

	return r.Metadata().Version().String(), true
}

// reconcileComponents restarts the static pods whose config changed, and says
// whether the API server is one of them.
func (s *session) reconcileComponents(config *nodeConfig) (apiServer bool) {
	for _, cc := range config.componentConfigs() {
		version, ok := s.configVersion(cc.id)
		if !ok {
			continue
		}

		s.mu.Lock()
		old, runs := s.kube.components[cc.id]
		s.mu.Unlock()

		if runs && old.version == version {
			if old.pulling && s.pulled(cc.image) {
				old.pulling = false
				s.setComponent(cc.id, old)
			}

			continue
		}

		next := component{version: version, image: cc.image, since: time.Now()}

		if runs {
			s.logf("[kube] static pod %s changes to %s, config version %s", cc.id, cc.image, version)

			next.pulling = s.fetch(cc.image)
			apiServer = apiServer || cc.id == k8s.APIServerID
		} else {
			next.since = time.Time{} // part of the control plane's first start
		}

		s.setComponent(cc.id, next)
	}

	return apiServer
}

func (s *session) setComponent(id string, c component) {
	s.mu.Lock()
	defer s.mu.Unlock()

	components := maps.Clone(s.kube.components)
	if components == nil {
		components = map[string]component{}
	}

	components[id] = c
	s.kube.components = components
}

// staticPods are the control plane's pods as this node's kubelet sees them.
func (s *session) staticPods() []guest.StaticPod {
	config := s.current()

	s.mu.Lock()
	kube := s.kube
	s.mu.Unlock()

	if config == nil || kube.control == nil {
		return nil
	}

	var out []guest.StaticPod

	for _, cc := range config.componentConfigs() {
		c, ok := kube.components[cc.id]
		if !ok {
			continue
		}

		pod := guest.StaticPod{
			Name: cc.id, Image: c.image, Command: command(cc), Ready: s.componentReady(kube, cc.id, c),
			Annotations: map[string]string{
				constants.AnnotationStaticPodConfigVersion:  c.version,
				constants.AnnotationStaticPodSecretsVersion: "1",
			},
		}
		if cc.id == k8s.APIServerID {
			pod.Annotations[constants.AnnotationStaticPodConfigFileVersion] = "1"
		}

		out = append(out, pod)
	}

	return out
}

func command(cc componentConfig) []string {
	out := []string{"/usr/local/bin/" + cc.id}

	for _, name := range slices.Sorted(maps.Keys(cc.extraArgs)) {
		for _, value := range cc.extraArgs[name] {
			out = append(out, "--"+name+"="+value)
		}
	}

	return out
}

// componentReady says whether a static pod passes its readiness probe: the API
// server answers, the others reach one that does.
func (s *session) componentReady(kube kubeState, id string, c component) bool {
	if c.pulling || !kube.quorum || !c.since.IsZero() && !s.elapsed(c.since, s.timings().StaticPodRestart) {
		return false
	}

	return id != k8s.APIServerID || kube.control.Ready()
}

// apiServerUp says whether this node's own API server takes connections.
func (s *session) apiServerUp() bool {
	s.mu.Lock()
	kube := s.kube
	s.mu.Unlock()

	c, ok := kube.components[k8s.APIServerID]

	return kube.control != nil && ok && !c.pulling && (c.since.IsZero() || s.elapsed(c.since, s.timings().StaticPodRestart))
}

// publishStaticPods publishes the manifests and the state of the static pods.
func (s *session) publishStaticPods(c *nodeConfig) {
	for _, pod := range s.staticPods() {
		publish(s, k8s.NewStaticPod(k8s.NamespaceName, pod.Name), func(r *k8s.StaticPod) {
			r.TypedSpec().Pod = manifestOf(pod)
		})

		status := "False"
		if pod.Ready {
			status = "True"
		}

		publish(s, k8s.NewStaticPodStatus(k8s.NamespaceName, "kube-system/"+pod.Name+"-"+s.nodename(c)), func(r *k8s.StaticPodStatus) {
			r.TypedSpec().PodStatus = map[string]any{
				"phase":      "Running",
				"conditions": []any{map[string]any{"type": "Ready", "status": status}},
			}
		})
	}
}

func manifestOf(pod guest.StaticPod) map[string]any {
	annotations := map[string]any{}
	for key, value := range pod.Annotations {
		annotations[key] = value
	}

	arguments := make([]any, 0, len(pod.Command))
	for _, a := range pod.Command {
		arguments = append(arguments, a)
	}

	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": pod.Name, "namespace": "kube-system", "annotations": annotations},
		"spec": map[string]any{"hostNetwork": true, "containers": []any{
			map[string]any{"name": pod.Name, "image": pod.Image, "command": arguments},
		}},
	}
}
