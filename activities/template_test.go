package activities

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

func TestGivenUserData(t *testing.T) {
	s := &stage{bodies: map[string]string{"bodies/x@sum": "prepared"}}
	in := EnsureMachineInput{Machine: cloud.MachineSpec{ID: "a", Owner: testOwner}, Create: true, UserData: &UserData{Ref: "bodies/x", SHA256: "sum"}}
	var out EnsureMachineResult
	err := s.run(t, func(ctx context.Context) (err error) {
		out, err = s.cloud().EnsureMachine(ctx, in)
		return err
	})
	wantType(t, err, "")
	if len(s.created) != 1 || s.created[0].UserData.RevealString() != "prepared" || s.created[0].Spec.UserDataSHA256 != "sum" || out.ConfigSHA256 != "sum" || len(s.rendered) > 0 {
		t.Errorf("created %d machines, %d configs rendered, result %+v", len(s.created), len(s.rendered), out)
	}
	in.UserData.SHA256 = "other"
	err = s.run(t, func(ctx context.Context) error {
		_, err := s.cloud().EnsureMachine(ctx, in)
		return err
	})
	wantType(t, err, fault.NotFound)
	if len(s.created) != 1 {
		t.Error("a machine was made without its user data")
	}
}

func TestGetNodeTemplate(t *testing.T) {
	flavors := []cloud.Flavor{
		{Name: "flex-4-2", VCPUs: 2, MemoryMiB: 4096, Arch: "amd64"},
		{Name: "gpu1", VCPUs: 8, MemoryMiB: 65536, Arch: "amd64", GPUs: 1, GPUName: "NVIDIA L40S"},
	}
	kubelet := plan.DefaultKubelet(cluster.RoleWorker)
	kubelet.MaxPods = 50
	s := &stage{flavors: flavors, settings: NodeSettings{
		Kubelet: kubelet, Labels: []cluster.Tag{{Key: "example.com/tier", Value: "general"}, {Key: "node.kubernetes.io/flag", Value: ""}},
		Taints: []cluster.Taint{{Key: "example.com/only", Effect: "NoSchedule"}},
	}}
	get := func(in GetNodeTemplateInput) (out cluster.NodeTemplate, err error) {
		in.Ref, in.Group, in.Role, in.Zone, in.DiskGiB = testRef, "worker", cluster.RoleWorker, "lpg1", 50
		err = s.run(t, func(ctx context.Context) (err error) {
			out, err = s.cloud().GetNodeTemplate(ctx, in)
			return err
		})
		return out, err
	}

	got, err := get(GetNodeTemplateInput{Flavor: "flex-4-2"})
	wantType(t, err, "")
	capacity, allocatable := plan.Resources(plan.Guest{VCPUs: 2, MemoryMiB: 4096, DiskGiB: 50}, kubelet)
	want := cluster.NodeTemplate{
		Capacity: capacity, Allocatable: allocatable, Taints: s.settings.Taints,
		Labels: []cluster.Tag{
			{Key: "beta.kubernetes.io/arch", Value: "amd64"},
			{Key: "beta.kubernetes.io/instance-type", Value: "flex-4-2"},
			{Key: "beta.kubernetes.io/os", Value: "linux"},
			{Key: "example.com/tier", Value: "general"},
			{Key: "failure-domain.beta.kubernetes.io/zone", Value: "lpg1"},
			{Key: "kubernetes.io/arch", Value: "amd64"},
			{Key: "kubernetes.io/os", Value: "linux"},
			{Key: "node.kubernetes.io/flag", Value: ""},
			{Key: "node.kubernetes.io/instance-type", Value: "flex-4-2"},
			{Key: "topology.kubernetes.io/zone", Value: "lpg1"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("template (-want +got):\n%s", diff)
	}
	if len(s.rendered) != 1 || s.rendered[0].Group != "worker" || s.rendered[0].Role != cluster.RoleWorker {
		t.Errorf("rendered %+v", s.rendered)
	}

	got, err = get(GetNodeTemplateInput{Flavor: "gpu1", Standalone: true, Labels: []cluster.Tag{{Key: "pool", Value: "x"}}, Taints: []cluster.Taint{{Key: "gpu", Effect: "NoExecute"}}})
	wantType(t, err, "")
	if got.Capacity.GPUs != 1 || got.Allocatable.GPUResource != "nvidia.com/gpu" || got.Capacity.Pods != 110 || len(s.rendered) != 1 {
		t.Errorf("stand-alone: %+v, %d configs rendered", got, len(s.rendered))
	}
	if diff := cmp.Diff([]cluster.Taint{{Key: "gpu", Effect: "NoExecute"}}, got.Taints); diff != "" || !slices.Contains(got.Labels, cluster.Tag{Key: "pool", Value: "x"}) {
		t.Errorf("stand-alone: labels %v, taints %v", got.Labels, got.Taints)
	}

	_, err = get(GetNodeTemplateInput{Flavor: "flex-1-1"})
	wantType(t, err, fault.Invalid, "flex-1-1")
}

func TestAdoptMachinesNeedsACloudThatCan(t *testing.T) {
	s := &stage{}
	err := s.run(t, func(ctx context.Context) error {
		_, err := s.cloud().AdoptMachines(ctx, AdoptMachinesInput{Cloud: cluster.Cloud{Provider: "nimbus"}, Owner: testOwner})
		return err
	})
	wantType(t, err, fault.Invalid, "nimbus")
}

func TestUnknownFlavorsOfAlternatives(t *testing.T) {
	spec := cluster.Spec{
		Cloud: cluster.Cloud{Zone: "lpg1"}, ControlPlane: cluster.ControlPlane{Flavor: "a"},
		NodeGroups: []cluster.NodeGroup{{Flavor: "a", Alternatives: []cluster.Alternative{{Flavor: "b"}, {Flavor: "none"}, {Zone: "rma1"}, {Zone: "rma1", Flavor: "b"}}}},
	}
	got := unknownFlavors(spec, []cloud.Flavor{{Name: "a", Zones: []string{"lpg1"}}, {Name: "b", Zones: []string{"lpg1", "rma1"}}})
	want := problemList{
		`spec.nodeGroups[0].alternatives[1].flavor: the cloud has no flavor "none"; it has a, b`,
		`spec.nodeGroups[0].alternatives[2].flavor: flavor "a" is not offered in zone "rma1", only in lpg1`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
