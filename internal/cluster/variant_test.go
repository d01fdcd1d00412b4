package cluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVariants(t *testing.T) {
	base := Frozen{TalosVersion: "v1.14.1", Schematic: "plain", Image: "plain-amd64", InstallerImage: "installer/plain", ImageID: "i-plain"}
	arm := base
	arm.Arch, arm.Image, arm.ImageID = "arm64", "plain-arm64", ""
	gpu := base
	gpu.Schematic, gpu.Image, gpu.InstallerImage, gpu.ImageID = "nvidia", "nvidia-amd64", "installer/nvidia", ""

	f := base.Vary("same", base).Vary("graviton", arm).Vary("gpu", gpu).Vary("batch", arm)
	want := []Variant{
		{Groups: []string{"batch", "graviton"}, Arch: "arm64", Schematic: "plain", Image: "plain-arm64", InstallerImage: "installer/plain"},
		{Groups: []string{"gpu"}, Schematic: "nvidia", Image: "nvidia-amd64", InstallerImage: "installer/nvidia"},
	}
	if diff := cmp.Diff(want, f.Variants); diff != "" {
		t.Errorf("variants (-want +got):\n%s", diff)
	}
	if len(base.Variants) != 0 {
		t.Error("the one that it was made of was changed")
	}

	learned := f.Learned("plain-arm64", "i-arm").Learned("unknown", "i-x")
	for group, want := range map[string][3]string{
		ControlPlaneGroup: {"amd64", "plain", "i-plain"},
		"same":            {"amd64", "plain", "i-plain"},
		"batch":           {"arm64", "plain", "i-arm"},
		"graviton":        {"arm64", "plain", "i-arm"},
		"gpu":             {"amd64", "nvidia", ""},
	} {
		r := learned.For(group)
		if got := [3]string{r.Architecture(), r.Schematic, r.ImageID}; got != want {
			t.Errorf("group %s runs %v, want %v", group, got, want)
		}
		if again := r.For(group); again.Image != r.Image {
			t.Errorf("group %s: asked twice it runs %s and %s", group, r.Image, again.Image)
		}
	}
	if f.Variants[0].ImageID != "" {
		t.Error("what was learned reached the original")
	}
	var names []string
	for _, i := range learned.Images() {
		names = append(names, i.Image+"="+i.ImageID)
	}
	if diff := cmp.Diff([]string{"plain-amd64=i-plain", "plain-arm64=i-arm", "nvidia-amd64="}, names); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if len((Frozen{}).Images()) != 0 {
		t.Error("an image without a name")
	}

	other := f.Learned("plain-arm64", "i-other")
	for _, tc := range []struct {
		name string
		a, b []Variant
		want bool
	}{
		{"with itself", f.Variants, f.Variants, true},
		{"an id that one of them does not know", f.Variants, learned.Variants, true},
		{"two ids", other.Variants, learned.Variants, false},
		{"one less", f.Variants, f.Variants[:1], false},
	} {
		if got := SameVariants(tc.a, tc.b); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestTalosOf(t *testing.T) {
	s := Spec{
		Talos: Talos{Version: "v1.14.1", Extensions: []string{"siderolabs/intel-ucode"}},
		NodeGroups: []NodeGroup{
			{Name: "plain"}, {Name: "gpu", Extensions: []string{"siderolabs/nvidia"}}, {Name: "own", Schematic: "abc"},
		},
	}
	for group, want := range map[string]Talos{
		ControlPlaneGroup: s.Talos,
		"plain":           s.Talos,
		"gpu":             {Version: "v1.14.1", Extensions: []string{"siderolabs/nvidia"}},
		"own":             {Version: "v1.14.1", Schematic: "abc"},
	} {
		if diff := cmp.Diff(want, s.TalosOf(group)); diff != "" {
			t.Errorf("group %s (-want +got):\n%s", group, diff)
		}
	}
}

func TestInstallPatch(t *testing.T) {
	f := Frozen{InstallerImage: "plain:v1", Variants: []Variant{
		{Groups: []string{"gpu"}, InstallerImage: "nvidia:v1"},
		{Groups: []string{"arm"}, Arch: "arm64", InstallerImage: "plain:v1"},
	}}
	for group, want := range map[string]string{ControlPlaneGroup: "", "arm": "", "gpu": "machine:\n  install:\n    image: nvidia:v1\n"} {
		if got := string(f.InstallPatch(group)); got != want {
			t.Errorf("group %s: %q, want %q", group, got, want)
		}
	}
}
