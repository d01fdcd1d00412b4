package plan

import (
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Versions is what a cluster, or one node of it, runs.
type Versions struct {
	Talos      string `json:"talos,omitempty"`      // "v1.14.1"
	Schematic  string `json:"schematic,omitempty"`  // the Image Factory's id
	Kubernetes string `json:"kubernetes,omitempty"` // "v1.36.3"
}

// VersionRules are the rules of Talos and Kubernetes about versions, as data: an
// activity makes them from machinery's tables and a workflow freezes them.
type VersionRules struct {
	// Talos has one rule for each known minor, sorted.
	Talos []TalosRule `json:"talos"`
	// TalosReleases and KubernetesReleases are released versions from which
	// intermediate steps are chosen, sorted ascending.
	TalosReleases      []string `json:"talosReleases,omitempty"`
	KubernetesReleases []string `json:"kubernetesReleases,omitempty"`
	// KubernetesMax is the highest Kubernetes minor, "1.37", to which a path is
	// known.
	KubernetesMax string `json:"kubernetesMax,omitempty"`
}

// TalosRule is what one minor of Talos supports. Bounds are versions without
// "v"; From is included, Below is not.
type TalosRule struct {
	Minor           string `json:"minor"` // "1.14"
	KubernetesFrom  string `json:"kubernetesFrom"`
	KubernetesBelow string `json:"kubernetesBelow"`
	// HostFrom and HostBelow bound the version that may be upgraded to this one.
	HostFrom  string `json:"hostFrom"`
	HostBelow string `json:"hostBelow"`
}

// LegKind is what a leg of an upgrade changes.
type LegKind string

// Kinds of legs.
const (
	LegTalos      LegKind = "talos" // version or schematic: install, reboot
	LegKubernetes LegKind = "kubernetes"
	LegConfig     LegKind = "config" // machine configs only
)

// Leg is one step of a whole cluster after which it is in a supported state.
type Leg struct {
	Kind LegKind `json:"kind"`
	// From and To are what the cluster runs before and after.
	From Versions `json:"from"`
	To   Versions `json:"to"`
	// Reason is why it comes at this place, for people.
	Reason string `json:"reason,omitempty"`
}

// Refusal is a reason why something is not done, and where it comes from.
type Refusal struct {
	// Field is a path into the request, or the name of a node or group.
	Field  string `json:"field"`
	Reason string `json:"reason"`
	// Kind says what sort of reason it is, where a program needs to know.
	Kind RefusalKind `json:"kind,omitempty"`
}

// RefusalKind sorts refusals.
type RefusalKind string

// Kinds of refusals.
const (
	RefusedInvalid     RefusalKind = "invalid"     // cannot be read
	RefusedUnknown     RefusalKind = "unknown"     // nobody here knows; not the same as unsupported
	RefusedUnsupported RefusalKind = "unsupported" // known not to work
	RefusedDowngrade   RefusalKind = "downgrade"   // would go back
)

// UpgradeNode is a node as it was last seen.
type UpgradeNode struct {
	Machine string       `json:"machine"` // machine id
	Name    string       `json:"name"`
	Group   string       `json:"group"`
	Role    cluster.Role `json:"role"`
	// Problem says why nothing below is known; empty when the node answered.
	Problem string `json:"problem,omitempty"`
	// Leader says that it leads etcd.
	Leader bool `json:"leader,omitempty"`
	// Ready, Stage are the machine's own.
	Ready  bool     `json:"ready,omitempty"`
	Stage  string   `json:"stage,omitempty"`
	Unmet  []string `json:"unmet,omitempty"`
	BootID string   `json:"bootID,omitempty"`
	// Talos and Schematic are what is booted. A node that runs what its group has
	// instead of the cluster's own has the cluster's Schematic here, so that one
	// comparison does for all, and what it really runs in Variant.
	Talos     string `json:"talos,omitempty"`
	Schematic string `json:"schematic,omitempty"`
	Variant   string `json:"variant,omitempty"`
	// Kubelet, APIServer, ControllerManager and Scheduler are the versions of the
	// running machine config's images.
	Kubelet           string `json:"kubelet,omitempty"`
	APIServer         string `json:"apiServer,omitempty"`
	ControllerManager string `json:"controllerManager,omitempty"`
	Scheduler         string `json:"scheduler,omitempty"`
	// ConfigSHA256 is the digest of the running machine config, WantSHA256 of
	// what the record renders for this node.
	ConfigSHA256 string `json:"configSHA256,omitempty"`
	WantSHA256   string `json:"wantSHA256,omitempty"`
	// Cordoned and NodeReady are the Node object's.
	Cordoned  bool `json:"cordoned,omitempty"`
	NodeReady bool `json:"nodeReady,omitempty"`
}

// UpgradeStrategy says how a roll goes over the nodes. The zero value is the
// careful default: one node at a time, nothing goes on after a failure.
type UpgradeStrategy struct {
	// MaxUnavailable bounds the nodes of a node group at work at once: a number
	// or a percentage of the group, rounded down but at least one; default "1".
	MaxUnavailable string `json:"maxUnavailable,omitempty"`
	// Groups overrides MaxUnavailable for single node groups.
	Groups []GroupStrategy `json:"groups,omitempty"` // sorted by group
	// Canary rolls one worker first and lets it soak.
	Canary bool             `json:"canary,omitempty"`
	Soak   cluster.Duration `json:"soak,omitempty"`
	// FailureBudget is how many failed nodes are tolerated; with one more, no
	// new node is begun.
	FailureBudget int `json:"failureBudget,omitempty"`
	// Windows are when a new node may be begun; none means always.
	Windows []Window `json:"windows,omitempty"`
	// Approve asks before each "leg" or each "node"; empty asks for nothing.
	Approve string `json:"approve,omitempty" jsonschema:"enum=leg,enum=node"`
	// DrainTimeout is how long a drain may take before the node parks and asks;
	// default ten minutes.
	DrainTimeout cluster.Duration `json:"drainTimeout,omitempty"`
	// Stable is for how long a node's gates must hold; default ten seconds.
	Stable cluster.Duration `json:"stable,omitempty"`
	// SingleControlPlane consents to an outage of the API of a cluster with one
	// control plane.
	SingleControlPlane bool `json:"singleControlPlane,omitempty"`
	// Gates are checked after each node.
	Gates []Gate `json:"gates,omitempty"`
}

// GroupStrategy is how one node group is rolled.
type GroupStrategy struct {
	Group          string `json:"group"`
	MaxUnavailable string `json:"maxUnavailable,omitempty"`
	// Surge, when positive, replaces that many machines at a time instead of
	// changing them: the new one is ready before the old one is drained.
	Surge int `json:"surge,omitempty"`
	// Force evicts pods that nobody recreates, DeleteEmptyDir those that lose
	// local data; Grace overrides the pods' own grace period when positive.
	Force          bool             `json:"force,omitempty"`
	DeleteEmptyDir *bool            `json:"deleteEmptyDir,omitempty"` // default true
	Grace          cluster.Duration `json:"grace,omitempty"`
}

// Window is a maintenance window in UTC.
type Window struct {
	// Days are "mon" … "sun"; none means every day.
	Days []string `json:"days,omitempty"`
	// Start is "22:00", Length how long it is open.
	Start  string           `json:"start"`
	Length cluster.Duration `json:"length"`
}

// Gate is a user's own health check: either CEL over Kubernetes objects, or an
// HTTP request.
type Gate struct {
	Name string `json:"name"`
	// Resource selects objects as "apps/v1/deployments"; Namespace, ObjectName
	// and Selector narrow it. Expression is CEL over `object` and must be true
	// for each.
	Resource   string `json:"resource,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	ObjectName string `json:"objectName,omitempty"`
	Selector   string `json:"selector,omitempty"`
	Expression string `json:"expression,omitempty"`
	// URL must answer with Status, default 200.
	URL    string `json:"url,omitempty"`
	Status int    `json:"status,omitempty"`
}

// RollState is how far a node is in a roll.
type RollState string

// States of nodes in a roll.
const (
	RollPending RollState = "pending"
	RollRunning RollState = "running"
	RollDone    RollState = "done"
	RollFailed  RollState = "failed"
	RollSkipped RollState = "skipped"
)

// RollItem is a node's place in a roll.
type RollItem struct {
	Machine string       `json:"machine"`
	Name    string       `json:"name"`
	Group   string       `json:"group"`
	Role    cluster.Role `json:"role"`
	State   RollState    `json:"state"`
	// Ended is when it was done.
	Ended time.Time `json:"ended,omitzero"`
	// GroupSize is how many nodes its group has, with those that the roll leaves
	// alone: percentages are of this. Zero means those in the roll.
	GroupSize int `json:"groupSize,omitempty"`
}

// RollDecision is what to do next in a roll.
type RollDecision struct {
	// Start are machine ids to begin with now, in order.
	Start []string
	// Wait is until when nothing is begun (window, soak); zero when a running
	// node decides. Reason says why, for people.
	Wait   time.Time
	Reason string
	// Done says that every node is done or skipped, Stop why no new node is
	// begun although some are left; running ones are still waited for.
	Done bool
	Stop string
}
