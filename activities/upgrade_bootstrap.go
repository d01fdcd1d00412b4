package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// SyncBootstrapInput names the control planes that may say what Talos renders, in
// the order in which they are asked.
type SyncBootstrapInput struct {
	Ref   cluster.Ref     `json:"ref"`
	Nodes []UpgradeTarget `json:"nodes"`
}

// SyncBootstrapResult names objects, never their contents. Long lists end with how
// many are left out.
type SyncBootstrapResult struct {
	// Node rendered the manifests. It is empty when nothing was done, Reason saying
	// why: no control plane has the config and the Talos of the record.
	Node   string `json:"node,omitempty"`
	Reason string `json:"reason,omitempty"`

	Created   []string `json:"created,omitempty"`
	Changed   []string `json:"changed,omitempty"`
	Unchanged int      `json:"unchanged,omitempty"`
	// Kept are fields that somebody else than Talos has set, with who.
	Kept []string `json:"kept,omitempty"`
	// Absent were deleted by somebody, Foreign belong to another tool, Left are not
	// rendered any more. All of them were left as they are.
	Absent  []string `json:"absent,omitempty"`
	Foreign []string `json:"foreign,omitempty"`
	Left    []string `json:"left,omitempty"`
	// Workloads are those that a rollout is to be waited for.
	Workloads []WorkloadRef `json:"workloads,omitempty"`
}

// WorkloadRef names a Deployment or a DaemonSet.
type WorkloadRef struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// WaitRolloutInput names workloads.
type WaitRolloutInput struct {
	Ref       cluster.Ref   `json:"ref"`
	Workloads []WorkloadRef `json:"workloads"`
}

// mostNames bounds each list of names in a result.
const mostNames = 50

// SyncBootstrapManifests applies what a control plane that has reached the record
// renders by itself (kube-proxy, CoreDNS, flannel, roles): Talos only creates what
// never existed and leaves changes to others. It writes what differs, keeps what
// somebody else than Talos has set, and deletes nothing. Safe to repeat. Errors:
// Invalid or Conflict naming the objects that the API refuses, after all others
// were applied; NotYet while the node has not rendered its config; Unavailable when
// no control plane answers.
func (u *Upgrades) SyncBootstrapManifests(ctx context.Context, in SyncBootstrapInput) (SyncBootstrapResult, error) {
	defer alive(ctx, "applying bootstrap manifests")()
	var out SyncBootstrapResult
	_, k, err := u.kubeUpgrades(ctx, in.Ref)
	if err != nil {
		return out, err
	}
	manifest, node, why, err := u.rendering(ctx, in)
	if err != nil || node == "" {
		out.Reason = why
		return out, err
	}
	changes, err := k.Bootstrap(ctx, manifest.Reveal(), BootstrapOptions{})
	if err != nil {
		return out, err
	}
	out.Node = node
	for _, c := range changes {
		out.add(c)
	}
	for _, list := range []*[]string{&out.Created, &out.Changed, &out.Kept, &out.Absent, &out.Foreign, &out.Left} {
		*list = firstOf(*list, mostNames)
	}
	return out, nil
}

func (r *SyncBootstrapResult) add(c ObjectChange) {
	name := c.String()
	switch c.Change {
	case ChangeCreated:
		r.Created = append(r.Created, name)
	case ChangeChanged:
		r.Changed = append(r.Changed, name)
	case ChangeAbsent:
		r.Absent = append(r.Absent, name)
	case ChangeForeign:
		r.Foreign = append(r.Foreign, name)
	case ChangeLeft:
		r.Left = append(r.Left, name)
	default:
		r.Unchanged++
	}
	for _, field := range c.Kept {
		r.Kept = append(r.Kept, name+": "+field)
	}
	ours := c.Change == ChangeCreated || c.Change == ChangeChanged || c.Change == ChangeUnchanged
	if ours && (c.Kind == "Deployment" || c.Kind == "DaemonSet") && strings.HasPrefix(c.APIVersion, "apps/") {
		r.Workloads = append(r.Workloads, WorkloadRef{Kind: c.Kind, Namespace: c.Namespace, Name: c.Name})
	}
}

// rendering asks the control planes in order for what they render, and takes the
// first one that has reached the record: one that was left out renders what was
// before. why says what is the matter with all of them.
func (u *Upgrades) rendering(ctx context.Context, in SyncBootstrapInput) (manifest secrets.Value, node, why string, err error) {
	r, bundle, err := u.renderer(ctx, in.Ref, nil)
	if err != nil {
		return manifest, "", "", err
	}
	var silent error
	var behind []string
	for _, t := range in.Nodes {
		f, err := u.facts(ctx, bundle, t)
		if err != nil {
			silent = fault.New(fault.KindOf(err), "ask "+t.Node.Name, "%v", err)
			continue
		}
		config, _, err := r.config(ctx, t.Role, t.Group, t.Node.Name, Components{})
		if err != nil {
			return manifest, "", "", err
		}
		want, err := u.Configs.Digest(config)
		if err != nil {
			return manifest, "", "", err
		}
		if f.ConfigSHA256 != want || f.Version != r.rec.Frozen.TalosVersion {
			behind = append(behind, t.Node.Name)
			continue
		}
		manifest, err = u.rendered(ctx, bundle, t)
		return manifest, t.Node.Name, "", err
	}
	if silent != nil {
		return manifest, "", "", silent
	}
	return manifest, "", "no control plane has the record's config and Talos: " + strings.Join(behind, ", "), nil
}

func (u *Upgrades) rendered(ctx context.Context, bundle secrets.Value, t UpgradeTarget) (secrets.Value, error) {
	ctx, cancel := within(ctx, factsTimeout)
	defer cancel()
	return u.Machines.BootstrapManifests(ctx, bundle, t.Node.Address)
}

// WaitRollout returns when all pods of the workloads are of their last version and
// available; those that a DaemonSet has on nodes that are not Ready do not count.
// When its time is over it ends with NotYet, naming each workload that is not and
// what it lacks. One that does not exist has nothing to wait for.
func (u *Upgrades) WaitRollout(ctx context.Context, in WaitRolloutInput) error {
	return poll(ctx, "wait for the rollout of bootstrap manifests", u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		_, k, err := u.kubeUpgrades(ctx, in.Ref)
		if err != nil {
			return false, apiSilent, err
		}
		var lacking []string
		for _, w := range in.Workloads {
			err := rolledOut(ctx, k, w)
			switch {
			case fault.Is(err, fault.NotYet):
				lacking = append(lacking, fmt.Sprintf("%s: %s", w, reasonOf(err)))
			case err != nil:
				return false, apiSilent, err
			}
		}
		return len(lacking) == 0, strings.Join(firstOf(lacking, mostNames), "; "), nil
	})
}

func rolledOut(ctx context.Context, k KubeUpgrades, w WorkloadRef) error {
	ctx, cancel := within(ctx, nodeTimeout)
	defer cancel()
	return k.RolledOut(ctx, w)
}

// reasonOf is an error's own words, without what was attempted.
func reasonOf(err error) string {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Message != "" {
		return f.Message
	}
	return err.Error()
}

func (w WorkloadRef) String() string { return objectText(w.Kind, w.Namespace, w.Name) }

// String names the object as messages do: "DaemonSet kube-system/kube-proxy".
func (c ObjectChange) String() string { return objectText(c.Kind, c.Namespace, c.Name) }

func objectText(kind, namespace, name string) string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return kind + " " + name
}

// firstOf returns the beginning of a list, with a last element that says how many
// were left out.
func firstOf(list []string, most int) []string {
	if len(list) <= most {
		return list
	}
	return append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
}
