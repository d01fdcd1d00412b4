package activities

import (
	"cmp"
	"context"
	"slices"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// ResolveCloudInput is the spec of a cluster that has a record.
type ResolveCloudInput struct {
	Ref  cluster.Ref  `json:"ref"`
	Spec cluster.Spec `json:"spec"`
}

// ResolveCloudResult is what the workflow freezes about the cloud.
type ResolveCloudResult struct {
	// Account is a short stable name of the account.
	Account      string             `json:"account"`
	Capabilities cloud.Capabilities `json:"capabilities"`
	// Steps are the infrastructure resources in the order of creation.
	Steps  []cloud.Step `json:"steps"`
	Timing Timing       `json:"timing"`
}

// ResolveCloud proves that the credentials work, that flavors and zones exist,
// and plans the infrastructure. It creates nothing.
func (c *Cloud) ResolveCloud(ctx context.Context, in ResolveCloudInput) (ResolveCloudResult, error) {
	defer alive(ctx, "resolving the account")()
	var out ResolveCloudResult
	p, account, err := c.Clouds.Open(ctx, in.Spec.Cloud)
	if err != nil {
		return out, err
	}
	flavors, err := p.Flavors(ctx)
	if err != nil {
		return out, err
	}
	if problems := unknownFlavors(in.Spec, flavors); len(problems) > 0 {
		return out, fault.Wrap(fault.Invalid, "check flavors", problems)
	}
	for i, s := range in.Spec.Secrets {
		if _, err := c.Secrets.Resolve(ctx, refOf(s)); err != nil {
			return out, fault.New(fault.KindOf(err), "check secrets", "spec.secrets[%d].from: %v", i, err)
		}
	}
	if err := c.begin(ctx, in.Ref, p, account); err != nil {
		return out, err
	}
	out = ResolveCloudResult{Account: account, Capabilities: p.Capabilities(), Timing: c.Timing}
	infra, ok := p.(cloud.Infrastructure)
	if !ok {
		return out, nil
	}
	out.Steps, err = infra.PlanInfrastructure(InfrastructureSpec(in.Ref, in.Spec))
	return out, err
}

// begin notes the account in which a cluster is made; one that was begun goes on
// in the same account only.
func (c *Cloud) begin(ctx context.Context, ref cluster.Ref, p cloud.Provider, account string) error {
	book := accounts{store: c.Store}
	if err := book.prove(ctx, ref, p, account); err != nil {
		return err
	}
	return book.seen(ctx, ref, account)
}

// InfrastructureSpec is the part of a spec that clouds plan from.
func InfrastructureSpec(ref cluster.Ref, spec cluster.Spec) cloud.InfrastructureSpec {
	is := cloud.InfrastructureSpec{
		Owner: cloud.Owner{Cluster: ref}, Zone: spec.Cloud.Zone,
		CIDR: spec.Network.CIDR, Existing: spec.Network.Existing, AllowedCIDRs: spec.Network.AdminCIDRs,
	}
	for _, z := range zonesOf(spec) {
		if !slices.Contains(is.Zones, z) {
			is.Zones = append(is.Zones, z)
		}
	}
	slices.Sort(is.Zones)
	if spec.Endpoint.Address == "" {
		is.LoadBalancer = &cluster.LoadBalancer{}
		if spec.Endpoint.LoadBalancer != nil {
			is.LoadBalancer = spec.Endpoint.LoadBalancer
		}
	}
	return is
}

// zonesOf are the zones in which machines of a cluster may be.
func zonesOf(spec cluster.Spec) []string {
	out := append([]string{spec.Cloud.Zone, cmp.Or(spec.ControlPlane.Zone, spec.Cloud.Zone)}, spec.ControlPlane.Zones...)
	for _, g := range spec.NodeGroups {
		out = append(append(out, cmp.Or(g.Zone, spec.Cloud.Zone)), g.Zones...)
		for _, a := range g.Alternatives {
			if a.Zone != "" {
				out = append(out, a.Zone)
			}
		}
	}
	return out
}

func infrastructure(ctx context.Context, clouds Clouds, c cluster.Cloud) (cloud.Infrastructure, cloud.Capabilities, error) {
	p, _, err := clouds.Open(ctx, c)
	if err != nil {
		return nil, cloud.Capabilities{}, err
	}
	infra, ok := p.(cloud.Infrastructure)
	if !ok {
		return nil, cloud.Capabilities{}, fault.New(fault.Invalid, "open cloud", "cloud %q has no infrastructure that Ichor manages", c.Provider)
	}
	return infra, p.Capabilities(), nil
}

// EnsureResourceInput is one frozen resource; Create as for machines.
type EnsureResourceInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	cloud.EnsureResourceRequest
}

// EnsureResource adopts one infrastructure resource or creates it. Create as for
// EnsureMachine.
func (c *Cloud) EnsureResource(ctx context.Context, in EnsureResourceInput) (cloud.ResourceLook, error) {
	infra, _, err := infrastructure(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return cloud.ResourceLook{}, err
	}
	defer alive(ctx, "ensuring "+in.Step.Title)()
	return infra.EnsureResource(ctx, in.EnsureResourceRequest)
}

// PlacementStepInput names one shard of a group.
type PlacementStepInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	Owner cloud.Owner   `json:"owner"`
	Zone  string        `json:"zone"`
	Shard int           `json:"shard"`
}

// GetPlacementStep returns the resource that spreads a shard over hosts.
func (c *Cloud) GetPlacementStep(ctx context.Context, in PlacementStepInput) (cloud.Step, error) {
	defer alive(ctx, "planning")()
	infra, _, err := infrastructure(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return cloud.Step{}, err
	}
	return infra.PlacementStep(in.Owner, in.Zone, in.Shard)
}

// WaitResourceInput names a resource that exists.
type WaitResourceInput struct {
	Cloud    cluster.Cloud  `json:"cloud"`
	Resource cloud.Resource `json:"resource"`
}

// WaitResource returns the resource when it is ready.
func (c *Cloud) WaitResource(ctx context.Context, in WaitResourceInput) (cloud.Resource, error) {
	infra, caps, err := infrastructure(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return in.Resource, err
	}
	now := in.Resource
	err = poll(ctx, "wait for "+in.Resource.Kind+" "+in.Resource.Name, caps.Poll, appearing(caps, func(ctx context.Context) (bool, string, error) {
		r, err := infra.GetResource(ctx, in.Resource)
		if err == nil {
			now = r
		}
		return now.Ready, "state " + now.State, err
	}))
	return now, err
}

// SyncEndpointInput is the full set of control plane members.
type SyncEndpointInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	cloud.SyncMembersRequest
}

// SyncEndpoint makes the endpoint forward to exactly these members.
func (c *Cloud) SyncEndpoint(ctx context.Context, in SyncEndpointInput) (cloud.MembersStatus, error) {
	infra, _, err := infrastructure(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return cloud.MembersStatus{}, err
	}
	defer alive(ctx, "syncing endpoint members")()
	return infra.SyncMembers(ctx, in.SyncMembersRequest)
}

// EndpointInput are the ensured resources.
type EndpointInput struct {
	Cloud cluster.Cloud    `json:"cloud"`
	Have  []cloud.Resource `json:"have"`
}

// GetEndpointHost returns the host of the Kubernetes API.
func (c *Cloud) GetEndpointHost(ctx context.Context, in EndpointInput) (string, error) {
	defer alive(ctx, "reading the endpoint")()
	infra, _, err := infrastructure(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return "", err
	}
	host := infra.EndpointHost(in.Have)
	if host == "" {
		return "", fault.New(fault.Internal, "find endpoint", "none of the %d resources has an address for the Kubernetes API", len(in.Have))
	}
	return host, nil
}

// ListOwnedInput names a cluster in an account.
type ListOwnedInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	Owner cloud.Owner   `json:"owner"`
}

// ListOwnedResult is everything that carries the cluster's tags.
type ListOwnedResult struct {
	Machines  []cloud.Machine  `json:"machines,omitempty"`
	Resources []cloud.Resource `json:"resources,omitempty"` // in the order of deletion
	Images    []cloud.Image    `json:"images,omitempty"`    // marked as used by it
}

// Empty reports whether nothing remains.
func (r ListOwnedResult) Empty() bool { return len(r.Machines)+len(r.Resources)+len(r.Images) == 0 }

// ListOwned lists all that a cluster owns in the account, or fails; never a part.
// Unauthorized when nothing is found in an account that may be another one.
func (c *Cloud) ListOwned(ctx context.Context, in ListOwnedInput) (ListOwnedResult, error) {
	defer alive(ctx, "listing what the cluster owns")()
	p, account, err := c.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return ListOwnedResult{}, err
	}
	out, err := owned(ctx, p, in.Owner)
	if err != nil {
		return ListOwnedResult{}, err
	}
	book := accounts{store: c.Store}
	if out.Empty() {
		return out, book.prove(ctx, in.Owner.Cluster, p, account)
	}
	return out, book.seen(ctx, in.Owner.Cluster, account)
}

// DeleteResourceInput names one resource.
type DeleteResourceInput struct {
	Cloud    cluster.Cloud  `json:"cloud"`
	Resource cloud.Resource `json:"resource"`
}

// DeleteResource deletes a resource and returns when it is gone. Absent is gone;
// a resource that was brought along is left alone.
func (c *Cloud) DeleteResource(ctx context.Context, in DeleteResourceInput) error {
	if in.Resource.Foreign {
		return nil
	}
	infra, caps, err := infrastructure(ctx, c.Clouds, in.Cloud)
	if err != nil {
		return err
	}
	return poll(ctx, "delete "+in.Resource.Kind+" "+in.Resource.Name, caps.Poll, func(ctx context.Context) (bool, string, error) {
		gone, err := infra.DeleteResource(ctx, in.Resource)
		return gone, "is being deleted", err
	})
}

// OpenAccountInput names an account.
type OpenAccountInput struct {
	Cloud cluster.Cloud `json:"cloud"`
}

// OpenAccount proves that the credentials work and returns what ResolveCloud
// would, without judging or planning a spec: deletion must work for any spec.
func (c *Cloud) OpenAccount(ctx context.Context, in OpenAccountInput) (ResolveCloudResult, error) {
	defer alive(ctx, "opening the account")()
	p, account, err := c.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return ResolveCloudResult{}, err
	}
	if _, err := p.Flavors(ctx); err != nil {
		return ResolveCloudResult{}, err
	}
	return ResolveCloudResult{Account: account, Capabilities: p.Capabilities(), Timing: c.Timing}, nil
}
