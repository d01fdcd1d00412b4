package machines_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// TestMachineOnEC2 boots Talos on EC2, in maintenance for want of user data, and
// reaches it exactly while its security group says so.
func TestMachineOnEC2(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	env := s.AWSEnvironment()
	plain := &http.Client{Transport: &http.Transport{}}
	defer plain.CloseIdleConnections()
	cloud := ec2.New(ec2.Options{
		Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL_EC2"]), HTTPClient: plain,
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
	})
	settings := s.AWS().Settings()
	settings.Visibility = nil
	s.AWS().SetSettings(settings)

	vpc, err := cloud.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	id := vpc.Vpc.VpcId
	gateway, err := cloud.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	if err != nil {
		t.Fatal(err)
	}
	igw := gateway.InternetGateway.InternetGatewayId
	if _, err := cloud.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: igw, VpcId: id}); err != nil {
		t.Fatal(err)
	}
	tables, err := cloud.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{*id}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cloud.CreateRoute(ctx, &ec2.CreateRouteInput{
		RouteTableId: tables.RouteTables[0].RouteTableId, DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: igw,
	}); err != nil {
		t.Fatal(err)
	}
	subnet, err := cloud.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: id, CidrBlock: aws.String("10.0.0.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	group, err := cloud.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String("nodes"), Description: aws.String("nodes"), VpcId: id,
	})
	if err != nil {
		t.Fatal(err)
	}
	images, err := cloud.DescribeImages(ctx, &ec2.DescribeImagesInput{Filters: []types.Filter{
		{Name: aws.String("name"), Values: []string{"talos-v1.13.5-eu-central-1-arm64"}},
	}})
	if err != nil || len(images.Images) != 1 {
		t.Fatalf("%d images, %v", len(images.Images), err)
	}
	made, err := cloud.RunInstances(ctx, &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ImageId: images.Images[0].ImageId, InstanceType: "m7g.large",
		NetworkInterfaces: []types.InstanceNetworkInterfaceSpecification{{
			DeviceIndex: aws.Int32(0), SubnetId: subnet.Subnet.SubnetId, Groups: []string{*group.GroupId}, AssociatePublicIpAddress: aws.Bool(true),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	instance := *made.Instances[0].InstanceId
	address := net.JoinHostPort(*made.Instances[0].PublicIpAddress, "50000")
	open := []types.IpPermission{{
		IpProtocol: aws.String("tcp"), FromPort: aws.Int32(50000), ToPort: aws.Int32(50000),
		IpRanges: []types.IpRange{{CidrIp: aws.String("127.0.0.1/32")}},
	}}
	if _, err := cloud.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: open}); err != nil {
		t.Fatal(err)
	}
	for {
		if err := greet(ctx, address, 10*time.Second); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			lines, err := s.AWS().Console(instance)
			t.Fatalf("nobody at %s: %v, %v", address, lines, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if _, err := cloud.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: open}); err != nil {
		t.Fatal(err)
	}
	if err := greet(ctx, address, time.Second); err == nil {
		t.Error("reached through a closed security group")
	}
	if _, err := cloud.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{instance}}); err != nil {
		t.Fatal(err)
	}
	if n := s.State().Count; n == 0 {
		t.Error("the dump of the cloud does not count what is at AWS")
	}
}

// greet completes a TLS handshake with whatever certificate there is.
func greet(ctx context.Context, address string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // which has nobody to vouch for it
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}
