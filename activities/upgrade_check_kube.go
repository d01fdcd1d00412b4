package activities

import (
	"context"

	"github.com/ichor-project/ichor/internal/plan"
)

// kubernetes looks at what in the cluster would stop an upgrade.
func (c *preflight) kubernetes(ctx context.Context) {
	_, k, err := c.u.kubeUpgrades(ctx, c.in.Ref)
	if err != nil {
		c.problem("kubernetes", "cannot be reached: %v; see that a control plane runs and that the worker reaches the cluster's endpoint", err)
		return
	}
	c.removedAPIs(ctx, k)
	c.budgets(ctx, k)
	c.autoscaler(ctx, k)
	for _, g := range c.in.Strategy.Gates {
		if err := holds(ctx, k, g); err != nil {
			c.problem("gate "+g.Name, "does not hold now: %v; the upgrade would stop at its first node: mend what it watches, or change the gate", err)
		}
	}
}

// removedAPIs looks at each Kubernetes minor on the way.
func (c *preflight) removedAPIs(ctx context.Context, k KubeUpgrades) {
	for _, leg := range c.in.Legs {
		if leg.Kind != plan.LegKubernetes || minorOf(leg.From.Kubernetes) == minorOf(leg.To.Kubernetes) {
			continue
		}
		found, err := k.RemovedAPIs(ctx, leg.From.Kubernetes, leg.To.Kubernetes)
		if err != nil {
			c.problem("kubernetes", "what %s does not serve any more cannot be looked for: %v; try again", leg.To.Kubernetes, err)
		}
		c.out.Problems = append(c.out.Problems, found...)
	}
}

// budgets counts a budget that allows no eviction as a problem only when nodes are
// going to be drained.
func (c *preflight) budgets(ctx context.Context, k KubeUpgrades) {
	found, err := k.StuckBudgets(ctx)
	if err != nil {
		c.problem("kubernetes", "the disruption budgets cannot be read: %v; try again", err)
		return
	}
	drains := false
	for _, leg := range c.in.Legs {
		drains = drains || leg.Kind == plan.LegTalos
	}
	if drains {
		c.out.Problems = append(c.out.Problems, found...)
		return
	}
	c.out.Warnings = append(c.out.Warnings, found...)
}

// autoscaler compares minors: the Cluster Autoscaler simulates the scheduler of
// the Kubernetes that it was built from.
func (c *preflight) autoscaler(ctx context.Context, k KubeUpgrades) {
	version, err := k.AutoscalerVersion(ctx)
	if err != nil {
		c.warning("autoscaler", "its version cannot be read: %v; see yourself that it is made for the new Kubernetes", err)
		return
	}
	target := c.in.Last.Frozen.KubernetesVersion
	if version != "" && minorOf(version) != minorOf(target) {
		c.warning("autoscaler", "runs %s and is made for Kubernetes %s; upgrade it to a %s after the cluster", version, minorOf(version), minorOf(target))
	}
}
