package activities

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// namingFactory calls things by what they are.
type namingFactory struct{ refuses string }

func (f namingFactory) Freeze(_ context.Context, spec cluster.Spec, os cluster.Talos, arch string, _ cloud.Capabilities) (cluster.Frozen, error) {
	s := strings.Join(os.Extensions, "+") + os.Schematic
	if f.refuses != "" && strings.Contains(s, f.refuses) {
		return cluster.Frozen{}, fault.New(fault.Invalid, "check extensions", "no extension %s", f.refuses)
	}
	return cluster.Frozen{
		TalosVersion: os.Version, KubernetesVersion: spec.Kubernetes.Version, Arch: arch,
		Schematic: s, Image: s + "/" + arch, InstallerImage: "installer/" + s,
	}, nil
}

func (namingFactory) CheckInstaller(context.Context, string) error { return nil }

var mixedFlavors = []cloud.Flavor{
	{Name: "x86", Arch: "amd64", Zones: []string{"a", "b"}},
	{Name: "x86-large", Arch: "amd64", Zones: []string{"a"}},
	{Name: "arm", Arch: "arm64", Zones: []string{"a", "b"}},
	{Name: "gpu", Arch: "amd64", GPUs: 1, GPUName: "NVIDIA T4", Zones: []string{"a"}},
}

func mixed() cluster.Spec {
	return cluster.Spec{
		Cloud:        cluster.Cloud{Zone: "a"},
		Talos:        cluster.Talos{Version: "v1.14.1", Extensions: []string{"ucode"}},
		ControlPlane: cluster.ControlPlane{Flavor: "x86"},
		NodeGroups: []cluster.NodeGroup{
			{Name: "plain", Flavor: "x86-large"},
			{Name: "graviton", Flavor: "arm"},
			{Name: "gpu", Flavor: "gpu", Extensions: []string{"siderolabs/nvidia-container-toolkit-lts", "siderolabs/nvidia-open-gpu-kernel-modules-lts"}},
			{Name: "own", Flavor: "arm", Image: "ami-1"},
			{Name: "batch", Flavor: "arm"},
		},
	}
}

// Groups that differ by architecture or extensions get images of their own; those
// that do not, or that brought one, get none.
func TestFreezeOfGroupsThatDiffer(t *testing.T) {
	got, err := freezeAll(t.Context(), namingFactory{}, mixed(), cloud.Capabilities{}, mixedFlavors)
	if err != nil {
		t.Fatal(err)
	}
	const gpu = "siderolabs/nvidia-container-toolkit-lts+siderolabs/nvidia-open-gpu-kernel-modules-lts"
	want := cluster.Frozen{
		TalosVersion: "v1.14.1", Schematic: "ucode", Image: "ucode/", InstallerImage: "installer/ucode",
		Variants: []cluster.Variant{
			{Groups: []string{"batch", "graviton"}, Arch: "arm64", Schematic: "ucode", Image: "ucode/arm64", InstallerImage: "installer/ucode"},
			{Groups: []string{"gpu"}, Schematic: gpu, Image: gpu + "/", InstallerImage: "installer/" + gpu},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = freezeAll(t.Context(), namingFactory{refuses: "nvidia"}, mixed(), cloud.Capabilities{}, mixedFlavors)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "spec.nodeGroups[2]") {
		t.Errorf("an extension that there is not: %v", err)
	}
}

// An upgrade keeps the ids of images that stay, and retires those that go.
func TestRetireImagesOfGroups(t *testing.T) {
	was, err := freezeAll(t.Context(), namingFactory{}, mixed(), cloud.Capabilities{}, mixedFlavors)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range was.Images() {
		was = was.Learned(i.Image, "id of "+i.Image)
	}
	spec := mixed()
	spec.NodeGroups[2].Extensions = append(spec.NodeGroups[2].Extensions, "siderolabs/zfs")
	if sameImages(mixed(), spec) || !sameImages(spec, spec) {
		t.Error("another extension of a group is a change of images, and only that")
	}
	now, err := freezeAll(t.Context(), namingFactory{}, spec, cloud.Capabilities{}, mixedFlavors)
	if err != nil {
		t.Fatal(err)
	}
	rec := cluster.Record{Frozen: now}
	retire(&rec, was)
	if len(rec.Former) != 1 || !strings.Contains(rec.Former[0].Image, "nvidia") || strings.Contains(rec.Former[0].Image, "zfs") {
		t.Errorf("retired: %+v", rec.Former)
	}
	rec.Frozen = was
	retire(&rec, now)
	if len(rec.Former) != 1 || !strings.Contains(rec.Former[0].Image, "zfs") {
		t.Errorf("retired after going back: %+v", rec.Former)
	}
	if idOf(was, "ucode/arm64") != "id of ucode/arm64" || idOf(was, "other") != "" {
		t.Error("ids of images are mixed up")
	}
}

// What only the account knows of mixed groups is told with its field.
func TestChecksOfMixedGroups(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*cluster.Spec)
		want string
	}{
		{"as it is", func(*cluster.Spec) {}, ""},
		{"a GPU without a driver", func(s *cluster.Spec) { s.NodeGroups[2].Extensions = nil }, `spec.nodeGroups[2].extensions: flavor "gpu" has NVIDIA T4`},
		{"half a driver", func(s *cluster.Spec) { s.NodeGroups[2].Extensions = s.NodeGroups[2].Extensions[:1] }, "spec.nodeGroups[2].extensions"},
		{"the cluster's driver", func(s *cluster.Spec) {
			s.Talos.Extensions, s.NodeGroups[2].Extensions = s.NodeGroups[2].Extensions, nil
		}, ""},
		{"a schematic, of which nobody knows", func(s *cluster.Spec) { s.NodeGroups[2].Extensions, s.NodeGroups[2].Schematic = nil, "abc" }, ""},
		{
			"another architecture instead", func(s *cluster.Spec) { s.NodeGroups[0].Alternatives = []cluster.Alternative{{Flavor: "arm"}} },
			`spec.nodeGroups[0].alternatives[0].flavor: flavor "arm" is arm64`,
		},
		{"a zone of several", func(s *cluster.Spec) { s.NodeGroups[0].Zones = []string{"a", "b"} }, `spec.nodeGroups[0].flavor: flavor "x86-large" is not offered in zone "b"`},
		{"all zones", func(s *cluster.Spec) { s.ControlPlane.Zones = []string{"a", "b"} }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := mixed()
			tc.edit(&spec)
			got := unknownFlavors(spec, mixedFlavors).Error()
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// The zones of the infrastructure are all that any machine may be in.
func TestZonesOfTheInfrastructure(t *testing.T) {
	spec := mixed()
	spec.ControlPlane.Zones = []string{"c", "a"}
	spec.NodeGroups[0].Alternatives = []cluster.Alternative{{Zone: "d"}, {Flavor: "x86"}}
	spec.NodeGroups[1].Zone = "b"
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, InfrastructureSpec(testRef, spec).Zones); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
