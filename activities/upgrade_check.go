package activities

import (
	"context"
	"fmt"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// preflight collects what is found.
type preflight struct {
	u      *Upgrades
	in     CheckUpgradeInput
	rec    cluster.Record
	bundle secrets.Value
	out    CheckUpgradeResult
	// installers are the sizes of the installers on the way, as far as they can be
	// read.
	installers []installer
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
	rec, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return CheckUpgradeResult{}, err
	}
	c := &preflight{u: u, in: in, rec: rec, bundle: bundle}
	c.out.Problems = append(c.out.Problems, in.Groups...)
	for _, step := range []struct {
		name string
		look func(context.Context)
	}{
		{"images", c.images},
		{"nodes", c.nodes},
		{"etcd", c.etcd},
		{"store", c.store},
		{"authorities", c.authorities},
		{"flags", c.flags},
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

// nodes wants every node reachable, at a known version, with certificates that
// are renewed, and with room for images.
func (c *preflight) nodes(ctx context.Context) {
	rules, rulesErr := c.u.Releases.Rules(ctx)
	if rulesErr != nil {
		c.problem("versions", "the list of releases cannot be read: %v; see that the worker reaches the image factory", rulesErr)
	}
	objects, unseen := c.u.nodeObjects(ctx, c.in.Ref)
	looks := make([]nodeLook, len(c.in.Nodes))
	_ = each(c.in.Nodes, func(i int, t UpgradeTarget) error { // every error is kept
		looks[i] = c.look(ctx, t)
		return nil
	})
	for i, t := range c.in.Nodes {
		name, f := t.Node.Name, looks[i].facts
		switch {
		case looks[i].err != nil:
			c.problem(name, "cannot be reached: %v; repair it, or replace it with: ichor replace %s %s", looks[i].err, c.in.Ref.Name, name)
			continue
		case f.Stage == maintenance:
			c.problem(name, "waits for a config (maintenance mode): it is no node of the cluster; replace it with: ichor replace %s %s", c.in.Ref.Name, name)
			continue
		case f.Version == "":
			c.problem(name, "does not say which version it runs; see whether it is still booting (talosctl -n %s dmesg), and reboot it if not", t.Node.Address)
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
			report(name, "is not ready: stage %s, missing %s; wait until it is, or see why it is not (talosctl -n %s services)", f.Stage, listed(f.Unmet), t.Node.Address)
		}
		c.inspected(t, looks[i])
		o, found := objects[name]
		switch {
		case unseen != "":
		case !found:
			c.problem(name, "has no Node object: its kubelet has not joined, or somebody deleted it; restart the kubelet (talosctl -n %s service kubelet restart)", t.Node.Address)
		case o.Cordoned:
			c.warning(name, "is cordoned, and stays so; nothing is scheduled there after the upgrade, unless you run: kubectl uncordon %s", name)
		case !o.Ready:
			c.warning(name, "its node is not Ready: %s; see: kubectl describe node %s", o.Reason, name)
		}
	}
	if unseen != "" {
		c.problem("kubernetes", "the nodes cannot be listed: %s; see that a control plane runs and that the worker reaches the cluster's endpoint", unseen)
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
		c.problem("etcd", "cannot be looked at: %v; see that the worker's store has this cluster's secrets", err)
		return
	}
	for _, name := range sortedKeys(v.silent) {
		c.problem("etcd", "%s: %s; repair its etcd (talosctl service etcd), or replace it with: ichor replace %s %s", name, v.silent[name], c.in.Ref.Name, name)
	}
	if len(v.seen) == 0 {
		return
	}
	unknown, absent := v.strangers(names(nodes))
	for _, name := range unknown {
		c.problem("etcd", "member %s is no control plane of this cluster; remove it (talosctl etcd remove-member), or bring its machine back", name)
	}
	for _, name := range absent {
		c.problem("etcd", "%s is no member; replace it with: ichor replace %s %s", name, c.in.Ref.Name, name)
	}
	for _, name := range v.learners {
		c.problem("etcd", "%s does not vote yet; wait until it has caught up", name)
	}
	for _, alarm := range v.alarms {
		c.problem("etcd", "%s; end its cause, then the alarm (of NOSPACE: talosctl etcd defrag, talosctl etcd alarm disarm)", alarm)
	}
	for _, text := range v.errors("") {
		name, _, _ := strings.Cut(text, ":")
		c.problem("etcd", "%s; replace that control plane with: ichor replace %s %s", text, c.in.Ref.Name, name)
	}
	if v.split != "" {
		c.problem("etcd", "%s; see that the control planes reach each other, and wait until all agree", v.split)
	}
	if v.leader == "" {
		c.problem("etcd", "there is no leader on which all agree; see that the control planes reach each other, and wait for an election")
	}
	switch len(v.voters) {
	case 1:
		if !c.in.Strategy.SingleControlPlane {
			c.problem("strategy.singleControlPlane", "the cluster has one control plane: the Kubernetes API is out while it is worked on; consent to that with --single-control-plane")
		}
	case 2:
		_, why := plan.QuorumAllows(2, 2, 0, 1)
		c.problem("etcd", "%s", why)
	}
}

func (c *preflight) store(ctx context.Context) {
	if err := c.u.Store.Probe(ctx, c.in.Ref); err != nil {
		c.problem("store", "snapshots of etcd could not be stored: %v; see the worker's settings of its store", err)
	}
}
