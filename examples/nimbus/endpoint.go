package nimbus

import (
	"context"
	"net/http"
	"slices"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// EndpointHost implements cloud.Infrastructure.
func (p *Provider) EndpointHost(have []cloud.Resource) string {
	for _, r := range have {
		for _, a := range r.Attributes {
			if r.Kind == kindBalancer && a.Key == attrAddress {
				return a.Value
			}
		}
	}
	return ""
}

// SyncMembers implements cloud.Infrastructure. The API replaces the set of targets
// as a whole, so that there is no moment with none, and doing it twice does no harm.
func (p *Provider) SyncMembers(ctx context.Context, req cloud.SyncMembersRequest) (cloud.MembersStatus, error) {
	id := cloud.IDOf(req.Have, kindBalancer)
	if id == "" && len(req.Members) == 0 {
		return cloud.MembersStatus{}, nil
	}
	lb, err := p.get(ctx, balancers, id)
	if fault.Is(err, fault.NotFound) && len(req.Members) == 0 {
		return cloud.MembersStatus{}, nil
	}
	if err != nil {
		return cloud.MembersStatus{}, err
	}
	want := []target{}
	for _, m := range req.Members {
		want = append(want, target{Address: m.Address})
	}
	same := func(a, b target) bool { return a.Address == b.Address }
	if !slices.EqualFunc(want, lb.Targets, same) {
		r := exchange.Request{Op: "sync endpoint members", Verb: exchange.Change}
		var now object // a fresh one: what the answer leaves out is empty
		if err := p.do(ctx, r, http.MethodPut, balancers+"/"+lb.ID+"/targets", want, &now); err != nil {
			return cloud.MembersStatus{}, err
		}
		lb = now
	}
	st := cloud.MembersStatus{Total: len(lb.Targets)}
	for _, t := range lb.Targets {
		if t.Healthy {
			st.Healthy++
		}
	}
	return st, nil
}
