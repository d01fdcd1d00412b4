package kubelet

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// What Talos' kubelet reserves for the system when the machine config says
// nothing (its kubelet spec controller), and the kubelet's own defaults.
const (
	reservedMilliCPU        = 50
	reservedMemoryWorkerMiB = 384
	reservedMemoryPlaneMiB  = 512
	reservedDiskMiB         = 256
	evictionMemoryMiB       = 100
	evictionDiskPercent     = 10
	maxPods                 = 110
	// systemPartitionsMiB are Talos' partitions before EPHEMERAL since 1.11: EFI
	// 100, BIOS 1, BOOT 2000, META 1, STATE 100.
	systemPartitionsMiB = 2202
	// gpu is what NVIDIA's device plugin calls what it counts.
	gpu corev1.ResourceName = "nvidia.com/gpu"
)

// Resources says what a machine offers, in the units of its flavor.
type Resources struct {
	VCPUs        int
	MemoryMiB    int
	DiskGiB      int
	GPUs         int
	ControlPlane bool
}

// Capacity is what a kubelet on Talos reports: the memory is what Linux leaves
// of the nominal size, the disk what Talos leaves of it.
func (r Resources) Capacity() corev1.ResourceList {
	return r.list(int64(r.VCPUs)*1000, r.memory(), r.disk())
}

// Allocatable is the capacity without what is reserved.
func (r Resources) Allocatable() corev1.ResourceList {
	reserved := int64(reservedMemoryWorkerMiB)
	if r.ControlPlane {
		reserved = reservedMemoryPlaneMiB
	}
	disk := r.disk()
	return r.list(int64(r.VCPUs)*1000-reservedMilliCPU,
		r.memory()-(reserved+evictionMemoryMiB)<<20,
		disk-disk*evictionDiskPercent/100-reservedDiskMiB<<20)
}

// memory models what the kernel keeps for itself: page structures (a 64th), 16
// MiB of code and tables, the 64 MiB bounce buffer of machines above 3 GiB and 8
// MiB more up to 8 GiB. Measured on a 24 GiB guest: 470 MiB missing, 464 here.
func (r Resources) memory() int64 {
	missing := int64(r.MemoryMiB)<<20/64 + 16<<20
	if r.MemoryMiB > 3<<10 {
		missing += 64 << 20
	}
	if r.MemoryMiB <= 8<<10 {
		missing += 8 << 20
	}
	return max(0, int64(r.MemoryMiB)<<20-missing)
}

// disk is the EPHEMERAL partition less one per cent for XFS.
func (r Resources) disk() int64 {
	return max(0, (int64(r.DiskGiB)<<10-systemPartitionsMiB)<<20) * 99 / 100
}

func (r Resources) list(milliCPU, memory, disk int64) corev1.ResourceList {
	out := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewMilliQuantity(max(0, milliCPU), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(max(0, memory), resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(max(0, disk), resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
		"hugepages-1Gi":                 *resource.NewQuantity(0, resource.BinarySI),
		"hugepages-2Mi":                 *resource.NewQuantity(0, resource.BinarySI),
	}
	if r.GPUs > 0 {
		out[gpu] = *resource.NewQuantity(int64(r.GPUs), resource.DecimalSI)
	}
	return out
}

// devices brings the GPUs of a reported status up to date, and says whether that
// changed what the node has. A kubelet shows none of what it once had as zero.
func devices(want *corev1.NodeStatus, have corev1.NodeStatus) bool {
	was, reported := have.Allocatable[gpu]
	now, counted := want.Allocatable[gpu]
	if reported && !counted {
		want.Capacity[gpu], want.Allocatable[gpu] = now, now
	}
	return was.Cmp(now) != 0
}
