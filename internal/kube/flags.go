package kube

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/siderolabs/go-kubernetes/kubernetes/upgrade"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"

	"github.com/ichor-project/ichor/internal/fault"
)

// Flags are what a component of Kubernetes is started with beyond its defaults.
type Flags struct {
	// Component is "kubelet", "kube-apiserver", "kube-controller-manager",
	// "kube-scheduler" or "kube-proxy".
	Component string
	// Args are the values of flags by name, without leading dashes.
	Args map[string][]string
	// FeatureGates are names that are set elsewhere than by a flag.
	FeatureGates []string
}

// Kinds of RemovedFlag.
const (
	RemovedArg       = "flag"
	RemovedGate      = "feature gate"
	RemovedAdmission = "admission plugin"
)

// RemovedFlag is something that a component is started with and that a Kubernetes
// minor does not know any more: the component of that minor does not start.
type RemovedFlag struct {
	Component string
	Kind      string
	Name      string
	// Version is the first minor without it, for example "1.37".
	Version string
}

// RemovedFlags returns what of the given flags goes on the way from one Kubernetes
// version to another, by the tables of go-kubernetes: flags of kubelet, API server
// and controller manager, admission plugins, and feature gates of all components,
// also of kube-proxy and of the kubelet's own configuration. The order is that of
// the steps, then of the input. A way that those tables do not cover has no
// removals here; RemovedAPIs refuses it. Error: Invalid when a version cannot be
// read.
func RemovedFlags(ctx context.Context, from, to string, flags []Flags) ([]RemovedFlag, error) {
	const op = "look for removed flags of Kubernetes"
	w, err := wayOf(op, from, to)
	if err != nil {
		return nil, err
	}
	var out []RemovedFlag
	for _, step := range w.steps {
		for _, f := range flags {
			found, err := f.removedBy(ctx, step)
			if err != nil {
				return nil, fault.Wrap(fault.Internal, op, err)
			}
			out = append(out, found...)
		}
	}
	return out, nil
}

// removedBy runs the checks for one step and one component.
//
// The checks read a node's resources and look for feature gates in static pods
// only, with one table for all components. So each component is shown to them as a
// node of its own; the gates of those that are no static pods are shown as a
// scheduler's, and nothing else of them.
func (f Flags) removedBy(ctx context.Context, step *upgrade.Path) ([]RemovedFlag, error) {
	const node = "node"
	args := f.dashed()
	gates := map[string][]string{gatesFlag: slices.Concat(args[gatesFlag], f.FeatureGates)}
	var resources []resource.Resource
	switch f.Component {
	case k8s.APIServerID, k8s.ControllerManagerID, k8s.SchedulerID:
		resources = append(resources, staticPod(f.Component, command(args)))
	case k8s.KubeletID:
		spec := k8s.NewKubeletSpec(k8s.NamespaceName, k8s.KubeletID)
		spec.TypedSpec().Args = command(args)
		resources = append(resources, spec)
		fallthrough
	default:
		resources = append(resources, staticPod(k8s.SchedulerID, command(gates)))
	}
	st := state.WrapCore(namespaced.NewState(inmem.Build))
	for _, r := range resources {
		if err := st.Create(ctx, r); err != nil {
			return nil, err
		}
	}
	provide := func(context.Context, string) (state.State, error) { return st, nil }
	checks, err := upgrade.NewChecksWithStateProvider(step, provide, nil, []string{node}, nil, func(string, ...any) {})
	if err != nil {
		return nil, err
	}
	var found upgrade.ComponentRemovedItemsError
	if err := checks.Run(ctx); err != nil && !errors.As(err, &found) {
		return nil, err
	}
	var out []RemovedFlag
	add := func(kind string, items []upgrade.ComponentItem) {
		for _, item := range items {
			out = append(out, RemovedFlag{Component: f.Component, Kind: kind, Name: item.Value, Version: minorText(step.ToVersion())})
		}
	}
	add(RemovedArg, found.CLIFlags)
	add(RemovedGate, found.FeatureGates)
	add(RemovedAdmission, found.AdmissionFlags)
	return out, nil
}

const gatesFlag = "feature-gates"

// dashed are the flags with dashes for underscores: the components take both.
func (f Flags) dashed() map[string][]string {
	out := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(f.Args)) {
		key := strings.ReplaceAll(name, "_", "-")
		out[key] = append(out[key], f.Args[name]...)
	}
	return out
}

// command is flags as arguments, sorted. One that is given several times becomes
// one: what the checks look into are lists, and they read the first one only.
func command(args map[string][]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(args)) {
		out = append(out, "--"+name+"="+strings.Join(args[name], ","))
	}
	return out
}

func staticPod(component string, command []string) *k8s.StaticPod {
	r := k8s.NewStaticPod(k8s.NamespaceName, component)
	r.TypedSpec().Pod = map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"command": command}}}}
	return r
}
