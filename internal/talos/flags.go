package talos

import (
	"maps"
	"slices"

	coreconfig "github.com/siderolabs/talos/pkg/machinery/config"

	"github.com/ichor-project/ichor/internal/secrets"
)

// ComponentFlags are what a machine config adds to the command line and to the
// feature gates of one component of Kubernetes. What Talos sets by itself is not
// among them: it follows the version.
type ComponentFlags struct {
	// Component is "kubelet", "kube-apiserver", "kube-controller-manager",
	// "kube-scheduler" or "kube-proxy".
	Component string
	// Args are the values of flags by name, without leading dashes.
	Args map[string][]string
	// FeatureGates are the names, sorted, that are set elsewhere than by a flag:
	// in the kubelet's own configuration.
	FeatureGates []string
}

// ReadFlags returns the flags of each component that a machine config, plain or
// compressed, configures; a worker has only the kubelet. Components without any
// are left out. Error: Internal, without content, when the config cannot be read.
func ReadFlags(config secrets.Value) ([]ComponentFlags, error) {
	cfg, err := readConfig(config.Reveal())
	if err != nil {
		return nil, err
	}
	var out []ComponentFlags
	for _, f := range flagsOf(cfg) {
		if len(f.Args)+len(f.FeatureGates) > 0 {
			out = append(out, f)
		}
	}
	return out, nil
}

func flagsOf(cfg coreconfig.Provider) []ComponentFlags {
	var out []ComponentFlags
	if c := cfg.K8sKubeletConfig(); c != nil {
		f := ComponentFlags{Component: "kubelet", Args: c.ExtraArgs()}
		if gates, ok := c.ExtraConfig()["featureGates"].(map[string]any); ok {
			f.FeatureGates = slices.Sorted(maps.Keys(gates))
		}
		out = append(out, f)
	}
	// Machinery answers with defaults for a worker, which runs none of these.
	if m := cfg.Machine(); m == nil || !m.Type().IsControlPlane() {
		return out
	}
	if c := cfg.K8sAPIServerConfig(); c != nil {
		out = append(out, ComponentFlags{Component: "kube-apiserver", Args: c.ExtraArgs()})
	}
	if c := cfg.K8sControllerManagerConfig(); c != nil && c.Enabled() {
		out = append(out, ComponentFlags{Component: "kube-controller-manager", Args: c.ExtraArgs()})
	}
	if c := cfg.K8sSchedulerConfig(); c != nil && c.Enabled() {
		out = append(out, ComponentFlags{Component: "kube-scheduler", Args: c.ExtraArgs()})
	}
	if c := cfg.K8sProxyConfig(); c != nil && c.Enabled() {
		out = append(out, ComponentFlags{Component: "kube-proxy", Args: c.ExtraArgs()})
	}
	return out
}
