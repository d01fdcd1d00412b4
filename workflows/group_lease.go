package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/fault"
)

// leaseTime is how long a lease lasts that nobody renews: longer than any single
// step of an upgrade, shorter than anybody would wait for a node that is stuck.
const leaseTime = 2 * time.Hour

// handleLeases registers the updates by which others work on members.
func (g *group) handleLeases(ctx workflow.Context) error {
	err := workflow.SetUpdateHandlerWithOptions(ctx, UpdateLease,
		func(ctx workflow.Context, in activities.LeaseInput) (activities.LeaseResult, error) {
			if err := workflow.Await(ctx, func() bool { return g.ready }); err != nil {
				return activities.LeaseResult{}, err
			}
			g.receive(ctx)
			return g.lease(ctx, in)
		},
		workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, in activities.LeaseInput) error {
			if !g.scales {
				return fail(fault.Conflict, "this run of the group began before it knew leases; it goes on in a new run within a day")
			}
			if in.Holder == "" || in.Machine == "" {
				return fail(fault.Invalid, "holder and machine are required")
			}
			return nil
		}},
	)
	if err != nil {
		return err
	}
	if err := g.handleReplace(ctx); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, SignalConfigure,
		func(ctx workflow.Context, req ConfigureRequest) (ScaleResult, error) {
			if err := workflow.Await(ctx, func() bool { return g.ready }); err != nil {
				return ScaleResult{}, err
			}
			g.receive(ctx)
			out := g.configure(ctx, req)
			g.write(ctx)
			return out, refusal(out)
		},
		workflow.UpdateHandlerOptions{Validator: func(workflow.Context, ConfigureRequest) error {
			if !g.scales {
				return fail(fault.Conflict, "this run of the group began before it could answer; send the signal %s instead", SignalConfigure)
			}
			return nil
		}},
	)
}

// lease gives a member to whoever works on it, or takes it back. Taking it again
// renews it. It never yields.
func (g *group) lease(ctx workflow.Context, in activities.LeaseInput) (activities.LeaseResult, error) {
	var out activities.LeaseResult
	if in.Ref.UID != "" && in.Ref.UID != g.in.Cluster.UID {
		return out, fail(fault.Conflict, "this is group %s of cluster %s with uid %s, not %s", g.in.Group, g.in.Cluster.Name, g.in.Cluster.UID, in.Ref.UID)
	}
	m, now := g.member(in.Machine), workflow.Now(ctx)
	mine := m != nil && m.Lease != nil && m.Lease.Holder == in.Holder
	g.dirty = true
	switch {
	case in.Release && !mine:
		return activities.LeaseResult{Message: "not held"}, nil
	case in.Release:
		m.Lease = nil
		g.state.Generation++
		if m.Phase == MemberReady {
			g.set(ctx, m.ID, m.Phase, "")
		}
		// What happened meanwhile was not this group's affair; now it is.
		g.lookSoon(now)
		return activities.LeaseResult{Message: "returned"}, nil
	case g.state.Ending:
		return out, fail(fault.Conflict, "group %s is being deleted: %s", g.in.Group, g.state.Reason)
	case m == nil:
		return out, fail(fault.NotFound, "group %s has no member %s", g.in.Group, in.Machine)
	case m.leased(now) && !mine:
		return out, fail(fault.Conflict, "%s works on %s since %s (%s)", m.Lease.Holder, m.Name, m.Lease.Since.UTC().Format(time.RFC3339), orNone(m.Lease.Reason))
	case m.Surge && !m.leaving():
		return out, fail(fault.Conflict, "%s is being added in place of %s", m.Name, m.For)
	case m.leaving() && !mine:
		return out, fail(fault.Conflict, "%s is being deleted", m.Name)
	}
	since := now
	if mine {
		since = m.Lease.Since
	}
	m.Lease = &Lease{Holder: in.Holder, Reason: in.Reason, Since: since, Until: now.Add(leaseTime)}
	if in.Reason != "" && m.Phase == MemberReady {
		g.set(ctx, m.ID, m.Phase, in.Reason)
	}
	g.state.Generation++
	return activities.LeaseResult{Held: true, Message: "until " + m.Lease.Until.UTC().Format(time.RFC3339)}, nil
}

// changeLooks is the version gate of looks that releases share: runs from before
// it look at the whole group after each.
const changeLooks = "shared-looks"

// looksPerReconcile is how many looks at the whole group releases may cause within
// the time between two of its own: one a minute by default. An upgrade of hundreds
// of nodes gives one back every few seconds, and each look lists every machine and
// leaves every member in history.
const looksPerReconcile = 15

// lookSoon has the group compared with the cloud, at once unless that was done a
// moment ago.
func (g *group) lookSoon(now time.Time) {
	every := g.timing().Reconcile
	due := now
	if soonest := g.state.Looked.Add(every / looksPerReconcile); g.sharesLooks && soonest.After(now) {
		due = soonest
	}
	if next := due.Add(-every); !g.sharesLooks || next.Before(g.state.Inspected) {
		g.state.Inspected = next
	}
}

// leased reports whether somebody works on a member.
func (m *Member) leased(now time.Time) bool { return m.Lease != nil && now.Before(m.Lease.Until) }

// configure changes what the group is told to be. Machines that exist stay as
// they are; those made from now on are different.
func (g *group) configure(ctx workflow.Context, req ConfigureRequest) ScaleResult {
	g.heard = true
	if req.RequestID == "" {
		g.state.Signals++
		req.RequestID = fmt.Sprintf("%.8s-%d", g.state.Seed, g.state.Signals)
	}
	if known := g.recall(req.RequestID); known != nil {
		return *known
	}
	r := ScaleResult{RequestID: req.RequestID, Op: SignalConfigure, At: workflow.Now(ctx), Accepted: true, Message: "configured: machines made from now on are as told"}
	if err := g.refuseConfig(req.Input); err != nil {
		r.Accepted, r.Kind, r.Message = false, kindOf(err), messageOf(err)
	} else if g.reconfigure(req.Input) {
		g.state.Generation++
	} else {
		r.Message = "it is configured so already"
	}
	r.Target, r.Generation = g.size(), g.state.Generation
	g.remember(r)
	g.dirty = true
	return r
}

func (g *group) refuseConfig(in GroupInput) error {
	have := g.in
	switch {
	case in.Cluster.Name != have.Cluster.Name || in.Cluster.UID != "" && in.Cluster.UID != have.Cluster.UID:
		return fail(fault.Conflict, "input.cluster: this group belongs to %s with uid %s", have.Cluster.Name, have.Cluster.UID)
	case in.Group != have.Group || in.Role != have.Role:
		return fail(fault.Invalid, "input.group: this is group %s of role %s", have.Group, have.Role)
	case in.Cloud.Provider != have.Cloud.Provider:
		return fail(fault.Invalid, "input.cloud: a group does not change its cloud from %s to %s", have.Cloud.Provider, in.Cloud.Provider)
	case in.Flavor == "" || in.Zone == "":
		return fail(fault.Invalid, "input: flavor and zone are required")
	case in.Max < in.Min || in.Min < 0:
		return fail(fault.Invalid, "input: min %d and max %d do not fit", in.Min, in.Max)
	case (in.Standalone == nil) != (have.Standalone == nil):
		return fail(fault.Invalid, "input.standalone: a group does not change between stand-alone and not")
	case g.state.Ending:
		return fail(fault.Conflict, "group %s is being deleted: %s", have.Group, g.state.Reason)
	}
	return nil
}

// reconfigure takes over everything but what the group is and where its account
// is, and reports whether that is something new.
func (g *group) reconfigure(in GroupInput) bool {
	in.Cluster, in.Site, in.Target, in.State, in.Resumed = g.in.Cluster, g.in.Site, g.in.Target, nil, g.in.Resumed
	if len(in.Subnets) == 0 {
		in.Subnets = g.in.Subnets
	}
	if len(in.ZoneSubnets) == 0 {
		in.ZoneSubnets = g.in.ZoneSubnets
	}
	if len(in.Params) == 0 {
		in.Params = g.in.Params
	}
	if sameConfig(g.in, in) {
		return false
	}
	g.in = in
	g.state.Template = nil // learned anew
	for _, m := range g.state.Members {
		m.Choice = min(m.Choice, g.choices()-1)
		if m.Beyond {
			// The bounds may have changed: limit judges again.
			m.Beyond, m.Failure = false, nil
			m.Phase, m.Note = MemberWanted, ""
		}
	}
	return true
}

// sameConfig compares what a group makes its machines of, and its bounds.
func sameConfig(a, b GroupInput) bool {
	return a.Cloud == b.Cloud && a.Zone == b.Zone && a.Flavor == b.Flavor && a.DiskGiB == b.DiskGiB && a.ImageID == b.ImageID &&
		a.Spread == b.Spread && a.Spot == b.Spot && a.Min == b.Min && a.Max == b.Max && slices.Equal(a.Subnets, b.Subnets) &&
		slices.Equal(a.Zones, b.Zones) && slices.Equal(a.ZoneSubnets, b.ZoneSubnets) && slices.Equal(a.Params, b.Params) &&
		slices.Equal(a.Networks, b.Networks) && slices.Equal(a.Tags, b.Tags) && slices.Equal(a.Alternatives, b.Alternatives) &&
		samePointee(a.Autoscaling, b.Autoscaling) && sameStandalone(a.Standalone, b.Standalone)
}

func sameStandalone(a, b *Standalone) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Kube == b.Kube && samePointee(a.UserData, b.UserData) && samePointee(a.AdoptTag, b.AdoptTag) &&
		slices.Equal(a.AdoptAlso, b.AdoptAlso) && slices.Equal(a.Labels, b.Labels) && slices.Equal(a.Taints, b.Taints)
}

func samePointee[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
