package activities

import (
	"context"
	"fmt"

	"go.temporal.io/sdk/activity"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// HoldNode keeps the autoscaler away from a node that is worked on, cordons it if
// asked to, and remembers how it was. Safe to repeat. Errors: NotFound when there
// is no such node, Conflict when somebody else holds it.
func (u *Upgrades) HoldNode(ctx context.Context, in HoldNodeInput) error {
	defer alive(ctx, "holding the node")()
	return u.onNode(ctx, in.NodeWorkInput, func(ctx context.Context, k KubeUpgrades) error {
		return k.HoldNode(ctx, in.Target.Node.Name, in.Holder, in.Cordon)
	})
}

// ReleaseNode takes back what HoldNode of the same holder did. Not held, or
// absent, is success.
func (u *Upgrades) ReleaseNode(ctx context.Context, in NodeWorkInput) error {
	defer alive(ctx, "releasing the node")()
	return u.onNode(ctx, in, func(ctx context.Context, k KubeUpgrades) error {
		return k.ReleaseNode(ctx, in.Target.Node.Name, in.Holder)
	})
}

func (u *Upgrades) onNode(ctx context.Context, in NodeWorkInput, do func(context.Context, KubeUpgrades) error) error {
	_, k, err := u.kubeUpgrades(ctx, in.Ref)
	if err != nil {
		return err
	}
	ctx, cancel := within(ctx, nodeTimeout)
	defer cancel()
	return do(ctx, k)
}

// DrainForWork evicts the pods of a node that stays, in rounds, until none is left
// but those of DaemonSets and static ones. When its time is over it ends with
// NotYet, naming the pods that are left and what holds them; Invalid, at once, when
// the options forbid to evict some. An absent node is success. Safe to repeat; the
// node should be cordoned before.
func (u *Upgrades) DrainForWork(ctx context.Context, in DrainForWorkInput) error {
	return poll(ctx, "drain node "+in.Target.Node.Name, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		_, k, err := u.kubeUpgrades(ctx, in.Ref)
		if err != nil {
			return false, "", err
		}
		ctx, cancel := within(ctx, drainTimeout)
		defer cancel()
		left, err := k.DrainRound(ctx, in.Target.Node.Name, in.Options)
		if fault.Is(err, fault.NotFound) {
			return true, "the node is gone", nil
		}
		return err == nil && len(left) == 0, leftText(left), err
	})
}

// WaitComponent returns when a component of a node runs a version and is ready.
func (u *Upgrades) WaitComponent(ctx context.Context, in WaitComponentInput) error {
	node := in.Target.Node.Name
	return poll(ctx, "wait for "+in.Component+" of "+node, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		_, k, err := u.kubeUpgrades(ctx, in.Ref)
		if err != nil {
			return false, "", err
		}
		if in.Component == plan.ComponentKubelet {
			o, missing, err := u.nodeReady(ctx, in.NodeWorkInput)
			if err == nil && missing == "" && tagOf(o.Version) != in.Version {
				missing = fmt.Sprintf("it runs %s, wanted is %s", o.Version, in.Version)
			}
			return err == nil && missing == "", missing, err
		}
		ctx, cancel := within(ctx, nodeTimeout)
		defer cancel()
		pod, err := k.StaticPod(ctx, node, in.Component)
		switch {
		case fault.Is(err, fault.NotFound):
			return false, "it has no pod", nil
		case err != nil:
			return false, apiSilent, err
		case tagOf(pod.Version) != in.Version:
			return false, fmt.Sprintf("it runs %s, wanted is %s", pod.Version, in.Version), nil
		case !pod.Ready:
			return false, "its pod is not ready", nil
		}
		return true, "", nil
	})
}

// WaitGates returns when every gate has held for a while, and the named node was
// Ready all the time. When its time is over it ends with NotYet, naming the gate;
// Invalid, at once, when one cannot be evaluated.
func (u *Upgrades) WaitGates(ctx context.Context, in GatesInput) error {
	hold := stable{need: in.Stable}
	return poll(ctx, "wait for health gates", u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		missing, err := u.gatesHold(ctx, in)
		if err != nil || missing != "" {
			hold.broken()
			return false, missing, err
		}
		done, saw := hold.holds()
		return done, saw, nil
	})
}

func (u *Upgrades) gatesHold(ctx context.Context, in GatesInput) (missing string, err error) {
	if in.Node != "" {
		work := NodeWorkInput{Ref: in.Ref, Target: UpgradeTarget{Node: cluster.NodeAddress{Name: in.Node}}}
		if _, missing, err := u.nodeReady(ctx, work); err != nil || missing != "" {
			return in.Node + ": " + missing, err
		}
	}
	if len(in.Gates) == 0 {
		return "", nil
	}
	_, k, err := u.kubeUpgrades(ctx, in.Ref)
	if err != nil {
		return apiSilent, err
	}
	for _, g := range in.Gates {
		if err := holds(ctx, k, g); err != nil {
			return "gate " + g.Name, err
		}
	}
	return "", nil
}

// gateTimeout bounds one evaluation: an HTTP check may wait for a slow answer.
const gateTimeout = drainTimeout

// holds evaluates a gate once.
func holds(ctx context.Context, k KubeUpgrades, g plan.Gate) error {
	ctx, cancel := within(ctx, gateTimeout)
	defer cancel()
	return k.Gate(ctx, g)
}

// LeaseMember takes or returns the lease of a group's member. For one holder both
// are the same however often they are done, so each attempt asks anew: a refusal
// that was once answered would else be the answer for ever. To return it to a group
// that is gone is success. Errors: Conflict when somebody
// else holds it or the member leaves, NotFound when there is no such member.
func (u *Upgrades) LeaseMember(ctx context.Context, in LeaseInput) (LeaseResult, error) {
	defer alive(ctx, "asking group "+in.Group)()
	info := activity.GetInfo(ctx)
	in.RequestID = fmt.Sprintf("%s-%s-%d", in.RequestID, info.ActivityID, info.Attempt)
	out, err := u.Groups.Lease(ctx, in)
	if in.Release && fault.Is(err, fault.NotFound) {
		return LeaseResult{Message: "the group or its member is gone"}, nil
	}
	return out, err
}

// ApplyUpgradeManifests applies the manifests of the record's spec by server-side
// apply, in order, leaves out those that did not change, and removes nothing. Safe
// to repeat.
func (u *Upgrades) ApplyUpgradeManifests(ctx context.Context, in ApplyUpgradeManifestsInput) (ApplyUpgradeManifestsResult, error) {
	defer alive(ctx, "applying manifests")()
	var out ApplyUpgradeManifestsResult
	api, rec, err := u.Kube.api(ctx, in.Ref)
	if err != nil {
		return out, err
	}
	todo := changedManifests(in.Before, rec.Spec.Manifests)
	out.Skipped = len(rec.Spec.Manifests) - len(todo)
	for _, m := range todo {
		body, err := u.Store.Body(ctx, m.Ref, m.SHA256)
		if err != nil {
			return out, fault.New(fault.KindOf(err), "read manifest "+m.Name, "%v", err)
		}
		if err := api.Apply(ctx, m.Name, body.Reveal()); err != nil {
			return out, err
		}
		out.Applied = append(out.Applied, m.Name)
	}
	return out, nil
}
