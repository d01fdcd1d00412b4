package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// work starts what has to be done and is not under way.
func (g *group) work(ctx workflow.Context) {
	if g.full(ctx) {
		g.restartWatch() // let everything come to rest for the new run
		return
	}
	for _, m := range g.state.Members {
		if m.Phase == MemberWanted {
			g.set(ctx, m.ID, MemberCreating, "")
			g.start(m.ID, g.create)
		}
	}
	if !g.watching && len(g.watchable()) > 0 && !g.creating() {
		g.watching = true
		watchCtx, stop := workflow.WithCancel(g.workCtx)
		g.stopWatch = stop
		workflow.GoNamed(watchCtx, "watch", g.watch)
	}
}

// start runs f for one member in a coroutine of its own.
func (g *group) start(id string, f func(workflow.Context, string) error) {
	g.running++
	workflow.GoNamed(g.workCtx, "member "+id, func(ctx workflow.Context) {
		if err := f(ctx, id); err != nil {
			g.fails(ctx, id, err)
		}
		g.running--
		g.dirty = true
	})
}

// creating reports whether a create call is on its first way. A create that got
// no answer takes minutes to settle and holds nobody else up.
func (g *group) creating() bool {
	return slices.ContainsFunc(g.state.Members, func(m *Member) bool {
		return m.Phase == MemberWanted || m.Phase == MemberCreating && m.Note == ""
	})
}

// create brings one machine into the cloud: placement group of its shard, then
// the machine, one at a time per shard because the cloud's placement races.
func (g *group) create(ctx workflow.Context, id string) error {
	placement := ""
	if limit := g.site.Capabilities.SpreadLimit; g.in.Spread && limit > 0 {
		shard := plan.Shard(g.member(id).Slot, limit)
		lock := g.lock(ctx, shard)
		if err := lock.Lock(ctx); err != nil {
			return err
		}
		defer lock.Unlock()
		var err error
		if placement, err = g.placement(ctx, shard); err != nil {
			return err
		}
	}
	if err := g.free.Acquire(ctx, 1); err != nil {
		return err
	}
	defer g.free.Release(1)
	m := g.member(id)
	machine, err := ensure(ctx, &g.desk, &m.Evidence, g.try(id, placement))
	if err != nil {
		return err
	}
	g.created(ctx, id, *machine)
	return nil
}

func (g *group) created(ctx workflow.Context, id string, machine cloud.Machine) {
	m := g.member(id)
	m.CloudID, m.CloudState = machine.Ref.Cloud, machine.State
	m.Address, m.Private, m.ProviderID = machine.Public, machine.Private, machine.ProviderID
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
func (g *group) try(id, placement string) try[cloud.Machine] {
	return func(ctx workflow.Context, create bool) (*cloud.Machine, error) {
		m := g.member(id)
		in := activities.EnsureMachineInput{Cloud: g.in.Cloud, Create: create, Machine: cloud.MachineSpec{
			ID: id, Name: m.Name, Owner: g.owner(), Role: g.in.Role, Zone: g.in.Zone, Flavor: g.in.Flavor,
			ImageID: g.in.ImageID, DiskGiB: g.in.DiskGiB, Subnets: g.in.Subnets, Networks: g.in.Networks,
			PlacementGroup: placement, Tags: g.in.Tags,
		}}
		opts := g.short("look for " + m.Name)
		if create {
			opts = g.once("create " + m.Name)
		}
		out, err := call(ctx, &g.desk, opts, aCloud.EnsureMachine, in)
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
func (g *group) placement(ctx workflow.Context, index int) (string, error) {
	i := slices.IndexFunc(g.state.Shards, func(s *Shard) bool { return s.Index == index })
	if i < 0 {
		g.state.Shards = append(g.state.Shards, &Shard{Index: index})
		i = len(g.state.Shards) - 1
	}
	shard := g.state.Shards[i]
	if shard.ID != "" {
		return shard.ID, nil
	}
	step, err := g.placementStep(ctx, index)
	if err != nil {
		return "", err
	}
	r, err := ensure(ctx, &g.desk, &shard.Evidence, resourceTry(&g.desk, g.in.Cloud, cloud.EnsureResourceRequest{Owner: g.owner(), Step: step}))
	if err != nil {
		return "", err
	}
	shard.ID = r.ID
	return r.ID, nil
}

func (g *group) placementStep(ctx workflow.Context, shard int) (cloud.Step, error) {
	return call(ctx, &g.desk, g.short(fmt.Sprintf("plan placement group %d", shard)), aCloud.GetPlacementStep,
		activities.PlacementStepInput{Cloud: g.in.Cloud, Owner: g.owner(), Zone: g.in.Zone, Shard: shard})
}

// watchable are the members whose next change comes by itself.
func (g *group) watchable() []activities.MemberFact {
	var out []activities.MemberFact
	for _, m := range g.state.Members {
		if m.Phase == MemberBooting || m.Phase == MemberJoined {
			out = append(out, activities.MemberFact{
				ID: m.ID, CloudID: m.CloudID, Name: m.Name, State: m.CloudState, Public: m.Address,
				Private: m.Private, ProviderID: m.ProviderID, Joined: m.Phase == MemberJoined,
			})
		}
	}
	slices.SortFunc(out, func(a, b activities.MemberFact) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

// watch sees members through from booting to ready, one activity for all.
func (g *group) watch(ctx workflow.Context) {
	defer func() { g.watching, g.dirty = false, true }()
	known := g.watchable()
	opts := g.waiting(fmt.Sprintf("watch %d machines of %s", len(known), g.in.Group), watchWindow(g.timing()))
	opts.ScheduleToCloseTimeout = 3 * opts.StartToCloseTimeout
	out, err := call(ctx, &g.desk, opts, aWatch.WatchGroup, activities.WatchGroupInput{Cloud: g.in.Cloud, Owner: g.owner(), Known: known})
	if err != nil {
		if ctx.Err() == nil {
			for _, f := range known {
				if m := g.member(f.ID); m != nil {
					g.set(ctx, f.ID, m.Phase, "cannot be watched: "+messageOf(err))
				}
			}
			_ = workflow.Sleep(ctx, g.timing().Backoff)
		}
		return
	}
	for _, f := range out.Members {
		m := g.member(f.ID)
		if m == nil || m.Phase != MemberBooting && m.Phase != MemberJoined {
			continue
		}
		m.CloudState, m.Address, m.Private = f.State, f.Public, f.Private
		switch {
		case f.NodeReady:
			g.set(ctx, f.ID, MemberReady, "")
		case f.State == cloud.MachineFailed:
			g.fails(ctx, f.ID, fail(fault.Internal, "the cloud says that the machine failed"))
		case f.Joined:
			g.set(ctx, f.ID, MemberJoined, f.Detail)
		default:
			g.set(ctx, f.ID, MemberBooting, f.Detail)
		}
	}
	// Only what was seen after its deadline fails: the time may have passed while
	// nobody looked.
	g.expire(ctx)
}

// watchWindow is how long one watch lasts without a change: long enough to cost
// little, short enough to notice a deadline.
func watchWindow(t activities.Timing) time.Duration {
	return max(20*t.Poll, t.Heartbeat)
}

func (g *group) restartWatch() {
	if g.watching && g.stopWatch != nil && !g.creating() {
		g.stopWatch()
	}
}

// lateAfter is the fraction of the deadline after which a node that has not
// joined is looked at more closely.
const lateAfter = 4

// help looks at a late node through its machine API: one that waits for its
// config gets it, and what another says is noted. Its failure is no failure of
// the member, which still has time.
func (g *group) help(ctx workflow.Context, id string) error {
	m := g.member(id)
	_, err := call(ctx, &g.desk, g.waiting("machine API of "+m.Name, g.timing().Joined/2), aTalos.WaitMachineAPI, activities.WaitMachineAPIInput{
		Ref: g.in.Cluster, Group: g.in.Group, Role: g.in.Role,
		Node: cluster.NodeAddress{MachineID: id, Name: m.Name, Address: m.Address, Private: m.Private},
	})
	if err != nil && ctx.Err() == nil && m.Phase == MemberBooting {
		g.set(ctx, id, m.Phase, messageOf(err))
	}
	return nil
}

// expire fails members that take longer than any machine should.
func (g *group) expire(ctx workflow.Context) {
	t := g.timing()
	now := workflow.Now(ctx)
	for _, m := range g.state.Members {
		age := now.Sub(m.Since)
		if m.Phase == MemberBooting && m.CloudState == cloud.MachineRunning && age > t.Joined/lateAfter && !m.Helped && m.Address != "" {
			m.Helped = true
			g.start(m.ID, g.help)
		}
		switch {
		case m.Phase == MemberBooting && age > t.Running+t.Joined:
			g.fails(ctx, m.ID, fail(fault.NotYet, "no node after %s: %s", t.Running+t.Joined, m.Note))
		case m.Phase == MemberJoined && age > t.Joined:
			g.fails(ctx, m.ID, fail(fault.NotYet, "the node was not ready after %s: %s", t.Joined, m.Note))
		}
	}
}
