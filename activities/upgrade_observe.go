package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// factsTimeout bounds one look at a node: five small reads over one connection,
// shorter than any sensible heartbeat.
const factsTimeout = 15 * time.Second

// looksAtOnce bounds how many nodes are asked at the same time.
const looksAtOnce = 16

// maintenance is the stage of a node that waits for a config, in Talos' own words.
const maintenance = "maintenance"

// ObserveNodes reads what nodes run and what they should run. Each that does not
// answer says so in its Problem; it writes nothing. WantSHA256 is rendered from
// the record, or from the leg when one is given.
func (u *Upgrades) ObserveNodes(ctx context.Context, in ObserveNodesInput) (ObserveNodesResult, error) {
	defer alive(ctx, fmt.Sprintf("looking at %d nodes", len(in.Nodes)))()
	var out ObserveNodesResult
	r, bundle, err := u.renderer(ctx, in.Ref, in.Leg)
	if err != nil {
		return out, err
	}
	objects, unseen := u.nodeObjects(ctx, in.Ref)
	out.Unseen = unseen
	out.Nodes = make([]plan.UpgradeNode, len(in.Nodes))
	err = each(in.Nodes, func(i int, t UpgradeTarget) error {
		n := u.observe(ctx, bundle, t)
		if err := ctx.Err(); err != nil {
			return err
		}
		if n.Problem == "" && t.Role == cluster.RoleControlPlane {
			n.Leader = u.leads(ctx, bundle, t)
		}
		if o, ok := objects[t.Node.Name]; ok {
			n.Cordoned, n.NodeReady = o.Cordoned, o.Ready
		}
		config, _, err := r.config(ctx, t.Role, t.Group, t.Node.Name, in.Wanted)
		if err != nil {
			return err
		}
		if n.WantSHA256, err = u.Configs.Digest(config); err != nil {
			return err
		}
		// A group with an image of its own is up to date when it runs that one.
		if own := r.rec.Frozen.For(t.Group); own.Schematic != r.rec.Frozen.Schematic && n.Schematic == own.Schematic {
			n.Variant, n.Schematic = n.Schematic, r.rec.Frozen.Schematic
		}
		out.Nodes[i] = n
		return nil
	})
	if err != nil {
		return ObserveNodesResult{}, err
	}
	return out, nil
}

// renderer renders configs of the record, or of a leg that is not recorded yet.
func (u *Upgrades) renderer(ctx context.Context, ref cluster.Ref, leg *FreezeLegResult) (*renderer, secrets.Value, error) {
	rec, bundle, err := open(ctx, u.Store, ref)
	if err != nil {
		return nil, bundle, err
	}
	if leg != nil {
		rec.Spec, rec.SpecDigest, rec.Frozen = leg.Spec, leg.SpecDigest, leg.Frozen
	}
	return newRenderer(u.Store, u.Configs, rec, bundle), bundle, nil
}

// nodeObjects lists the cluster's Node objects by name, or says why it cannot.
func (u *Upgrades) nodeObjects(ctx context.Context, ref cluster.Ref) (map[string]KubeNode, string) {
	api, _, err := u.Kube.api(ctx, ref)
	if err != nil {
		return nil, err.Error()
	}
	nodes, err := u.Kube.list(ctx, KubeTarget{Ref: ref}, api)
	if err != nil {
		return nil, err.Error()
	}
	out := make(map[string]KubeNode, len(nodes))
	for _, n := range nodes {
		out[n.Name] = n
	}
	return out, ""
}

// observe looks at one node; what goes wrong becomes its Problem.
func (u *Upgrades) observe(ctx context.Context, bundle secrets.Value, t UpgradeTarget) plan.UpgradeNode {
	f, err := u.facts(ctx, bundle, t)
	n := nodeOf(t, f)
	switch {
	case err != nil:
		n = nodeOf(t, NodeFacts{})
		n.Problem = err.Error()
	case f.Stage == maintenance:
		n.Problem = "waits for a config (maintenance mode)"
	case f.Version == "":
		n.Problem = "does not say which version it runs"
	}
	return n
}

// facts reads one node once.
func (u *Upgrades) facts(ctx context.Context, bundle secrets.Value, t UpgradeTarget) (NodeFacts, error) {
	ctx, cancel := within(ctx, factsTimeout)
	defer cancel()
	return u.Machines.Facts(ctx, bundle, t.Node.Address)
}

func nodeOf(t UpgradeTarget, f NodeFacts) plan.UpgradeNode {
	return plan.UpgradeNode{
		Machine: t.Node.MachineID, Name: t.Node.Name, Group: t.Group, Role: t.Role,
		Ready: f.Ready, Stage: f.Stage, Unmet: f.Unmet, BootID: f.BootID, Talos: f.Version, Schematic: f.Schematic,
		Kubelet: tagOf(f.Kubelet), APIServer: tagOf(f.APIServer), ControllerManager: tagOf(f.ControllerManager), Scheduler: tagOf(f.Scheduler),
		ConfigSHA256: f.ConfigSHA256,
	}
}

// leads says whether a node leads etcd; one that cannot say does not.
func (u *Upgrades) leads(ctx context.Context, bundle secrets.Value, t UpgradeTarget) bool {
	h, err := u.etcd(ctx, bundle, t)
	return err == nil && h.Running && h.Leader != 0 && h.Leader == h.MemberID
}

func (u *Upgrades) etcd(ctx context.Context, bundle secrets.Value, t UpgradeTarget) (EtcdHealth, error) {
	ctx, cancel := within(ctx, factsTimeout)
	defer cancel()
	return u.Machines.EtcdHealth(ctx, bundle, t.Node.Address)
}

// each runs f for all items, some at once, and returns the error of the first
// item that has one.
func each[T any](items []T, f func(int, T) error) error {
	errs := make([]error, len(items))
	slots := make(chan struct{}, looksAtOnce)
	var all sync.WaitGroup
	for i, item := range items {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			errs[i] = f(i, item)
		})
	}
	all.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}

// kubeUpgrades opens a cluster for what upgrades do there.
func (u *Upgrades) kubeUpgrades(ctx context.Context, ref cluster.Ref) (KubeAPI, KubeUpgrades, error) {
	api, _, err := u.Kube.api(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	k, ok := api.(KubeUpgrades)
	if !ok {
		return nil, nil, fault.New(fault.Internal, "open Kubernetes API", "this client cannot upgrade")
	}
	return api, k, nil
}

// names lists the names of targets, sorted.
func names(targets []UpgradeTarget) []string {
	out := make([]string, 0, len(targets))
	for _, t := range targets {
		out = append(out, t.Node.Name)
	}
	slices.Sort(out)
	return out
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
