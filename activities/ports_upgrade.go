package activities

import (
	"context"
	"io"

	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// NodeControl changes running nodes through their machine API, each call with a
// connection and a certificate of its own.
type NodeControl interface {
	// Facts reads what a node runs, as far as it answers. Errors as of Probe.
	Facts(ctx context.Context, bundle secrets.Value, address string) (NodeFacts, error)
	// Pull makes the node fetch an image, for the container runtime that needs it
	// (KubernetesImage or SystemImage). Present already is success. progress gets
	// lines for people. Errors: Invalid when there is no such image.
	Pull(ctx context.Context, bundle secrets.Value, address, image string, space ImageSpace, progress func(string)) error
	// Install writes a pulled installer image into the slot that does not run
	// (Talos 1.13 and later). The running one is untouched, so it is safe to
	// repeat. Errors by the installer's exit code: Invalid (input, unsupported),
	// Unsafe (environment, for example the version path), Unavailable (IO,
	// dependency), Internal; Conflict while another install runs.
	Install(ctx context.Context, bundle secrets.Value, address, image string, progress func(string)) error
	// UpgradeWhole is the upgrade of Talos before 1.13: the node drains,
	// installs and reboots by itself. Errors: Ambiguous when the answer was lost.
	UpgradeWhole(ctx context.Context, bundle secrets.Value, address, image string) error
	// Reboot restarts a node; Ambiguous when the answer was lost.
	Reboot(ctx context.Context, bundle secrets.Value, address string, mode RebootMode) error
	// Rollback boots the other slot. Unsafe when it is empty.
	Rollback(ctx context.Context, bundle secrets.Value, address string) error
	// Apply gives a running node its config: without a reboot, or staged for the
	// next one. Invalid when it needs the other.
	Apply(ctx context.Context, bundle secrets.Value, address string, config secrets.Value, staged bool) error

	// BootstrapManifests is what a control plane renders for Kubernetes by itself,
	// as one stream of documents. NotYet while it has not rendered its config, or
	// never does (workers).
	BootstrapManifests(ctx context.Context, bundle secrets.Value, address string) (secrets.Value, error)

	// EtcdHealth reports one node's member and all members as it knows them.
	EtcdHealth(ctx context.Context, bundle secrets.Value, address string) (EtcdHealth, error)
	// Forfeit makes a leader hand over. Safe to repeat.
	Forfeit(ctx context.Context, bundle secrets.Value, address string) error
	// RemoveMember removes a dead member by id through a healthy peer. Gone
	// already is success.
	RemoveMember(ctx context.Context, bundle secrets.Value, address string, id uint64) error
	// Leave makes a node leave etcd. Not a member any more is success.
	Leave(ctx context.Context, bundle secrets.Value, address string) error
	// Snapshot streams a snapshot of etcd.
	Snapshot(ctx context.Context, bundle secrets.Value, address string, to io.Writer) error
	// Recover uploads a snapshot and bootstraps etcd from it.
	Recover(ctx context.Context, bundle secrets.Value, address string, from io.Reader) error
}

// Releases lists released versions, sorted ascending, and the rules between them.
type Releases interface {
	Rules(ctx context.Context) (plan.VersionRules, error)
}

// GroupLeases asks the entities of node groups.
type GroupLeases interface {
	// Lease takes or returns a lease by an update of the group's workflow, whose
	// id makes it count once. Conflict when somebody else holds it or the member
	// leaves, NotFound when there is no such member or group.
	Lease(ctx context.Context, in LeaseInput) (LeaseResult, error)
}

// NeedsReboot is the code of the Invalid fault of NodeControl.Apply when the node
// takes the config only staged.
const NeedsReboot = "NeedsReboot"

// ComponentImages are the images that a machine config names; those of the
// control plane are empty on workers.
type ComponentImages struct {
	Kubelet           string
	APIServer         string
	ControllerManager string
	Scheduler         string
}

// StoredStream is a large object in the store.
type StoredStream struct {
	Key    string
	SHA256 string
	Bytes  int64
}

// ImageSpace is which images of a node are meant.
type ImageSpace string

// Spaces of images.
const (
	SystemImage     ImageSpace = "system"     // installer, kubelet
	KubernetesImage ImageSpace = "kubernetes" // static pods
)

// RebootMode is how a node restarts.
type RebootMode string

// Modes of reboots.
const (
	RebootDefault    RebootMode = "default" // kexec where possible
	RebootPowerCycle RebootMode = "powercycle"
)

// NodeFacts is what a node runs, by its machine API.
type NodeFacts struct {
	Version    string   `json:"version"`
	Schematic  string   `json:"schematic,omitempty"`
	Extensions []string `json:"extensions,omitempty"` // sorted names
	BootID     string   `json:"bootID"`
	Stage      string   `json:"stage"`
	Ready      bool     `json:"ready"`
	Unmet      []string `json:"unmet,omitempty"`
	// Images of the running machine config and its digest, over the bytes that
	// MachineConfigs.Digest defines.
	Kubelet           string `json:"kubelet,omitempty"`
	APIServer         string `json:"apiServer,omitempty"`
	ControllerManager string `json:"controllerManager,omitempty"`
	Scheduler         string `json:"scheduler,omitempty"`
	ConfigSHA256      string `json:"configSHA256,omitempty"`
	// FreeBytes is the free space of the ephemeral partition; -1 unknown.
	FreeBytes int64 `json:"freeBytes"`
}

// EtcdHealth is etcd as one node sees it.
type EtcdHealth struct {
	Running  bool             `json:"running"`
	MemberID uint64           `json:"memberID,omitempty"`
	Leader   uint64           `json:"leader,omitempty"` // 0 when there is none
	Learner  bool             `json:"learner,omitempty"`
	Errors   []string         `json:"errors,omitempty"`
	Alarms   []string         `json:"alarms,omitempty"`
	Members  []EtcdMemberView `json:"members,omitempty"` // sorted by name
}

// EtcdMemberView is one member of etcd.
type EtcdMemberView struct {
	ID      uint64 `json:"id"`
	Name    string `json:"name"`
	Learner bool   `json:"learner,omitempty"`
}

// KubeUpgrades is what upgrades do in a cluster, beside KubeAPI; the worker's
// client of a cluster implements both.
type KubeUpgrades interface {
	// HoldNode cordons a node for work that will end and keeps the autoscaler
	// away from it (annotation cluster-autoscaler.kubernetes.io/scale-down-disabled),
	// remembering in an annotation of Ichor's own who holds it and what was set
	// before, so that ReleaseNode restores exactly that. Safe to repeat.
	HoldNode(ctx context.Context, name, holder string, cordon bool) error
	// ReleaseNode takes back what HoldNode of the same holder did; a node that
	// was cordoned before stays cordoned. Not held, or absent, is success.
	ReleaseNode(ctx context.Context, name, holder string) error
	// DrainNode is one round of evictions with kubectl's own rules; it returns
	// the pods that are left. Invalid, naming the pods, when the options forbid to
	// evict some.
	DrainRound(ctx context.Context, node string, opts DrainOptions) ([]PodLeft, error)
	// StuckBudgets are pod disruption budgets that can never allow an eviction as
	// things are (minAvailable 100 %, maxUnavailable 0, one replica).
	StuckBudgets(ctx context.Context) ([]plan.Refusal, error)
	// RemovedAPIs are APIs in use that the target version does not serve any more.
	RemovedAPIs(ctx context.Context, from, to string) ([]plan.Refusal, error)
	// StaticPod reports the version and readiness of a component's mirror pod on a
	// node; NotFound when there is none.
	StaticPod(ctx context.Context, node, component string) (StaticPodView, error)
	// Gate evaluates a user's health gate; nil when it holds, NotYet saying why
	// not, Invalid when it cannot be evaluated.
	Gate(ctx context.Context, g plan.Gate) error
	// DiffManifests says what Apply of the same manifest would change.
	DiffManifests(ctx context.Context, name string, manifest []byte) ([]ObjectChange, error)
	// Bootstrap applies what a control plane renders, or pretends to, and says what
	// becomes of each object. Fields that others than Talos have set are kept, and
	// nothing is deleted. Invalid, Conflict or NotYet naming the objects that could
	// not be applied, when all others were.
	Bootstrap(ctx context.Context, manifest []byte, opts BootstrapOptions) ([]ObjectChange, error)
	// RolledOut returns nil when all pods of a workload are of its last version and
	// available, or when there is no such workload; NotYet saying what is missing.
	RolledOut(ctx context.Context, w WorkloadRef) error
	// GetNode reads one Node object. NotFound when there is none.
	GetNode(ctx context.Context, name string) (KubeNode, error)
	// AutoscalerVersion is the version of a cluster autoscaler that runs in the
	// cluster, empty when none is found.
	AutoscalerVersion(ctx context.Context) (string, error)
}

// ObjectChange is what applying a manifest would do to one object.
type ObjectChange struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	// Change is one of the words below.
	Change string `json:"change"`
	// Fields are the paths that change; never their values, which may be secrets,
	// but for the images of containers.
	Fields []string `json:"fields,omitempty"`
	// Kept are the paths that stay because somebody else than Talos has set them,
	// with who; of bootstrap manifests only.
	Kept []string `json:"kept,omitempty"`
}

// What becomes of an object. The last three occur of bootstrap manifests only, and
// leave the object as it is.
const (
	ChangeCreated   = "created"
	ChangeChanged   = "changed"
	ChangeUnchanged = "unchanged"
	ChangeAbsent    = "absent"  // applied once, deleted by somebody since
	ChangeForeign   = "foreign" // claimed by another tool's inventory
	ChangeLeft      = "left"    // applied once, not rendered any more
)

// BootstrapOptions say how bootstrap manifests are applied.
type BootstrapOptions struct {
	// DryRun pretends only.
	DryRun bool
	// Images are applied instead of the rendered ones, by repository.
	Images map[string]string
}

// BootstrapImages are the images of what a control plane renders; empty where they
// are not known.
type BootstrapImages struct {
	Proxy   string
	CoreDNS string
	Flannel string
}

// DrainOptions are kubectl's.
type DrainOptions struct {
	Force          bool `json:"force,omitempty"`
	DeleteEmptyDir bool `json:"deleteEmptyDir,omitempty"`
	// GraceSeconds overrides the pods' own; negative leaves it.
	GraceSeconds int `json:"graceSeconds"`
}

// StaticPodView is a static pod as its kubelet reports it.
type StaticPodView struct {
	Image         string `json:"image"`
	Version       string `json:"version"`       // the image's tag
	ConfigVersion string `json:"configVersion"` // annotation talos.dev/config-version
	Ready         bool   `json:"ready"`
}

// Components are versions of Kubernetes components that differ from the record's
// while an upgrade is half-way; empty means the record's.
type Components struct {
	APIServer         string `json:"apiServer,omitempty"`
	ControllerManager string `json:"controllerManager,omitempty"`
	Scheduler         string `json:"scheduler,omitempty"`
	Proxy             string `json:"proxy,omitempty"`
	Kubelet           string `json:"kubelet,omitempty"`
}
