package aws

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
)

// flavorsAge is how long a list of instance types is used again: it takes a
// dozen calls, and changes a few times a year.
const flavorsAge = 15 * time.Minute

type flavorCache struct {
	mu   sync.Mutex
	list []cloud.Flavor
	read time.Time
}

// Flavors implements cloud.Provider: the instance types that Talos boots on.
func (p *Provider) Flavors(ctx context.Context) ([]cloud.Flavor, error) {
	p.flavors.mu.Lock()
	defer p.flavors.mu.Unlock()
	if p.flavors.list != nil && time.Since(p.flavors.read) < flavorsAge {
		return slices.Clone(p.flavors.list), nil
	}
	zones, err := p.offered(ctx)
	if err != nil {
		return nil, err
	}
	known, err := pages(ctx, p, "list instance types", "DescribeInstanceTypes", func(ctx context.Context, token *string) ([]types.InstanceTypeInfo, *string, error) {
		page, err := p.ec2.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{
			Filters:    []types.Filter{filter("supported-boot-mode", "uefi")},
			MaxResults: sdk.Int32(100), NextToken: token,
		})
		if err != nil {
			return nil, nil, err
		}
		return page.InstanceTypes, page.NextToken, nil
	})
	if err != nil {
		return nil, err
	}
	list := []cloud.Flavor{}
	for n := range known {
		if f, ok := flavorOf(&known[n]); ok {
			f.Zones = zones[f.Name]
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b cloud.Flavor) int { return strings.Compare(a.Name, b.Name) })
	p.flavors.list, p.flavors.read = list, time.Now()
	return slices.Clone(list), nil
}

// offered lists the zones of each instance type, sorted.
func (p *Provider) offered(ctx context.Context) (map[string][]string, error) {
	offers, err := pages(ctx, p, "list zones of instance types", "DescribeInstanceTypeOfferings", func(ctx context.Context, token *string) ([]types.InstanceTypeOffering, *string, error) {
		page, err := p.ec2.DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{
			LocationType: types.LocationTypeAvailabilityZone, MaxResults: sdk.Int32(pageSize), NextToken: token,
		})
		if err != nil {
			return nil, nil, err
		}
		return page.InstanceTypeOfferings, page.NextToken, nil
	})
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, o := range offers {
		name := string(o.InstanceType)
		out[name] = append(out[name], sdk.ToString(o.Location))
	}
	for _, zones := range out {
		slices.Sort(zones)
	}
	return out, nil
}

// flavorOf translates an instance type. T2 says that it boots by UEFI, and Talos
// does not boot on it all the same (Talos, AWS guide).
func flavorOf(t *types.InstanceTypeInfo) (cloud.Flavor, bool) {
	f := cloud.Flavor{Name: string(t.InstanceType)}
	if t.ProcessorInfo != nil {
		for _, a := range t.ProcessorInfo.SupportedArchitectures {
			switch a {
			case types.ArchitectureTypeX8664:
				f.Arch = "amd64"
			case types.ArchitectureTypeArm64:
				f.Arch = "arm64"
			}
		}
	}
	if t.VCpuInfo != nil {
		f.VCPUs = int(sdk.ToInt32(t.VCpuInfo.DefaultVCpus))
	}
	if t.MemoryInfo != nil {
		f.MemoryMiB = int(sdk.ToInt64(t.MemoryInfo.SizeInMiB))
	}
	if t.GpuInfo != nil {
		for _, g := range t.GpuInfo.Gpus {
			f.GPUs += int(sdk.ToInt32(g.Count))
			f.GPUName = strings.TrimSpace(sdk.ToString(g.Manufacturer) + " " + sdk.ToString(g.Name))
		}
	}
	usable := f.Arch != "" && f.VCPUs > 0 && f.MemoryMiB > 0 && !strings.HasPrefix(f.Name, "t2.")
	return f, usable
}
