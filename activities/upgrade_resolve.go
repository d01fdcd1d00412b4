package activities

import (
	"context"
	"fmt"
	"slices"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// ResolveUpgrade says what a change means for a cluster: the spec and the frozen
// versions that it has at the end. All that is wrong with the change, with the
// strategy, and all that an upgrade cannot change is reported at once, as one
// Invalid. It changes nothing in the cluster; the factory may learn a schematic.
// Errors: Conflict when the cluster is in no state to be upgraded.
func (u *Upgrades) ResolveUpgrade(ctx context.Context, in ResolveUpgradeInput) (ResolveUpgradeResult, error) {
	defer alive(ctx, "resolving the upgrade")()
	var out ResolveUpgradeResult
	rec, _, err := u.Store.Record(ctx, in.Name)
	if err != nil {
		return out, err
	}
	if err := upgradeable(rec); err != nil {
		return out, err
	}
	spec, digest, err := u.resolveSpec(ctx, rec, in)
	if err != nil {
		return out, err
	}
	p, account, err := u.Clouds.Open(ctx, spec.Cloud)
	if err != nil {
		return out, err
	}
	if err := (accounts{store: u.Store}).prove(ctx, rec.Ref, p, account); err != nil {
		return out, err
	}
	flavors, err := p.Flavors(ctx)
	if err != nil {
		return out, err
	}
	if problems := unknownFlavors(spec, flavors); len(problems) > 0 {
		return out, fault.Wrap(fault.Invalid, "check flavors", problems)
	}
	out = ResolveUpgradeResult{
		Record: rec, Spec: spec, SpecDigest: digest, ConfigChanged: !sameConfig(rec.Spec, spec),
		Account: account, Capabilities: p.Capabilities(), Timing: u.Timing,
	}
	if out.Frozen, err = u.freeze(ctx, rec, spec, p); err != nil {
		return out, err
	}
	out.Rules, err = u.Releases.Rules(ctx)
	return out, err
}

// upgradeable says whether a record is that of a cluster that can be changed.
func upgradeable(rec cluster.Record) error {
	name := rec.Ref.Name
	why := map[cluster.Phase]string{
		cluster.PhaseCreating: "it is still being created; wait for that run",
		cluster.PhaseFailed:   "its creation failed and what exists was kept; run ichor provision again with the same spec, or ichor delete " + name,
		cluster.PhaseDeleting: "it is half deleted; run: ichor delete " + name,
		cluster.PhaseDeleted:  "it was deleted",
	}
	if rec.Phase == cluster.PhaseReady {
		return nil
	}
	text, ok := why[rec.Phase]
	if !ok {
		text = "a newer Ichor wrote its record"
	}
	return fault.New(fault.Conflict, "open cluster for an upgrade", "cluster %q is %s: %s", name, rec.Phase, text)
}

// resolveSpec merges the change and judges the whole, with every problem at once.
func (u *Upgrades) resolveSpec(ctx context.Context, rec cluster.Record, in ResolveUpgradeInput) (cluster.Spec, string, error) {
	var problems problemList
	was := cluster.Cluster{APIVersion: cluster.APIVersion, Kind: cluster.Kind, Metadata: cluster.Metadata{Name: rec.Ref.Name}, Spec: rec.Spec}.Normalise()
	want := was
	want.Spec = mergeChange(rec, in.Change, &problems)
	problems = append(problems, unchangeable(was.Spec, want.Normalise().Spec)...)
	groups := make([]string, 0, len(rec.Spec.NodeGroups))
	for _, g := range rec.Spec.NodeGroups {
		groups = append(groups, g.Name)
	}
	for _, r := range plan.CheckStrategy(in.Strategy, groups) {
		problems = append(problems, r.Field+": "+r.Reason)
	}
	checked, digest, err := u.Checker.Check(ctx, want)
	switch {
	case fault.Is(err, fault.Invalid):
		problems = append(problems, err.Error())
	case err != nil:
		return cluster.Spec{}, "", err
	default:
		switch err := (&Records{Store: u.Store}).haveBodies(ctx, checked); {
		case fault.Is(err, fault.Invalid):
			problems = append(problems, err.Error())
		case err != nil:
			return cluster.Spec{}, "", err
		}
	}
	if len(problems) > 0 {
		return cluster.Spec{}, "", fault.Wrap(fault.Invalid, "check the upgrade", problems)
	}
	return checked.Spec, digest, nil
}

// freeze resolves the Talos part of a spec, and keeps what decides the cluster's
// identity. An image that the cluster has already stays as it was frozen.
func (u *Upgrades) freeze(ctx context.Context, rec cluster.Record, spec cluster.Spec, p cloud.Provider) (cluster.Frozen, error) {
	out := rec.Frozen
	out.KubernetesVersion = spec.Kubernetes.Version
	if !sameImages(rec.Spec, spec) {
		flavors, err := p.Flavors(ctx)
		if err != nil {
			return cluster.Frozen{}, err
		}
		fresh, err := freezeAll(ctx, u.Factory, spec, p.Capabilities(), flavors)
		if err != nil {
			return cluster.Frozen{}, err
		}
		for _, had := range rec.Frozen.Images() {
			fresh = fresh.Learned(had.Image, had.ImageID)
		}
		out.TalosVersion, out.Schematic, out.InstallerImage, out.Arch = fresh.TalosVersion, fresh.Schematic, fresh.InstallerImage, fresh.Arch
		out.Image, out.ImageID, out.Variants = fresh.Image, fresh.ImageID, fresh.Variants
		if rec.Frozen.Image != fresh.Image {
			out.ImageURL = fresh.ImageURL
		}
	}
	if !sameVersions(out, rec.Frozen) {
		out.BaseConfig = nil
	}
	return out, nil
}

// sameImages reports whether two specs mean the same images, for the cluster and
// for each of its groups.
func sameImages(a, b cluster.Spec) bool {
	return sameTalos(a.Talos, b.Talos) && a.ControlPlane.Flavor == b.ControlPlane.Flavor &&
		slices.EqualFunc(a.NodeGroups, b.NodeGroups, func(x, y cluster.NodeGroup) bool {
			return x.Name == y.Name && x.Flavor == y.Flavor && x.Image == y.Image && sameTalos(a.TalosOf(x.Name), b.TalosOf(y.Name))
		})
}

func sameVersions(a, b cluster.Frozen) bool {
	return a.TalosVersion == b.TalosVersion && a.KubernetesVersion == b.KubernetesVersion && a.Schematic == b.Schematic && a.InstallerImage == b.InstallerImage
}

// FreezeLeg prepares what the record holds after one leg: versions, image and the
// base configs, which are stored. A leg that does not end at the versions of the
// given spec is made of the record's own spec: what else changes comes with the
// last versions, for which it was written. Patches are tried on a config of each
// role and group. Safe to repeat: the same leg gives the same bytes. Errors:
// Invalid naming the field.
func (u *Upgrades) FreezeLeg(ctx context.Context, in FreezeLegInput) (FreezeLegResult, error) {
	defer alive(ctx, "freezing "+in.To.Talos+", Kubernetes "+in.To.Kubernetes)()
	var out FreezeLegResult
	rec, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return out, err
	}
	p, _, err := u.Clouds.Open(ctx, rec.Spec.Cloud)
	if err != nil {
		return out, err
	}
	final, err := u.freeze(ctx, rec, in.Spec, p)
	if err != nil {
		return out, err
	}
	spec := in.Spec
	if to := versionsOf(final); to != in.To {
		spec = u.legSpec(rec, in.Spec, final, in.To)
	}
	c := cluster.Cluster{APIVersion: cluster.APIVersion, Kind: cluster.Kind, Metadata: cluster.Metadata{Name: in.Ref.Name}, Spec: spec}.Normalise()
	out.Spec, out.SpecDigest = c.Spec, c.Digest()
	if out.Frozen, err = u.freeze(ctx, rec, out.Spec, p); err != nil {
		return FreezeLegResult{}, err
	}
	if got := versionsOf(out.Frozen); got != in.To {
		return FreezeLegResult{}, fault.New(fault.Internal, "freeze a leg", "it would give Talos %s with schematic %s and Kubernetes %s instead of %s, %s and %s",
			got.Talos, shortID(got.Schematic), got.Kubernetes, in.To.Talos, shortID(in.To.Schematic), in.To.Kubernetes)
	}
	view := rec
	view.Spec, view.SpecDigest, view.Frozen = out.Spec, out.SpecDigest, out.Frozen
	if len(out.Frozen.BaseConfig) == 0 {
		if out.Frozen.BaseConfig, err = u.rebase(ctx, rec, view); err != nil {
			return FreezeLegResult{}, err
		}
		view.Frozen = out.Frozen
	}
	if err := u.tryConfigs(ctx, newRenderer(u.Store, u.Configs, view, bundle)); err != nil {
		return FreezeLegResult{}, err
	}
	return out, nil
}

func versionsOf(f cluster.Frozen) plan.Versions {
	return plan.Versions{Talos: f.TalosVersion, Schematic: f.Schematic, Kubernetes: f.KubernetesVersion}
}

// legSpec is the recorded spec with the versions of an intermediate leg.
func (u *Upgrades) legSpec(rec cluster.Record, want cluster.Spec, final cluster.Frozen, to plan.Versions) cluster.Spec {
	spec := rec.Spec
	spec.Talos.Version, spec.Kubernetes.Version = to.Talos, to.Kubernetes
	switch to.Schematic {
	case rec.Frozen.Schematic: // described as it is
	case final.Schematic:
		spec.Talos.Schematic, spec.Talos.Extensions = want.Talos.Schematic, slices.Clone(want.Talos.Extensions)
	default:
		spec.Talos.Schematic, spec.Talos.Extensions = to.Schematic, nil
	}
	return spec
}

// rebase stores the base config of each role, moved to the versions of view, under
// a name that says which: a repetition finds its own.
func (u *Upgrades) rebase(ctx context.Context, rec, view cluster.Record) ([]cluster.BaseConfig, error) {
	out := make([]cluster.BaseConfig, 0, len(rec.Frozen.BaseConfig))
	for _, b := range rec.Frozen.BaseConfig {
		base, err := u.Store.Object(ctx, b.Ref)
		if err != nil {
			return nil, err
		}
		body, err := u.Configs.Rebase(view, base, b.Role)
		if err != nil {
			return nil, err
		}
		name := "base-" + string(b.Role) + "-" + legID(b, view.Frozen)
		key, sum, err := u.Store.EnsureObject(ctx, rec.Ref, name, body)
		if err != nil {
			return nil, err
		}
		out = append(out, cluster.BaseConfig{Role: b.Role, Ref: key, SHA256: sum})
	}
	return out, nil
}

// tryConfigs renders a config for each kind of node, so that a patch that does
// not fit is known before anything changes.
func (u *Upgrades) tryConfigs(ctx context.Context, r *renderer) error {
	try := func(role cluster.Role, group string) error {
		config, _, err := r.config(ctx, role, group, cluster.MachineName(r.rec.Ref.Name, group, "check"), Components{})
		if err != nil {
			return err
		}
		images, err := u.Configs.Images(config)
		if err != nil {
			return err
		}
		return pinned(images, group, r.rec.Frozen.KubernetesVersion)
	}
	if err := try(cluster.RoleControlPlane, cluster.ControlPlaneGroup); err != nil {
		return err
	}
	for _, g := range r.rec.Spec.NodeGroups {
		if err := try(cluster.RoleWorker, g.Name); err != nil {
			return err
		}
	}
	return nil
}

// pinned refuses a config whose patches hold a component at another version: the
// nodes would never reach the wanted one.
func pinned(images ComponentImages, group, version string) error {
	for _, c := range []struct{ name, image string }{
		{plan.ComponentAPIServer, images.APIServer},
		{plan.ComponentControllerManager, images.ControllerManager},
		{plan.ComponentScheduler, images.Scheduler},
		{plan.ComponentKubelet, images.Kubelet},
	} {
		if c.image != "" && tagOf(c.image) != version {
			return fault.New(fault.Invalid, "render the configs of group "+group, "a config patch keeps %s at %s, and the cluster shall run %s: change or remove that patch", c.name, tagOf(c.image), version)
		}
	}
	return nil
}

// CommitLeg makes a frozen leg the record's contents and returns the record; what
// it holds already is success. The image that it replaces is noted, so that it can
// be given back. Errors: Conflict when the name belongs to another cluster, when
// it is not ready any more, or when the record holds another spec than that from
// which the leg begins; Unsafe when bundle or contract would change.
func (u *Upgrades) CommitLeg(ctx context.Context, in CommitLegInput) (cluster.Record, error) {
	defer alive(ctx, "recording the leg")()
	records := &Records{Store: u.Store, Now: u.Now}
	return records.swap(ctx, in.Ref, func(rec *cluster.Record) (bool, error) {
		const op = "record a leg of the upgrade"
		if rec.SpecDigest == in.SpecDigest && sameFrozen(rec.Frozen, in.Frozen) {
			return false, nil
		}
		switch {
		case in.Frozen.Bundle != rec.Frozen.Bundle || in.Frozen.Contract != rec.Frozen.Contract:
			return false, fault.New(fault.Unsafe, op, "PKI bundle and config contract stay for the life of the cluster")
		case len(in.Frozen.BaseConfig) != len(rec.Frozen.BaseConfig):
			return false, fault.New(fault.Internal, op, "the leg has %d base configs, not %d", len(in.Frozen.BaseConfig), len(rec.Frozen.BaseConfig))
		case in.From != "" && rec.SpecDigest != in.From && rec.SpecDigest != in.SpecDigest:
			return false, fault.New(fault.Conflict, op, "the record holds spec %.12s, and this leg begins at %.12s", rec.SpecDigest, in.From)
		}
		if err := upgradeable(*rec); err != nil {
			return false, err
		}
		was := rec.Frozen
		keepDocuments(rec, in.Spec)
		rec.Spec, rec.SpecDigest, rec.Frozen = in.Spec, in.SpecDigest, in.Frozen
		for _, had := range was.Images() {
			if had.ImageID != "" && idOf(rec.Frozen, had.Image) == "" {
				rec.Frozen = rec.Frozen.Learned(had.Image, had.ImageID)
			}
		}
		retire(rec, was)
		return true, nil
	})
}

// sameFrozen compares what a leg decides; the image's id may be learned later.
func sameFrozen(have, want cluster.Frozen) bool {
	if want.ImageID == "" {
		want.ImageID = have.ImageID
	}
	return sameVersions(have, want) && have.Image == want.Image && have.ImageURL == want.ImageURL && have.ImageID == want.ImageID &&
		have.Arch == want.Arch && cluster.SameVariants(have.Variants, want.Variants) &&
		have.Contract == want.Contract && have.Bundle == want.Bundle && slices.Equal(have.BaseConfig, want.BaseConfig)
}

// retire notes the images that the cluster stops to use, and un-notes those that
// it uses again.
func retire(rec *cluster.Record, was cluster.Frozen) {
	uses := func(image string) bool {
		return slices.ContainsFunc(rec.Frozen.Images(), func(f cluster.Frozen) bool { return f.Image == image })
	}
	rec.Former = slices.DeleteFunc(slices.Clone(rec.Former), func(f cluster.FormerImage) bool { return uses(f.Image) })
	for _, w := range was.Images() {
		if uses(w.Image) || slices.ContainsFunc(rec.Former, func(f cluster.FormerImage) bool { return f.Image == w.Image }) {
			continue
		}
		rec.Former = append(rec.Former, cluster.FormerImage{
			Image: w.Image, ImageURL: w.ImageURL, Schematic: w.Schematic, TalosVersion: w.TalosVersion, Arch: w.Arch,
		})
	}
}

// idOf is the cloud's id of an image that a cluster uses, or empty.
func idOf(f cluster.Frozen, image string) string {
	for _, i := range f.Images() {
		if i.Image == image {
			return i.ImageID
		}
	}
	return ""
}

// keepDocuments notes the documents that the recorded spec refers to and the next
// one does not: deleting the cluster deletes them, too.
func keepDocuments(rec *cluster.Record, next cluster.Spec) {
	refs := func(spec cluster.Spec) []string {
		var out []string
		c := cluster.Cluster{Spec: spec}
		for _, s := range c.Sources() {
			if s.Source.Ref != "" {
				out = append(out, s.Source.Ref)
			}
		}
		return out
	}
	now := refs(next)
	all := slices.Concat(rec.Documents, refs(rec.Spec))
	all = slices.DeleteFunc(all, func(ref string) bool { return slices.Contains(now, ref) })
	slices.Sort(all)
	rec.Documents = slices.Compact(all)
}

// legID names versions, and what they were made from, in a store key.
func legID(from cluster.BaseConfig, f cluster.Frozen) string {
	return digestOf(fmt.Sprintf("%s\n%s\n%s\n%s\n%s", from.SHA256, f.TalosVersion, f.Schematic, f.KubernetesVersion, f.InstallerImage))[:12]
}
