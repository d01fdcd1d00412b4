package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// DiffUpgradeManifestsInput asks what an upgrade would change of the objects that
// manifests describe.
type DiffUpgradeManifestsInput struct {
	Ref cluster.Ref `json:"ref"`
	// Leg is the end of the upgrade; Before are the spec's manifests that were
	// applied already.
	Leg    FreezeLegResult    `json:"leg"`
	Before []cluster.Manifest `json:"before,omitempty"`
	// Nodes are the control planes that may say what Talos renders.
	Nodes []UpgradeTarget `json:"nodes,omitempty"`
	// ConfigChanged says that machine configs differ for other reasons than
	// versions.
	ConfigChanged bool `json:"configChanged,omitempty"`
}

// DiffUpgradeManifestsResult names objects and fields. Values are shown of the
// images of containers only. It is bounded, so that it fits into a history.
type DiffUpgradeManifestsResult struct {
	// Changes are of the spec's manifests, Bootstrap of what Talos renders. Objects
	// that stay as they are do not occur, unless somebody else has set some of
	// their fields.
	Changes   []ObjectChange `json:"changes,omitempty"`
	Bootstrap []ObjectChange `json:"bootstrap,omitempty"`
	Unchanged int            `json:"unchanged,omitempty"`
	// Omitted counts the objects that there was no room for.
	Omitted int `json:"omitted,omitempty"`
	// Notes say what the comparison rests on, and what it cannot tell.
	Notes []string `json:"notes,omitempty"`
}

// Bounds of a diff in a history: together some 500 KiB at most, far less in
// practice.
const (
	mostObjects = 100
	mostFields  = 20
	mostRunes   = 240
)

// DiffUpgradeManifests says what the manifests of an upgrade would change at its
// end, by applies that the API server only pretends. It writes nothing. What Talos
// will render nobody knows before it runs: the comparison takes what a control
// plane renders now, with the images that are known of the end, and its notes say
// so. What the API refuses becomes a note, too. Errors: those that pass.
func (u *Upgrades) DiffUpgradeManifests(ctx context.Context, in DiffUpgradeManifestsInput) (DiffUpgradeManifestsResult, error) {
	defer alive(ctx, "comparing manifests")()
	var out DiffUpgradeManifestsResult
	_, k, err := u.kubeUpgrades(ctx, in.Ref)
	if err != nil {
		return out, err
	}
	for _, m := range changedManifests(in.Before, in.Leg.Spec.Manifests) {
		body, err := u.Store.Body(ctx, m.Ref, m.SHA256)
		if err != nil {
			return out, fault.New(fault.KindOf(err), "read manifest "+m.Name, "%v", err)
		}
		changes, err := k.DiffManifests(ctx, m.Name, body.Reveal())
		if err := out.note(err, "manifest "+m.Name+" is not compared"); err != nil {
			return out, err
		}
		out.add(&out.Changes, changes)
	}
	return out, u.diffBootstrap(ctx, in, k, &out)
}

// note keeps an error that will not pass as a note.
func (r *DiffUpgradeManifestsResult) note(err error, what string) error {
	if err == nil || fault.KindOf(err).Retryable() && !fault.Is(err, fault.NotYet) {
		return err
	}
	r.Notes = append(r.Notes, cut(what+": "+err.Error()))
	return nil
}

// diffBootstrap compares what a control plane renders.
func (u *Upgrades) diffBootstrap(ctx context.Context, in DiffUpgradeManifestsInput, k KubeUpgrades, out *DiffUpgradeManifestsResult) error {
	if len(in.Nodes) == 0 {
		return nil
	}
	r, bundle, err := u.renderer(ctx, in.Ref, &in.Leg)
	if err != nil {
		return err
	}
	manifest, node, facts, err := u.firstRendering(ctx, bundle, in.Nodes)
	if fault.KindOf(err) != "" { // the rest of the comparison is worth having without it
		out.Notes = append(out.Notes, cut("what Talos renders is not compared, since no control plane tells: "+err.Error()))
		return nil
	}
	config, _, err := r.config(ctx, node.Role, node.Group, node.Node.Name, Components{})
	if err != nil {
		return err
	}
	images, err := u.Configs.BootstrapImages(config, in.Leg.Frozen.TalosVersion)
	if err != nil {
		return err
	}
	changes, err := k.Bootstrap(ctx, manifest.Reveal(), BootstrapOptions{DryRun: true, Images: images.byRepository()})
	if err := out.note(err, "not all that Talos renders is compared"); err != nil {
		return err
	}
	out.add(&out.Bootstrap, changes)
	out.Notes = append(out.Notes, bootstrapNotes(node.Node.Name, facts.Version, in, images)...)
	return nil
}

// firstRendering asks the control planes until one tells what it renders; err says
// why none did.
func (u *Upgrades) firstRendering(ctx context.Context, bundle secrets.Value, nodes []UpgradeTarget) (manifest secrets.Value, t UpgradeTarget, f NodeFacts, err error) {
	for _, t = range nodes {
		if f, err = u.facts(ctx, bundle, t); err != nil {
			continue
		}
		if manifest, err = u.rendered(ctx, bundle, t); err == nil {
			return manifest, t, f, nil
		}
	}
	return manifest, t, f, err
}

// byRepository keys images by their repository, as BootstrapOptions wants them.
func (i BootstrapImages) byRepository() map[string]string {
	out := map[string]string{}
	for _, image := range []string{i.Proxy, i.CoreDNS, i.Flannel} {
		if at := strings.LastIndexByte(image, ':'); at > strings.LastIndexByte(image, '/') {
			out[image[:at]] = image
		}
	}
	return out
}

// bootstrapNotes say what a comparison of Talos' objects rests on.
func bootstrapNotes(node, runs string, in DiffUpgradeManifestsInput, images BootstrapImages) []string {
	known := []string{"kube-proxy"}
	if images.CoreDNS != "" {
		known = append(known, "CoreDNS")
	}
	if images.Flannel != "" {
		known = append(known, "flannel")
	}
	out := []string{fmt.Sprintf("Talos' own objects are compared as %s renders them now, with Talos %s; the images of %s are those of the end of this upgrade.",
		node, runs, strings.Join(known, ", "))}
	if to := in.Leg.Frozen.TalosVersion; to != runs {
		text := fmt.Sprintf("What else Talos %s renders differently shows in a plan only when a control plane runs it", to)
		if images.CoreDNS == "" {
			text += ", its version of CoreDNS and flannel included"
		}
		out = append(out, text+".")
	}
	if in.ConfigChanged {
		out = append(out, "The changed machine configs may change more of what Talos renders; that is not compared.")
	}
	return out
}

// add takes the changes that are worth telling into a list, as far as there is
// room.
func (r *DiffUpgradeManifestsResult) add(to *[]ObjectChange, changes []ObjectChange) {
	for _, c := range changes {
		switch {
		case c.Change == ChangeUnchanged && len(c.Kept) == 0:
			r.Unchanged++
		case len(r.Changes)+len(r.Bootstrap) >= mostObjects:
			r.Omitted++
		default:
			c.Fields, c.Kept = boundedTexts(c.Fields), boundedTexts(c.Kept)
			*to = append(*to, c)
		}
	}
}

func boundedTexts(list []string) []string {
	list = slices.Clone(firstOf(list, mostFields))
	for i := range list {
		list[i] = cut(list[i])
	}
	return list
}

// cut bounds a text that others wrote.
func cut(s string) string {
	if utf8.RuneCountInString(s) <= mostRunes {
		return s
	}
	return string([]rune(s)[:mostRunes]) + "…"
}

// changedManifests are those of now that before does not have with the same
// content.
func changedManifests(before, now []cluster.Manifest) []cluster.Manifest {
	var out []cluster.Manifest
	for _, m := range now {
		if !slices.ContainsFunc(before, func(b cluster.Manifest) bool { return b.Name == m.Name && b.SHA256 == m.SHA256 }) {
			out = append(out, m)
		}
	}
	return out
}
