package aws

import (
	"context"
	"slices"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// target is a member as the cloud has it.
type target struct {
	address string
	port    int32
	state   types.TargetHealthStateEnum
}

func (t target) serves(m cloud.Member) bool { return t.address == m.Address && t.port == apiPort }

// leaving says that a target is on its way out and gets no new connections.
func (t target) leaving() bool { return t.state == types.TargetHealthStateEnumDraining }

// SyncMembers implements cloud.Infrastructure. Targets are addresses; registering
// one twice is the same as once, so every unknown outcome is NotYet: call it
// again. Old members stay until one of the wanted ones is up, unless none of the
// old ones is up either.
func (p *Provider) SyncMembers(ctx context.Context, req cloud.SyncMembersRequest) (cloud.MembersStatus, error) {
	const op = "sync endpoint members"
	group := cloud.IDOf(req.Have, kindTargetGroup)
	if group == "" {
		if len(req.Members) == 0 {
			return cloud.MembersStatus{}, nil
		}
		return cloud.MembersStatus{}, fault.New(fault.Internal, op, "there is no target group to put members into")
	}
	for _, m := range req.Members {
		if m.Address == "" {
			return cloud.MembersStatus{}, fault.New(fault.Invalid, op, "%s has no address in the private network", m.Name)
		}
	}
	have, err := p.targets(ctx, group)
	if fault.Is(err, fault.NotFound) && len(req.Members) == 0 {
		return cloud.MembersStatus{}, nil
	}
	if err != nil {
		return cloud.MembersStatus{}, err
	}
	good, absent, stale := sortTargets(have, req.Members)
	if len(absent) > 0 {
		err := p.change(ctx, "add endpoint members", "RegisterTargets", func(ctx context.Context) error {
			_, err := p.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: sdk.String(group), Targets: descriptions(absent)})
			return err
		})
		if err != nil {
			return cloud.MembersStatus{}, err
		}
		if have, err = p.targets(ctx, group); err != nil {
			return cloud.MembersStatus{}, err
		}
		good, absent, stale = sortTargets(have, req.Members)
	}
	st := cloud.MembersStatus{Total: len(good), Healthy: countUp(good)}
	if len(absent) > 0 {
		return st, fault.New(fault.NotYet, op, "%d of %d members are listed", len(good), len(req.Members))
	}
	if len(good) > 0 && st.Healthy == 0 && countUp(stale) > 0 {
		return st, fault.New(fault.NotYet, op, "none of the new members is up yet, so the old ones stay")
	}
	if len(stale) == 0 {
		return st, nil
	}
	return st, p.change(ctx, "remove endpoint members", "DeregisterTargets", func(ctx context.Context) error {
		_, err := p.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: sdk.String(group), Targets: descriptions(stale)})
		return err
	})
}

func (p *Provider) targets(ctx context.Context, group string) ([]target, error) {
	var out *elb.DescribeTargetHealthOutput
	err := p.calls.Call(ctx, exchange.Request{Op: "list endpoint members", Action: "DescribeTargetHealth"}, func(ctx context.Context) (err error) {
		out, err = p.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: sdk.String(group)})
		return err
	})
	if err != nil {
		return nil, err
	}
	var have []target
	for _, d := range out.TargetHealthDescriptions {
		if d.Target == nil {
			continue
		}
		t := target{address: sdk.ToString(d.Target.Id), port: sdk.ToInt32(d.Target.Port)}
		if d.TargetHealth != nil {
			t.state = d.TargetHealth.State
		}
		have = append(have, t)
	}
	return have, nil
}

// sortTargets tells the targets that are wanted from those that are too many,
// and finds the wanted ones that are not there. What leaves is neither.
func sortTargets(have []target, want []cloud.Member) (good, absent, stale []target) {
	for _, h := range have {
		switch {
		case h.leaving():
		case slices.ContainsFunc(want, h.serves):
			good = append(good, h)
		default:
			stale = append(stale, h)
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(good, func(g target) bool { return g.serves(w) }) {
			absent = append(absent, target{address: w.Address, port: apiPort})
		}
	}
	return good, absent, stale
}

func descriptions(ts []target) []types.TargetDescription {
	var out []types.TargetDescription
	for _, t := range ts {
		out = append(out, types.TargetDescription{Id: sdk.String(t.address), Port: sdk.Int32(t.port)})
	}
	return out
}

func countUp(ts []target) (n int) {
	for _, t := range ts {
		if t.state == types.TargetHealthStateEnumHealthy {
			n++
		}
	}
	return n
}
