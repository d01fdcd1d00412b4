package talos

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/talos/pkg/machinery/constants"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

const settingsMiB = 1 << 20

// TestReadNode renders configs of both contracts with patches as users write
// them and reads back what their nodes will report.
func TestReadNode(t *testing.T) {
	type patches struct{ old, multi string } // for v1alpha1, and for documents
	kubelet := func(body string) patches {
		return patches{
			"machine: {kubelet: {extraConfig: {" + body + "}}}",
			"apiVersion: v1alpha1\nkind: KubeletConfig\nconfig: {" + body + "}",
		}
	}
	flag := func(args string) patches {
		return patches{"machine: {kubelet: {extraArgs: {" + args + "}}}", "apiVersion: v1alpha1\nkind: KubeletConfig\nextraArgs: {" + args + "}"}
	}
	worker := plan.DefaultKubelet(cluster.RoleWorker)
	for _, tc := range []struct {
		name   string
		patch  patches
		gzip   bool
		change func(*NodeSettings)
	}{
		{name: "as rendered", change: func(*NodeSettings) {}},
		{name: "compressed", gzip: true, change: func(*NodeSettings) {}},
		{name: "fewer pods", patch: kubelet("maxPods: 40"), change: func(n *NodeSettings) { n.Kubelet.MaxPods = 40 }},
		{name: "pods by flag", patch: flag(`max-pods: "60"`), change: func(n *NodeSettings) { n.Kubelet.MaxPods = 60 }},
		{name: "reserves more", patch: kubelet("systemReserved: {memory: 1Gi, cpu: 200m}, kubeReserved: {memory: 512Mi, ephemeral-storage: 1Gi}"), change: func(n *NodeSettings) {
			n.Kubelet.SystemReserved = plan.Amounts{MilliCPU: 200, MemoryBytes: 1024 * settingsMiB}
			n.Kubelet.KubeReserved = plan.Amounts{MemoryBytes: 512 * settingsMiB, StorageBytes: 1024 * settingsMiB}
		}},
		{name: "evicts earlier", patch: kubelet(`evictionHard: {memory.available: "5%", nodefs.available: 2Gi}`), change: func(n *NodeSettings) {
			n.Kubelet.EvictionMemory, n.Kubelet.EvictionStorage = plan.Threshold{Fraction: 0.05}, plan.Threshold{Bytes: 2048 * settingsMiB}
		}},
		{name: "evicts by memory only", patch: kubelet(`evictionHard: {memory.available: 200Mi}`), change: func(n *NodeSettings) {
			n.Kubelet.EvictionMemory, n.Kubelet.EvictionStorage = plan.Threshold{Bytes: 200 * settingsMiB}, plan.Threshold{}
		}},
		{name: "label and taint by flags", patch: flag(`node-labels: "example.com/a=1,example.com/b=2", system-reserved: "memory=600Mi"`), change: func(n *NodeSettings) {
			n.Labels = append([]cluster.Tag{{Key: "example.com/a", Value: "1"}, {Key: "example.com/b", Value: "2"}}, n.Labels...)
			n.Kubelet.SystemReserved = plan.Amounts{MemoryBytes: 600 * settingsMiB}
		}},
		{name: "label by patch", patch: patches{
			"machine: {nodeLabels: {example.com/zone: x}}",
			"apiVersion: v1alpha1\nkind: KubeNodeConfig\nlabels: {example.com/zone: x}",
		}, change: func(n *NodeSettings) {
			n.Labels = append(n.Labels, cluster.Tag{Key: "example.com/zone", Value: "x"})
		}},
	} {
		for _, v := range versions {
			t.Run(tc.name+" "+v.contract, func(t *testing.T) {
				req := testRequest(t, v, cluster.RoleWorker)
				req.Gzip = tc.gzip
				body := tc.patch.old
				if v.contract != "v1.13" {
					body = tc.patch.multi
				}
				if body != "" {
					req.Patches = []Patch{{Field: "spec.talos.patches[0]", Body: []byte(body)}}
				}
				want := NodeSettings{
					Kubelet: worker, Labels: []cluster.Tag{{Key: "example.com/pool", Value: "workers"}},
					Taints: []cluster.Taint{{Key: "example.com/batch", Value: "yes", Effect: "NoSchedule"}, {Key: "example.com/batch", Effect: "NoExecute"}},
				}
				tc.change(&want)
				got, err := ReadNode(mustRender(t, req).UserData)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("settings (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestReadNodeOfAControlPlane(t *testing.T) {
	for _, v := range versions {
		got, err := ReadNode(mustRender(t, testRequest(t, v, cluster.RoleControlPlane)).UserData)
		if err != nil {
			t.Fatal(err)
		}
		if got.Kubelet != plan.DefaultKubelet(cluster.RoleControlPlane) {
			t.Errorf("%s: %+v", v.contract, got.Kubelet)
		}
	}
}

func TestReadNodeRefusesWhatItCannotRead(t *testing.T) {
	const canary = "c4n4ry"
	for _, setting := range []string{
		"maxPods: " + canary, "systemReserved: {memory: " + canary + "}", `evictionHard: {memory.available: "` + canary + `%"}`,
		"evictionHard: {nodefs.available: " + canary + "}",
	} {
		raw := fmt.Appendf(nil, "version: v1alpha1\nmachine: {type: worker, kubelet: {extraConfig: {%s}}}\ncluster: {}\n", setting)
		_, err := ReadNode(secrets.NewValue(raw))
		if fault.KindOf(err) != fault.Invalid || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %s: %v", setting, fault.KindOf(err), err)
		}
	}
	for _, raw := range []string{"", "#cloud-config\n", "\x1f\x8bno"} {
		if _, err := ReadNode(secrets.NewValue([]byte(raw))); fault.KindOf(err) != fault.Internal {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// TestDefaultsAreTalosOwn holds the reservations that plan assumes against those
// that Talos sets.
func TestDefaultsAreTalosOwn(t *testing.T) {
	for role, memory := range map[cluster.Role]string{
		cluster.RoleWorker: constants.KubeletSystemReservedMemoryWorker, cluster.RoleControlPlane: constants.KubeletSystemReservedMemoryControlPlane,
	} {
		want := plan.Amounts{}
		if err := reserve("systemReserved", &want, map[string]string{
			"cpu": constants.KubeletSystemReservedCPU, "memory": memory, "ephemeral-storage": constants.KubeletSystemReservedEphemeralStorage,
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, plan.DefaultKubelet(role).SystemReserved); diff != "" {
			t.Errorf("%s (-Talos +plan):\n%s", role, diff)
		}
	}
}
