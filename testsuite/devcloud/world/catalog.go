package world

import (
	"fmt"
	"strings"
)

// GPU describes the accelerators of a flavor.
type GPU struct {
	Name         string
	Count        int
	VRAMPerGPUGB int
}

// Flavor is a size of server. MemoryGB counts GiB, as cloudscale does.
type Flavor struct {
	Slug, Name string
	VCPUs      int
	MemoryGB   int
	GPU        *GPU
}

// Region groups zones.
type Region struct {
	Slug  string
	Zones []string
}

// StockImage is an image that the cloud offers to everybody.
type StockImage struct{ Slug, Name, OperatingSystem, Username string }

// Regions returns the two regions, one zone each.
func Regions() []Region {
	return []Region{{Slug: "rma", Zones: []string{"rma1"}}, {Slug: "lpg", Zones: []string{"lpg1"}}}
}

// DefaultZone is where a resource lands whose request names no zone.
const DefaultZone = "lpg1"

func zoneExists(zone string) bool {
	for _, r := range Regions() {
		for _, z := range r.Zones {
			if z == zone {
				return true
			}
		}
	}
	return false
}

// Zones returns all zones.
func Zones() []string {
	var out []string
	for _, r := range Regions() {
		out = append(out, r.Zones...)
	}
	return out
}

// RegionOf returns the region of a zone: the zone without its number.
func RegionOf(zone string) string { return strings.TrimRight(zone, "0123456789") }

// Flavors returns the price list: the slug is <family>-<memory GiB>-<vCPUs>,
// for GPU flavors followed by -<GPUs>-<scratch GB>.
func Flavors() []Flavor {
	var out []Flavor
	add := func(family string, sizes ...[2]int) {
		for _, s := range sizes {
			slug := fmt.Sprintf("%s-%d-%d", strings.ToLower(family), s[0], s[1])
			out = append(out, Flavor{Slug: slug, Name: fmt.Sprintf("%s-%d-%d", family, s[0], s[1]), VCPUs: s[1], MemoryGB: s[0]})
		}
	}
	add("Flex", [2]int{4, 1}, [2]int{4, 2}, [2]int{4, 4}, [2]int{8, 2}, [2]int{8, 4}, [2]int{16, 4}, [2]int{16, 8},
		[2]int{24, 6}, [2]int{32, 8}, [2]int{48, 12}, [2]int{64, 16}, [2]int{96, 24})
	add("Plus", [2]int{8, 2}, [2]int{12, 4}, [2]int{16, 4}, [2]int{24, 8}, [2]int{32, 12}, [2]int{48, 20},
		[2]int{64, 28}, [2]int{96, 36}, [2]int{128, 44}, [2]int{160, 52}, [2]int{192, 96})
	out = append(out, Flavor{
		Slug: "gpu2-128-16-1-200", Name: "GPU2-128-16-1-200", VCPUs: 16, MemoryGB: 128,
		GPU: &GPU{Name: "NVIDIA L40S", Count: 1, VRAMPerGPUGB: 48},
	})
	return out
}

func flavorBySlug(slug string) (Flavor, bool) {
	for _, f := range Flavors() {
		if f.Slug == slug {
			return f, true
		}
	}
	return Flavor{}, false
}

// StockImages returns the images everybody can boot.
func StockImages() []StockImage {
	return []StockImage{
		{"debian-11", "Debian 11 (Bullseye)", "Debian", "debian"},
		{"debian-12", "Debian 12 (Bookworm)", "Debian", "debian"},
		{"ubuntu-24.04", "Ubuntu 24.04 LTS", "Ubuntu", "ubuntu"},
		{"flatcar", "Flatcar Container Linux", "Flatcar", "core"},
	}
}
