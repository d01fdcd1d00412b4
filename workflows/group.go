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

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// GroupInput is a node group with everything resolved, so that the entity never
// depends on what changes around it.
type GroupInput struct {
	Cluster cluster.Ref   `json:"cluster"`
	Group   string        `json:"group"`
	Role    cluster.Role  `json:"role"`
	Cloud   cluster.Cloud `json:"cloud"`
	Zone    string        `json:"zone"`
	Flavor  string        `json:"flavor"`
	DiskGiB int           `json:"diskGiB"`
	ImageID string        `json:"imageID"`
	// Subnets and Networks are the cloud's ids.
	Subnets  []string      `json:"subnets,omitempty"`
	Networks []string      `json:"networks,omitempty"`
	Tags     []cluster.Tag `json:"tags,omitempty"`
	// Spread keeps members on different hosts, in shards of the cloud's limit.
	Spread bool `json:"spread"`
	Target int  `json:"target"`
	// Min and Max bound the target; Max 0 is a group that does not scale.
	Min int `json:"min,omitempty"`
	Max int `json:"max,omitempty"`
	// Alternatives are tried for machines that there is no capacity for.
	Alternatives []cluster.Alternative `json:"alternatives,omitempty"`
	Autoscaling  *cluster.Autoscaling  `json:"autoscaling,omitempty"`
	// Standalone is set for groups of clusters that were built by other means.
	Standalone *Standalone `json:"standalone,omitempty"`
	// Site may be empty in a standalone group, which then asks for it itself.
	Site Site `json:"site"`
	// Resumed says that an earlier incarnation may have left creates under way.
	Resumed bool `json:"resumed,omitempty"`
	// State is carried through continue-as-new only.
	State *GroupState `json:"state,omitempty"`
}

// Standalone is what a group needs instead of a cluster's record.
type Standalone struct {
	// Kube says how nodes are seen; with Kube.None a machine that runs counts as
	// ready, nothing is replaced and no Node object is deleted.
	Kube activities.KubeTarget `json:"kube"`
	// UserData is what machines boot with.
	UserData *activities.UserData `json:"userData,omitempty"`
	// AdoptTag is the tag of machines that exist already and become members when
	// the group starts for the first time.
	AdoptTag *cluster.Tag `json:"adoptTag,omitempty"`
	// AdoptAlso are further tags that such machines carry: two clusters of one
	// account may use the same tag for groups of the same name.
	AdoptAlso []cluster.Tag `json:"adoptAlso,omitempty"`

	Labels []cluster.Tag   `json:"labels,omitempty"`
	Taints []cluster.Taint `json:"taints,omitempty"`
}

// GroupState is all that a group remembers.
type GroupState struct {
	Target  int       `json:"target"`
	Members []*Member `json:"members,omitempty"` // sorted by slot
	// Made counts machine ids chosen so far; ids are never chosen twice.
	Made int `json:"made"`
	// Seed makes this group's machine ids differ from any other incarnation's.
	Seed    string   `json:"seed"`
	Shards  []*Shard `json:"shards,omitempty"` // sorted by index
	Failure *Failure `json:"failure,omitempty"`
	// Ending is set for good by an end request.
	Ending bool   `json:"ending,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Shard is one placement group.
type Shard struct {
	Index    int           `json:"index"`
	ID       string        `json:"id,omitempty"` // the cloud's id once it exists
	Evidence plan.Evidence `json:"evidence"`
}

// Member is one machine that the group owns.
type Member struct {
	MemberStatus
	Slot     int           `json:"slot"`
	Evidence plan.Evidence `json:"evidence"`
	// Helped says that a late node was looked at through its machine API.
	Helped bool `json:"helped,omitempty"`
	// ConfigSHA256 is the digest of the user data it was created with.
	ConfigSHA256 string `json:"configSHA256,omitempty"`
}

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
	if err := g.handlers(ctx); err != nil {
		return err
	}
	g.announce(ctx)
	if in.State == nil {
		g.adopt(ctx)
	}
	for !g.state.Ending {
		g.plan(ctx)
		g.work(ctx)
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
	// dirty says that something changed since the loop last looked.
	dirty bool
	// reported is what the lifecycle workflow knows, by member.
	reported   map[string]MemberStatus
	sendFull   bool
	reportedAt time.Time
	reportSoon bool // a timer for the next report runs

	running  int // member coroutines
	watching bool
	// stopWatch ends the running watch so that a new one sees new members.
	stopWatch workflow.CancelFunc
	// stopWork cancels waits of member coroutines; creates finish.
	workCtx  workflow.Context
	stopWork workflow.CancelFunc
	shards   map[int]workflow.Mutex
	// free bounds the create calls under way.
	free workflow.Semaphore
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
		free: workflow.NewSemaphore(ctx, createsAtOnce),
	}
	g.listen = g.receive
	g.show = func(ctx workflow.Context) {
		g.dirty, g.sendFull = true, true
		g.report(ctx) // the root may be waiting for the very call that parked
	}
	if in.State != nil {
		g.state = *in.State
	} else {
		info := workflow.GetInfo(ctx)
		g.state = GroupState{Target: in.Target, Seed: info.OriginalRunID}
	}
	g.in.State = nil
	g.workCtx, g.stopWork = workflow.WithCancel(ctx)
	return g
}

// handlers registers everything by which the group is told and asked. All
// signals are applied by one root loop that never yields between the last
// receive and the decision to continue as new: a receiver of its own would lose
// some.
func (g *group) handlers(ctx workflow.Context) error {
	return workflow.SetQueryHandler(ctx, QueryGroup, func() (GroupStatus, error) {
		s := GroupStatus{
			GroupFacts: GroupFacts{Cluster: g.in.Cluster, Group: g.in.Group}, Target: g.state.Target,
			Failure: g.state.Failure, Parked: g.parked, Ending: g.state.Ending,
		}
		for _, m := range g.state.Members {
			s.Members = append(s.Members, GroupMember{MemberStatus: m.MemberStatus})
		}
		return s, nil
	})
}

// receive applies every signal that has arrived.
func (g *group) receive(ctx workflow.Context) {
	end := workflow.GetSignalChannel(ctx, SignalEnd)
	for {
		var req EndGroup
		if !end.ReceiveAsync(&req) {
			break
		}
		if g.foreign(req.Cluster) {
			continue
		}
		g.state.Ending, g.state.Reason, g.dirty = true, req.Reason, true
	}
	for _, name := range []string{SignalAsk, SignalAttach} {
		for ch := workflow.GetSignalChannel(ctx, name); ; {
			var m GroupMessage
			if !ch.ReceiveAsync(&m) {
				break
			}
			if g.foreign(m.Cluster) {
				continue
			}
			if name == SignalAttach {
				g.tryAgain(ctx)
			}
			g.sendFull, g.dirty = true, true
		}
	}
	resume := workflow.GetSignalChannel(ctx, SignalResume)
	for resume.ReceiveAsync(nil) {
		g.resumed++
	}
}

// foreign reports whether a message is meant for another cluster of the same
// name, and has it answered.
func (g *group) foreign(ref cluster.Ref) bool {
	if ref.UID == "" || ref.UID == g.in.Cluster.UID {
		return false
	}
	g.sendFull, g.dirty = true, true
	return true
}

func (g *group) pending(ctx workflow.Context) bool {
	for _, name := range []string{SignalEnd, SignalAsk, SignalAttach, SignalResume} {
		if workflow.GetSignalChannel(ctx, name).Len() > 0 {
			return true
		}
	}
	return false
}

// wait sleeps until there is something to do and applies what arrived.
func (g *group) wait(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return g.dirty || g.pending(ctx) }); err != nil {
		return err
	}
	g.dirty = false
	g.receive(ctx)
	return nil
}

// plan gives every missing slot a new member. Slots are reused from the lowest,
// so that shards stay full; ids are not reused.
func (g *group) plan(ctx workflow.Context) {
	for slot := range g.state.Target {
		if slices.ContainsFunc(g.state.Members, func(m *Member) bool { return m.Slot == slot }) {
			continue
		}
		id := g.nextID()
		g.state.Members = append(g.state.Members, &Member{Slot: slot, MemberStatus: MemberStatus{
			ID: id, Name: cluster.MachineName(g.in.Cluster.Name, g.in.Group, id), Group: g.in.Group,
			Role: g.in.Role, Phase: MemberWanted, Since: workflow.Now(ctx),
		}})
	}
	slices.SortStableFunc(g.state.Members, func(a, b *Member) int { return a.Slot - b.Slot })
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
	}
	m.Note = note
	g.dirty = true
}

// fails records why a member cannot go on; the group's first failure is told to
// whoever waits for the group.
func (g *group) fails(ctx workflow.Context, id string, err error) {
	if temporal.IsCanceledError(err) {
		return
	}
	g.set(ctx, id, MemberFailed, messageOf(err))
	if g.state.Failure == nil {
		g.state.Failure = &Failure{Kind: kindOf(err), Message: g.member(id).Name + ": " + messageOf(err)}
	}
}

// adopt takes in the machines that carry the group's tags already: an earlier
// incarnation made them, which was terminated or whose history was lost. Until
// the cloud has told what there is, nothing is created.
func (g *group) adopt(ctx workflow.Context) {
	if g.in.Resumed {
		// What was sent last may still appear.
		c := g.site.Capabilities
		_, _ = workflow.AwaitWithTimeout(ctx, c.Settle+c.AbsenceWindow, func() bool { return g.state.Ending || g.pending(ctx) && g.endComes(ctx) })
	}
	for !g.state.Ending {
		list, err := call(ctx, &g.desk, g.short("look for machines of "+g.in.Group), aCloud.ListMachines,
			activities.ListMachinesInput{Cloud: g.in.Cloud, Owner: g.owner()})
		if err == nil {
			g.state.Failure = nil
			g.takeIn(ctx, list)
			return
		}
		g.state.Failure = failureOf(err)
		g.report(ctx)
		_, _ = workflow.AwaitWithTimeout(ctx, 5*g.timing().Backoff, func() bool { return g.pending(ctx) }) // either way: look again
		g.receive(ctx)
	}
}

func (g *group) endComes(ctx workflow.Context) bool {
	g.receive(ctx)
	return g.state.Ending
}

// takeIn makes members of machines. Of several with one id the oldest counts, as
// it does for the cloud's own repair.
func (g *group) takeIn(ctx workflow.Context, list []cloud.Machine) {
	slices.SortStableFunc(list, func(a, b cloud.Machine) int { return a.CreatedAt.Compare(b.CreatedAt) })
	for _, m := range list {
		if g.member(m.Ref.ID) != nil {
			continue
		}
		g.state.Members = append(g.state.Members, &Member{Slot: len(g.state.Members), MemberStatus: MemberStatus{
			ID: m.Ref.ID, Name: m.Name, Group: g.in.Group, Role: g.in.Role, Phase: MemberBooting, Since: workflow.Now(ctx),
			CloudID: m.Ref.Cloud, CloudState: m.State, Address: m.Public, Private: m.Private, ProviderID: m.ProviderID,
		}})
	}
}

// tryAgain gives members that failed another chance: those that exist are watched
// again, the others created.
func (g *group) tryAgain(ctx workflow.Context) {
	g.state.Failure = nil
	for _, m := range g.state.Members {
		switch {
		case m.Phase != MemberFailed:
		case m.CloudID == "":
			g.set(ctx, m.ID, MemberWanted, "")
		default:
			g.set(ctx, m.ID, MemberBooting, "")
		}
	}
}

// full reports whether history is long enough for a new run.
func (g *group) full(ctx workflow.Context) bool {
	return workflow.GetInfo(ctx).GetContinueAsNewSuggested()
}

// quiet reports whether nothing is under way that a new run could not take up.
func (g *group) quiet() bool { return g.running == 0 && !g.watching }

func (g *group) continueAsNew(ctx workflow.Context) error {
	g.receive(ctx)
	in := g.in
	in.State = &g.state
	return workflow.NewContinueAsNewError(ctx, ScaleNodeGroup, in)
}

func (g *group) announce(ctx workflow.Context) {
	_ = workflow.UpsertTypedSearchAttributes(ctx,
		AttrCluster.ValueSet(g.in.Cluster.Name), AttrCloud.ValueSet(g.in.Cloud.Provider), AttrKind.ValueSet("group"))
}

func (g *group) owner() cloud.Owner { return cloud.Owner{Cluster: g.in.Cluster, Group: g.in.Group} }
