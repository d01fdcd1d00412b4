package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/plan"
)

const (
	stepCompare  = "compare manifests"
	stepRendered = "bootstrap manifests"
)

// compareWithin bounds the comparison: a plan is worth more than it.
const compareWithin = 3 * time.Minute

// compare finds out what the manifests of the upgrade would change, before
// anything does. When that cannot be told, it is a warning: whether the upgrade
// may begin is the pre-flight's to say.
func (u *upgrade) compare(ctx workflow.Context) error {
	if u.state.Begun {
		return nil
	}
	out, err := call(ctx, &u.desk, u.waiting("compare what manifests would change", compareWithin), aUpgrades.DiffUpgradeManifests,
		activities.DiffUpgradeManifestsInput{
			Ref: u.ref(), Leg: u.final, Before: u.spec.Manifests, Nodes: u.controlPlanes(), ConfigChanged: u.resolved.ConfigChanged,
		})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		u.warnings = append(u.warnings, plan.Refusal{Field: "manifests", Reason: "what they would change cannot be told: " + messageOf(err)})
		return nil
	}
	u.diff = &out
	u.at(ctx, stepCompare, "%s to change", count(len(out.Changes)+len(out.Bootstrap), "object"))
	return nil
}

// syncBootstrap applies what Talos renders for Kubernetes by itself, which its
// nodes only create, and waits until that runs. It is done behind each leg, once
// no kubelet is behind it, and once more where no leg was left: whoever stopped
// between a leg and this comes back to it.
func (u *upgrade) syncBootstrap(ctx workflow.Context) error {
	out, err := call(ctx, &u.desk, u.waiting("what Talos renders for Kubernetes", u.timing().Joined), aUpgrades.SyncBootstrapManifests,
		activities.SyncBootstrapInput{Ref: u.ref(), Nodes: u.controlPlanes()})
	if err != nil {
		return failed(stepRendered, err)
	}
	u.learnBootstrap(ctx, out)
	if len(out.Workloads) > 0 && u.state.Begun { // else nothing has changed
		err = do(ctx, &u.desk, u.waiting("rollout of what Talos renders", u.timing().Joined), aUpgrades.WaitRollout,
			activities.WaitRolloutInput{Ref: u.ref(), Workloads: out.Workloads})
	}
	u.inSync = err == nil
	return failed(stepRendered, err)
}

// lastSync is syncBootstrap when no leg is left, unless one has done it.
func (u *upgrade) lastSync(ctx workflow.Context) error {
	if u.inSync || len(u.controlPlanes()) == 0 {
		return nil
	}
	return u.step(ctx, stepRendered, u.syncBootstrap)
}

// learnBootstrap remembers what was done to objects, over all legs, and tells what
// people have to know.
func (u *upgrade) learnBootstrap(ctx workflow.Context, out activities.SyncBootstrapResult) {
	before := u.bootstrap
	out.Created, out.Changed = union(before.Created, out.Created), union(before.Changed, out.Changed)
	if len(out.Created)+len(out.Changed) > 0 {
		u.state.Begun = true
	}
	u.bootstrap = out
	for _, n := range []struct {
		text     string
		was, now []string
	}{
		{"kept, because somebody else than Talos has set it", before.Kept, out.Kept},
		{"not created again, because somebody has deleted it", before.Absent, out.Absent},
		{"left alone, because another tool claims it", before.Foreign, out.Foreign},
		{"not rendered by Talos any more and left in place", before.Left, out.Left},
	} {
		for _, name := range n.now {
			if !slices.Contains(n.was, name) {
				u.note(ctx, "%s: %s", name, n.text)
			}
		}
	}
	if out.Reason != "" && out.Reason != before.Reason {
		u.note(ctx, "%s were not applied: %s", stepRendered, out.Reason)
	}
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// bootstrapText is what was done to the objects that Talos renders.
func (u *upgrade) bootstrapText() string {
	if n := len(u.bootstrap.Created) + len(u.bootstrap.Changed); n > 0 {
		return fmt.Sprintf("; %s of Kubernetes brought to what Talos renders", count(n, "object"))
	}
	return ""
}

// wouldChange says whether the comparison found something to do.
func (u *upgrade) wouldChange() bool {
	if u.diff == nil {
		return false
	}
	return slices.ContainsFunc(slices.Concat(u.diff.Changes, u.diff.Bootstrap), func(c activities.ObjectChange) bool {
		return c.Change == activities.ChangeCreated || c.Change == activities.ChangeChanged
	})
}
