package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/cluster"
)

// TestResources has the figures of the model, and what Talos and the kubelet
// keep, for usual sizes: memory before the safety margin of half a percent.
func TestResources(t *testing.T) {
	for _, tc := range []struct {
		name    string
		guest   Guest
		role    cluster.Role
		visible int64 // MiB, before the margin
		kept    int64 // MiB of memory between capacity and allocatable
	}{
		{name: "4 GiB", guest: Guest{VCPUs: 2, MemoryMiB: 4096, DiskGiB: 50}, role: cluster.RoleWorker, visible: 3944, kept: 484},
		{name: "8 GiB", guest: Guest{VCPUs: 4, MemoryMiB: 8192, DiskGiB: 50}, role: cluster.RoleWorker, visible: 7976, kept: 484},
		{name: "16 GiB", guest: Guest{VCPUs: 8, MemoryMiB: 16384, DiskGiB: 50}, role: cluster.RoleWorker, visible: 16048, kept: 484},
		{name: "2 GiB", guest: Guest{VCPUs: 1, MemoryMiB: 2048, DiskGiB: 10}, role: cluster.RoleWorker, visible: 1992, kept: 484},
		{name: "control plane", guest: Guest{VCPUs: 4, MemoryMiB: 8192, DiskGiB: 50}, role: cluster.RoleControlPlane, visible: 7976, kept: 612},
	} {
		t.Run(tc.name, func(t *testing.T) {
			capacity, allocatable := Resources(tc.guest, DefaultKubelet(tc.role))
			visible := tc.visible * mib
			visible -= visible / 200
			storage := (int64(tc.guest.DiskGiB)*1024 - 2202) * mib / 100 * 99
			want := cluster.NodeResources{MilliCPU: int64(tc.guest.VCPUs) * 1000, MemoryBytes: visible, StorageBytes: storage, Pods: 110}
			if diff := cmp.Diff(want, capacity); diff != "" {
				t.Errorf("capacity (-want +got):\n%s", diff)
			}
			want.MilliCPU -= 50
			want.MemoryBytes -= tc.kept * mib
			want.StorageBytes -= storage/10 + 1 + 256*mib
			if diff := cmp.Diff(want, allocatable); diff != "" {
				t.Errorf("allocatable (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResourcesFollowTheKubelet(t *testing.T) {
	guest := Guest{VCPUs: 2, MemoryMiB: 4096, DiskGiB: 50, GPUs: 1, GPUResource: "nvidia.com/gpu"}
	capacity, _ := Resources(guest, DefaultKubelet(cluster.RoleWorker))
	for _, tc := range []struct {
		name string
		k    Kubelet
		want cluster.NodeResources // less than capacity
	}{
		{"keeps nothing", Kubelet{MaxPods: 110}, cluster.NodeResources{}},
		{"fewer pods", Kubelet{MaxPods: 30}, cluster.NodeResources{}},
		{"more pods", Kubelet{MaxPods: 250}, cluster.NodeResources{}},
		{"both reservations", Kubelet{
			MaxPods: 110, SystemReserved: Amounts{100, 10 * mib, 20 * mib}, KubeReserved: Amounts{200, 30 * mib, 40 * mib},
			EvictionMemory: Threshold{Bytes: 5 * mib}, EvictionStorage: Threshold{Bytes: 6 * mib},
		}, cluster.NodeResources{MilliCPU: 300, MemoryBytes: 45 * mib, StorageBytes: 66 * mib}},
		{"shares", Kubelet{MaxPods: 110, EvictionMemory: Threshold{Fraction: 0.25}, EvictionStorage: Threshold{Fraction: 1}}, cluster.NodeResources{
			MemoryBytes: capacity.MemoryBytes/4 + 1, StorageBytes: capacity.StorageBytes,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, got := Resources(guest, tc.k)
			want := cluster.NodeResources{
				MilliCPU: capacity.MilliCPU - tc.want.MilliCPU, MemoryBytes: capacity.MemoryBytes - tc.want.MemoryBytes,
				StorageBytes: capacity.StorageBytes - tc.want.StorageBytes, Pods: tc.k.MaxPods, GPUs: 1, GPUResource: "nvidia.com/gpu",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("allocatable (-want +got):\n%s", diff)
			}
		})
	}
}

// amounts are the figures of a resource list that can be compared.
func amounts(r cluster.NodeResources) [5]int64 {
	return [5]int64{r.MilliCPU, r.MemoryBytes, r.StorageBytes, r.Pods, r.GPUs}
}

// TestResourcesNeverPromiseTooMuch: nothing above what the cloud sells, nothing
// allocatable above capacity, nothing negative, and a larger machine has no less.
func TestResourcesNeverPromiseTooMuch(t *testing.T) {
	size := func(t *rapid.T, name string) int64 { return rapid.Int64Range(0, 2<<40).Draw(t, name) }
	threshold := func(t *rapid.T, name string) Threshold {
		return Threshold{Bytes: rapid.Int64Range(-1, 1<<40).Draw(t, name), Fraction: rapid.Float64Range(-1, 2).Draw(t, name+" share")}
	}
	guests := rapid.Custom(func(t *rapid.T) Guest {
		return Guest{
			VCPUs: rapid.IntRange(0, 256).Draw(t, "vcpus"), MemoryMiB: rapid.IntRange(0, 4<<20).Draw(t, "memory"),
			DiskGiB: rapid.IntRange(0, 20_000).Draw(t, "disk"), GPUs: rapid.IntRange(0, 16).Draw(t, "gpus"), GPUResource: "nvidia.com/gpu",
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		g := guests.Draw(t, "guest")
		k := Kubelet{
			MaxPods:        rapid.Int64Range(-1, 500).Draw(t, "pods"),
			SystemReserved: Amounts{size(t, "cpu"), size(t, "mem"), size(t, "disk")},
			KubeReserved:   Amounts{size(t, "cpu"), size(t, "mem"), size(t, "disk")},
			EvictionMemory: threshold(t, "evict mem"), EvictionStorage: threshold(t, "evict disk"),
		}
		capacity, allocatable := Resources(g, k)
		nominal := [5]int64{int64(g.VCPUs) * 1000, int64(g.MemoryMiB) * mib, int64(g.DiskGiB) * gib, max(k.MaxPods, 0), int64(g.GPUs)}
		for i, have := range amounts(capacity) {
			if have > nominal[i] || have < 0 {
				t.Fatalf("capacity %+v, nominal %v", capacity, nominal)
			}
			if got := amounts(allocatable)[i]; got > have || got < 0 {
				t.Fatalf("allocatable %+v, capacity %+v", allocatable, capacity)
			}
		}
		larger := g
		larger.VCPUs, larger.DiskGiB = g.VCPUs+1, g.DiskGiB+1
		more, _ := Resources(larger, k)
		for i, have := range amounts(capacity) {
			if amounts(more)[i] < have {
				t.Fatalf("%+v has %+v, a larger machine %+v", g, capacity, more)
			}
		}
	})
}
