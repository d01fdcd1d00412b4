package stack

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Ground is what machines need of an account in which Ichor has made nothing, in
// the words of a file of stand-alone groups.
type Ground struct {
	Cloud, Credentials, Zone, Image, Flavor string
	Subnets                                 []string
	// TakesOver says that machines which exist can become members: at AWS they
	// cannot.
	TakesOver bool
}

// File is the head of a file of stand-alone groups of the cluster "shop".
func (g Ground) File() string {
	return fmt.Sprintf("cluster: shop\ncloud: %s\ncredentials: %q\nzone: %s\n", g.Cloud, g.Credentials, g.Zone)
}

// Group is the part of a group in such a file that the cloud decides; it fits
// between the braces of a YAML mapping. The group takes over machines with the tag
// where that can be done.
func (g Ground) Group(tag string) string {
	out := fmt.Sprintf("flavor: %s, image: %s, subnets: [%s]", g.Flavor, g.Image, strings.Join(g.Subnets, ", "))
	if g.TakesOver {
		out += ", tag: " + tag
	}
	return out
}

// Prepare makes what a machine needs in the account and cannot do without.
func (c Cloud) Prepare(ctx context.Context, s *Stack) (Ground, error) {
	g := c.ground
	g.Cloud = c.Name
	return g, c.prepare(ctx, s, &g)
}

// prepareNetwork makes a VPC with a subnet, for an account has none, and finds a
// published image.
func prepareNetwork(ctx context.Context, s *Stack, g *Ground) error {
	ask := func(action string, params url.Values, out any) error {
		body, err := s.EC2(ctx, action, params)
		if err != nil {
			return err
		}
		return xml.Unmarshal(body, out)
	}
	var vpc struct {
		ID string `xml:"vpc>vpcId"`
	}
	if err := ask("CreateVpc", url.Values{"CidrBlock": {"10.9.0.0/16"}}, &vpc); err != nil {
		return err
	}
	var subnet struct {
		ID string `xml:"subnet>subnetId"`
	}
	if err := eventually(ctx, func() error {
		return ask("CreateSubnet", url.Values{"VpcId": {vpc.ID}, "CidrBlock": {"10.9.1.0/24"}, "AvailabilityZone": {g.Zone}}, &subnet)
	}); err != nil {
		return err
	}
	var images struct {
		IDs []string `xml:"imagesSet>item>imageId"`
	}
	err := ask("DescribeImages", url.Values{
		"Filter.1.Name": {"name"}, "Filter.1.Value.1": {"talos-v1.13.5-" + s.AWS["AWS_REGION"] + "-amd64"},
	}, &images)
	if err == nil && len(images.IDs) == 0 {
		err = errors.New("no image of Talos v1.13.5 is published")
	}
	if err == nil {
		g.Subnets, g.Image = []string{subnet.ID}, images.IDs[0]
	}
	return err
}

// eventually tries again while what was made is not visible yet.
func eventually(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
