package workflows

import (
	"encoding/json"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// TaskQueue is where workers of Ichor listen.
const TaskQueue = "ichor"

// Names of workflow types, signals and queries: the public contract for tools
// that start and steer workflows with plain JSON.
const (
	TypeProvisionCluster = "ProvisionCluster"
	TypeDeleteCluster    = "DeleteCluster"
	TypeScaleNodeGroup   = "ScaleNodeGroup"
	TypeHoldImage        = "HoldImage"
	TypeSweepOrphans     = "SweepOrphans"

	// SignalResume tells a parked workflow to try again.
	SignalResume = "resume"
	// SignalReport carries GroupReport from a group to the lifecycle workflow.
	SignalReport = "group-report"
	// SignalAsk asks a group for a full report (GroupMessage).
	SignalAsk = "report"
	// SignalAttach says that a new run of ProvisionCluster waits for the group
	// (GroupMessage): what failed is tried again, and a full report is sent.
	SignalAttach = "attach"
	// SignalEnd tells a group to delete all its machines and to end (EndGroup).
	SignalEnd = "end"

	// QueryProgress answers with Progress.
	QueryProgress = "progress"
	// QueryGroup answers with GroupStatus.
	QueryGroup = "group"
)

// Search attributes of every workflow of Ichor; the worker ensures that the
// namespace has them.
var (
	AttrCluster = temporal.NewSearchAttributeKeyKeyword("IchorCluster")
	AttrPhase   = temporal.NewSearchAttributeKeyKeyword("IchorPhase")
	AttrCloud   = temporal.NewSearchAttributeKeyKeyword("IchorCloud")
	AttrKind    = temporal.NewSearchAttributeKeyKeyword("IchorKind")
)

// ProvisionInput is a cluster spec without bodies, as `ichor spec publish`
// prints it. Decoding never fails, so that bad input becomes one clear error
// instead of a stuck workflow task.
type ProvisionInput struct {
	cluster.Cluster
	// problem is why strict decoding failed, without values.
	problem string
}

// UnmarshalJSON decodes as strictly as the CLI does and remembers every problem,
// by field and without values.
func (in *ProvisionInput) UnmarshalJSON(b []byte) error {
	c, _, err := cluster.Decode(b)
	if err != nil {
		in.problem = err.Error()
		_ = json.Unmarshal(b, &c) // as far as it goes: the name makes the error readable
	}
	in.Cluster = c
	return nil
}

// ProvisionResult says where the cluster is.
type ProvisionResult struct {
	Cluster  cluster.Ref `json:"cluster"`
	Endpoint string      `json:"endpoint"`
	Nodes    int         `json:"nodes"`
	// Unchanged says that the cluster existed already, with the same spec.
	Unchanged bool   `json:"unchanged,omitempty"`
	Message   string `json:"message"`
}

// DeleteInput names a cluster to delete.
type DeleteInput struct {
	Name string `json:"name"`
}

// DeleteResult says what was removed.
type DeleteResult struct {
	Cluster  cluster.Ref `json:"cluster"`
	Machines int         `json:"machines"`
	// Resources counts infrastructure resources.
	Resources int    `json:"resources"`
	Message   string `json:"message"`
}

// MemberPhase is where a machine is in its life.
type MemberPhase string

// Phases of members of a group.
const (
	MemberWanted   MemberPhase = "wanted"
	MemberCreating MemberPhase = "creating"
	MemberBooting  MemberPhase = "booting"
	MemberJoined   MemberPhase = "joined" // the Node object exists
	MemberReady    MemberPhase = "ready"
	MemberDraining MemberPhase = "draining"
	MemberDeleting MemberPhase = "deleting"
	MemberGone     MemberPhase = "gone"
	MemberFailed   MemberPhase = "failed"
)

// MemberStatus is one machine for people and for the lifecycle workflow.
type MemberStatus struct {
	ID         string             `json:"id"`
	Name       string             `json:"name"`
	Group      string             `json:"group"`
	Role       cluster.Role       `json:"role"`
	Phase      MemberPhase        `json:"phase"`
	Since      time.Time          `json:"since"`
	CloudID    string             `json:"cloudID,omitempty"`
	CloudState cloud.MachineState `json:"cloudState,omitempty"`
	Address    string             `json:"address,omitempty"`
	Private    string             `json:"private,omitempty"`
	ProviderID string             `json:"providerID,omitempty"`
	// Note is what is being waited for, or the last error.
	Note string `json:"note,omitempty"`
	// Surge says that the machine will take the place of another: until its node
	// is ready it is no part of the target, and no autoscaler is told of it.
	Surge bool `json:"surge,omitempty"`
}

// Failure is an error for people, with the kind that decides what to do.
type Failure struct {
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
}

// GroupReport tells the lifecycle workflow what changed in a group.
type GroupReport struct {
	Cluster cluster.Ref `json:"cluster"`
	Group   string      `json:"group"`
	Target  int         `json:"target"`
	// Full says that Members are all members; otherwise they are the changed
	// ones.
	Full    bool           `json:"full,omitempty"`
	Members []MemberStatus `json:"members,omitempty"`
	Failure *Failure       `json:"failure,omitempty"`
	Parked  string         `json:"parked,omitempty"`
	// Paused says that the group makes and deletes nothing, and why.
	Paused string `json:"paused,omitempty"`
	// Ended is the last word: all machines are gone and the group has ended.
	Ended bool `json:"ended,omitempty"`
	// Removed counts the machines that were deleted; only with Ended.
	Removed int `json:"removed,omitempty"`
}

// GroupMessage goes to a group of a cluster. A name may be used again while a
// group of its former owner still runs: messages of another uid are not obeyed.
type GroupMessage struct {
	Cluster cluster.Ref `json:"cluster"`
}

// EndGroup tells a group to delete everything it owns and to end.
type EndGroup struct {
	// Cluster may be left empty by a person who names the group's workflow id.
	Cluster   cluster.Ref `json:"cluster,omitzero"`
	RequestID string      `json:"requestID"`
	Reason    string      `json:"reason"`
}

// StepState is how far a step of the runbook is.
type StepState string

// States of runbook steps.
const (
	StepPending StepState = "pending"
	StepDoing   StepState = "doing"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
	StepSkipped StepState = "skipped"
)

// StepStatus is one step of a runbook.
type StepStatus struct {
	Name    string    `json:"name"`
	State   StepState `json:"state"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Detail is what the step is at.
	Detail string `json:"detail,omitempty"`
}

// Progress answers QueryProgress of the lifecycle workflows.
type Progress struct {
	Cluster  cluster.Ref    `json:"cluster"`
	Kind     string         `json:"kind"` // the workflow type
	Phase    cluster.Phase  `json:"phase"`
	Steps    []StepStatus   `json:"steps"`
	Nodes    []MemberStatus `json:"nodes,omitempty"`
	Endpoint string         `json:"endpoint,omitempty"`
	// Parked says why the workflow waits for `resume`.
	Parked  string   `json:"parked,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	// Remaining names what exists after a failure, and Notes tells of
	// compensations that failed.
	Remaining []string `json:"remaining,omitempty"`
	Notes     []string `json:"notes,omitempty"`
}

// ImageInput asks for the use or the release of an image under its lock.
type ImageInput struct {
	Release bool            `json:"release,omitempty"`
	Cloud   cluster.Cloud   `json:"cloud"`
	Account string          `json:"account"`
	Image   cloud.ImageSpec `json:"image"`
	User    cluster.Ref     `json:"user"`
	Site    Site            `json:"site"`
}

// ImageResult is the image's id in the cloud; empty after a release.
type ImageResult struct {
	ID string `json:"id,omitempty"`
}
