package workflows

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// fakeFleet is a cluster of nodes in memory with the activities of an upgrade:
// here the order of things is tested, and what happens when one of them fails.
type fakeFleet struct {
	// versions are those of changes that the run began with.
	versions map[string]workflow.Version
	mu       sync.Mutex
	record   cluster.Record
	to       plan.Versions
	nodes    []*fakeNode
	log      []string // what was done, in order: "drain demo-worker-a"
	// refuse is asked before an action; it may be called n times.
	refuse   func(action, node string, n int) error
	counts   map[string]int
	out      map[string]bool // rebooting
	worst    int             // most control planes out at once
	most     int             // most workers out at once
	problems []plan.Refusal
	trouble  func(*GroupReport) // changes what groups tell
	relapse  string             // the node that a look at all finds on the old version
	diff     activities.DiffUpgradeManifestsResult
	synced   activities.SyncBootstrapResult // what a sync does
}

type fakeNode struct {
	plan.UpgradeNode
	installed plan.Versions
	held      bool
	leased    string
}

func newFleet(planes, workers int, from, to plan.Versions) *fakeFleet {
	f := &fakeFleet{to: to, counts: map[string]int{}, out: map[string]bool{}, record: cluster.Record{
		Ref: demoRef, Phase: cluster.PhaseReady, Entities: []string{cluster.GroupID("demo", "cp"), cluster.GroupID("demo", "worker")},
		Frozen: cluster.Frozen{TalosVersion: from.Talos, Schematic: from.Schematic, KubernetesVersion: from.Kubernetes, Image: "img-" + from.Talos},
		Spec:   cluster.Spec{NodeGroups: []cluster.NodeGroup{{Name: "worker", Flavor: "flex-4-2", Max: 20}}}, SpecDigest: "from",
	}}
	for i := range planes {
		f.add("cp", cluster.RoleControlPlane, i, from)
	}
	for i := range workers {
		f.add("worker", cluster.RoleWorker, i, from)
	}
	f.nodes[0].Leader = true
	return f
}

func (f *fakeFleet) add(group string, role cluster.Role, i int, v plan.Versions) {
	n := &fakeNode{UpgradeNode: plan.UpgradeNode{
		Machine: fmt.Sprintf("%s%02d", group, i), Name: fmt.Sprintf("demo-%s-%02d", group, i), Group: group, Role: role,
		Ready: true, NodeReady: true, Stage: "running", BootID: "boot-0", Talos: v.Talos, Schematic: v.Schematic, Kubelet: v.Kubernetes,
		ConfigSHA256: "same", WantSHA256: "same",
	}}
	if role == cluster.RoleControlPlane {
		n.APIServer, n.ControllerManager, n.Scheduler = v.Kubernetes, v.Kubernetes, v.Kubernetes
	}
	f.nodes = append(f.nodes, n)
}

func (f *fakeFleet) node(t activities.UpgradeTarget) *fakeNode {
	i := slices.IndexFunc(f.nodes, func(n *fakeNode) bool { return n.Machine == t.Node.MachineID })
	if i < 0 {
		return nil
	}
	return f.nodes[i]
}

// act does one thing to a node, unless the test refuses it.
func (f *fakeFleet) act(action string, t activities.UpgradeTarget, do func(n *fakeNode)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[action+" "+t.Node.Name]++
	if f.refuse != nil {
		if err := f.refuse(action, t.Node.Name, f.counts[action+" "+t.Node.Name]); err != nil {
			return err
		}
	}
	f.log = append(f.log, action+" "+t.Node.Name)
	if n := f.node(t); n != nil && do != nil {
		do(n)
	}
	return nil
}

func (f *fakeFleet) index(entry string) int { return slices.Index(f.log, entry) }

func (f *fakeFleet) ResolveUpgrade(_ context.Context, in activities.ResolveUpgradeInput) (activities.ResolveUpgradeResult, error) {
	if r := plan.CheckStrategy(in.Strategy, []string{"worker"}); len(r) > 0 {
		return activities.ResolveUpgradeResult{}, fault.New(fault.Invalid, "check the strategy", "%s", refusals(r))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return activities.ResolveUpgradeResult{
		Record: f.record, Spec: f.spec(f.to), SpecDigest: "to-" + f.to.Talos + f.to.Kubernetes,
		Frozen: cluster.Frozen{TalosVersion: f.to.Talos, Schematic: f.to.Schematic, KubernetesVersion: f.to.Kubernetes, Image: "img-" + f.to.Talos},
		Rules:  fleetRules, Account: "acct", Capabilities: fakeProvider{}.Capabilities(), Timing: activities.DefaultTiming(),
	}, nil
}

func (f *fakeFleet) spec(v plan.Versions) cluster.Spec {
	s := f.record.Spec
	s.Talos.Version, s.Kubernetes.Version = v.Talos, v.Kubernetes
	return s
}

var fleetRules = plan.VersionRules{
	Talos: []plan.TalosRule{
		{Minor: "1.12", KubernetesFrom: "1.30.0", KubernetesBelow: "1.36.0", HostFrom: "1.10.0", HostBelow: "1.14.0"},
		{Minor: "1.13", KubernetesFrom: "1.31.0", KubernetesBelow: "1.37.0", HostFrom: "1.11.0", HostBelow: "1.15.0"},
		{Minor: "1.14", KubernetesFrom: "1.32.0", KubernetesBelow: "1.38.0", HostFrom: "1.12.0", HostBelow: "1.16.0"},
	},
	TalosReleases: []string{"v1.12.8", "v1.13.9", "v1.14.1"}, KubernetesMax: "1.37",
}

func (f *fakeFleet) FreezeLeg(_ context.Context, in activities.FreezeLegInput) (activities.FreezeLegResult, error) {
	return activities.FreezeLegResult{Spec: f.spec(in.To), SpecDigest: "to-" + in.To.Talos + in.To.Kubernetes, Frozen: cluster.Frozen{
		TalosVersion: in.To.Talos, Schematic: in.To.Schematic, KubernetesVersion: in.To.Kubernetes, Image: "img-" + in.To.Talos, InstallerImage: "installer:" + in.To.Talos,
	}}, nil
}

func (f *fakeFleet) CommitLeg(_ context.Context, in activities.CommitLegInput) (cluster.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.record.Frozen.Image != in.Frozen.Image {
		f.record.Former = []cluster.FormerImage{{Image: f.record.Frozen.Image}}
	}
	f.record.Spec, f.record.SpecDigest, f.record.Frozen = in.Spec, in.SpecDigest, in.Frozen
	f.log = append(f.log, "commit "+in.Frozen.TalosVersion+" "+in.Frozen.KubernetesVersion)
	return f.record, nil
}

func (f *fakeFleet) UpdateRecord(_ context.Context, in activities.RecordChange) (cluster.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record.Former = slices.DeleteFunc(f.record.Former, func(o cluster.FormerImage) bool { return o.Image == in.Released })
	return f.record, nil
}

func (f *fakeFleet) ObserveNodes(_ context.Context, in activities.ObserveNodesInput) (activities.ObserveNodesResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out activities.ObserveNodesResult
	for _, t := range in.Nodes {
		n := f.node(t)
		if n == nil || f.out[n.Name] {
			out.Nodes = append(out.Nodes, plan.UpgradeNode{Machine: t.Node.MachineID, Name: t.Node.Name, Group: t.Group, Role: t.Role, Problem: "no answer"})
			continue
		}
		seen := n.UpgradeNode
		if n.Name == f.relapse && len(in.Nodes) > 1 {
			seen.Talos = v13.Talos
		}
		out.Nodes = append(out.Nodes, seen)
	}
	return out, nil
}

func (f *fakeFleet) CheckUpgrade(_ context.Context, in activities.CheckUpgradeInput) (activities.CheckUpgradeResult, error) {
	return activities.CheckUpgradeResult{Problems: slices.Concat(in.Groups, f.problems)}, nil
}

func (f *fakeFleet) SnapshotEtcd(_ context.Context, in activities.SnapshotInput) (activities.SnapshotResult, error) {
	return activities.SnapshotResult{Key: in.Name}, f.act("snapshot", in.Target, nil)
}

func (f *fakeFleet) PullImage(_ context.Context, in activities.PullImageInput) error {
	return f.act("pull", in.Target, nil)
}

func (f *fakeFleet) PullComponentImages(_ context.Context, in activities.PullComponentsInput) error {
	return f.act("pull", in.Target, nil)
}

func (f *fakeFleet) InstallTalos(_ context.Context, in activities.InstallInput) error {
	return f.act("install", in.Target, func(n *fakeNode) {
		n.installed = plan.Versions{Talos: strings.TrimPrefix(in.Image, "installer:"), Schematic: f.to.Schematic}
	})
}

func (f *fakeFleet) UpgradeTalosWhole(ctx context.Context, in activities.WholeUpgradeInput) error {
	if err := f.InstallTalos(ctx, activities.InstallInput{NodeWorkInput: in.NodeWorkInput, Image: in.Image}); err != nil {
		return err
	}
	return f.RebootNode(ctx, activities.RebootInput{NodeWorkInput: in.NodeWorkInput, BootID: in.BootID})
}

func (f *fakeFleet) RebootNode(_ context.Context, in activities.RebootInput) error {
	return f.act("reboot", in.Target, func(n *fakeNode) {
		if n.BootID != in.BootID {
			return
		}
		f.out[n.Name] = true
		n.BootID += "+"
		planes, workers := 0, 0
		for _, o := range f.nodes {
			switch {
			case f.out[o.Name] && o.Role == cluster.RoleControlPlane:
				planes++
			case f.out[o.Name]:
				workers++
			}
		}
		f.worst, f.most = max(f.worst, planes), max(f.most, workers)
	})
}

func (f *fakeFleet) WaitBooted(_ context.Context, in activities.WaitBootedInput) (plan.UpgradeNode, error) {
	time.Sleep(time.Millisecond)
	var out plan.UpgradeNode
	err := f.act("boot", in.Target, func(n *fakeNode) {
		if n.installed.Talos != "" {
			n.Talos, n.Schematic, n.installed = n.installed.Talos, n.installed.Schematic, plan.Versions{}
		}
		f.out[n.Name] = false
		out = n.UpgradeNode
	})
	if err == nil && out.Talos != in.Want.Talos {
		return out, fault.New(fault.Unsafe, "wait for the node", "booted the old slot: runs %s, wanted %s", out.Talos, in.Want.Talos)
	}
	return out, err
}

func (f *fakeFleet) HoldNode(_ context.Context, in activities.HoldNodeInput) error {
	return f.act("hold", in.Target, func(n *fakeNode) { n.held, n.Cordoned = true, n.Cordoned || in.Cordon })
}

func (f *fakeFleet) ReleaseNode(_ context.Context, in activities.NodeWorkInput) error {
	return f.act("release", in.Target, func(n *fakeNode) { n.held, n.Cordoned = false, false })
}

func (f *fakeFleet) DrainForWork(_ context.Context, in activities.DrainForWorkInput) error {
	return f.act("drain", in.Target, nil)
}

func (f *fakeFleet) WaitEtcdGate(_ context.Context, in activities.EtcdGateInput) (activities.EtcdGateResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range in.Nodes {
		if f.out[t.Node.Name] && t.Node.Name != in.Leaving {
			return activities.EtcdGateResult{}, fault.New(fault.NotYet, "wait for etcd", "%s is out", t.Node.Name)
		}
	}
	return activities.EtcdGateResult{}, nil
}

func (f *fakeFleet) ForfeitLeadership(context.Context, activities.EtcdGateInput) error {
	return nil
}

func (f *fakeFleet) ApplyMachineConfig(_ context.Context, in activities.ApplyConfigInput) (activities.ApplyConfigResult, error) {
	return activities.ApplyConfigResult{Changed: true}, f.act("apply", in.Target, func(n *fakeNode) {
		want := func(v string) string {
			if v == "" {
				return in.Leg.Frozen.KubernetesVersion
			}
			return v
		}
		n.Kubelet = want(in.Components.Kubelet)
		if n.Role == cluster.RoleControlPlane {
			n.APIServer, n.ControllerManager, n.Scheduler = want(in.Components.APIServer), want(in.Components.ControllerManager), want(in.Components.Scheduler)
		}
		for _, o := range f.nodes {
			if o.Role == cluster.RoleControlPlane && o.APIServer < n.Kubelet {
				f.log = append(f.log, "SKEW "+n.Name)
			}
		}
	})
}

func (f *fakeFleet) WaitComponent(_ context.Context, in activities.WaitComponentInput) error {
	return f.act("wait "+in.Component, in.Target, nil)
}

func (f *fakeFleet) WaitGates(context.Context, activities.GatesInput) error { return nil }

func (f *fakeFleet) ApplyUpgradeManifests(context.Context, activities.ApplyUpgradeManifestsInput) (activities.ApplyUpgradeManifestsResult, error) {
	return activities.ApplyUpgradeManifestsResult{}, nil
}

func (f *fakeFleet) DiffUpgradeManifests(_ context.Context, in activities.DiffUpgradeManifestsInput) (activities.DiffUpgradeManifestsResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		if err := f.refuse("compare", "", 1); err != nil {
			return activities.DiffUpgradeManifestsResult{}, err
		}
	}
	if len(in.Nodes) == 0 || in.Leg.Frozen.KubernetesVersion != f.to.Kubernetes {
		return activities.DiffUpgradeManifestsResult{}, fault.New(fault.Internal, "compare", "asked for %+v", in)
	}
	return f.diff, nil
}

func (f *fakeFleet) SyncBootstrapManifests(_ context.Context, in activities.SyncBootstrapInput) (activities.SyncBootstrapResult, error) {
	f.mu.Lock()
	out := f.synced
	f.mu.Unlock()
	if len(in.Nodes) == 0 || in.Nodes[0].Role != cluster.RoleControlPlane {
		return out, fault.New(fault.Internal, "sync", "asked of %+v", in.Nodes)
	}
	if len(out.Created)+len(out.Changed) == 0 {
		return out, nil // nothing was done
	}
	return out, f.act("sync", activities.UpgradeTarget{}, nil)
}

func (f *fakeFleet) WaitRollout(_ context.Context, in activities.WaitRolloutInput) error {
	return f.act(fmt.Sprint("rollout ", in.Workloads), activities.UpgradeTarget{}, nil)
}

func (f *fakeFleet) LeaseMember(_ context.Context, in activities.LeaseInput) (activities.LeaseResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.node(activities.UpgradeTarget{Node: cluster.NodeAddress{MachineID: in.Machine}})
	if n == nil {
		return activities.LeaseResult{}, fault.New(fault.NotFound, "lease", "no member %s", in.Machine)
	}
	n.leased = in.Holder
	if in.Release {
		n.leased = ""
	}
	return activities.LeaseResult{Held: !in.Release}, nil
}
