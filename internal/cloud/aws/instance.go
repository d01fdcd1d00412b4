package aws

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// instance is as much of an instance as is used here.
type instance struct {
	id, zone, flavor, image string
	public, private         string
	token                   string // of the request that made it
	state                   types.InstanceStateName
	launched                time.Time
	tags                    map[string]string
}

func instanceOf(i *types.Instance) instance {
	out := instance{
		id: sdk.ToString(i.InstanceId), flavor: string(i.InstanceType), image: sdk.ToString(i.ImageId),
		public: sdk.ToString(i.PublicIpAddress), private: sdk.ToString(i.PrivateIpAddress),
		token: sdk.ToString(i.ClientToken), launched: sdk.ToTime(i.LaunchTime), tags: tagMap(i.Tags),
	}
	if i.Placement != nil {
		out.zone = sdk.ToString(i.Placement.AvailabilityZone)
	}
	if i.State != nil {
		out.state = i.State.Name
	}
	return out
}

// live says that an instance runs, will run, or would run if it were started.
func (i *instance) live() bool { return !i.ending() && !i.terminated() }

func (i *instance) ending() bool     { return i.state == types.InstanceStateNameShuttingDown }
func (i *instance) terminated() bool { return i.state == types.InstanceStateNameTerminated }

// older orders duplicates: the first one stays. The cloud's clock decides, the
// id where it cannot, so that everybody keeps the same one.
func older(a, b instance) int {
	return cmp.Or(a.launched.Compare(b.launched), strings.Compare(a.id, b.id))
}

// misplaced says in what an instance differs from its spec, "" when it does not.
func misplaced(s cloud.MachineSpec, i *instance) string {
	switch {
	case s.Zone != "" && i.zone != s.Zone:
		return fmt.Sprintf("instance %s is in zone %q instead of %q", i.id, i.zone, s.Zone)
	case i.flavor != s.Flavor:
		return fmt.Sprintf("instance %s has type %q instead of %q", i.id, i.flavor, s.Flavor)
	case i.image != s.ImageID:
		return fmt.Sprintf("instance %s has image %q instead of %q", i.id, i.image, s.ImageID)
	}
	return ""
}

func (i *instance) machine() cloud.Machine {
	return cloud.Machine{
		Ref:  cloud.RefOf(i.tags, i.id),
		Name: i.tags[tagName], ProviderID: providerIDPrefix + i.zone + "/" + i.id, Role: cluster.Role(i.tags[cluster.TagRole]),
		Zone: i.zone, Flavor: i.flavor, ImageID: i.image, State: stateOf(i.state),
		Public: i.public, Private: i.private, CreatedAt: i.launched,
	}
}

// stateOf translates the six states of instances (EC2, instance lifecycle).
func stateOf(s types.InstanceStateName) cloud.MachineState {
	switch s {
	case types.InstanceStateNamePending:
		return cloud.MachineCreating
	case types.InstanceStateNameRunning:
		return cloud.MachineRunning
	case types.InstanceStateNameStopping, types.InstanceStateNameStopped:
		return cloud.MachineStopped
	case types.InstanceStateNameShuttingDown, types.InstanceStateNameTerminated:
		return cloud.MachineDeleting
	}
	return cloud.MachineUnknown
}

// pageSize is the largest that the API takes.
const pageSize = 1000

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: sdk.String(name), Values: values}
}

// describe lists all instances that match, each page one call, or fails.
func (p *Provider) describe(ctx context.Context, op string, filters ...types.Filter) ([]instance, error) {
	return pages(ctx, p, op, "DescribeInstances", func(ctx context.Context, token *string) ([]instance, *string, error) {
		page, err := p.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: filters, MaxResults: sdk.Int32(pageSize), NextToken: token})
		if err != nil {
			return nil, nil, err
		}
		return p.sighted(page.Reservations), page.NextToken, nil
	})
}

// sighted is what the cloud shows, and notes that it does.
func (p *Provider) sighted(shown []types.Reservation) []instance {
	var out []instance
	for _, r := range shown {
		for n := range r.Instances {
			i := instanceOf(&r.Instances[n])
			p.seen.Saw(i.id, i.launched)
			out = append(out, i)
		}
	}
	return out
}

// collect makes a collector that reads by one filter.
func (p *Provider) collect(name string, keyOf func(*instance) string) *collector {
	return &collector{
		wait: gathering, follow: following, limit: maxFilter, keyOf: keyOf,
		fetch: func(ctx context.Context, keys []string) ([]instance, error) {
			return p.describe(ctx, "read instances", filter(name, keys...))
		},
	}
}

// instancesOf lists all instances with the identity of ref, terminated ones
// included: an id belongs to one group of one cluster.
func (p *Provider) instancesOf(ctx context.Context, ref cloud.MachineRef) ([]instance, error) {
	const op = "look for instance"
	if ref.ID == "" || ref.Owner.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, op, "a machine needs an id and a cluster uid")
	}
	all, err := p.byMachine.get(ctx, op, ref.ID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(i instance) bool { return !ref.Named(i.tags) }), nil
}

// instance reads one instance. It is NotFound when that is proven, and NotYet
// when it is only not visible. A list that lacks it proves less than a read by
// its id, so the latter is made, too.
func (p *Provider) instance(ctx context.Context, id string) (instance, error) {
	const op = "read instance"
	if !plausibleID(id) {
		return instance{}, fault.New(fault.Invalid, op, "%q is not an id of this cloud", id)
	}
	found, err := p.byID.get(ctx, op, id)
	if err != nil {
		return instance{}, err
	}
	if len(found) > 0 {
		return found[0], nil
	}
	var out *ec2.DescribeInstancesOutput
	err = p.calls.Call(ctx, exchange.Request{Op: op, Action: "DescribeInstances"}, func(ctx context.Context) (err error) {
		out, err = p.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		return err
	})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return instance{}, err
	}
	if err == nil {
		if found := p.sighted(out.Reservations); len(found) > 0 {
			return found[0], nil
		}
	}
	return instance{}, p.seen.Absent(op, id)
}

// plausibleID keeps nonsense out of requests: an empty one would turn "read
// this" into "list all".
func plausibleID(id string) bool {
	return id != "" && len(id) <= 256 && !strings.ContainsFunc(id, func(r rune) bool {
		return r != '-' && r != '.' && r != ':' && r != '/' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
