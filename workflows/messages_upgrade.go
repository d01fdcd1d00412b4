package workflows

import (
	"time"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// Names of what upgrades clusters.
const (
	TypeRollingUpgrade = "RollingUpgrade"
	TypeUpgradeNode    = "UpgradeNode"

	// QueryUpgrade answers with UpgradeStatus.
	QueryUpgrade = "upgrade"

	// SignalApprove and SignalSkipNode steer a roll, beside SignalPause and
	// SignalResume. Each is also an update of the same name, which says what came
	// of it; both take an UpgradeRequest.
	SignalApprove  = "approve"
	SignalSkipNode = "skip-node"
	// SignalNode carries NodeReport from the workflow of one node to the roll.
	SignalNode = "node-report"

	// UpdateLease takes or returns a member's lease (activities.LeaseInput).
	UpdateLease = "lease"
	// SignalConfigure changes what new members of a group are made of
	// (ConfigureRequest). It is an update, too.
	SignalConfigure = "configure"
)

// UpgradeInput names a cluster and what shall change. Decoding never fails, so
// that bad input becomes one clear error.
type UpgradeInput struct {
	Cluster string `json:"cluster"`
	activities.UpgradeChange
	Strategy plan.UpgradeStrategy `json:"strategy,omitzero"`
	// PlanOnly ends after the pre-flight, with the plan as the result.
	PlanOnly bool `json:"planOnly,omitempty"`
	// State is carried through continue-as-new only.
	State *UpgradeState `json:"state,omitempty"`

	problem string
}

// UnmarshalJSON decodes strictly and remembers the problem.
func (in *UpgradeInput) UnmarshalJSON(b []byte) error {
	type plain UpgradeInput
	var p plain
	p.problem = strictly(b, &p)
	*in = UpgradeInput(p)
	return nil
}

// UpgradeState is what a roll carries through continue-as-new; everything else
// is looked at again.
type UpgradeState struct {
	Paused bool `json:"paused,omitempty"`
	// Begun says that something was changed.
	Begun bool `json:"begun,omitempty"`
	// Skipped are machines that a person left out, Approved the legs that a
	// person approved.
	Skipped  []string `json:"skipped,omitempty"`
	Approved []string `json:"approved,omitempty"`
	// Upgraded are the machines that were worked on, in order, Rounds counts the
	// passes over the cluster.
	Upgraded []string `json:"upgraded,omitempty"`
	// Replaced are the names of machines that took the places of such.
	Replaced []string `json:"replaced,omitempty"`
	Rounds   int      `json:"rounds,omitempty"`
	// Snapshots were taken before control planes were touched.
	Snapshots []activities.SnapshotResult `json:"snapshots,omitempty"`
	Notes     []string                    `json:"notes,omitempty"`
	// From is what the cluster ran when the upgrade began.
	From plan.Versions `json:"from,omitzero"`
}

// UpgradeResult is the report of a roll.
type UpgradeResult struct {
	Cluster cluster.Ref      `json:"cluster"`
	Plan    plan.UpgradePlan `json:"plan"`
	// From and To are what the cluster ran before and runs now.
	From     plan.Versions `json:"from"`
	To       plan.Versions `json:"to"`
	Upgraded int           `json:"upgraded"`
	// Skipped are the names of nodes that were left out.
	Skipped []string `json:"skipped,omitempty"`
	// Nodes are what was seen last of each.
	Nodes []plan.UpgradeNode `json:"nodes,omitempty"`
	// Warnings are the pre-flight's.
	Warnings []plan.Refusal `json:"warnings,omitempty"`
	// Manifests is what the manifests of the upgrade would have changed when it
	// began; nothing when that could not be told.
	Manifests *activities.DiffUpgradeManifestsResult `json:"manifests,omitempty"`
	// Bootstrap is what was done to the objects that Talos renders.
	Bootstrap activities.SyncBootstrapResult `json:"bootstrap,omitzero"`
	Message   string                         `json:"message"`
}

// UpgradeRequest is the message of pause, resume, approve and skip-node.
type UpgradeRequest struct {
	RequestID string `json:"requestID,omitempty"`
	// Node is the name or the machine id of a node; for approve it may be empty,
	// which approves what is asked now.
	Node   string `json:"node,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// UpgradeAnswer says what came of a request.
type UpgradeAnswer struct {
	Message string `json:"message"`
}

// UpgradeStatus answers QueryUpgrade.
type UpgradeStatus struct {
	Cluster cluster.Ref      `json:"cluster"`
	Phase   string           `json:"phase"`
	Plan    plan.UpgradePlan `json:"plan"`
	// Leg counts from 1; 0 before the first.
	Leg int `json:"leg,omitempty"`
	// Work is what is done to the nodes now.
	Work     NodeWork       `json:"work,omitempty"`
	Nodes    []NodeRoll     `json:"nodes,omitempty"` // of the leg under way, in order
	Waits    string         `json:"waits,omitempty"` // for what nothing is begun now
	Until    time.Time      `json:"until,omitzero"`
	Parked   string         `json:"parked,omitempty"`
	Paused   bool           `json:"paused,omitempty"`
	Asks     string         `json:"asks,omitempty"` // what approve would approve
	Warnings []plan.Refusal `json:"warnings,omitempty"`
	// Manifests and Bootstrap as in UpgradeResult.
	Manifests *activities.DiffUpgradeManifestsResult `json:"manifests,omitempty"`
	Bootstrap activities.SyncBootstrapResult         `json:"bootstrap,omitzero"`
	State     UpgradeState                           `json:"state"`
}

// NodeRoll is one node in a roll.
type NodeRoll struct {
	plan.RollItem
	Began time.Time `json:"began,omitzero"`
	// Workflow works on it.
	Workflow string `json:"workflow,omitempty"`
	// Note is the last word about it: what parks it, or why it failed.
	Note   string `json:"note,omitempty"`
	Parked bool   `json:"parked,omitempty"`
}

// NodeReport tells the roll that a node parks or goes on.
type NodeReport struct {
	Machine string `json:"machine"`
	Parked  bool   `json:"parked,omitempty"`
	Note    string `json:"note,omitempty"`
}

// NodeUpgradeInput is the work on one node.
type NodeUpgradeInput struct {
	Ref    cluster.Ref              `json:"ref"`
	Target activities.UpgradeTarget `json:"target"`
	Work   NodeWork                 `json:"work"`
	// Leg is what the node shall become.
	Leg activities.FreezeLegResult `json:"leg"`
	// Seen is the node when the work was planned.
	Seen plan.UpgradeNode `json:"seen"`
	// ControlPlanes are all of them, for the gates.
	ControlPlanes []activities.UpgradeTarget `json:"controlPlanes"`
	Strategy      plan.UpgradeStrategy       `json:"strategy"`
	// Components are versions that differ from the leg's for now.
	Components activities.Components `json:"components,omitzero"`
	Site       Site                  `json:"site"`
	// Roll is the workflow id that hears of it.
	Roll string `json:"roll"`
}

// NodeWork is what is done to a node.
type NodeWork string

// Kinds of work on a node.
const (
	WorkTalos             NodeWork = "talos"
	WorkAPIServer         NodeWork = "kube-apiserver"
	WorkControllerManager NodeWork = "kube-controller-manager"
	WorkScheduler         NodeWork = "kube-scheduler"
	WorkKubelet           NodeWork = "kubelet"
	WorkConfig            NodeWork = "config"
	// WorkReplace puts a new machine in the node's place instead.
	WorkReplace NodeWork = "replace"
)

// NodeUpgradeResult is how the work on a node ended; a failure is no error of
// the workflow, so that its report survives.
type NodeUpgradeResult struct {
	Done bool `json:"done"`
	// Cancelled says that it was left on a safe point, with Note saying which.
	Cancelled bool `json:"cancelled,omitempty"`
	// Gone says that the group does not have the machine any more.
	Gone bool `json:"gone,omitempty"`
	// By is the name of the machine that took its place.
	By      string   `json:"by,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	Note    string   `json:"note,omitempty"`
}

// Lease keeps a group from deleting or replacing a member that somebody works
// on.
type Lease struct {
	Holder string    `json:"holder"` // a workflow id
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	// Until is when it ends by itself, for holders that were terminated.
	Until time.Time `json:"until"`
}

// ConfigureRequest changes what a group makes its machines of, and its bounds.
// Members that exist are not touched.
type ConfigureRequest struct {
	RequestID string `json:"requestID,omitempty"`
	// Input is the whole of the group; Target, Site, State and Resumed are not
	// looked at.
	Input GroupInput `json:"input"`
}
