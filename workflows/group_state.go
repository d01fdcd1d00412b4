package workflows

import (
	"time"

	"github.com/ichor-project/ichor/activities"
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
	// Zones are those over which members are spread evenly; empty means Zone.
	Zones []string `json:"zones,omitempty"`
	// Subnets and Networks are the cloud's ids; ZoneSubnets serve one zone each.
	Subnets     []string     `json:"subnets,omitempty"`
	ZoneSubnets []ZoneSubnet `json:"zoneSubnets,omitempty"`
	// Params are what every machine of the cluster carries, in the cloud's words.
	Params   []cluster.Tag `json:"params,omitempty"`
	Networks []string      `json:"networks,omitempty"`
	Tags     []cluster.Tag `json:"tags,omitempty"`
	// Spot rents machines that the cloud may take back.
	Spot bool `json:"spot,omitempty"`
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

// ZoneSubnet is a subnet to which only machines of its zone are attached.
type ZoneSubnet struct {
	Zone string `json:"zone"`
	ID   string `json:"id"`
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

	// Scaling. Generation grows with every change; Signals counts requests that
	// came without an id.
	Generation int64 `json:"generation,omitempty"`
	Signals    int   `json:"signals,omitempty"`
	// Requests are the results of the last requests, oldest first: whatever
	// comes again with one of their ids gets the same answer and counts no more.
	Requests []ScaleResult  `json:"requests,omitempty"`
	Gone     []GoneInstance `json:"gone,omitempty"` // oldest first
	Paused   *PauseStatus   `json:"paused,omitempty"`
	Backoff  *BackoffStatus `json:"backoff,omitempty"`
	Unknown  []string       `json:"unknown,omitempty"` // sorted
	// Settled says that all members of the beginning have been ready: from then
	// on what fails is replaced here, before that it fails the cluster.
	Settled bool `json:"settled,omitempty"`
	// Detached says that no lifecycle workflow listens.
	Detached bool                  `json:"detached,omitempty"`
	Template *cluster.NodeTemplate `json:"template,omitempty"`
	// Inspected is one Reconcile before the next comparison with the cloud is due,
	// Looked when the last one began.
	Inspected time.Time `json:"inspected,omitzero"`
	Looked    time.Time `json:"looked,omitzero"`
	// Inbox are requests that a run of older code received and could not obey.
	Inbox []QueuedRequest `json:"inbox,omitempty"`
}

// QueuedRequest is a request that waits for the next run.
type QueuedRequest struct {
	Op      string       `json:"op"`
	Request ScaleRequest `json:"request"`
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

	// Instance, Aliases, Failure, Replaces, Origin and Accepted are those of
	// GroupMember.
	Instance string    `json:"instance,omitempty"`
	Aliases  []string  `json:"aliases,omitempty"`
	Failure  *Failure  `json:"failure,omitempty"`
	Replaces int       `json:"replaces,omitempty"`
	Origin   Origin    `json:"origin,omitempty"`
	Accepted time.Time `json:"accepted,omitzero"`
	// Begun is when work on this machine, as opposed to its place, began.
	Begun time.Time `json:"begun,omitzero"`
	// Seen is when somebody last looked at the machine.
	Seen time.Time `json:"seen,omitzero"`
	// Node says that its Node object has been seen.
	Node bool `json:"node,omitempty"`
	// Adopted says that somebody else made the machine and its node has not been
	// seen ready yet: it may work all the same, so its time never runs out.
	Adopted bool `json:"adopted,omitempty"`
	// Beyond says that the place is more than the group's max.
	Beyond bool `json:"beyond,omitempty"`
	// Drain says that pods are evicted before the machine is deleted.
	Drain bool `json:"drain,omitempty"`
	// For and ReplaceFailed are those of GroupMember.
	For           string `json:"for,omitempty"`
	ReplaceFailed string `json:"replaceFailed,omitempty"`
	// Lease says who works on it; nil when nobody does.
	Lease *Lease `json:"lease,omitempty"`
	// Choice is which of the group's flavors and zones is in use: 0 is its own.
	Choice int `json:"choice,omitempty"`
	// Attempt counts the creates of which the cloud says that they were answered
	// by a machine that is gone.
	Attempt int `json:"attempt,omitempty"`
}

func (m *Member) leaving() bool { return GroupMember{MemberStatus: m.MemberStatus}.Leaving() }

func (m *Member) counted() bool { return GroupMember{MemberStatus: m.MemberStatus}.Counted() }
