package account

import "slices"

// Zone is an availability zone.
type Zone struct{ Name, ID string }

// Zones returns the zones of the region.
func Zones() []Zone {
	return []Zone{{"eu-central-1a", "euc1-az2"}, {"eu-central-1b", "euc1-az3"}, {"eu-central-1c", "euc1-az1"}}
}

// zoneBy finds a zone by its name or id; empty means the first.
func zoneBy(name string) (Zone, bool) {
	for _, z := range Zones() {
		if name == "" || z.Name == name || z.ID == name {
			return z, true
		}
	}
	return Zone{}, false
}

// ZoneID returns the id of a zone.
func ZoneID(name string) string {
	z, _ := zoneBy(name)
	return z.ID
}

// InstanceType is a size of instance.
type InstanceType struct {
	Name, Arch string // "x86_64" or "arm64"
	VCPUs      int
	MemoryMiB  int
	GPU        *GPU
	// Zones offer the type; there are types that not all zones have.
	Zones []string
	// Hypervisor is "nitro" or "xen"; the latter boots no UEFI.
	Hypervisor string
	Burstable  bool
	Current    bool // not of a previous generation
	// DiskGB is the size of the local disk, if there is one.
	DiskGB int
}

// GPU describes the accelerators of a type.
type GPU struct {
	Name, Manufacturer string
	Count, MemoryMiB   int
}

// UEFI says whether machines of the type boot UEFI images.
func (t InstanceType) UEFI() bool { return t.Hypervisor == "nitro" }

// bucket names the quota that counts the type's vCPUs.
func (t InstanceType) bucket() string {
	if t.Name[0] == 'g' || t.Name[0] == 'p' {
		return t.Name[:1]
	}
	return "standard"
}

// InstanceTypes returns the types of the region.
func InstanceTypes() []InstanceType {
	a, b, c := "eu-central-1a", "eu-central-1b", "eu-central-1c"
	everywhere := []string{a, b, c}
	x86 := func(name string, cpus, gib int) InstanceType {
		return InstanceType{
			Name: name, Arch: "x86_64", VCPUs: cpus, MemoryMiB: gib * 1024, Zones: everywhere,
			Hypervisor: "nitro", Burstable: name[:2] == "t3", Current: true,
		}
	}
	arm := func(name string, cpus, gib int, zones ...string) InstanceType {
		return InstanceType{Name: name, Arch: "arm64", VCPUs: cpus, MemoryMiB: gib * 1024, Zones: zones, Hypervisor: "nitro", Current: true}
	}
	old := func(name string, cpus, gib int) InstanceType {
		return InstanceType{
			Name: name, Arch: "x86_64", VCPUs: cpus, MemoryMiB: gib * 1024, Zones: everywhere, Hypervisor: "xen", Burstable: true, Current: true,
		}
	}
	gpu := x86("g4dn.xlarge", 4, 16)
	gpu.GPU, gpu.Zones, gpu.DiskGB = &GPU{"T4", "NVIDIA", 1, 16384}, []string{a, b}, 125
	return []InstanceType{
		x86("t3.small", 2, 2), x86("t3.medium", 2, 4), x86("t3.large", 2, 8), x86("t3.xlarge", 4, 16),
		x86("m6i.large", 2, 8), x86("m6i.xlarge", 4, 16), x86("m6i.2xlarge", 8, 32),
		x86("c6i.large", 2, 4), x86("c6i.xlarge", 4, 8), x86("c6i.2xlarge", 8, 16), x86("r6i.large", 2, 16),
		arm("t4g.medium", 2, 4, a, b, c), arm("m7g.large", 2, 8, a, b, c), arm("m7g.xlarge", 4, 16, a, b, c),
		arm("c7g.large", 2, 4, a, b), arm("c7g.xlarge", 4, 8, a, b),
		gpu, old("t2.small", 1, 2), old("t2.medium", 2, 4), old("t2.large", 2, 8),
	}
}

// TypeByName finds a type.
func TypeByName(name string) (InstanceType, bool) {
	all := InstanceTypes()
	n := slices.IndexFunc(all, func(t InstanceType) bool { return t.Name == name })
	if n < 0 {
		return InstanceType{}, false
	}
	return all[n], true
}
