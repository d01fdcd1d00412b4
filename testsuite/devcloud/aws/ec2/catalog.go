package ec2

import (
	"slices"
	"strconv"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type gpu struct {
	Name         string `xml:"name"`
	Manufacturer string `xml:"manufacturer"`
	Count        int    `xml:"count"`
	MemoryMiB    int    `xml:"memoryInfo>sizeInMiB"`
}

type gpuInfo struct {
	GPUs  []gpu `xml:"gpus>item"`
	Total int   `xml:"totalGpuMemoryInMiB"`
}

type storageInfo struct {
	Total int `xml:"totalSizeInGB"`
}

type instanceType struct {
	Name           string       `xml:"instanceType"`
	Current        bool         `xml:"currentGeneration"`
	FreeTier       bool         `xml:"freeTierEligible"`
	Usage          []string     `xml:"supportedUsageClasses>item"`
	RootTypes      []string     `xml:"supportedRootDeviceTypes>item"`
	Virtualization []string     `xml:"supportedVirtualizationTypes>item"`
	BareMetal      bool         `xml:"bareMetal"`
	Hypervisor     string       `xml:"hypervisor"`
	Arch           []string     `xml:"processorInfo>supportedArchitectures>item"`
	VCPUs          int          `xml:"vCpuInfo>defaultVCpus"`
	MemoryMiB      int          `xml:"memoryInfo>sizeInMiB"`
	HasStorage     bool         `xml:"instanceStorageSupported"`
	Storage        *storageInfo `xml:"instanceStorageInfo"`
	MaxInterfaces  int          `xml:"networkInfo>maximumNetworkInterfaces"`
	Addresses      int          `xml:"networkInfo>ipv4AddressesPerInterface"`
	ENA            string       `xml:"networkInfo>enaSupport"`
	GPU            *gpuInfo     `xml:"gpuInfo"`
	Strategies     []string     `xml:"placementGroupInfo>supportedStrategies>item"`
	Burstable      bool         `xml:"burstablePerformanceSupported"`
	BootModes      []string     `xml:"supportedBootModes>item"`
}

func (f *face) instanceType(t account.InstanceType) instanceType {
	out := instanceType{
		Name: t.Name, Current: t.Current, Usage: []string{"on-demand", "spot"}, RootTypes: []string{"ebs"}, Virtualization: []string{"hvm"},
		Hypervisor: t.Hypervisor, Arch: []string{t.Arch}, VCPUs: t.VCPUs, MemoryMiB: t.MemoryMiB, HasStorage: t.DiskGB > 0,
		MaxInterfaces: 3, Addresses: 10, ENA: word(t.UEFI(), "required", "unsupported"), Strategies: []string{"partition", "spread"},
		Burstable: t.Burstable, BootModes: bootModes(t),
	}
	if t.DiskGB > 0 {
		out.Storage = &storageInfo{t.DiskGB}
	}
	if g := t.GPU; g != nil {
		out.GPU = &gpuInfo{[]gpu{{g.Name, g.Manufacturer, g.Count, g.MemoryMiB}}, g.Count * g.MemoryMiB}
	}
	return out
}

func bootModes(t account.InstanceType) []string {
	switch {
	case t.Arch == "arm64":
		return []string{"uefi"}
	case t.UEFI():
		return []string{"legacy-bios", "uefi"}
	default:
		return []string{"legacy-bios"}
	}
}

var byType = lookup[account.InstanceType]{
	set:  "instanceTypeSet",
	code: "InvalidInstanceType", missing: "The following supplied instance types do not exist: [%s]",
	id: func(t account.InstanceType) string { return t.Name },
	fields: func(t account.InstanceType) fields {
		return fields{
			"instance-type": one(t.Name), "current-generation": one(strconv.FormatBool(t.Current)), "bare-metal": one("false"),
			"processor-info.supported-architecture": one(t.Arch), "vcpu-info.default-vcpus": one(strconv.Itoa(t.VCPUs)),
			"memory-info.size-in-mib": one(strconv.Itoa(t.MemoryMiB)), "hypervisor": one(t.Hypervisor),
			"supported-boot-mode": bootModes(t), "supported-usage-class": one("on-demand", "spot"),
			"supported-virtualization-type": one("hvm"), "burstable-performance-supported": one(strconv.FormatBool(t.Burstable)),
		}
	},
}

type offering struct {
	Type         string `xml:"instanceType"`
	LocationType string `xml:"locationType"`
	Location     string `xml:"location"`
}

var byOffering = lookup[offering]{
	set:    "instanceTypeOfferingSet",
	id:     func(o offering) string { return o.Type + "@" + o.Location },
	fields: func(o offering) fields { return fields{"instance-type": one(o.Type), "location": one(o.Location)} },
}

// offerings returns what is offered where.
func offerings(by string) ([]offering, error) {
	var out []offering
	for _, t := range account.InstanceTypes() {
		switch by {
		case "", "region":
			out = append(out, offering{t.Name, "region", account.Region})
		case "availability-zone":
			for _, z := range t.Zones {
				out = append(out, offering{t.Name, by, z})
			}
		case "availability-zone-id":
			for _, z := range t.Zones {
				out = append(out, offering{t.Name, by, account.ZoneID(z)})
			}
		default:
			return nil, query.Refuse("InvalidParameterValue", "Value (%s) for parameter locationType is invalid.", by)
		}
	}
	return out, nil
}

type zone struct {
	Name   string `xml:"zoneName"`
	ID     string `xml:"zoneId"`
	Region string `xml:"regionName"`
	State  string `xml:"zoneState"`
	Kind   string `xml:"zoneType"`
	OptIn  string `xml:"optInStatus"`
}

var byZone = lookup[account.Zone]{
	code: "InvalidParameterValue", missing: "Invalid availability zone: [%s]",
	id: func(z account.Zone) string { return z.Name },
	fields: func(z account.Zone) fields {
		return fields{"zone-name": one(z.Name), "zone-id": one(z.ID), "region-name": one(account.Region), "state": one("available"), "zone-type": one("availability-zone")}
	},
}

type region struct {
	Name     string `xml:"regionName"`
	Endpoint string `xml:"regionEndpoint"`
	OptIn    string `xml:"optInStatus"`
}

var byRegion = lookup[region]{
	code: "InvalidParameterValue", missing: "Invalid region: [%s]",
	id: func(r region) string { return r.Name },
	fields: func(r region) fields {
		return fields{"region-name": one(r.Name), "endpoint": one(r.Endpoint), "opt-in-status": one(r.OptIn)}
	},
}

func (f *face) catalog(to map[string]query.Action) {
	on(f, to, "DescribeInstanceTypes", func(_ account.View, in struct {
		asked
		InstanceType []string
	},
	) (found[instanceType], error) {
		if len(in.InstanceType) > 0 && in.MaxResults != nil {
			return found[instanceType]{}, query.Refuse("InvalidParameterCombination", "The parameter InstanceType cannot be used with the parameter MaxResults")
		}
		limit := 100 // the API's own
		if in.MaxResults == nil && len(in.InstanceType) == 0 {
			in.MaxResults = &limit
		}
		return look(f, account.InstanceTypes(), byType, in.InstanceType, in.asked, f.instanceType)
	})
	on(f, to, "DescribeInstanceTypeOfferings", func(_ account.View, in struct {
		asked
		LocationType string
	},
	) (found[offering], error) {
		all, err := offerings(in.LocationType)
		if err != nil {
			return found[offering]{}, err
		}
		return look(f, all, byOffering, nil, in.asked, func(o offering) offering { return o })
	})
	on(f, to, "DescribeAvailabilityZones", func(_ account.View, in struct {
		ZoneName             []string
		ZoneID               []string `query:"ZoneId"`
		AllAvailabilityZones *bool
		Filter               []filter
	},
	) (any, error) {
		chosen, err := choose(f, account.Zones(), byZone, in.ZoneName, in.Filter)
		chosen = slices.DeleteFunc(chosen, func(z account.Zone) bool { return len(in.ZoneID) > 0 && !slices.Contains(in.ZoneID, z.ID) })
		return struct {
			Items []zone `xml:"availabilityZoneInfo>item"`
		}{each(chosen, func(z account.Zone) zone {
			return zone{z.Name, z.ID, account.Region, "available", "availability-zone", "opt-in-not-required"}
		})}, err
	})
	on(f, to, "DescribeRegions", func(_ account.View, in struct {
		RegionName []string
		AllRegions *bool
		Filter     []filter
	},
	) (any, error) {
		all := []region{{account.Region, "ec2." + account.Region + ".amazonaws.com", "opt-in-not-required"}}
		chosen, err := choose(f, all, byRegion, in.RegionName, in.Filter)
		return struct {
			Items []region `xml:"regionInfo>item"`
		}{chosen}, err
	})
}
