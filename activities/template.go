package activities

import (
	"context"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// GetNodeTemplate returns what the next node of a group will look like to the
// scheduler: the flavor's amounts without what kernel, Talos and kubelet keep,
// labels and taints. It reads only. Errors: Invalid when the account has no such
// flavor.
func (c *Cloud) GetNodeTemplate(ctx context.Context, in GetNodeTemplateInput) (cluster.NodeTemplate, error) {
	defer alive(ctx, "computing the node template")()
	var out cluster.NodeTemplate
	p, _, err := c.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return out, err
	}
	flavors, err := p.Flavors(ctx)
	if err != nil {
		return out, err
	}
	at := slices.IndexFunc(flavors, func(f cloud.Flavor) bool { return f.Name == in.Flavor })
	if at < 0 {
		return out, fault.New(fault.Invalid, "compute node template", "the cloud has no flavor %q", in.Flavor)
	}
	f := flavors[at]
	settings := NodeSettings{Kubelet: plan.DefaultKubelet(in.Role), Labels: in.Labels, Taints: in.Taints}
	if !in.Standalone {
		data, _, err := machineConfig(ctx, c.Store, c.Configs, configOf{
			cluster: in.Ref, role: in.Role, group: in.Group, name: cluster.MachineName(in.Ref.Name, in.Group, "template"),
		})
		if err != nil {
			return out, err
		}
		if settings, err = c.Configs.NodeSettings(data); err != nil {
			return out, err
		}
	}
	guest := plan.Guest{VCPUs: f.VCPUs, MemoryMiB: f.MemoryMiB, DiskGiB: in.DiskGiB, GPUs: f.GPUs, GPUResource: gpuResource(f)}
	out.Capacity, out.Allocatable = plan.Resources(guest, settings.Kubelet)
	out.Labels = templateLabels(p, in, f, settings.Labels)
	out.Taints = slices.Clone(settings.Taints)
	return out, nil
}

// gpuResource names the resource by which Kubernetes counts a flavor's GPUs.
func gpuResource(f cloud.Flavor) string {
	if strings.Contains(strings.ToLower(f.GPUName), "amd") {
		return "amd.com/gpu"
	}
	return "nvidia.com/gpu"
}

// templateLabels are the labels that a node gets from its kubelet, from the
// cloud's controllers and from its config, sorted by key.
func templateLabels(p cloud.Provider, in GetNodeTemplateInput, f cloud.Flavor, own []cluster.Tag) []cluster.Tag {
	labels := map[string]string{
		"kubernetes.io/os":                 "linux",
		"kubernetes.io/arch":               f.Arch,
		"node.kubernetes.io/instance-type": f.Name,
		"topology.kubernetes.io/zone":      in.Zone,
	}
	if l, ok := p.(cloud.NodeLabels); ok {
		for _, t := range l.NodeLabels(in.Zone) {
			labels[t.Key] = t.Value
		}
	}
	// Kubelet and cloud controllers set both names. An autoscaler that balances
	// takes groups as alike only if their nodes have the same labels.
	for old, now := range oldLabels {
		labels[old] = labels[now]
	}
	for _, t := range own {
		labels[t.Key] = t.Value
	}
	out := make([]cluster.Tag, 0, len(labels))
	for k, v := range labels {
		if v != "" || slices.ContainsFunc(own, func(t cluster.Tag) bool { return t.Key == k }) {
			out = append(out, cluster.Tag{Key: k, Value: v})
		}
	}
	slices.SortFunc(out, func(a, b cluster.Tag) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// oldLabels are the former names of labels that nodes still have (kubelet,
// initialNode; cloud-provider, node controller).
var oldLabels = map[string]string{
	"beta.kubernetes.io/os":                    "kubernetes.io/os",
	"beta.kubernetes.io/arch":                  "kubernetes.io/arch",
	"beta.kubernetes.io/instance-type":         "node.kubernetes.io/instance-type",
	"failure-domain.beta.kubernetes.io/zone":   "topology.kubernetes.io/zone",
	"failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}

// AdoptMachines gives machines that were made by other means, and that carry the
// given tag, the identity of the group, and returns all machines of the owner.
// What has an identity already is left as it is. It makes and deletes nothing
// and is safe to repeat. Invalid when the cloud cannot do it.
func (c *Cloud) AdoptMachines(ctx context.Context, in AdoptMachinesInput) ([]cloud.Machine, error) {
	defer alive(ctx, "adopting machines")()
	p, _, err := c.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return nil, err
	}
	a, ok := p.(cloud.Adopter)
	if !ok {
		return nil, fault.New(fault.Invalid, "adopt machines", "machines of cloud %q cannot be adopted", in.Cloud.Provider)
	}
	return a.AdoptMachines(ctx, cloud.AdoptRequest{Owner: in.Owner, Role: in.Role, Tag: in.Tag, Also: in.Also})
}
