package talosnode_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// TestKubeletFollowsTheConfig gives the same wishes in the old and in the new
// form of the config.
func TestKubeletFollowsTheConfig(t *testing.T) {
	t.Parallel()

	tests := []struct {
		contract string
		patches  []string
	}{
		{"v1.13", []string{`
machine:
  nodeLabels: {pool: blue}
  nodeTaints: {dedicated: "gpu:NoExecute", bare: NoSchedule}
  kubelet:
    image: ghcr.io/siderolabs/kubelet:v1.35.9@sha256:0000000000000000000000000000000000000000000000000000000000000000
    registerWithFQDN: true
    extraConfig: {providerID: "cloudscale://x", registerWithTaints: [{key: own, value: x, effect: PreferNoSchedule}]}
    nodeIP: {validSubnets: ["127.0.0.0/8"]}
cluster:
  externalCloudProvider: {enabled: true}
`}},
		{"v1.14", []string{
			"apiVersion: v1alpha1\nkind: KubeNodeConfig\nregisterWithFQDN: true\nlabels: {pool: blue}\n" +
				"taints: {dedicated: \"gpu:NoExecute\", bare: NoSchedule}\nnodeIP: {validSubnets: [\"127.0.0.0/8\"]}\n",
			"apiVersion: v1alpha1\nkind: KubeletConfig\nimage: ghcr.io/siderolabs/kubelet:v1.35.9\nconfig: {providerID: \"cloudscale://x\", registerWithTaints: [{key: own, value: x, effect: PreferNoSchedule}]}\n",
			"cluster: {externalCloudProvider: {enabled: true}}",
		}},
	}

	for _, tt := range tests {
		t.Run(tt.contract, func(t *testing.T) {
			l := nodetest.New(t)
			p := nodetest.NewPKI(t, tt.contract)
			cp := l.Server("cp-0", p.ControlPlane())
			w := l.Server("W-0.example.com", p.Worker(tt.patches...))
			l.Boot(cp)
			l.Boot(w)

			const name = "w-0.example.com"

			nodetest.Eventually(t, "kubelet", func() error {
				if _, ok := l.Kube.Kubelet(name); !ok {
					return errors.New("not started")
				}

				return nil
			})

			got, _ := l.Kube.Kubelet(name)
			want := guest.Kubelet{
				NodeName: name, Endpoint: "https://10.11.0.200:6443", CACert: got.CACert, BootstrapToken: p.Bundle.Secrets.BootstrapToken,
				Version: "v1.35.9", TalosVersion: "v1.14.1", Labels: map[string]string{"pool": "blue"},
				Taints:                []guest.Taint{{Key: "bare", Effect: "NoSchedule"}, {Key: "dedicated", Value: "gpu", Effect: "NoExecute"}, {Key: "own", Value: "x", Effect: "PreferNoSchedule"}},
				ExternalCloudProvider: true, ProviderID: "cloudscale://x", InternalIP: w.Loopback,
				VCPUs: w.VCPUs, MemoryMiB: w.MemoryMiB, DiskGiB: w.DiskGiB, Source: w.Loopback, ServerUUID: w.UUID, Private: true,
				BootID: got.BootID, Arch: w.Image.Arch,
			}

			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNoAddressInTheNodeSubnets(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.13")
	l.Boot(l.Server("cp-0", p.ControlPlane()))
	n := l.Boot(l.Server("w-0", p.Worker(`machine: {kubelet: {nodeIP: {validSubnets: ["192.168.0.0/16"]}}}`)))
	nodetest.Logged(t, n, "no address of this node is in the node IP subnets")
}

// Containers can use the GPUs of a machine whose system drives them.
func TestGPUs(t *testing.T) {
	t.Parallel()

	modules, toolkit := "siderolabs/nvidia-open-gpu-kernel-modules-lts", "siderolabs/nvidia-container-toolkit-lts"
	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")
	l.Boot(l.Server("cp-0", p.ControlPlane()))

	for name, tt := range map[string]struct {
		gpu        string
		extensions []string
		want       int
	}{
		"driven":       {"NVIDIA T4", []string{"siderolabs/nonfree-kmod-nvidia-lts", toolkit}, 2},
		"open":         {"NVIDIA T4", []string{modules, toolkit}, 2},
		"no-toolkit":   {"NVIDIA T4", []string{modules}, 0},
		"no-modules":   {"NVIDIA T4", []string{toolkit}, 0},
		"stock":        {"NVIDIA T4", nil, 0},
		"another-make": {"AMD MI300X", []string{modules, toolkit}, 0},
	} {
		l.Boot(l.Server(name, p.Worker(), func(s *guest.Server) {
			s.GPUs, s.GPU, s.Image.Extensions = 2, tt.gpu, tt.extensions
		}))
		nodetest.Eventually(t, "kubelet", func() error {
			if _, ok := l.Kube.Kubelet(name); !ok {
				return errors.New("not started")
			}

			return nil
		})

		if got, _ := l.Kube.Kubelet(name); got.GPUs != tt.want {
			t.Errorf("%s: %d GPUs, want %d", name, got.GPUs, tt.want)
		}
	}
}
