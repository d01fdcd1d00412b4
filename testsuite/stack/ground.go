package stack

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Ground is what machines need of an account in which Ichor has made nothing: the
// words of a file of stand-alone groups.
type Ground struct {
	Cloud, Credentials, Zone, Image string
	// Flavor and Larger are two sizes of machines.
	Flavor, Larger string
	Subnets        []string
	// Groups are the security groups of machines, where there are some.
	Groups []string
	// UserData is what machines boot with.
	UserData string
}

// File is the head of a file of stand-alone groups of the cluster "shop".
func (g Ground) File() string {
	return fmt.Sprintf("cluster: shop\ncloud: %s\ncredentials: %q\nzone: %s\n", g.Cloud, g.Credentials, g.Zone)
}

// Group is the part of a group in such a file that the cloud decides; it fits
// between the braces of a YAML mapping.
func (g Ground) Group() string {
	out := fmt.Sprintf("flavor: %s, image: %s, subnets: [%s]", g.Flavor, g.Image, strings.Join(g.Subnets, ", "))
	if len(g.Groups) > 0 {
		out += fmt.Sprintf(", params: {securityGroup: %q}", strings.Join(g.Groups, ","))
	}
	return out
}

// Join makes g the place where a cluster has its machines, in the zone of g.
func (c Cloud) Join(a Account, name string, g *Ground) {
	g.Subnets, g.Groups = nil, nil
	for _, r := range a.Resources {
		if r.Tags[cluster.TagClusterName] != name || r.Cloud != c.Name {
			continue
		}
		switch {
		case r.Kind == Subnets && (r.Zone == g.Zone || r.Zone == ""):
			g.Subnets = append(g.Subnets, r.ID)
		case r.Kind == "security groups":
			g.Groups = append(g.Groups, r.ID)
		}
	}
}

// Prepare makes what a machine needs in the account and cannot do without.
func (c Cloud) Prepare(ctx context.Context, s *Stack) (Ground, error) {
	g := c.ground
	g.Cloud = c.Name
	return g, c.prepare(ctx, s, &g)
}

// Launch makes a machine as its owner would, without Ichor, and returns its id.
func (s *Stack) Launch(ctx context.Context, g Ground, name string, tags map[string]string) (string, error) {
	c, err := Named(g.Cloud)
	if err != nil {
		return "", err
	}
	return c.launch(ctx, s, g, name, tags)
}

func launchServer(ctx context.Context, s *Stack, g Ground, name string, tags map[string]string) (string, error) {
	body := map[string]any{
		"name": name, "zone": g.Zone, "flavor": g.Flavor, "image": g.Image, "ssh_keys": []string{}, "volume_size_gb": 50, "tags": tags,
	}
	if g.UserData != "" {
		body["user_data"] = g.UserData
	}
	if len(g.Subnets) > 0 {
		body["interfaces"] = []any{
			map[string]any{"network": "public"}, map[string]any{"addresses": []any{map[string]any{"subnet": g.Subnets[0]}}},
		}
	}
	var made struct{ UUID string }
	err := s.Cloud(ctx, http.MethodPost, "v1/servers", body, &made)
	return made.UUID, err
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
