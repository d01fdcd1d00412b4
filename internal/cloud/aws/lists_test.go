package aws_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/aws"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// soon is the shortest pause that an answer can ask for.
const soon = "1"

// bend makes the next requests of an action fail.
func (c *testCloud) bend(t *testing.T, route string, f faults.Fault) {
	t.Helper()
	f.Route, f.RetryAfter = route, soon
	if _, err := c.Injector.Add(f); err != nil {
		t.Fatal(err)
	}
}

// asked counts the requests for an action.
func (c *testCloud) asked(action string) int {
	return c.Count(func(r faults.Request) bool { return strings.HasSuffix(r.Path, "/"+action) })
}

// all lists what a cluster has, images included.
func all(t *testing.T, p *aws.Provider) (out []string, err error) {
	t.Helper()
	resources, err := p.ListResources(t.Context(), tourist)
	if err != nil {
		if resources != nil {
			t.Errorf("a part of a list: %v", resources)
		}
		return nil, err
	}
	images, err := p.ListImages(t.Context(), tourist)
	if err != nil {
		if images != nil {
			t.Errorf("a part of a list: %v", images)
		}
		return nil, err
	}
	for _, r := range resources {
		out = append(out, r.Kind+" "+r.ID)
	}
	for _, i := range images {
		out = append(out, "image "+i.ID)
	}
	return out, nil
}

// furnish gives the cluster one of everything that is listed, over two pages.
func (c *testCloud) furnish(t *testing.T, p *aws.Provider) []string {
	t.Helper()
	have := c.build(t, c.Infrastructure(tourist))
	s := c.account.Settings()
	s.PageLimit = 1
	c.account.SetSettings(s)
	if look, err := p.EnsureImage(t.Context(), cloud.EnsureImageRequest{Spec: c.Image("listed"), User: tourist, Create: true}); err != nil || look.Image == nil {
		t.Fatalf("EnsureImage: %+v, %v", look, err)
	}
	var want []string
	eventually(t, "everything is listed", func() (bool, error) {
		var err error
		want, err = all(t, p)
		return len(want) == len(have)+1, err
	})
	if n := len(slices.DeleteFunc(slices.Clone(have), func(r cloud.Resource) bool { return r.Kind != cloud.KindSubnet })); n < 2 {
		t.Fatalf("%d subnets, want two pages", n)
	}
	return want
}

// Reads that are refused once or twice, in each of the services and on the second
// page of one, neither end a list nor leave anything out or double.
func TestListsOutlastThrottling(t *testing.T) {
	t.Parallel()
	c := startCloud(t)
	p := c.open(t)
	want := c.furnish(t, p)
	before := c.asked("DescribeSubnets")
	if _, err := p.ListResources(t.Context(), tourist); err != nil {
		t.Fatal(err)
	}
	pages := c.asked("DescribeSubnets") - before
	if pages < 2 {
		t.Fatalf("the subnets came in %d pages", pages)
	}
	c.bend(t, ec2Path+"DescribeSubnets", faults.Fault{Effect: faults.JSON429, Nth: 2})
	c.bend(t, elbPath+"DescribeTags", faults.Fault{Effect: faults.JSON429, Count: 2})
	c.bend(t, ec2Path+"DescribeVpcs", faults.Fault{Effect: faults.Status, Status: http.StatusServiceUnavailable, Code: "Unavailable"})
	c.bend(t, ec2Path+"DescribeImages", faults.Fault{Effect: faults.JSON429})
	c.bend(t, ec2Path+"DescribeSnapshots", faults.Fault{Effect: faults.DropBeforeCommit})
	before = c.asked("DescribeSubnets")
	got, err := all(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("under throttling (-want +got):\n%s", diff)
	}
	for _, f := range c.Injector.Faults() {
		if f.Fired == 0 {
			t.Errorf("nothing was refused of %s", f.Route)
		}
	}
	if n := c.asked("DescribeSubnets") - before; n != pages+1 {
		t.Errorf("%d reads of %d pages, one of which was refused", n, pages)
	}
}

// Throttling that lasts is what a list ends with, wherever it meets it. It is not
// an empty list, and not a part of one.
func TestListsEndWithThrottling(t *testing.T) {
	t.Parallel()
	for _, route := range []string{
		elbPath + "DescribeLoadBalancers", // the first kind that is listed
		elbPath + "DescribeTags",          // what carries none is somebody else's
		ec2Path + "DescribeVpcs",          // the last kind
		ec2Path + "DescribeImages",
	} {
		t.Run(route[strings.LastIndex(route, "/")+1:], func(t *testing.T) {
			t.Parallel()
			c := startCloud(t)
			p := c.open(t)
			want := c.furnish(t, p)
			before := c.WriteRequests()
			c.bend(t, route, faults.Fault{Effect: faults.JSON429, Count: -1})
			got, err := all(t, p)
			if !fault.Is(err, fault.RateLimited) || got != nil {
				t.Errorf("%v, %v of kind %q", got, err, fault.KindOf(err))
			}
			if n := c.Injector.Faults()[0].Fired; n < 2 || n > 5 {
				t.Errorf("%d requests while the cloud throttles", n)
			}
			if n := c.WriteRequests() - before; n != 0 {
				t.Errorf("%d writes", n)
			}
			c.Heal()
			eventually(t, "the list", func() (bool, error) { got, err = all(t, p); return err == nil, err })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("afterwards (-want +got):\n%s", diff)
			}
		})
	}
}
