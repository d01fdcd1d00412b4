package cloudscale

import (
	"context"
	"slices"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// SyncMembers implements cloud.Infrastructure. Members are told apart by
// address; what an unanswered request may have made is seen by the next look, so
// every error is repeated.
func (p *Provider) SyncMembers(ctx context.Context, req cloud.SyncMembersRequest) (cloud.MembersStatus, error) {
	var out cloud.MembersStatus
	find := func(kind string) string {
		i := slices.IndexFunc(req.Have, func(r cloud.Resource) bool { return r.Kind == kind })
		if i < 0 {
			return ""
		}
		return req.Have[i].ID
	}
	pool, subnet := find(kindPool), find(kindSubnet)
	if pool == "" || subnet == "" {
		if len(req.Members) == 0 {
			return out, nil
		}
		return out, fault.New(fault.Internal, "sync endpoint members", "there is no pool or no subnet to put members into")
	}
	have, err := p.members(ctx, pool)
	if fault.Is(err, fault.NotFound) && len(req.Members) == 0 {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	for _, m := range req.Members {
		if m.Address == "" {
			return out, fault.New(fault.Invalid, "sync endpoint members", "%s has no address in the private network", m.Name)
		}
		if !slices.ContainsFunc(have, func(h sdk.LoadBalancerPoolMember) bool { return h.Address == m.Address }) {
			if err := p.addMember(ctx, req.Owner, pool, subnet, m); err != nil {
				return out, err
			}
		}
	}
	if have, err = p.members(ctx, pool); err != nil {
		return out, err
	}
	return p.dropMembers(ctx, pool, have, req.Members)
}

func (p *Provider) members(ctx context.Context, pool string) ([]sdk.LoadBalancerPoolMember, error) {
	ctx, cancel := reading(ctx)
	defer cancel()
	list, err := p.sdk.LoadBalancerPoolMembers.List(ctx, pool)
	if err != nil {
		return nil, readFault(ctx, "list pool members", err)
	}
	slices.SortStableFunc(list, func(a, b sdk.LoadBalancerPoolMember) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list, nil
}

func (p *Provider) addMember(ctx context.Context, owner cloud.Owner, pool, subnet string, m cloud.Member) error {
	ctx, cancel := writing(ctx, p.s.CreateTimeout)
	defer cancel()
	r := &sdk.LoadBalancerPoolMemberRequest{Name: m.Name, ProtocolPort: apiPort, MonitorPort: apiPort, Address: m.Address, Subnet: subnet}
	r.Tags = &sdk.TagMap{cluster.TagCluster: owner.Cluster.UID, cluster.TagClusterName: owner.Cluster.Name, cluster.TagMachine: m.MachineID}
	if _, err := p.sdk.LoadBalancerPoolMembers.Create(ctx, pool, r); err != nil {
		return writeFault(ctx, "add pool member "+m.Name, err)
	}
	return nil
}

// dropMembers removes what is not wanted, and duplicates of what is.
func (p *Provider) dropMembers(ctx context.Context, pool string, have []sdk.LoadBalancerPoolMember, want []cloud.Member) (cloud.MembersStatus, error) {
	var out cloud.MembersStatus
	seen := map[string]bool{}
	for _, h := range have {
		wanted := slices.ContainsFunc(want, func(m cloud.Member) bool { return m.Address == h.Address })
		if wanted && !seen[h.Address] {
			seen[h.Address] = true
			out.Total++
			if h.MonitorStatus == "up" {
				out.Healthy++
			}
			continue
		}
		err := func() error {
			ctx, cancel := writing(ctx, deleteTimeout)
			defer cancel()
			if err := p.sdk.LoadBalancerPoolMembers.Delete(ctx, pool, h.UUID); err != nil {
				return writeFault(ctx, "remove pool member "+h.Name, err)
			}
			return nil
		}()
		if err != nil && !fault.Is(err, fault.NotFound) {
			return out, err
		}
	}
	if out.Total < len(want) {
		return out, fault.New(fault.NotYet, "sync endpoint members", "%d of %d members are listed", out.Total, len(want))
	}
	return out, nil
}
