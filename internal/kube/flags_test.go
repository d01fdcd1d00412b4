package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/fault"
)

func TestRemovedFlags(t *testing.T) {
	gates := func(values ...string) map[string][]string { return map[string][]string{"feature-gates": values} }
	gate := func(component, name, version string) RemovedFlag {
		return RemovedFlag{Component: component, Kind: RemovedGate, Name: name, Version: version}
	}
	for _, tc := range []struct {
		name     string
		from, to string
		flags    []Flags
		want     []RemovedFlag
	}{
		{name: "nothing set", from: "v1.36.3", to: "v1.37.0"},
		{name: "nothing removed", from: "v1.36.3", to: "v1.37.0", flags: []Flags{
			{Component: "kubelet", Args: map[string][]string{"v": {"2"}, "feature-gates": {"Other=true"}}, FeatureGates: []string{"More"}},
		}},
		{name: "every component, flags and gates", from: "v1.36.3", to: "v1.37.0", flags: []Flags{
			{
				Component:    "kubelet",
				Args:         map[string][]string{"containerd": {"/run/c.sock"}, "boot_id_file": {"/x"}, "feature_gates": {"GangScheduling=true"}},
				FeatureGates: []string{"AnyVolumeDataSource", "Other"},
			},
			{Component: "kube-apiserver", Args: gates("Other=true", "AnyVolumeDataSource=true")},
			{Component: "kube-controller-manager", Args: gates("GangScheduling=true,Other=false")},
			{Component: "kube-scheduler", Args: gates("GangScheduling=true")},
			{Component: "kube-proxy", Args: map[string][]string{"containerd": {"not a kubelet"}, "feature-gates": {"GangScheduling=true"}}},
		}, want: []RemovedFlag{
			{Component: "kubelet", Kind: RemovedArg, Name: "boot-id-file", Version: "1.37"},
			{Component: "kubelet", Kind: RemovedArg, Name: "containerd", Version: "1.37"},
			gate("kubelet", "AnyVolumeDataSource", "1.37"), gate("kubelet", "GangScheduling", "1.37"),
			gate("kube-apiserver", "AnyVolumeDataSource", "1.37"),
			gate("kube-controller-manager", "GangScheduling", "1.37"),
			gate("kube-scheduler", "GangScheduling", "1.37"),
			gate("kube-proxy", "GangScheduling", "1.37"),
		}},
		{name: "a flag of another component", from: "v1.36.3", to: "v1.37.0", flags: []Flags{{Component: "kube-scheduler", Args: map[string][]string{"containerd": {"x"}}}}},
		{name: "admission plugin and removed flag", from: "v1.29.3", to: "v1.33.0", flags: []Flags{
			{Component: "kube-apiserver", Args: map[string][]string{"enable-admission-plugins": {"NodeRestriction", "SecurityContextDeny"}, "cloud-config": {"/x"}}},
		}, want: []RemovedFlag{
			{Component: "kube-apiserver", Kind: RemovedAdmission, Name: "SecurityContextDeny", Version: "1.30"},
			{Component: "kube-apiserver", Kind: RemovedArg, Name: "cloud-config", Version: "1.33"},
		}},
		{name: "two steps", from: "v1.34.1", to: "1.36.0", flags: []Flags{
			{Component: "kubelet", Args: map[string][]string{"pod-infra-container-image": {"x"}}, FeatureGates: []string{"HonorPVReclaimPolicy"}},
		}, want: []RemovedFlag{
			{Component: "kubelet", Kind: RemovedArg, Name: "pod-infra-container-image", Version: "1.35"}, gate("kubelet", "HonorPVReclaimPolicy", "1.36"),
		}},
		{name: "a patch removes nothing", from: "v1.37.0", to: "v1.37.2", flags: []Flags{{Component: "kubelet", FeatureGates: []string{"GangScheduling"}}}},
		{name: "a way that nobody knows", from: "v1.37.0", to: "v1.99.0", flags: []Flags{{Component: "kubelet", FeatureGates: []string{"GangScheduling"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := RemovedFlags(t.Context(), tc.from, tc.to, tc.flags)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, versions := range [][2]string{{"", "v1.37.0"}, {"v1.36.0", "newest"}} {
		if _, err := RemovedFlags(t.Context(), versions[0], versions[1], nil); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", versions, err)
		}
	}
}
