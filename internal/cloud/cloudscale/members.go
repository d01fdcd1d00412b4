package cloudscale

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// SyncMembers implements cloud.Infrastructure. Members are told apart by
// address. What an unanswered request may have made is seen by the next look,
// so every unknown outcome is NotYet: call it again. Old members stay until one
// of the wanted ones is up, unless none of the old ones is up either. At the end
// every node of the cluster is admitted to the endpoint.
func (p *Provider) SyncMembers(ctx context.Context, req cloud.SyncMembersRequest) (cloud.MembersStatus, error) {
	const op = "sync endpoint members"
	pool := cloud.IDOf(req.Have, kindPool)
	if pool == "" {
		if len(req.Members) == 0 {
			return cloud.MembersStatus{}, nil
		}
		return cloud.MembersStatus{}, fault.New(fault.Internal, op, "there is no pool to put members into")
	}
	have, err := p.members(ctx, pool)
	if fault.Is(err, fault.NotFound) && len(req.Members) == 0 {
		return cloud.MembersStatus{}, nil
	}
	if err != nil {
		return cloud.MembersStatus{}, err
	}
	added, err := p.addMembers(ctx, req, pool, have)
	if err != nil {
		return cloud.MembersStatus{}, err
	}
	if added {
		if have, err = p.members(ctx, pool); err != nil {
			return cloud.MembersStatus{}, err
		}
	}
	good, stale := sortMembers(have, req.Members)
	st := cloud.MembersStatus{Total: len(good), Healthy: countUp(good)}
	if len(good) < len(req.Members) {
		return st, fault.New(fault.NotYet, op, "%d of %d members are listed", len(good), len(req.Members))
	}
	if len(good) > 0 && st.Healthy == 0 && countUp(stale) > 0 {
		return st, fault.New(fault.NotYet, op, "none of the new members is up yet, so the old ones stay")
	}
	for _, m := range stale {
		err := erase(ctx, p, "pool member "+m.Name, m.UUID, func(ctx context.Context, id string) error {
			return p.sdk.LoadBalancerPoolMembers.Delete(ctx, pool, id)
		})
		if err != nil {
			return st, err
		}
	}
	if len(req.Members) == 0 {
		return st, nil
	}
	return st, p.admitAll(ctx, req.Owner)
}

func (p *Provider) members(ctx context.Context, pool string) ([]sdk.LoadBalancerPoolMember, error) {
	if !plausibleID(pool) {
		return nil, fault.New(fault.Invalid, "list pool members", "%q is not an id of this cloud", pool)
	}
	var out []sdk.LoadBalancerPoolMember
	err := p.calls.Call(ctx, exchange.Request{Op: "list pool members"}, func(ctx context.Context) (err error) {
		out, err = p.sdk.LoadBalancerPoolMembers.List(ctx, pool)
		return err
	})
	return out, err
}

func serves(have sdk.LoadBalancerPoolMember, want cloud.Member) bool {
	return have.Address == want.Address && have.ProtocolPort == apiPort
}

func (p *Provider) addMembers(ctx context.Context, req cloud.SyncMembersRequest, pool string, have []sdk.LoadBalancerPoolMember) (added bool, err error) {
	for _, m := range req.Members {
		if slices.ContainsFunc(have, func(h sdk.LoadBalancerPoolMember) bool { return serves(h, m) }) {
			continue
		}
		subnet, err := subnetFor(req.Have, m)
		if err != nil {
			return added, err
		}
		r := &sdk.LoadBalancerPoolMemberRequest{Name: m.Name, ProtocolPort: apiPort, Address: m.Address, Subnet: subnet}
		r.Tags = &sdk.TagMap{
			cluster.TagCluster: req.Owner.Cluster.UID, cluster.TagClusterName: req.Owner.Cluster.Name, cluster.TagMachine: m.MachineID,
		}
		// A member that is there twice is removed below: no worse than a change.
		err = p.calls.Call(ctx, exchange.Request{Op: "add pool member " + m.Name, Verb: exchange.Change}, func(ctx context.Context) error {
			_, err := p.sdk.LoadBalancerPoolMembers.Create(ctx, pool, r)
			return err
		})
		if fault.Is(err, fault.Invalid) && p.joined(ctx, pool, m) {
			err = nil // somebody else added it at the same time
		}
		if err != nil {
			return added, err
		}
		added = true
	}
	return added, nil
}

// joined says whether a member is there by now.
func (p *Provider) joined(ctx context.Context, pool string, m cloud.Member) bool {
	have, err := p.members(ctx, pool)
	return err == nil && slices.ContainsFunc(have, func(h sdk.LoadBalancerPoolMember) bool { return serves(h, m) })
}

// subnetFor finds the private subnet of a member's address; the API takes no
// members outside of one.
func subnetFor(have []cloud.Resource, m cloud.Member) (string, error) {
	const op = "sync endpoint members"
	addr, err := netip.ParseAddr(m.Address)
	if err != nil {
		return "", fault.New(fault.Invalid, op, "%s has no address in the private network (%q)", m.Name, m.Address)
	}
	for _, r := range have {
		for _, a := range r.Attributes {
			if r.Kind != kindSubnet || a.Key != attrCIDR {
				continue
			}
			if c, err := netip.ParsePrefix(a.Value); err == nil && c.Contains(addr) {
				return r.ID, nil
			}
		}
	}
	return "", fault.New(fault.Invalid, op, "the address %s of %s is in none of the cluster's subnets", addr, m.Name)
}

// sortMembers tells the members that are wanted from the others; of two for one
// address the older is wanted.
func sortMembers(have []sdk.LoadBalancerPoolMember, want []cloud.Member) (good, stale []sdk.LoadBalancerPoolMember) {
	have = slices.Clone(have)
	slices.SortFunc(have, func(a, b sdk.LoadBalancerPoolMember) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.UUID, b.UUID))
	})
	seen := map[string]bool{}
	for _, h := range have {
		wanted := slices.ContainsFunc(want, func(w cloud.Member) bool { return serves(h, w) })
		if !wanted || seen[h.Address] {
			stale = append(stale, h)
			continue
		}
		seen[h.Address] = true
		good = append(good, h)
	}
	return good, stale
}

func countUp(ms []sdk.LoadBalancerPoolMember) (n int) {
	for _, m := range ms {
		if m.MonitorStatus == "up" {
			n++
		}
	}
	return n
}
