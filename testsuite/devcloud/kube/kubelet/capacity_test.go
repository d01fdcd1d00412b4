package kubelet

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

func TestResources(t *testing.T) {
	for name, test := range map[string]struct {
		in                 Resources
		capMem, allocMem   int64 // MiB
		allocCPU           int64 // milli
		capDisk, allocDisk int64 // MiB
	}{
		"4 GiB worker":         {Resources{VCPUs: 1, MemoryMiB: 4096, DiskGiB: 10}, 3944, 3460, 950, 7957, 6905},
		"8 GiB worker":         {Resources{VCPUs: 2, MemoryMiB: 8192, DiskGiB: 50}, 7976, 7492, 1950, 48508, 43401},
		"16 GiB worker":        {Resources{VCPUs: 4, MemoryMiB: 16384, DiskGiB: 50}, 16048, 15564, 3950, 48508, 43401},
		"8 GiB control plane":  {Resources{VCPUs: 4, MemoryMiB: 8192, DiskGiB: 50, ControlPlane: true}, 7976, 7364, 3950, 48508, 43401},
		"2 GiB has no bounce":  {Resources{VCPUs: 1, MemoryMiB: 2048, DiskGiB: 10}, 1992, 1508, 950, 7957, 6905},
		"disk below the least": {Resources{VCPUs: 1, MemoryMiB: 4096, DiskGiB: 1}, 3944, 3460, 950, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			capacity, allocatable := test.in.Capacity(), test.in.Allocatable()
			for what, pair := range map[string][2]int64{
				"capacity.memory":    {capacity.Memory().Value() >> 20, test.capMem},
				"allocatable.memory": {allocatable.Memory().Value() >> 20, test.allocMem},
				"allocatable.cpu":    {allocatable.Cpu().MilliValue(), test.allocCPU},
				"capacity.disk":      {capacity.StorageEphemeral().Value() >> 20, test.capDisk},
				"allocatable.disk":   {allocatable.StorageEphemeral().Value() >> 20, test.allocDisk},
				"pods":               {allocatable.Pods().Value(), 110},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s = %d, want %d", what, pair[0], pair[1])
				}
			}
		})
	}
}

func TestAllocatableNeverExceedsCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Resources{
			VCPUs: rapid.IntRange(0, 256).Draw(t, "cpus"), MemoryMiB: rapid.IntRange(0, 1<<20).Draw(t, "memory"),
			DiskGiB: rapid.IntRange(0, 1<<14).Draw(t, "disk"), ControlPlane: rapid.Bool().Draw(t, "plane"),
		}
		capacity, allocatable := r.Capacity(), r.Allocatable()
		for _, name := range []corev1.ResourceName{
			corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods,
		} {
			whole, part := capacity[name], allocatable[name]
			if part.Sign() < 0 || part.Cmp(whole) > 0 {
				t.Fatalf("%s: %s allocatable of %s", name, part.String(), whole.String())
			}
		}
	})
}

// GPUs are counted once pods run, and are shown as zero when they are not usable
// any more.
func TestDevices(t *testing.T) {
	with := guest.Kubelet{VCPUs: 4, MemoryMiB: 16384, DiskGiB: 50, GPUs: 2}
	without := with
	without.GPUs = 0
	for name, test := range map[string]struct {
		spec    guest.Kubelet
		network bool
		have    corev1.NodeStatus
		want    string // empty: not shown at all
		changed bool
	}{
		"before pods run":      {with, false, newStatus(without, "", true), "", false},
		"at first":             {with, true, newStatus(without, "", true), "2", true},
		"later":                {with, true, newStatus(with, "", true), "2", false},
		"after a reboot":       {with, false, newStatus(with, "", true), "0", true},
		"without their driver": {without, true, newStatus(with, "", true), "0", true},
		"a machine without":    {without, true, newStatus(without, "", true), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := newStatus(test.spec, "", test.network)
			if changed := devices(&got, test.have); changed != test.changed {
				t.Errorf("changed: %t", changed)
			}
			for _, list := range []corev1.ResourceList{got.Capacity, got.Allocatable} {
				n, ok := list[gpu]
				if ok != (test.want != "") || ok && n.String() != test.want {
					t.Errorf("%s shown: %t, want %q", n.String(), ok, test.want)
				}
			}
		})
	}
}
