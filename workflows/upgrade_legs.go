package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// doLeg takes the cluster to the next supported state.
func (u *upgrade) doLeg(ctx workflow.Context, leg plan.Leg) error {
	u.nodes, u.doing = nil, "" // those of the leg before are done
	if u.in.Strategy.Approve == plan.ApproveLeg {
		if err := u.ask(ctx, describeLeg(leg), func() bool { return false }); err != nil {
			return err
		}
	}
	// What a leg does before its first node changes the cluster, too.
	if err := workflow.Await(ctx, func() bool { return !u.state.Paused }); err != nil {
		return err
	}
	frozen, err := u.freezeLeg(ctx, leg)
	if err != nil {
		return err
	}
	if leg.Kind != plan.LegConfig {
		if err := u.saveEtcd(ctx); err != nil {
			return err
		}
	}
	u.state.Begun, u.inSync = true, false
	switch leg.Kind {
	case plan.LegTalos:
		err = u.talosLeg(ctx, leg, frozen)
	case plan.LegKubernetes:
		err = u.kubernetesLeg(ctx, leg, frozen)
	case plan.LegConfig:
		err = u.configLeg(ctx, leg, frozen)
	default:
		err = fail(fault.Internal, "a leg of kind %s is not known", leg.Kind)
	}
	if err != nil {
		return err
	}
	return u.syncBootstrap(ctx)
}

// talosLeg has new machines born with the new image first, so that nothing the
// autoscaler adds meanwhile is left behind.
func (u *upgrade) talosLeg(ctx workflow.Context, leg plan.Leg, frozen activities.FreezeLegResult) error {
	if err := u.newImage(ctx, &frozen); err != nil {
		return err
	}
	if err := u.commit(ctx, frozen); err != nil {
		return err
	}
	if err := u.roll(ctx, leg, frozen, WorkTalos); err != nil {
		return err
	}
	return u.releaseFormer(ctx)
}

// kubernetesLeg upgrades component by component over all control planes, so that
// no component is ever newer than an API server that it may ask. Only then do
// kubelets follow, and new machines are born new.
func (u *upgrade) kubernetesLeg(ctx workflow.Context, leg plan.Leg, frozen activities.FreezeLegResult) error {
	if err := u.pullImages(ctx, frozen); err != nil {
		return err
	}
	for _, work := range []NodeWork{WorkAPIServer, WorkControllerManager, WorkScheduler} {
		if err := u.roll(ctx, leg, frozen, work); err != nil {
			return err
		}
	}
	if err := u.adopt(ctx, &frozen); err != nil {
		return err
	}
	return u.roll(ctx, leg, frozen, WorkKubelet)
}

func (u *upgrade) configLeg(ctx workflow.Context, leg plan.Leg, frozen activities.FreezeLegResult) error {
	if err := u.adopt(ctx, &frozen); err != nil {
		return err
	}
	return u.roll(ctx, leg, frozen, WorkConfig)
}

// adopt makes a leg that keeps the image the cluster's record, and applies its
// manifests.
func (u *upgrade) adopt(ctx workflow.Context, frozen *activities.FreezeLegResult) error {
	for _, f := range u.resolved.Record.Frozen.Images() {
		frozen.Frozen = frozen.Frozen.Learned(f.Image, f.ImageID)
	}
	had := u.spec.Manifests
	if err := u.commit(ctx, *frozen); err != nil {
		return err
	}
	return u.manifests(ctx, had)
}

// commitOnly records a change that no node has to be touched for: bounds of
// groups, manifests.
func (u *upgrade) commitOnly(ctx workflow.Context) error {
	u.state.Begun = true
	return u.adopt(ctx, &u.final)
}

// uncommitted reports whether the record does not hold the wanted spec yet.
func (u *upgrade) uncommitted() bool {
	return u.resolved.Record.SpecDigest != u.resolved.SpecDigest
}

func (u *upgrade) freezeLeg(ctx workflow.Context, leg plan.Leg) (activities.FreezeLegResult, error) {
	return call(ctx, &u.desk, u.short("render what "+describeLeg(leg)+" means"), aUpgrades.FreezeLeg,
		activities.FreezeLegInput{Ref: u.ref(), Spec: u.legSpec(leg), To: leg.To})
}

// legSpec is the spec during a leg: when configs change for other reasons than
// versions, they do so in a leg of their own, the last.
func (u *upgrade) legSpec(leg plan.Leg) cluster.Spec {
	own := slices.ContainsFunc(u.plan.Legs, func(l plan.LegPlan) bool { return l.Kind == plan.LegConfig })
	if !own || leg.Kind == plan.LegConfig {
		return u.resolved.Spec
	}
	s := u.spec
	s.Talos.Version, s.Kubernetes.Version = leg.To.Talos, leg.To.Kubernetes
	if leg.To.Schematic == u.resolved.Frozen.Schematic {
		s.Talos.Schematic, s.Talos.Extensions = u.resolved.Spec.Talos.Schematic, u.resolved.Spec.Talos.Extensions
	}
	return s
}

// saveEtcd stores a snapshot before anything of the control plane is touched.
func (u *upgrade) saveEtcd(ctx workflow.Context) error {
	name := fmt.Sprintf("upgrade-%.8s-%d", workflow.GetInfo(ctx).OriginalRunID, len(u.state.Snapshots)+1)
	planes := u.controlPlanes()
	if len(planes) == 0 {
		return fail(fault.Unsafe, "no control plane is known")
	}
	out, err := call(ctx, &u.desk, u.waiting("snapshot of etcd", u.timing().Image), aUpgrades.SnapshotEtcd,
		activities.SnapshotInput{NodeWorkInput: u.work(planes[0]), Name: name})
	if err != nil {
		return err
	}
	u.state.Snapshots = append(u.state.Snapshots, out)
	return nil
}

func (u *upgrade) work(t activities.UpgradeTarget) activities.NodeWorkInput {
	return activities.NodeWorkInput{Ref: u.ref(), Target: t, Holder: cluster.NodeWorkID(u.ref().Name, t.Node.Name)}
}

// newImage takes the leg's image into use, under the image's own lock. It is
// recorded before, so that whoever deletes the cluster gives it back.
func (u *upgrade) newImage(ctx workflow.Context, frozen *activities.FreezeLegResult) error {
	for _, f := range frozen.Frozen.Images() {
		had := func(o cluster.Frozen) bool { return o.Image == f.Image }
		if !slices.ContainsFunc(u.resolved.Record.Frozen.Images(), had) {
			rec, err := call(ctx, &u.desk, u.short("record the image to be used"), aRecords.UpdateRecord, activities.RecordChange{
				Ref:     u.ref(),
				Holding: &cluster.FormerImage{Image: f.Image, ImageURL: f.ImageURL, Schematic: f.Schematic, TalosVersion: f.TalosVersion, Arch: f.Arch},
			})
			if err != nil {
				return err
			}
			u.resolved.Record = rec
		}
		out, err := holdImage(ctx, &u.desk, imageInput(u.ref(), frozen.Spec, f, u.site))
		if err != nil {
			return err
		}
		frozen.Frozen = frozen.Frozen.Learned(f.Image, out.ID)
	}
	return nil
}

// commit makes a leg the cluster's record and tells every group, so that what is
// made from now on is made of it.
func (u *upgrade) commit(ctx workflow.Context, frozen activities.FreezeLegResult) error {
	rec, err := call(ctx, &u.desk, u.settled("record "+frozen.Frozen.TalosVersion+", Kubernetes "+frozen.Frozen.KubernetesVersion), aUpgrades.CommitLeg,
		activities.CommitLegInput{Ref: u.ref(), From: u.resolved.Record.SpecDigest, Spec: frozen.Spec, SpecDigest: frozen.SpecDigest, Frozen: frozen.Frozen})
	if err != nil {
		return err
	}
	u.resolved.Record, u.spec = rec, rec.Spec
	p := &provision{lifecycle: lifecycle{desk: desk{site: u.site}, progress: u.progress, spec: rec.Spec}, frozen: rec.Frozen}
	groups := []GroupInput{p.controlPlaneGroup()}
	for _, ng := range rec.Spec.NodeGroups {
		groups = append(groups, p.workerGroup(ng))
	}
	for _, in := range groups {
		req := ConfigureRequest{RequestID: fmt.Sprintf("%.8s-%s", workflow.GetInfo(ctx).OriginalRunID, frozen.SpecDigest), Input: in}
		err := workflow.SignalExternalWorkflow(ctx, cluster.GroupID(u.ref().Name, in.Group), "", SignalConfigure, req).Get(ctx, nil)
		if err != nil && !isNotRunning(err) {
			return err
		}
	}
	return nil
}

// releaseFormer gives back images that no new machine is made of any more.
func (u *upgrade) releaseFormer(ctx workflow.Context) error {
	for _, f := range u.resolved.Record.Former {
		if err := u.releaseImage(ctx, frozenOf(f)); err != nil {
			return err
		}
		rec, err := call(ctx, &u.desk, u.short("update the record"), aRecords.UpdateRecord, activities.RecordChange{Ref: u.ref(), Released: f.Image})
		if err != nil {
			return err
		}
		u.resolved.Record = rec
	}
	return nil
}

func frozenOf(f cluster.FormerImage) cluster.Frozen {
	return cluster.Frozen{Image: f.Image, ImageURL: f.ImageURL, Schematic: f.Schematic, TalosVersion: f.TalosVersion, Arch: f.Arch}
}

// pullsAtOnce bounds the nodes that pull at the same time.
const pullsAtOnce = 10

// pullImages has every node fetch what it will run, before anything is changed.
func (u *upgrade) pullImages(ctx workflow.Context, frozen activities.FreezeLegResult) error {
	var first error
	sem := workflow.NewSemaphore(ctx, pullsAtOnce)
	wg := workflow.NewWaitGroup(ctx)
	for _, t := range u.targets(nil) {
		if slices.Contains(u.state.Skipped, t.Node.MachineID) {
			continue
		}
		wg.Add(1)
		workflow.GoNamed(ctx, "pull "+t.Node.Name, func(ctx workflow.Context) {
			defer wg.Done()
			if sem.Acquire(ctx, 1) != nil {
				return
			}
			defer sem.Release(1)
			err := do(ctx, &u.desk, u.waiting("pull images on "+t.Node.Name, u.timing().Image), aUpgrades.PullComponentImages,
				activities.PullComponentsInput{NodeWorkInput: u.work(t), Leg: frozen})
			if err != nil && first == nil {
				first = failed(t.Node.Name, err)
			}
		})
	}
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	wg.Wait(calm)
	return first
}

// manifests applies those that the change brought; nothing is ever pruned.
func (u *upgrade) manifests(ctx workflow.Context, before []cluster.Manifest) error {
	_, err := call(ctx, &u.desk, u.waiting("manifests", u.timing().Joined), aUpgrades.ApplyUpgradeManifests,
		activities.ApplyUpgradeManifestsInput{Ref: u.ref(), Before: before})
	return err
}
