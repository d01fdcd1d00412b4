package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// work starts what has to be done and is not under way.
func (g *group) work(ctx workflow.Context) {
	if g.full(ctx) {
		// Let everything come to rest for the new run.
		if g.scales && g.watching && g.stopWatch != nil {
			g.stopWatch()
		} else {
			g.restartWatch()
		}
		g.rest()
		return
	}
	held := g.state.Paused != nil
	// A create that is refused again and again goes on in the next run: its calls
	// are not cut short, only the pauses between them.
	creates := g.workCtx
	if g.scales {
		creates = g.restCtx
	}
	for _, m := range g.state.Members {
		switch {
		case held || g.busy[m.ID]:
		case m.Phase == MemberWanted:
			m.Begun = workflow.Now(ctx)
			g.set(ctx, m.ID, MemberCreating, "")
			g.start(creates, m.ID, g.create)
		case g.scales && m.Phase == MemberCreating:
			g.start(creates, m.ID, g.create)
		case m.leased(workflow.Now(ctx)): // whoever works on it gives it back first
		case g.scales && (m.Phase == MemberDraining || m.Phase == MemberDeleting):
			g.start(g.restCtx, m.ID, g.takeOut)
		}
	}
	if !g.watching && len(g.watchable(ctx)) > 0 && !g.creating() {
		g.watching = true
		watchCtx, stop := workflow.WithCancel(g.workCtx)
		g.stopWatch = stop
		workflow.GoNamed(watchCtx, "watch", g.watch)
	}
	if g.scales {
		g.learn()
		g.inspect(ctx)
	}
}

// start runs f for one member in a coroutine of its own.
func (g *group) start(ctx workflow.Context, id string, f func(workflow.Context, string) error) {
	g.running++
	g.busy[id] = true
	workflow.GoNamed(ctx, "member "+id, func(ctx workflow.Context) {
		err := f(ctx, id)
		g.running--
		delete(g.busy, id)
		// What was cut off says nothing about the machine, whatever the error: a
		// look whose worker is gone ends by its timeout even after a cancellation.
		if err != nil && ctx.Err() == nil {
			g.fails(ctx, id, err)
		}
		g.dirty = true
	})
}

// creating reports whether a create call is on its first way. A create that got
// no answer takes minutes to settle and holds nobody else up.
func (g *group) creating() bool {
	return slices.ContainsFunc(g.state.Members, func(m *Member) bool {
		return m.Phase == MemberWanted && g.state.Paused == nil || m.Phase == MemberCreating && m.Note == "" && (g.busy[m.ID] || g.state.Paused == nil)
	})
}

// create brings one machine into the cloud: placement group of its shard, then
// the machine, one at a time per shard where the cloud's placement races. Where
// there is no capacity the group's alternatives are tried in their order.
func (g *group) create(ctx workflow.Context, id string) error {
	for {
		machine, err := g.place(ctx, id)
		m := g.member(id)
		switch {
		case err == nil:
			g.created(ctx, id, *machine)
			return nil
		case kindOf(err) == fault.Unauthorized && g.scales:
			// Nothing was made. What waits here must not outlive its member.
			if err := g.parkUntil(ctx, "create "+m.Name, err, func() bool { return m.leaving() }); err != nil {
				return err
			}
			if m.leaving() {
				return nil
			}
		case kindOf(err) == fault.Capacity && m.Choice < g.choices()-1 && m.Phase == MemberCreating:
			m.Choice++
			flavor, zone := g.choice(m)
			g.set(ctx, id, m.Phase, fmt.Sprintf("%s; trying %s in %s", messageOf(err), flavor, zone))
		default:
			return err
		}
	}
}

// choice is the flavor and the zone that a member uses.
func (g *group) choice(m *Member) (flavor, zone string) {
	flavor, zone = g.in.Flavor, g.in.Zone
	turns := len(g.in.Zones)
	if turns > 0 {
		// Neighbours begin in different zones, and each goes round all of them.
		zone = g.in.Zones[(m.Slot+min(m.Choice, turns-1))%turns]
	}
	if alt := m.Choice - max(turns, 1); alt >= 0 && alt < len(g.in.Alternatives) {
		alt := g.in.Alternatives[alt]
		if turns > 0 {
			zone = g.in.Zones[m.Slot%turns]
		}
		if alt.Flavor != "" {
			flavor = alt.Flavor
		}
		if alt.Zone != "" {
			zone = alt.Zone
		}
	}
	return flavor, zone
}

// choices is how many flavors and zones a member of the group may be tried with.
func (g *group) choices() int { return max(len(g.in.Zones), 1) + len(g.in.Alternatives) }

// subnets are those that a machine of a zone is attached to.
func (g *group) subnets(zone string) []string {
	out := slices.Clone(g.in.Subnets)
	for _, s := range g.in.ZoneSubnets {
		if s.Zone == zone {
			out = append(out, s.ID)
		}
	}
	return out
}

// changeFindFirst is the version gate of groups that look for an unanswered
// machine before they ask for it elsewhere.
const changeFindFirst = "find-before-elsewhere"

func (g *group) place(ctx workflow.Context, id string) (*cloud.Machine, error) {
	d := &g.desk
	if g.scales {
		d = &desk{site: g.site} // which does not park, see create
	}
	placement := ""
	m := g.member(id)
	// Placement groups belong to the group's own zones.
	_, zone := g.choice(m)
	if limit := g.site.Capabilities.SpreadLimit; g.in.Spread && limit > 0 && (zone == g.in.Zone || slices.Contains(g.in.Zones, zone)) {
		shard := plan.Shard(m.Slot, limit)
		lock := g.lock(ctx, shard)
		if err := lock.Lock(ctx); err != nil {
			return nil, err
		}
		var err error
		placement, err = g.placement(ctx, d, shard)
		if err != nil || g.site.Capabilities.SpreadAtOnce {
			lock.Unlock() // only the placement group itself is made once for all
		} else {
			defer lock.Unlock()
		}
		if err != nil {
			return nil, err
		}
	}
	if err := g.free.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer g.free.Release(1)
	if g.scales && g.state.Paused != nil && !m.Evidence.Pending {
		return nil, temporal.NewCanceledError() // not sent yet: it begins again with resume
	}
	machine, err := ensure(ctx, d, &m.Evidence, g.try(d, id, placement))
	if kindOf(err) != fault.Capacity || !m.Evidence.Pending ||
		workflow.GetVersion(ctx, changeFindFirst, workflow.DefaultVersion, 1) < 1 {
		return machine, err
	}
	// An earlier create of the same request had no answer. Elsewhere is another
	// request, which the cloud does not take for that one: find what it made first.
	if machine, lost := find(ctx, d, &m.Evidence, g.try(d, id, placement)); machine != nil || lost != nil {
		return machine, lost
	}
	m.Evidence = plan.Evidence{}
	return nil, err
}

func (g *group) created(ctx workflow.Context, id string, machine cloud.Machine) {
	m := g.member(id)
	m.CloudID, m.CloudState = machine.Ref.Cloud, machine.State
	m.Address, m.Private, m.ProviderID = machine.Public, machine.Private, machine.ProviderID
	if g.scales {
		m.Begun = workflow.Now(ctx) // what its create had to wait for is not the machine's time
	}
	g.dirty = true
	if m.leaving() {
		return // given up meanwhile: it is deleted as soon as this coroutine has ended
	}
	g.set(ctx, id, MemberBooting, "")
	g.restartWatch()
}

func (g *group) lock(ctx workflow.Context, shard int) workflow.Mutex {
	if g.shards[shard] == nil {
		g.shards[shard] = workflow.NewMutex(ctx)
	}
	return g.shards[shard]
}

// try looks for, or creates, the machine of a member.
func (g *group) try(d *desk, id, placement string) try[cloud.Machine] {
	return func(ctx workflow.Context, create bool) (*cloud.Machine, error) {
		m := g.member(id)
		if create && m.leaving() {
			return nil, fail(fault.Invalid, "%s is not wanted any more", m.Name) // not to be repeated
		}
		flavor, zone := g.choice(m)
		in := activities.EnsureMachineInput{Cloud: g.in.Cloud, Create: create, Machine: cloud.MachineSpec{
			ID: id, Name: m.Name, Owner: g.owner(), Role: g.in.Role, Zone: zone, Flavor: flavor,
			ImageID: g.in.ImageID, DiskGiB: g.in.DiskGiB, Subnets: g.subnets(zone), Networks: g.in.Networks,
			PlacementGroup: placement, Spot: g.in.Spot, Tags: g.in.Tags, Params: g.in.Params, Attempt: m.Attempt,
		}}
		if g.in.Standalone != nil {
			in.UserData = g.in.Standalone.UserData
		}
		opts := g.short("look for " + m.Name)
		if create {
			opts = g.once("create " + m.Name)
		}
		out, err := call(ctx, d, opts, aCloud.EnsureMachine, in)
		if create && kindOf(err) == fault.NotFound {
			// What this request once made is gone for good; the next one is another.
			m.Attempt++
			err = fail(fault.Unavailable, "%s", messageOf(err))
		}
		if err != nil {
			g.set(ctx, id, m.Phase, messageOf(err))
		}
		if out.ConfigSHA256 != "" {
			g.member(id).ConfigSHA256 = out.ConfigSHA256
		}
		return out.Machine, err
	}
}

// placement returns the cloud's id of a shard's placement group.
func (g *group) placement(ctx workflow.Context, d *desk, index int) (string, error) {
	i := slices.IndexFunc(g.state.Shards, func(s *Shard) bool { return s.Index == index })
	if i < 0 {
		g.state.Shards = append(g.state.Shards, &Shard{Index: index})
		i = len(g.state.Shards) - 1
	}
	shard := g.state.Shards[i]
	if shard.ID != "" {
		return shard.ID, nil
	}
	step, err := g.placementStep(ctx, d, index)
	if err != nil {
		return "", err
	}
	r, err := ensure(ctx, d, &shard.Evidence, resourceTry(d, g.in.Cloud, cloud.EnsureResourceRequest{Owner: g.owner(), Step: step}))
	if err != nil {
		return "", err
	}
	shard.ID = r.ID
	return r.ID, nil
}

func (g *group) placementStep(ctx workflow.Context, d *desk, shard int) (cloud.Step, error) {
	return call(ctx, d, g.short(fmt.Sprintf("plan placement group %d", shard)), aCloud.GetPlacementStep,
		activities.PlacementStepInput{Cloud: g.in.Cloud, Owner: g.owner(), Zone: g.in.Zone, Shard: shard})
}
