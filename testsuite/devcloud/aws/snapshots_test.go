package aws_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

func (c *cloud) ebs(secret string) *ebs.Client { return c.ebsAs(account.DefaultKey, secret) }

func (c *cloud) ebsAs(key, secret string) *ebs.Client {
	endpoint := c.aws.Endpoints(c.url)["AWS_ENDPOINT_URL_EBS"]
	return ebs.New(ebs.Options{
		Region: account.Region, BaseEndpoint: &endpoint, Retryer: sdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
	})
}

// startSnapshot asks for one with a tag.
func startSnapshot(tag string) *ebs.StartSnapshotInput {
	return &ebs.StartSnapshotInput{VolumeSize: p(int64(2)), Tags: []ebstypes.Tag{{Key: &tag, Value: p("b")}}}
}

// block begins with a text.
func block(text string) []byte {
	return append([]byte(text), make([]byte, account.BlockSize-len(text))...)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(s[:])
}

func put(id string, index int32, data []byte) *ebs.PutSnapshotBlockInput {
	return &ebs.PutSnapshotBlockInput{
		SnapshotId: &id, BlockIndex: &index, BlockData: bytes.NewReader(data), DataLength: p(int32(len(data))),
		Checksum: p(sum(data)), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	}
}

// TestImageOfBlocks makes an image of what was written block by block.
func TestImageOfBlocks(t *testing.T) {
	c := start(t)
	ctx := t.Context()
	client := c.ebs(account.DefaultSecret)
	in := &ebs.StartSnapshotInput{
		VolumeSize: p(int64(2)), ClientToken: p("once"), Description: p("talos"), Tags: []ebstypes.Tag{{Key: p("a"), Value: p("b")}},
	}
	started := must(client.StartSnapshot(ctx, in))(t)
	id := *started.SnapshotId
	if started.Status != "pending" || *started.BlockSize != account.BlockSize || *started.Tags[0].Value != "b" {
		t.Errorf("started %s, blocks of %d", started.Status, *started.BlockSize)
	}
	if again := must(client.StartSnapshot(ctx, in))(t); *again.SnapshotId != id {
		t.Errorf("the same token made %s and %s", id, *again.SnapshotId)
	}
	changed := *in
	changed.VolumeSize = p(int64(3))
	_, err := client.StartSnapshot(ctx, &changed)
	refused(t, err, "ConflictException")

	first, last := block("one"), block("two")
	bad := put(id, 0, first)
	bad.Checksum = p(sum(last))
	_, err = client.PutSnapshotBlock(ctx, bad)
	refused(t, err, "ValidationException")
	_, err = client.PutSnapshotBlock(ctx, put(id, 4096, first))
	refused(t, err, "ValidationException")
	_, err = client.PutSnapshotBlock(ctx, put(id, 0, first[:100]))
	refused(t, err, "ValidationException")
	_, err = client.PutSnapshotBlock(ctx, put("snap-0000", 0, first))
	refused(t, err, "ResourceNotFoundException")
	_, err = c.ebs("wrong").PutSnapshotBlock(ctx, put(id, 0, first))
	refused(t, err, "InvalidSignatureException")
	if _, err := c.faults.Add(faults.Fault{Route: "PUT /aws/ebs/snapshots/*/blocks/*", Effect: faults.JSON429}); err != nil {
		t.Fatal(err)
	}
	_, err = client.PutSnapshotBlock(ctx, put(id, 0, first))
	refused(t, err, "RequestThrottledException")
	must(client.PutSnapshotBlock(ctx, put(id, 0, last)))(t)
	must(client.PutSnapshotBlock(ctx, put(id, 0, first)))(t) // replaces
	must(client.PutSnapshotBlock(ctx, put(id, 5, last)))(t)

	complete := &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: p(int32(3))}
	_, err = client.CompleteSnapshot(ctx, complete)
	refused(t, err, "ValidationException")
	one, two := sha256.Sum256(first), sha256.Sum256(last)
	all := append(one[:], two[:]...)
	complete.ChangedBlocksCount, complete.Checksum = p(int32(2)), p(sum(first))
	complete.ChecksumAggregationMethod, complete.ChecksumAlgorithm = "LINEAR", "SHA256"
	_, err = client.CompleteSnapshot(ctx, complete)
	refused(t, err, "ValidationException")
	complete.Checksum = p(sum(all))
	must(client.CompleteSnapshot(ctx, complete))(t)
	_, err = client.PutSnapshotBlock(ctx, put(id, 1, first))
	refused(t, err, "ValidationException")
	until(t, "completion", func() bool {
		return must(c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}}))(t).Snapshots[0].State == "completed"
	})

	register := &ec2.RegisterImageInput{
		Name: p("talos-own"), Architecture: "x86_64", RootDeviceName: p("/dev/xvda"), VirtualizationType: p("hvm"), BootMode: "uefi",
		ImdsSupport: "v2.0", EnaSupport: p(true),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: p("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &id, VolumeType: "gp3"}}},
	}
	ami := *must(c.RegisterImage(ctx, register))(t).ImageId
	_, err = c.RegisterImage(ctx, register)
	refused(t, err, "InvalidAMIName.Duplicate")
	until(t, "image", func() bool {
		return must(c.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{ami}}))(t).Images[0].State == "available"
	})
	n := c.network(t)
	instance := *c.run(t, c.spec(t, n, func(in *ec2.RunInstancesInput) { in.ImageId = &ami })).InstanceId
	until(t, "boot", func() bool { _, ok := c.park.spec(instance); return ok })
	if spec, _ := c.park.spec(instance); spec.Image.Schematic != "one" || spec.Image.UUID != ami || spec.Image.Firmware != "uefi" {
		t.Errorf("the guest boots %+v", spec.Image)
	}
	_, err = c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
	refused(t, err, "InvalidSnapshot.InUse")
	must(c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &ami}))(t)
	must(c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id}))(t)
	_, err = c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
	refused(t, err, "InvalidSnapshot.NotFound")
	_, err = c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &ami})
	refused(t, err, "InvalidAMIID.NotFound")
	_, err = c.RunInstances(ctx, c.spec(t, n, func(in *ec2.RunInstancesInput) { in.ImageId = &ami }))
	refused(t, err, "InvalidAMIID.NotFound")
}
