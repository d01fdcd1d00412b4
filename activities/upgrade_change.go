package activities

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/ichor-project/ichor/internal/cluster"
)

// mergeChange returns the spec that a change asks for. The contract stays that of
// the cluster; what contradicts itself is added to problems.
func mergeChange(rec cluster.Record, c UpgradeChange, problems *problemList) cluster.Spec {
	spec := rec.Spec
	if c.Spec != nil {
		spec = *c.Spec
	}
	published := spec.Talos
	add := func(format string, args ...any) { *problems = append(*problems, fmt.Sprintf(format, args...)) }
	if c.TalosVersion != "" {
		spec.Talos.Version = c.TalosVersion
	}
	if c.KubernetesVersion != "" {
		spec.Kubernetes.Version = c.KubernetesVersion
	}
	switch {
	case c.Schematic != "" && c.Extensions != nil:
		add("change.schematic: a schematic has its own extensions; give either it or extensions")
	case c.Schematic != "":
		spec.Talos.Schematic, spec.Talos.Extensions = c.Schematic, nil
	case c.Extensions != nil:
		spec.Talos.Schematic, spec.Talos.Extensions = "", slices.Clone(c.Extensions)
	}
	// A spec without a contract gets that of its version when it is published;
	// neither asks for another one.
	pinned := rec.Frozen.Contract
	if have := published.Contract; have != "" && have != pinned && have != contractOf(published.Version) && have != rec.Spec.Talos.Contract {
		add("spec.talos.contract: is %s for the life of the cluster; %s would generate other configs", pinned, have)
	}
	if pinned != "" {
		spec.Talos.Contract = pinned
	}
	return spec
}

// contractOf is the contract that a spec gets by default: "v1.13" of "v1.13.5".
func contractOf(version string) string { return minorOf(version) }

// unchangeable lists what differs between two normalised specs and cannot be
// changed while the cluster lives, by field path.
func unchangeable(was, want cluster.Spec) problemList {
	var out problemList
	same := func(field string, a, b any, remedy string) {
		if !reflect.DeepEqual(a, b) {
			out = append(out, field+": cannot be changed by an upgrade; "+remedy)
		}
	}
	const forever = "it is decided when the cluster is created"
	same("spec.cloud.provider", was.Cloud.Provider, want.Cloud.Provider, forever)
	same("spec.cloud.zone", was.Cloud.Zone, want.Cloud.Zone, forever)
	same("spec.cloud.credentials", was.Cloud.Credentials, want.Cloud.Credentials, "renew the credential behind the reference instead")
	const network = "networks are made once"
	same("spec.network.cidr", was.Network.CIDR, want.Network.CIDR, network)
	same("spec.network.existing", was.Network.Existing, want.Network.Existing, network)
	same("spec.network.podCIDR", was.Network.PodCIDR, want.Network.PodCIDR, "running pods have addresses of it")
	same("spec.network.serviceCIDR", was.Network.ServiceCIDR, want.Network.ServiceCIDR, "running services have addresses of it")
	const ingress = "the rules were made with the infrastructure; open more by a config patch with a NetworkRuleConfig document"
	same("spec.network.adminCIDRs", was.Network.AdminCIDRs, want.Network.AdminCIDRs, ingress)
	same("spec.network.allowWorld", was.Network.AllowWorld, want.Network.AllowWorld, ingress)
	same("spec.endpoint", was.Endpoint, want.Endpoint, "it is part of certificates and of every kubeconfig")
	same("spec.secrets", was.Secrets, want.Secrets, "they are made when the cluster is created; change the Secret in the cluster")
	same("spec.datastore", was.Datastore, want.Datastore, forever)
	same("spec.controlPlane.replicas", was.ControlPlane.Replicas, want.ControlPlane.Replicas, "etcd members are added and removed one by one, not by an upgrade")
	const machines = "machines that exist keep it"
	same("spec.controlPlane.flavor", was.ControlPlane.Flavor, want.ControlPlane.Flavor, machines)
	same("spec.controlPlane.diskGiB", was.ControlPlane.DiskGiB, want.ControlPlane.DiskGiB, machines)
	same("spec.controlPlane.zone", was.ControlPlane.Zone, want.ControlPlane.Zone, machines)
	same("spec.controlPlane.antiAffinity", was.ControlPlane.AntiAffinity, want.ControlPlane.AntiAffinity, machines)

	find := func(groups []cluster.NodeGroup, name string) int {
		return slices.IndexFunc(groups, func(g cluster.NodeGroup) bool { return g.Name == name })
	}
	for i, g := range want.NodeGroups {
		field := fmt.Sprintf("spec.nodeGroups[%d]", i)
		at := find(was.NodeGroups, g.Name)
		if at < 0 {
			out = append(out, fmt.Sprintf("%s: the cluster has no group %q, and an upgrade adds none", field, g.Name))
			continue
		}
		old := was.NodeGroups[at]
		same(field+".flavor", old.Flavor, g.Flavor, machines)
		same(field+".diskGiB", old.DiskGiB, g.DiskGiB, machines)
		same(field+".zone", old.Zone, g.Zone, machines)
		same(field+".image", old.Image, g.Image, machines)
		same(field+".networks", old.Networks, g.Networks, machines)
		same(field+".antiAffinity", old.AntiAffinity, g.AntiAffinity, machines)
		same(field+".spot", old.Spot, g.Spot, machines)
		same(field+".count", old.Count, g.Count, "it counts when the cluster is created; scale the group instead")
	}
	for _, g := range was.NodeGroups {
		if find(want.NodeGroups, g.Name) < 0 {
			out = append(out, fmt.Sprintf("spec.nodeGroups: group %q is missing, and an upgrade removes none", g.Name))
		}
	}
	return out
}

// configOnly returns the part of a spec from which machine configs are rendered,
// without versions.
func configOnly(s cluster.Spec) cluster.Spec {
	documents := func(list []cluster.Source) []cluster.Source {
		var out []cluster.Source
		for _, src := range list {
			out = append(out, cluster.Source{SHA256: src.SHA256})
		}
		return out
	}
	out := cluster.Spec{
		Talos:        cluster.Talos{Patches: documents(s.Talos.Patches)},
		ControlPlane: cluster.ControlPlane{Labels: s.ControlPlane.Labels, Patches: documents(s.ControlPlane.Patches)},
	}
	for _, g := range s.NodeGroups {
		out.NodeGroups = append(out.NodeGroups, cluster.NodeGroup{Name: g.Name, Labels: g.Labels, Taints: g.Taints, Patches: documents(g.Patches)})
	}
	slices.SortFunc(out.NodeGroups, func(a, b cluster.NodeGroup) int { return compareText(a.Name, b.Name) })
	return out
}

// sameConfig reports whether two specs render the same configs but for versions.
func sameConfig(a, b cluster.Spec) bool { return reflect.DeepEqual(configOnly(a), configOnly(b)) }

// sameTalos reports whether two specs name the same Talos image.
func sameTalos(a, b cluster.Talos) bool {
	return a.Version == b.Version && a.Schematic == b.Schematic && slices.Equal(a.Extensions, b.Extensions)
}
