package workflows

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

// changeScaling is the version gate of scaling: runs from before it only create
// and end their members, and hand requests to the run that continues them.
const changeScaling = "scaling"

// ScaleNodeGroup owns every member of one group, from the wish to the proof that
// it is gone. It outlives the workflow that started it and ends only when told.
func ScaleNodeGroup(ctx workflow.Context, in GroupInput) error {
	if err := checkID(ctx, cluster.GroupID(in.Cluster.Name, in.Group), TypeScaleNodeGroup); err != nil {
		return err
	}
	// Only SignalEnd ends a group: with its history its machines would lose
	// their owner, so a request to cancel is not followed.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	g := newGroup(ctx, in)
	g.scales = workflow.GetVersion(ctx, changeScaling, workflow.DefaultVersion, 1) >= 1
	g.sharesLooks = workflow.GetVersion(ctx, changeLooks, workflow.DefaultVersion, 1) >= 1
	if err := g.handlers(ctx); err != nil {
		return err
	}
	g.announce(ctx)
	g.open(ctx)
	if in.State == nil {
		g.adopt(ctx)
	}
	g.unpack(ctx)
	for !g.state.Ending {
		// From the last receive to what publish writes nothing yields, so the
		// memo tells exactly which signals are part of it.
		g.plan(ctx)
		g.work(ctx)
		g.publish(ctx)
		g.report(ctx)
		if g.full(ctx) && g.quiet() {
			return g.continueAsNew(ctx)
		}
		if err := g.wait(ctx); err != nil {
			return err
		}
	}
	return g.end(ctx)
}

// group is the running entity: its state and what must not survive a restart.
type group struct {
	desk
	in    GroupInput
	state GroupState
	// scales is false in runs that began before scaling existed.
	scales bool
	// dirty says that something changed since the loop last looked.
	dirty bool
	// reported is what the lifecycle workflow knows, by member.
	reported   map[string]MemberStatus
	sendFull   bool
	reportedAt time.Time
	reportSoon bool // a timer for the next report runs

	// channels are those of all signals.
	channels []workflow.ReceiveChannel

	running  int // member coroutines
	watching bool
	// stopWatch ends the running watch so that a new one sees new members.
	stopWatch workflow.CancelFunc
	// stopWork cancels waits of member coroutines; creates finish.
	workCtx  workflow.Context
	stopWork workflow.CancelFunc
	shards   map[int]workflow.Mutex
	// free bounds the create calls under way, deletes those that delete.
	free, deletes workflow.Semaphore
	// busy are members that a coroutine works on.
	busy map[string]bool
	// restCtx is cancelled when the run is to end: what waits under it is taken
	// up by the next run.
	restCtx workflow.Context
	rest    workflow.CancelFunc

	alarmAt   time.Time
	stopAlarm workflow.CancelFunc
	// published is the memo as it was last written.
	published   GroupMemo
	facts       GroupFacts
	publishedAt time.Time
	// heard says that a request was applied since then.
	heard, publishSoon bool
	inspecting         bool
	// sharesLooks is false in runs that began before changeLooks.
	sharesLooks bool
	// refused, failedToLearn and blind count failures in a row of what is tried
	// for ever.
	refused, failedToLearn, blind int
	// idle counts watches in a row that saw no change, and unseen says that the
	// last one could not look at nodes.
	idle     int
	unseen   bool
	learning bool
	// fresh says that the group begins, as opposed to goes on; ready, that it is
	// known what there is, so that requests can be applied.
	fresh, ready bool
	// outgoing members had left the target when the run began.
	outgoing int
}

// createsAtOnce and deletesAtOnce bound the calls of one group; the account's
// own limit is in the provider.
const (
	createsAtOnce = 20
	deletesAtOnce = 20
)

func newGroup(ctx workflow.Context, in GroupInput) *group {
	g := &group{
		desk: desk{site: in.Site, parks: true}, in: in, dirty: true, sendFull: true,
		reported: map[string]MemberStatus{}, shards: map[int]workflow.Mutex{},
		free: workflow.NewSemaphore(ctx, createsAtOnce), deletes: workflow.NewSemaphore(ctx, deletesAtOnce),
		busy: map[string]bool{}, fresh: in.State == nil,
	}
	g.listen = g.receive
	g.show = func(ctx workflow.Context) {
		g.dirty, g.sendFull = true, true
		g.report(ctx) // the root may be waiting for the very call that parked
	}
	if in.State != nil {
		g.state = *in.State
		for _, m := range g.state.Members {
			if m.leaving() {
				g.outgoing++
			}
		}
	} else {
		info := workflow.GetInfo(ctx)
		g.state = GroupState{Target: in.Target, Seed: info.OriginalRunID}
	}
	g.in.State = nil
	g.workCtx, g.stopWork = workflow.WithCancel(ctx)
	g.restCtx, g.rest = workflow.WithCancel(g.workCtx)
	return g
}

// plan makes the members what they should be: it adds those that are missing and
// fails those whose time is over.
func (g *group) plan(ctx workflow.Context) {
	if g.scales {
		g.first(ctx)
		g.expire(ctx)
		g.spare(ctx)
		g.limit()
		g.repair(ctx)
		g.state.Target = g.size()
	} else {
		for slot := range g.state.Target {
			if !slices.ContainsFunc(g.state.Members, func(m *Member) bool { return m.Slot == slot }) {
				g.add(ctx, &Member{Slot: slot})
			}
		}
	}
	slices.SortStableFunc(g.state.Members, func(a, b *Member) int { return a.Slot - b.Slot })
}

// add appends a wanted member; ids are not reused.
func (g *group) add(ctx workflow.Context, m *Member) *Member {
	id := g.nextID()
	m.MemberStatus = MemberStatus{
		ID: id, Name: cluster.MachineName(g.in.Cluster.Name, g.in.Group, id), Group: g.in.Group,
		Role: g.in.Role, Phase: MemberWanted, Since: workflow.Now(ctx),
	}
	g.state.Members = append(g.state.Members, m)
	return m
}

// nextID chooses a machine id: five characters that follow from the cluster, the
// group, this incarnation of the group and a counter.
func (g *group) nextID() string {
	for {
		sum := sha256.Sum256([]byte(fmt.Sprintf("%s/%s/%s/%d", g.in.Cluster.UID, g.in.Group, g.state.Seed, g.state.Made)))
		g.state.Made++
		id := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:5]
		if !slices.ContainsFunc(g.state.Members, func(m *Member) bool { return m.ID == id }) {
			return id
		}
	}
}

func (g *group) member(id string) *Member {
	for _, m := range g.state.Members {
		if m.ID == id {
			return m
		}
	}
	return nil
}

func (g *group) set(ctx workflow.Context, id string, phase MemberPhase, note string) {
	m := g.member(id)
	if m == nil {
		return
	}
	if m.Phase != phase {
		m.Phase, m.Since = phase, workflow.Now(ctx)
		g.state.Generation++
	}
	m.Note = note
	g.dirty = true
}

// fails records why a member cannot go on. Before the group has settled its
// first failure is told to whoever waits for the group; afterwards the place is
// replaced or waits for whoever wanted it.
func (g *group) fails(ctx workflow.Context, id string, err error) {
	m := g.member(id)
	if temporal.IsCanceledError(err) || m == nil {
		return
	}
	if g.managed(m) {
		if !m.leaving() {
			g.lose(ctx, m, &Failure{Kind: kindOf(err), Message: messageOf(err)})
		}
		return
	}
	g.set(ctx, id, MemberFailed, messageOf(err))
	if g.state.Failure == nil {
		g.state.Failure = &Failure{Kind: kindOf(err), Message: m.Name + ": " + messageOf(err)}
	}
}

// runAge bounds the age of a run, so that no run keeps code of long ago alive.
const runAge = 24 * time.Hour

// eventsPerOutgoing is what a run may need on top of its limit for each member
// that it sees out: cordon, drain, machine and Node object are three events each.
// What is cut off before its end begins again in the next run, so with a short
// limit and many such members no run would ever get anything done. Creates need
// nothing of that kind: those that were sent are waited for.
const eventsPerOutgoing = 16

// full reports whether a new run is due: history is long, or the run is old, or
// it received what only a newer one can obey.
func (g *group) full(ctx workflow.Context) bool {
	info := workflow.GetInfo(ctx)
	if info.GetContinueAsNewSuggested() || len(g.state.Inbox) > 0 {
		return true
	}
	if !g.scales {
		return false
	}
	limit := g.timing().HistoryLimit
	return limit > 0 && info.GetCurrentHistoryLength() >= limit+g.outgoing*eventsPerOutgoing || workflow.Now(ctx).Sub(info.WorkflowStartTime) > runAge
}

// quiet reports whether nothing is under way that a new run could not take up.
func (g *group) quiet() bool {
	return g.running == 0 && !g.watching && !g.inspecting && !g.learning
}

// continueAsNew ends the run. Nothing yields from here on, so no signal is lost.
func (g *group) continueAsNew(ctx workflow.Context) error {
	g.receive(ctx)
	if g.scales {
		g.write(ctx)
	}
	in := g.in
	in.State = &g.state
	return workflow.NewContinueAsNewError(ctx, ScaleNodeGroup, in)
}

func (g *group) announce(ctx workflow.Context) {
	_ = workflow.UpsertTypedSearchAttributes(ctx,
		AttrCluster.ValueSet(g.in.Cluster.Name), AttrCloud.ValueSet(g.in.Cloud.Provider), AttrKind.ValueSet("group"))
}

func (g *group) owner() cloud.Owner { return cloud.Owner{Cluster: g.in.Cluster, Group: g.in.Group} }
