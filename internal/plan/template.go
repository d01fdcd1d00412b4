package plan

import (
	"github.com/ichor-project/ichor/internal/cluster"
)

// Units of memory and storage.
const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// Amounts are what a kubelet keeps from its pods.
type Amounts struct {
	MilliCPU     int64
	MemoryBytes  int64
	StorageBytes int64
}

// Threshold is an amount that must stay free: bytes, or parts of the capacity.
type Threshold struct {
	Bytes    int64
	Fraction float64 // of the capacity, 0 to 1; used when Bytes is 0
}

func (t Threshold) of(capacity int64) int64 {
	if t.Bytes > 0 {
		return t.Bytes
	}
	if t.Fraction <= 0 {
		return 0
	}
	// Rounded up: a byte too little is harmless, one too many is not.
	return int64(float64(capacity)*min(t.Fraction, 1)) + 1
}

// Kubelet are the settings of a kubelet that decide what pods may use.
type Kubelet struct {
	MaxPods         int64
	SystemReserved  Amounts
	KubeReserved    Amounts
	EvictionMemory  Threshold
	EvictionStorage Threshold
}

// DefaultKubelet is what Talos sets where a machine config says nothing (Talos,
// constants KubeletSystemReserved…), and what the kubelet itself does then:
// 110 pods, eviction below 100Mi of memory and 10 % of the disk (Kubernetes,
// pkg/kubelet/apis/config/v1beta1 and eviction/defaults).
func DefaultKubelet(role cluster.Role) Kubelet {
	k := Kubelet{
		MaxPods:         110,
		SystemReserved:  Amounts{MilliCPU: 50, MemoryBytes: 384 * mib, StorageBytes: 256 * mib},
		EvictionMemory:  Threshold{Bytes: 100 * mib},
		EvictionStorage: Threshold{Fraction: 0.1},
	}
	if role == cluster.RoleControlPlane {
		k.SystemReserved.MemoryBytes = 512 * mib
	}
	return k
}

// Guest is a machine as the cloud describes it.
type Guest struct {
	VCPUs     int
	MemoryMiB int
	DiskGiB   int
	GPUs      int
	// GPUResource counts the GPUs in Kubernetes, for example "nvidia.com/gpu".
	GPUResource string
}

// Resources returns what a node on a guest will report as capacity and
// allocatable. Both are estimates from below: an autoscaler that is promised
// more than a node has adds nodes without end.
func Resources(g Guest, k Kubelet) (capacity, allocatable cluster.NodeResources) {
	capacity = cluster.NodeResources{
		MilliCPU: 1000 * int64(g.VCPUs), MemoryBytes: visibleMemory(int64(g.MemoryMiB) * mib),
		StorageBytes: ephemeralStorage(int64(g.DiskGiB) * gib), Pods: max(k.MaxPods, 0), GPUs: int64(g.GPUs),
	}
	if g.GPUs > 0 {
		capacity.GPUResource = g.GPUResource
	}
	allocatable = capacity
	allocatable.MilliCPU = left(capacity.MilliCPU, k.SystemReserved.MilliCPU, k.KubeReserved.MilliCPU)
	allocatable.MemoryBytes = left(capacity.MemoryBytes, k.SystemReserved.MemoryBytes, k.KubeReserved.MemoryBytes,
		k.EvictionMemory.of(capacity.MemoryBytes))
	allocatable.StorageBytes = left(capacity.StorageBytes, k.SystemReserved.StorageBytes, k.KubeReserved.StorageBytes,
		k.EvictionStorage.of(capacity.StorageBytes))
	return capacity, allocatable
}

func left(amount int64, less ...int64) int64 {
	for _, l := range less {
		amount -= max(l, 0)
	}
	return max(amount, 0)
}

// visibleMemory is what the kernel of a guest counts as its memory: without its
// own tables (a 64th and 16 MiB), the bounce buffers of guests above 3 GiB
// (64 MiB) and the crash area of those up to 8 GiB (8 MiB). That is the Cluster
// Autoscaler's model for GCE, which measurements on KVM confirm; half a percent
// is taken off for what the model does not know.
func visibleMemory(nominal int64) int64 {
	hidden := nominal/64 + 16*mib
	if nominal > 3*gib {
		hidden += 64 * mib
	}
	if nominal <= 8*gib {
		hidden += 8 * mib
	}
	visible := max(nominal-hidden, 0)
	return visible - visible/200
}

// talosPartitions is what Talos keeps of the root volume beside EPHEMERAL: EFI
// 100, BIOS 1, BOOT 2000, META 1 and STATE 100 MiB (Talos 1.11 and later).
const talosPartitions = 2202 * mib

// ephemeralStorage is the size of the file system below /var; XFS keeps about a
// hundredth for itself.
func ephemeralStorage(root int64) int64 {
	return max(root-talosPartitions, 0) / 100 * 99
}
