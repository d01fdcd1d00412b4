package aws

import (
	"context"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// volumes go with their machines. What is left of one carries the machine's tags
// and is attached to nothing.
func (p *Provider) volumes() kind {
	view := func(v *types.Volume) item {
		return item{ID: sdk.ToString(v.VolumeId), Name: tagMap(v.Tags)[tagName], Zone: sdk.ToString(v.AvailabilityZone), Tags: tagMap(v.Tags), State: string(v.State), Ready: true}
	}
	k := p.ec2Kind(kindVolume, "", "DescribeVolumes", func(ctx context.Context, ids []string, f []types.Filter, next *string) ([]item, *string, error) {
		out, err := p.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: ids, Filters: f, NextToken: next})
		if err != nil {
			return nil, nil, err
		}
		return views(out.Volumes, view), out.NextToken, nil
	}, filter("status", string(types.VolumeStateAvailable)))
	k.Remove = func(ctx context.Context, i *item) error {
		return p.erase(ctx, kindVolume, "DeleteVolume", func(ctx context.Context) error {
			_, err := p.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: sdk.String(i.ID)})
			return err
		})
	}
	return k
}
