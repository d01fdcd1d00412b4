package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// freeBytesNeeded is a generous estimate of what the images of an upgrade take on
// a node, packed and unpacked: an installer with a few extensions and the
// components of Kubernetes are well below 1 GiB each. Below it a kubelet with its
// defaults (nodefs.available<10%, a disk of 20 GiB) is about to evict pods.
const freeBytesNeeded = 2 << 30

// caLife is how much longer than the upgrade the cluster's authorities must be
// valid, so that nodes get new certificates from them.
const caLife = 30 * 24 * time.Hour

// preflight collects what is found.
type preflight struct {
	u      *Upgrades
	in     CheckUpgradeInput
	bundle secrets.Value
	out    CheckUpgradeResult
}

func (c *preflight) problem(field, format string, args ...any) {
	c.out.Problems = append(c.out.Problems, plan.Refusal{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (c *preflight) warning(field, format string, args ...any) {
	c.out.Warnings = append(c.out.Warnings, plan.Refusal{Field: field, Reason: fmt.Sprintf(format, args...)})
}

// CheckUpgrade is the pre-flight: it looks at everything that an upgrade needs
// and lists all that is wrong at once. What cannot be looked at is a problem as
// well. It changes nothing but one probe object in the store.
func (u *Upgrades) CheckUpgrade(ctx context.Context, in CheckUpgradeInput) (CheckUpgradeResult, error) {
	say, stop := telling(ctx, "checking before the upgrade")
	defer stop()
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return CheckUpgradeResult{}, err
	}
	c := &preflight{u: u, in: in, bundle: bundle}
	c.out.Problems = append(c.out.Problems, in.Groups...)
	for _, step := range []struct {
		name string
		look func(context.Context)
	}{
		{"nodes", c.nodes},
		{"etcd", c.etcd},
		{"store", c.store},
		{"images", c.images},
		{"certificates", c.certificates},
		{"Kubernetes", c.kubernetes},
	} {
		say(step.name)
		step.look(ctx)
		if err := ctx.Err(); err != nil {
			return CheckUpgradeResult{}, err
		}
	}
	return c.out, nil
}

// nodes wants every node reachable, at a known version, and with room for images.
func (c *preflight) nodes(ctx context.Context) {
	rules, rulesErr := c.u.Releases.Rules(ctx)
	if rulesErr != nil {
		c.problem("versions", "the list of releases cannot be read: %v", rulesErr)
	}
	objects, unseen := c.u.nodeObjects(ctx, c.in.Ref)
	facts, errs := make([]NodeFacts, len(c.in.Nodes)), make([]error, len(c.in.Nodes))
	_ = each(c.in.Nodes, func(i int, t UpgradeTarget) error { // every error is kept
		facts[i], errs[i] = c.u.facts(ctx, c.bundle, t)
		return nil
	})
	for i, t := range c.in.Nodes {
		name, f := t.Node.Name, facts[i]
		switch {
		case errs[i] != nil:
			c.problem(name, "cannot be reached: %v", errs[i])
			continue
		case f.Stage == maintenance:
			c.problem(name, "waits for a config (maintenance mode): it is no node of the cluster; replace it with: ichor replace %s", name)
			continue
		case f.Version == "":
			c.problem(name, "does not say which version it runs")
			continue
		}
		if _, known := rules.UpgradeableFrom(f.Version, f.Version); rulesErr == nil && !known {
			c.problem(name, "runs Talos %s, of which this Ichor knows no rules; use a newer Ichor", f.Version)
		}
		if f.Stage != "running" || !f.Ready {
			report := c.warning
			if t.Role == cluster.RoleControlPlane {
				report = c.problem
			}
			report(name, "is not ready: stage %s, missing %s", f.Stage, listed(f.Unmet))
		}
		if f.FreeBytes >= 0 && f.FreeBytes < freeBytesNeeded {
			c.problem(name, "has %d MiB free for images; an upgrade needs %d", f.FreeBytes>>20, freeBytesNeeded>>20)
		}
		o, found := objects[name]
		switch {
		case unseen != "":
		case !found:
			c.problem(name, "has no Node object")
		case o.Cordoned:
			c.warning(name, "is cordoned, and stays so")
		case !o.Ready:
			c.warning(name, "its node is not Ready: %s", o.Reason)
		}
	}
	if unseen != "" {
		c.problem("kubernetes", "the nodes cannot be listed: %s", unseen)
	}
}

// etcd wants the members to be the control planes, all of them healthy voters.
func (c *preflight) etcd(ctx context.Context) {
	var nodes []UpgradeTarget
	for _, t := range c.in.Nodes {
		if t.Role == cluster.RoleControlPlane {
			nodes = append(nodes, t)
		}
	}
	if len(nodes) == 0 {
		return
	}
	v, err := c.u.lookAtEtcd(ctx, c.bundle, nodes)
	if err != nil {
		c.problem("etcd", "cannot be looked at: %v", err)
		return
	}
	for _, name := range sortedKeys(v.silent) {
		c.problem("etcd", "%s: %s", name, v.silent[name])
	}
	if len(v.seen) == 0 {
		return
	}
	unknown, absent := v.strangers(names(nodes))
	for _, name := range unknown {
		c.problem("etcd", "member %s is no control plane of this cluster", name)
	}
	for _, name := range absent {
		c.problem("etcd", "%s is no member", name)
	}
	for _, name := range v.learners {
		c.problem("etcd", "%s does not vote yet", name)
	}
	for _, alarm := range slices.Concat(v.alarms, v.errors("")) {
		c.problem("etcd", "%s", alarm)
	}
	if v.split != "" {
		c.problem("etcd", "%s", v.split)
	}
	if v.leader == "" {
		c.problem("etcd", "there is no leader on which all agree")
	}
	switch len(v.voters) {
	case 1:
		if !c.in.Strategy.SingleControlPlane {
			c.problem("strategy.singleControlPlane", "the cluster has one control plane: the Kubernetes API is out while it is worked on; consent to that")
		}
	case 2:
		_, why := plan.QuorumAllows(2, 2, 0, 1)
		c.problem("etcd", "%s", why)
	}
}

func (c *preflight) store(ctx context.Context) {
	if err := c.u.Store.Probe(ctx, c.in.Ref); err != nil {
		c.problem("store", "snapshots of etcd could not be stored: %v", err)
	}
}

// images asks the factory for the installer of each leg.
func (c *preflight) images(ctx context.Context) {
	seen := map[string]bool{}
	for _, leg := range c.in.Legs {
		image, ok := installerOf(c.in.Last.Frozen, leg.To)
		if leg.Kind != plan.LegTalos || !ok || seen[image] {
			continue
		}
		seen[image] = true
		if err := c.u.Factory.CheckInstaller(ctx, image); err != nil {
			c.problem("images", "%s: %v", image, err)
		}
	}
}

// installerOf names the installer of other versions by the one of the last leg:
// both are of one factory and platform.
func installerOf(last cluster.Frozen, to plan.Versions) (string, bool) {
	name, found := strings.CutSuffix(last.InstallerImage, last.Schematic+":"+last.TalosVersion)
	if !found || to.Talos == "" || to.Schematic == "" {
		return last.InstallerImage, last.InstallerImage != ""
	}
	return name + to.Schematic + ":" + to.Talos, true
}

func (c *preflight) certificates(context.Context) {
	until, err := c.u.Configs.Expires(c.bundle)
	switch now := c.u.Now(); {
	case err != nil:
		c.problem("certificates", "the cluster's authorities cannot be read: %v", err)
	case until.Before(now):
		c.problem("certificates", "an authority of the cluster expired on %s", until.UTC().Format(time.DateOnly))
	case until.Before(now.Add(caLife)):
		c.problem("certificates", "an authority of the cluster expires on %s; rotate it first", until.UTC().Format(time.DateOnly))
	}
}

// kubernetes looks at what in the cluster would stop an upgrade.
func (c *preflight) kubernetes(ctx context.Context) {
	_, k, err := c.u.kubeUpgrades(ctx, c.in.Ref)
	if err != nil {
		c.problem("kubernetes", "cannot be reached: %v", err)
		return
	}
	c.removedAPIs(ctx, k)
	c.budgets(ctx, k)
	c.autoscaler(ctx, k)
	for _, g := range c.in.Strategy.Gates {
		if err := holds(ctx, k, g); err != nil {
			c.problem("gate "+g.Name, "does not hold now: %v", err)
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
			c.problem("kubernetes", "what %s does not serve any more cannot be looked for: %v", leg.To.Kubernetes, err)
		}
		c.out.Problems = append(c.out.Problems, found...)
	}
}

// budgets counts a budget that allows no eviction as a problem only when nodes are
// going to be drained.
func (c *preflight) budgets(ctx context.Context, k KubeUpgrades) {
	found, err := k.StuckBudgets(ctx)
	if err != nil {
		c.problem("kubernetes", "the disruption budgets cannot be read: %v", err)
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
		c.warning("autoscaler", "its version cannot be read: %v", err)
		return
	}
	target := c.in.Last.Frozen.KubernetesVersion
	if version != "" && minorOf(version) != minorOf(target) {
		c.warning("autoscaler", "runs %s and is made for Kubernetes %s; upgrade it to a %s after the cluster", version, minorOf(version), minorOf(target))
	}
}
