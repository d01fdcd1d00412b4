package workflows

import (
	"fmt"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Signals by which a node group is scaled. Each is also an update of the same
// name for callers that want the answer; both take one ScaleRequest, and a
// request id counts once, whichever way and however often it arrives.
const (
	// SignalIncreaseSize adds Delta machines to the target. It is never refused
	// once sent: what exceeds the group's max keeps its place in the target but
	// is not created.
	SignalIncreaseSize = "increase-size"
	// SignalDeleteNodes removes the named Nodes from the target and deletes
	// them.
	SignalDeleteNodes = "delete-nodes"
	// SignalDecreaseTargetSize gives up to Delta machines up that do not exist
	// yet; it never touches one that exists.
	SignalDecreaseTargetSize = "decrease-target-size"
	// SignalSetTarget makes the target Target, within min and max; machines
	// beyond it are drained and deleted.
	SignalSetTarget = "set-target"
	// SignalPause stops creating and deleting until SignalResume; what is under
	// way is finished.
	SignalPause = "pause"
	// SignalCancelRequest makes sure that the request named by Cancel has no
	// effect from now on, whether or not it has arrived. The provider sends it
	// when it has answered a request with an error without knowing its fate.
	SignalCancelRequest = "cancel-request"
)

// Origin says on whose behalf a request is made.
type Origin string

// Origins of requests.
const (
	// OriginAutoscaler has drained nodes before it deletes them, and deletes
	// what could not be made.
	OriginAutoscaler Origin = "autoscaler"
	// OriginPerson is the default: nodes are drained, what failed is tried
	// again.
	OriginPerson Origin = "person"
)

// ScaleRequest is the one message of all scaling signals and updates.
type ScaleRequest struct {
	// RequestID is unique per request and the same in every repetition. A
	// signal without one counts each time it is sent.
	RequestID string `json:"requestID,omitempty"`
	// Cluster may be empty; a request for another uid is refused.
	Cluster cluster.Ref `json:"cluster,omitzero"`
	Origin  Origin      `json:"origin,omitempty"`
	// Delta is positive: machines to add, or to give up.
	Delta int `json:"delta,omitempty"`
	// Target is the wanted number of machines of set-target.
	Target *int `json:"target,omitempty"`
	// Nodes are names of nodes, provider IDs, machine ids or placeholder
	// instance ids.
	Nodes []string `json:"nodes,omitempty"`
	// Force deletes without draining.
	Force bool `json:"force,omitempty"`
	// Cancel is the id of the request to cancel.
	Cancel string `json:"cancel,omitempty"`
	// Reason is shown to people.
	Reason string `json:"reason,omitempty"`
	// At is when the request was accepted, if that was before it was sent; the
	// time that its machines have counts from then.
	At time.Time `json:"at,omitzero"`
	// SeenTarget and SeenGeneration are what the sender knew; for the log only.
	SeenTarget     int   `json:"seenTarget,omitempty"`
	SeenGeneration int64 `json:"seenGeneration,omitempty"`
}

// ScaleResult answers one request; it is kept with the request's id.
type ScaleResult struct {
	RequestID string `json:"requestID"`
	// Op is the signal's name.
	Op       string `json:"op"`
	Accepted bool   `json:"accepted"`
	// Kind of the refusal; empty when accepted.
	Kind fault.Kind `json:"kind,omitempty"`
	// Message says what happened, for people.
	Message string `json:"message"`
	// Target and Generation are the group's after the request.
	Target     int       `json:"target"`
	Generation int64     `json:"generation"`
	At         time.Time `json:"at"`
}

// GroupMember is a member with what scaling knows of it.
type GroupMember struct {
	MemberStatus
	// Instance is the id that the autoscaler sees until the provider ID is
	// known; it is accepted ever after.
	Instance string `json:"instance,omitempty"`
	// Aliases are further ids under which the place of this member was known:
	// provider IDs of machines that it replaces.
	Aliases []string `json:"aliases,omitempty"`
	// Failure says why there is no machine; the place stays in the target until
	// somebody gives it up.
	Failure *Failure `json:"failure,omitempty"`
	// Replaces counts the machines that failed in this place before.
	Replaces int    `json:"replaces,omitempty"`
	Origin   Origin `json:"origin,omitempty"`
	// Accepted is when the place was asked for.
	Accepted time.Time `json:"accepted,omitzero"`
	// For is the member whose place a surge machine takes; ReplaceFailed says why
	// the last attempt to replace this one came to nothing.
	For           string `json:"for,omitempty"`
	ReplaceFailed string `json:"replaceFailed,omitempty"`
	// Lease says who works on the member: until then it is neither deleted nor
	// replaced.
	Lease *Lease `json:"lease,omitempty"`
}

// Counted reports whether a member is part of the target: everything that is
// not on its way out, also what failed, but for a machine that is to take the
// place of another.
func (m GroupMember) Counted() bool { return !m.Leaving() && !m.Surge }

// Leaving reports whether a member is on its way out.
func (m GroupMember) Leaving() bool {
	return m.Phase == MemberDraining || m.Phase == MemberDeleting || m.Phase == MemberGone
}

// GoneInstance is a machine that the group deleted lately, so that a repeated
// request for it is success and not an unknown node.
type GoneInstance struct {
	ID         string   `json:"id"` // machine id
	Name       string   `json:"name"`
	Instance   string   `json:"instance,omitempty"`
	ProviderID string   `json:"providerID,omitempty"`
	Aliases    []string `json:"aliases,omitempty"`
}

// PauseStatus says who paused a group and why.
type PauseStatus struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// BackoffStatus says until when the group creates nothing by itself after
// machines failed, and how often in a row they did.
type BackoffStatus struct {
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Failures int       `json:"failures"`
}

// GroupFacts are what rarely changes about a group: what the autoscaler has to
// know of it. They are one memo field of the entity (MemoFacts).
type GroupFacts struct {
	Cluster cluster.Ref   `json:"cluster"`
	Group   string        `json:"group"`
	Role    cluster.Role  `json:"role"`
	Cloud   cluster.Cloud `json:"cloud"`
	Zone    string        `json:"zone"`
	Flavor  string        `json:"flavor"`
	Min     int           `json:"min"`
	Max     int           `json:"max"`
	// Template is nil until the flavor is known.
	Template *cluster.NodeTemplate `json:"template,omitempty"`
	// Autoscaling is nil when the autoscaler's own defaults hold.
	Autoscaling *cluster.Autoscaling `json:"autoscaling,omitempty"`
	// Standalone says that the cluster was built by other means.
	Standalone bool `json:"standalone,omitempty"`
	// Provision is how long a machine may take from its acceptance to its ready
	// node. Past that, one that nobody works on counts as failed for readers.
	Provision time.Duration `json:"provision"`
}

// GroupStatus answers QueryGroup.
type GroupStatus struct {
	GroupFacts
	Target int `json:"target"`
	// Generation grows with every change that the autoscaler can see.
	Generation int64          `json:"generation"`
	Members    []GroupMember  `json:"members"` // sorted by id
	Gone       []GoneInstance `json:"gone,omitempty"`
	Failure    *Failure       `json:"failure,omitempty"`
	Parked     string         `json:"parked,omitempty"`
	Paused     *PauseStatus   `json:"paused,omitempty"`
	Backoff    *BackoffStatus `json:"backoff,omitempty"`
	// Unknown are machines with the group's tags that it did not make; nothing
	// is done to them.
	Unknown []string `json:"unknown,omitempty"`
	// Requests are the results of the last requests, newest last.
	Requests []ScaleResult `json:"requests,omitempty"`
	// Inbox are requests that are acknowledged and wait until the group knows its
	// machines; Target and Members do not contain them yet.
	Inbox  []QueuedRequest `json:"inbox,omitempty"`
	Ending bool            `json:"ending,omitempty"`
}

// Memo fields of a group's entity, readable without a worker by
// DescribeWorkflowExecution.
const (
	// MemoFacts holds GroupFacts.
	MemoFacts = "ichorGroup"
	// MemoState holds GroupMemo.
	MemoState = "ichorState"
)

// GroupMemo is the group's state in small. Signals in the history of run RunID
// after event EventID are acknowledged but not part of it; when the current run
// is another one, all its signals are.
type GroupMemo struct {
	RunID      string `json:"runID"`
	EventID    int64  `json:"eventID"`
	Target     int    `json:"target"`
	Generation int64  `json:"generation"`
	Ready      int    `json:"ready"`
	// Wanted are counted members without a machine yet and without a failure,
	// in ranges of placeholder instance ids.
	Wanted []InstanceRange `json:"wanted,omitempty"`
	// Others are members that have a machine but are not ready, that failed, or
	// that are on their way out: at most MemoInstances, More counts the rest.
	Others []MemoInstance `json:"others,omitempty"`
	More   int            `json:"more,omitempty"`
	Paused bool           `json:"paused,omitempty"`
	Ending bool           `json:"ending,omitempty"`
}

// MemoInstances bounds GroupMemo.Others: at some 150 bytes each the memo stays
// far below the server's limit, though above its warning.
const MemoInstances = 64

// InstanceRange stands for the placeholder ids Prefix+"-"+From … Prefix+"-"+To.
type InstanceRange struct {
	Prefix string    `json:"prefix"`
	From   int       `json:"from"`
	To     int       `json:"to"`
	Since  time.Time `json:"since"` // of their acceptance
}

// MemoInstance is a member in small.
type MemoInstance struct {
	ID         string      `json:"id"`
	Instance   string      `json:"instance"`
	ProviderID string      `json:"providerID,omitempty"`
	Phase      MemberPhase `json:"phase"`
	Since      time.Time   `json:"since"` // of its acceptance
	Kind       fault.Kind  `json:"kind,omitempty"`
	Message    string      `json:"message,omitempty"`
}

// PlaceholderInstance is the id of the n-th machine, counted from 0, of the
// request or of whatever else is named by cause.
func PlaceholderInstance(cluster, group, cause string, n int) string {
	return fmt.Sprintf("%s-%d", PlaceholderPrefix(cluster, group, cause), n)
}

// PlaceholderPrefix is what the placeholder ids of one cause have in common.
func PlaceholderPrefix(cluster, group, cause string) string {
	return "ichor://" + cluster + "/" + group + "/" + cause
}
