package activities

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// flags looks for what components would be started with and that their new version
// does not know: such a component does not start. It reads the configs that the
// upgrade gives to the nodes, of every kind of node and at each Kubernetes minor on
// the way; what a node has instead of its config now goes with that.
func (c *preflight) flags(ctx context.Context) {
	if len(c.in.Legs) == 0 {
		return
	}
	type hit struct{ node, component, name string }
	told := map[hit]bool{}
	for _, step := range c.flagSteps() {
		r, _, err := c.u.renderer(ctx, c.in.Ref, step.spec)
		if err != nil {
			c.problem("flags", "the configs cannot be rendered: %v; try again", err)
			continue
		}
		for _, kind := range kinds(c.in.Nodes) {
			found, err := c.flagsOf(ctx, r, step, kind)
			if err != nil {
				c.problem("flags", "the config of group %s cannot be looked at: %v; try again", kind.Group, err)
			}
			for _, t := range c.in.Nodes {
				if t.Role != kind.Role || t.Group != kind.Group {
					continue
				}
				for _, f := range found {
					h := hit{t.Node.Name, f.Component, f.Name}
					if told[h] {
						continue
					}
					told[h] = true
					c.problem(t.Node.Name, "the %s would not start: its config sets %s; %s", f.Component, f.where, step.do)
				}
			}
		}
	}
}

// flagStep is what nodes have been given at some Kubernetes version.
type flagStep struct {
	spec     *FreezeLegResult // nil is the record's
	from, to string           // versions of Kubernetes
	do       string
}

// flagSteps are the minors on the way, with the config that the cluster has now,
// and the end: what else the change holds comes with its last versions, and may
// bring what an earlier minor has removed.
func (c *preflight) flagSteps() []flagStep {
	var out []flagStep
	for _, leg := range c.in.Legs {
		if leg.Kind == plan.LegKubernetes && leg.To != versionsOf(c.in.Last.Frozen) {
			out = append(out, flagStep{
				from: leg.From.Kubernetes, to: leg.To.Kubernetes,
				do: "take it out first, and roll that out without another Kubernetes: ichor upgrade " + c.in.Ref.Name + " -f SPEC",
			})
		}
	}
	return append(out, flagStep{
		spec: &c.in.Last, from: c.in.Legs[0].From.Kubernetes, to: c.in.Last.Frozen.KubernetesVersion,
		do: "take it out of the spec, and give that to the upgrade with -f",
	})
}

// kinds returns one node of each role and group, in their order.
func kinds(nodes []UpgradeTarget) []UpgradeTarget {
	var out []UpgradeTarget
	for _, t := range nodes {
		if !slices.ContainsFunc(out, func(o UpgradeTarget) bool { return o.Role == t.Role && o.Group == t.Group }) {
			out = append(out, t)
		}
	}
	return out
}

// setFlag is a removed flag and the patch that sets it.
type setFlag struct {
	RemovedFlag
	where string
}

func (c *preflight) flagsOf(ctx context.Context, r *renderer, step flagStep, kind UpgradeTarget) ([]setFlag, error) {
	name := cluster.MachineName(c.in.Ref.Name, kind.Group, "check")
	config, _, err := r.config(ctx, kind.Role, kind.Group, name, Components{})
	if err != nil {
		return nil, err
	}
	flags, err := c.u.Inspect.Flags(config)
	if err != nil {
		return nil, err
	}
	found, err := c.u.Inspect.RemovedFlags(ctx, step.from, step.to, flags)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	patches, err := r.patches(ctx, kind.Role, kind.Group)
	if err != nil {
		return nil, err
	}
	var out []setFlag
	for _, f := range found {
		set := setFlag{f, f.String()}
		// The last one that names it wins; what none names is in the base config.
		for _, p := range slices.Backward(patches) {
			if bytes.Contains(p.Body, []byte(f.Name)) {
				set.where = fmt.Sprintf("%s (%s)", f, p.Field)
				break
			}
		}
		out = append(out, set)
	}
	return out, nil
}
