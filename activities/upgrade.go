package activities

import (
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// Upgrades changes the versions and configs of a cluster that exists.
type Upgrades struct {
	Store    Store
	Checker  Checker
	Configs  MachineConfigs
	Factory  Factory
	Releases Releases
	Machines NodeControl
	Inspect  Inspector
	Kube     *Kube
	Groups   GroupLeases
	// Replacements may be nil where no group surges.
	Replacements GroupReplacements
	Clouds       Clouds
	Timing       Timing
	Now          func() time.Time
}

// UpgradeChange is what a person wants to change; what is empty stays. A whole
// spec and single fields may be combined: the fields win.
type UpgradeChange struct {
	// Spec is a published spec of the same cluster.
	Spec              *cluster.Spec `json:"spec,omitempty"`
	TalosVersion      string        `json:"talosVersion,omitempty"`
	KubernetesVersion string        `json:"kubernetesVersion,omitempty"`
	Schematic         string        `json:"schematic,omitempty"`
	// Extensions replaces the list of system extensions when not nil.
	Extensions []string `json:"extensions,omitzero"`
}

// ResolveUpgradeInput asks what a change means for a cluster.
type ResolveUpgradeInput struct {
	Name     string               `json:"name"`
	Change   UpgradeChange        `json:"change"`
	Strategy plan.UpgradeStrategy `json:"strategy"`
}

// ResolveUpgradeResult is the change, resolved and checked.
type ResolveUpgradeResult struct {
	Record cluster.Record `json:"record"` // as it is
	// Spec, SpecDigest and Frozen are what the record will hold at the end.
	Spec       cluster.Spec      `json:"spec"`
	SpecDigest string            `json:"specDigest"`
	Frozen     cluster.Frozen    `json:"frozen"`
	Rules      plan.VersionRules `json:"rules"`
	// ConfigChanged says that machine configs differ for other reasons than
	// versions.
	ConfigChanged bool `json:"configChanged,omitempty"`

	Account      string             `json:"account"`
	Capabilities cloud.Capabilities `json:"capabilities"`
	Timing       Timing             `json:"timing"`
}

// FreezeLegInput asks for the record's contents after one leg.
type FreezeLegInput struct {
	Ref cluster.Ref `json:"ref"`
	// Spec is the spec at the end; To replaces its versions.
	Spec cluster.Spec  `json:"spec"`
	To   plan.Versions `json:"to"`
}

// FreezeLegResult has the base configs stored and the image named.
type FreezeLegResult struct {
	Spec       cluster.Spec   `json:"spec"`
	SpecDigest string         `json:"specDigest"`
	Frozen     cluster.Frozen `json:"frozen"`
}

// CommitLegInput makes a frozen leg the record's contents: from then on new
// machines are born with it.
type CommitLegInput struct {
	Ref cluster.Ref `json:"ref"`
	// From is the digest of the spec that the record has before; an attempt that
	// was given up and wakes late must not bring back an earlier leg. Empty is
	// not compared.
	From       string         `json:"from,omitempty"`
	Spec       cluster.Spec   `json:"spec"`
	SpecDigest string         `json:"specDigest"`
	Frozen     cluster.Frozen `json:"frozen"`
}

// UpgradeTarget is a machine to look at or to work on.
type UpgradeTarget struct {
	Node  cluster.NodeAddress `json:"node"`
	Group string              `json:"group"`
	Role  cluster.Role        `json:"role"`
}

// ObserveNodesInput asks what nodes run. Frozen, when set, is what they are
// compared with instead of the record.
type ObserveNodesInput struct {
	Ref    cluster.Ref      `json:"ref"`
	Nodes  []UpgradeTarget  `json:"nodes"`
	Leg    *FreezeLegResult `json:"leg,omitempty"`
	Wanted Components       `json:"wanted,omitzero"`
}

// ObserveNodesResult is what nodes answered, in the order of the input.
type ObserveNodesResult struct {
	Nodes []plan.UpgradeNode `json:"nodes"`
	// Unseen says why the Node objects could not be looked at; Cordoned and
	// NodeReady say nothing then.
	Unseen string `json:"unseen,omitempty"`
}

// CheckUpgradeInput is everything the pre-flight looks at.
type CheckUpgradeInput struct {
	Ref      cluster.Ref          `json:"ref"`
	Nodes    []UpgradeTarget      `json:"nodes"`
	Legs     []plan.Leg           `json:"legs"`
	Last     FreezeLegResult      `json:"last"` // of the last leg
	Strategy plan.UpgradeStrategy `json:"strategy"`
	// Groups are problems of groups that the caller knows.
	Groups []plan.Refusal `json:"groups,omitempty"`
}

// CheckUpgradeResult lists every problem at once; none means that the upgrade
// may begin. Warnings do not stop it.
type CheckUpgradeResult struct {
	Problems []plan.Refusal `json:"problems,omitempty"`
	Warnings []plan.Refusal `json:"warnings,omitempty"`
}

// NodeWorkInput names a node that is worked on.
type NodeWorkInput struct {
	Ref    cluster.Ref   `json:"ref"`
	Target UpgradeTarget `json:"target"`
	// Holder is the workflow that works on it.
	Holder string `json:"holder,omitempty"`
}

// PullImageInput names an image that a node shall have.
type PullImageInput struct {
	NodeWorkInput
	Image string     `json:"image"`
	Space ImageSpace `json:"space"`
}

// InstallInput names an installer image.
type InstallInput struct {
	NodeWorkInput
	Image string `json:"image"`
}

// WholeUpgradeInput is the upgrade of a node that drains, installs and reboots by
// itself, done once: BootID is the boot that it ends.
type WholeUpgradeInput struct {
	NodeWorkInput
	Image  string `json:"image"`
	BootID string `json:"bootID"`
}

// PullComponentsInput names a leg whose component images a node shall have.
type PullComponentsInput struct {
	NodeWorkInput
	Leg FreezeLegResult `json:"leg"`
}

// RebootInput is a reboot that is done once: BootID is the boot that it ends.
type RebootInput struct {
	NodeWorkInput
	BootID string     `json:"bootID"`
	Mode   RebootMode `json:"mode,omitempty"`
}

// WaitBootedInput waits for a node after a reboot.
type WaitBootedInput struct {
	NodeWorkInput
	// BootID is the boot before; empty when none was needed.
	BootID string        `json:"bootID,omitempty"`
	Want   plan.Versions `json:"want"`
	// Stable is for how long it must stay as wanted.
	Stable time.Duration `json:"stable"`
}

// HoldNodeInput marks a node as being worked on.
type HoldNodeInput struct {
	NodeWorkInput
	Cordon bool `json:"cordon,omitempty"`
}

// DrainForWorkInput drains a node that stays.
type DrainForWorkInput struct {
	NodeWorkInput
	Options DrainOptions `json:"options"`
}

// EtcdGateInput asks for etcd to be healthy without one node, or with all.
type EtcdGateInput struct {
	Ref cluster.Ref `json:"ref"`
	// Nodes are all control planes; Leaving, if set, is the name of the one that
	// will be out next.
	Nodes   []UpgradeTarget `json:"nodes"`
	Leaving string          `json:"leaving,omitempty"`
	// Single consents to the outage of the only one.
	Single bool          `json:"single,omitempty"`
	Stable time.Duration `json:"stable,omitempty"`
}

// EtcdGateResult is etcd when the gate was open.
type EtcdGateResult struct {
	Leader string   `json:"leader"` // name of its node
	Voters []string `json:"voters"` // names, sorted
}

// RemoveEtcdMemberInput names a member of etcd that shall be none any more.
type RemoveEtcdMemberInput struct {
	Ref cluster.Ref `json:"ref"`
	// Nodes are all control planes, with the one that is gone.
	Nodes []UpgradeTarget `json:"nodes"`
	Name  string          `json:"name"`
}

// RestoreEtcdInput begins etcd anew from a snapshot, on one node.
type RestoreEtcdInput struct {
	NodeWorkInput
	Snapshot SnapshotResult `json:"snapshot"`
	// Peers are the other control planes: none of them may run etcd.
	Peers []UpgradeTarget `json:"peers,omitempty"`
	// Replaces is the bootstrap machine that the record had before.
	Replaces string `json:"replaces"`
}

// SnapshotInput names a snapshot that is taken once.
type SnapshotInput struct {
	NodeWorkInput
	// Name is chosen by the workflow: what is stored under it is kept.
	Name string `json:"name"`
}

// SnapshotResult says where a snapshot is.
type SnapshotResult struct {
	Key    string `json:"key"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// ApplyConfigInput renders a node's config, with components that differ from the
// leg's versions, and applies it unless the node has it.
type ApplyConfigInput struct {
	NodeWorkInput
	// Leg is what to render from; nil is the record.
	Leg        *FreezeLegResult `json:"leg,omitempty"`
	Components Components       `json:"components,omitzero"`
}

// ApplyConfigResult tells what was done.
type ApplyConfigResult struct {
	SHA256  string `json:"sha256"`
	Changed bool   `json:"changed,omitempty"`
	// Staged says that it takes effect with the next boot, BootID being this one.
	Staged bool   `json:"staged,omitempty"`
	BootID string `json:"bootID,omitempty"`
}

// WaitComponentInput waits until a component of a node runs a version and is
// ready: kube-apiserver, kube-controller-manager, kube-scheduler or kubelet.
type WaitComponentInput struct {
	NodeWorkInput
	Component string `json:"component"`
	Version   string `json:"version"`
}

// GatesInput asks for health gates to hold for a while.
type GatesInput struct {
	Ref    cluster.Ref   `json:"ref"`
	Gates  []plan.Gate   `json:"gates"`
	Stable time.Duration `json:"stable"`
	// Node, when set, must be Ready as well.
	Node string `json:"node,omitempty"`
}

// ApplyUpgradeManifestsInput applies the manifests of the record's spec.
type ApplyUpgradeManifestsInput struct {
	Ref cluster.Ref `json:"ref"`
	// Before were applied already: what did not change since is left alone.
	Before []cluster.Manifest `json:"before,omitempty"`
}

// ApplyUpgradeManifestsResult names what was applied.
type ApplyUpgradeManifestsResult struct {
	Applied []string `json:"applied,omitempty"`
	Skipped int      `json:"skipped,omitempty"`
}

// LeaseInput takes or returns the lease of a member of a group: while it is
// held, its group neither deletes nor replaces it.
type LeaseInput struct {
	Ref     cluster.Ref `json:"ref"`
	Group   string      `json:"group"`
	Machine string      `json:"machine"`
	Holder  string      `json:"holder"`
	Release bool        `json:"release,omitempty"`
	// RequestID begins the id of each attempt to ask.
	RequestID string `json:"requestID"`
	Reason    string `json:"reason,omitempty"`
}

// LeaseResult says whether the lease is held.
type LeaseResult struct {
	Held    bool   `json:"held"`
	Message string `json:"message,omitempty"`
}
