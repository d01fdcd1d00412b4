package activities

import (
	"context"
	"io"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Clouds opens cloud accounts. The same account is opened once per process, so
// that its rate limit is shared.
type Clouds interface {
	// Open returns the provider of an account and a short, stable, secret-free
	// name for the account. Errors: Invalid (unknown cloud), Unauthorized or
	// NotFound (credentials).
	Open(ctx context.Context, c cluster.Cloud) (p cloud.Provider, account string, err error)
}

// Store holds records, PKI bundles and bodies, encrypted.
type Store interface {
	// Record returns the record of the cluster that has the name now, and its
	// revision. NotFound when there never was one.
	Record(ctx context.Context, name string) (cluster.Record, int64, error)
	// PutRecord writes rec if the latest revision is expect (0: none yet) and
	// returns the new one. Conflict when somebody else wrote in between; an
	// identical latest record is success.
	PutRecord(ctx context.Context, rec cluster.Record, expect int64) (int64, error)
	// EnsureBundle returns the key of the cluster's PKI bundle and stores the
	// one that create makes if there is none. All callers get the same bundle.
	EnsureBundle(ctx context.Context, ref cluster.Ref, create func() (secrets.Value, error)) (key string, err error)
	// EnsureObject stores an object under a name of the cluster unless it is
	// there, and returns its key and the digest of what is stored.
	EnsureObject(ctx context.Context, ref cluster.Ref, name string, body secrets.Value) (key, sha256 string, err error)
	// Object reads an object by key.
	Object(ctx context.Context, key string) (secrets.Value, error)
	// Body reads a patch or manifest of a spec and proves its digest.
	Body(ctx context.Context, ref, sha256 string) (secrets.Value, error)
	// Forget deletes everything of a cluster but its record. Safe to repeat.
	Forget(ctx context.Context, rec cluster.Record) error
	// Probe proves that the cluster's part of the store can be written and read.
	Probe(ctx context.Context, ref cluster.Ref) error
	// EnsureStream stores what write writes under a name of the cluster unless
	// there is something; all callers get the same. What a failed write left is
	// not seen. Bodies of any size, in bounded memory.
	EnsureStream(ctx context.Context, ref cluster.Ref, name string, write func(io.Writer) error) (StoredStream, error)
	// ReadStream writes a stored stream to w and proves its digest.
	ReadStream(ctx context.Context, stream StoredStream, w io.Writer) error
}

// Checker validates a spec; the CLI uses the same one.
type Checker interface {
	// Check returns the normalised spec and its digest, or a fault of kind
	// Invalid that lists every problem.
	Check(ctx context.Context, c cluster.Cluster) (normalised cluster.Cluster, digest string, err error)
}

// Factory is the Image Factory.
type Factory interface {
	// Freeze resolves the Talos part of a spec: schematic, image and installer.
	// The Talos part may be that of one group instead of the cluster's; arch is
	// empty for cluster.DefaultArch.
	Freeze(ctx context.Context, spec cluster.Spec, os cluster.Talos, arch string, caps cloud.Capabilities) (cluster.Frozen, error)
	// CheckInstaller returns nil when the factory serves an installer image that
	// Freeze named. Errors: Invalid when it does not exist.
	CheckInstaller(ctx context.Context, image string) error
}

// MachineConfigs renders Talos machine configs.
type MachineConfigs interface {
	// NewBundle makes a fresh PKI bundle for a config version contract.
	NewBundle(contract string) (secrets.Value, error)
	// Base renders the config of a role without what differs between nodes.
	Base(rec cluster.Record, bundle secrets.Value, role cluster.Role) (secrets.Value, error)
	// UserData renders the complete config of one machine. The same request
	// gives the same bytes.
	UserData(req UserDataRequest) (data secrets.Value, sha256 string, err error)
	// NodeSettings reads out of a complete config what its node will report
	// about itself.
	NodeSettings(userData secrets.Value) (NodeSettings, error)
	// Rebase returns a base config of the cluster with the versions of the
	// record's frozen part. It changes what depends on versions and nothing else:
	// a cluster's config is never generated anew.
	Rebase(rec cluster.Record, base secrets.Value, role cluster.Role) (secrets.Value, error)
	// Digest is the digest of a complete, uncompressed config, by which nodes are
	// compared with it.
	Digest(config secrets.Value) (string, error)
	// Images reads the images of components out of a complete config.
	Images(config secrets.Value) (ComponentImages, error)
	// BootstrapImages says which images a control plane with this config will
	// render once it runs a version of Talos, as far as anybody knows.
	BootstrapImages(config secrets.Value, talos string) (BootstrapImages, error)
}

// NodeSettings is what a machine config decides about its Node object.
type NodeSettings struct {
	Kubelet plan.Kubelet
	Labels  []cluster.Tag   // sorted by key
	Taints  []cluster.Taint // in the order of the config
}

// UserDataRequest is one machine's config.
type UserDataRequest struct {
	Record  cluster.Record
	Bundle  secrets.Value
	Base    secrets.Value
	Role    cluster.Role
	Group   string
	Machine string
	// Bodies are the resolved patches: all nodes, role, group, in this order.
	Bodies []PatchBody
	// Gzip compresses, for clouds that take it.
	Gzip bool
	// Components differ from the record's Kubernetes version.
	Components Components
}

// PatchBody is a config patch and the field it came from.
type PatchBody struct {
	Field string
	Body  []byte
}

// Machines speaks the Talos machine API with a certificate minted for the
// purpose.
type Machines interface {
	// Probe reports what a node's machine API says. Unavailable when it does
	// not answer, Unauthorized when it answers for another cluster.
	Probe(ctx context.Context, bundle secrets.Value, address string) (NodeProbe, error)
	// ApplyMaintenance sends a config to a node that waits for one.
	ApplyMaintenance(ctx context.Context, address string, config secrets.Value) error
	// Bootstrap starts etcd on a node. Already bootstrapped is success.
	Bootstrap(ctx context.Context, bundle secrets.Value, address string) error
	// Etcd reports the members that a node knows of.
	Etcd(ctx context.Context, bundle secrets.Value, address string) (EtcdView, error)
}

// NodeProbe is what a machine API answered.
type NodeProbe struct {
	// Maintenance says that the node waits for a config; nothing else is known
	// then.
	Maintenance bool     `json:"maintenance,omitempty"`
	Version     string   `json:"version,omitempty"`
	Stage       string   `json:"stage,omitempty"`
	Ready       bool     `json:"ready,omitempty"`
	Unmet       []string `json:"unmet,omitempty"`
}

// EtcdView is etcd as one node sees it.
type EtcdView struct {
	// Running is false where etcd has not been bootstrapped or joined yet.
	Running  bool     `json:"running"`
	Voters   []string `json:"voters,omitempty"` // host names, sorted
	Learners []string `json:"learners,omitempty"`
	Alarms   []string `json:"alarms,omitempty"`
	// Leader is the host name of the leader, empty when there is none.
	Leader string `json:"leader,omitempty"`
}

// Kubernetes opens a cluster's API.
type Kubernetes interface {
	// Open returns a client for the record's endpoint, with credentials minted
	// from the bundle.
	Open(ctx context.Context, rec cluster.Record, bundle secrets.Value) (KubeAPI, error)
	// OpenKubeconfig returns a client for a kubeconfig with inline credentials;
	// an empty one means the cluster that the worker runs in. Invalid when it is
	// none.
	OpenKubeconfig(ctx context.Context, kubeconfig secrets.Value) (KubeAPI, error)
}

// KubeAPI is what Ichor does in a cluster.
type KubeAPI interface {
	// Ready returns nil when the API serves requests.
	Ready(ctx context.Context) error
	EnsureSecret(ctx context.Context, namespace, name, key string, value secrets.Value) error
	// Apply sends manifests by server-side apply.
	Apply(ctx context.Context, name string, manifest []byte) error
	Nodes(ctx context.Context) ([]KubeNode, error)
	DeleteNode(ctx context.Context, name string) error
	// NameMachine sets the provider ID of a node that has none. One that has is
	// left alone. NotFound when there is no such node.
	NameMachine(ctx context.Context, node, providerID string) error
	// CordonNode keeps new pods off a node for good: besides cordoning, it sets
	// a taint of Ichor's own. NotFound when there is no such node.
	CordonNode(ctx context.Context, name string) error
	// EvictPods asks for the eviction of each evictable pod of a node once and
	// returns those that are still there, sorted by namespace and name. NotFound
	// when there is no such node.
	EvictPods(ctx context.Context, node string) ([]PodLeft, error)
}

// PodLeft is a pod that is still on a node that is being drained.
type PodLeft struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Why it is still there, for people: a disruption budget by name, its own
	// grace period, or why it is not evicted.
	Why string `json:"why"`
}

// KubeNode is a Node object as far as Ichor looks at it.
type KubeNode struct {
	Name       string `json:"name"`
	Ready      bool   `json:"ready"`
	Reason     string `json:"reason,omitempty"` // why it is not ready
	ProviderID string `json:"providerID,omitempty"`
	// Uninitialized says that the cloud controller has not seen the node yet.
	Uninitialized bool   `json:"uninitialized,omitempty"`
	Version       string `json:"version,omitempty"`
	// Cordoned says that nothing new is scheduled there.
	Cordoned bool `json:"cordoned,omitempty"`
	// Capacity and Allocatable are zero until the kubelet has reported them.
	Capacity    cluster.NodeResources `json:"capacity,omitzero"`
	Allocatable cluster.NodeResources `json:"allocatable,omitzero"`
}

// Timing holds the waits of workflows. They are settings of the worker and are
// frozen into a workflow when it starts.
type Timing struct {
	// Heartbeat is after how long without a sign of life an activity counts as
	// lost.
	Heartbeat time.Duration `json:"heartbeat"`
	// Poll is the time between two looks at nodes.
	Poll time.Duration `json:"poll"`
	// Running, Joined bound how long a machine may take until the cloud says
	// that it runs, and from then until its node is Ready.
	Running time.Duration `json:"running"`
	Joined  time.Duration `json:"joined"`
	// Image bounds an import, Bootstrap the time from bootstrap to a healthy
	// API, Delete the deletion of one resource.
	Image     time.Duration `json:"image"`
	Bootstrap time.Duration `json:"bootstrap"`
	Delete    time.Duration `json:"delete"`
	// Backoff is the first pause before a refused call is repeated.
	Backoff time.Duration `json:"backoff"`
	// Provision bounds the time from the acceptance of a machine that scaling
	// wants to its ready node, replacements included. It must be shorter than
	// the autoscaler's --max-node-provision-time, so that the autoscaler hears of
	// a failure before it gives up by itself.
	Provision time.Duration `json:"provision,omitempty"`
	// Replacements is how often a machine that did not join is replaced within
	// that time; the time is shared evenly.
	Replacements int `json:"replacements,omitempty"`
	// GroupBackoff is the first pause of a group that cannot make its machines;
	// it doubles up to six times that.
	GroupBackoff time.Duration `json:"groupBackoff,omitempty"`
	// Drain bounds one attempt to evict the pods of a node.
	Drain time.Duration `json:"drain,omitempty"`
	// Reconcile is the time between two comparisons of a group with the cloud; 0
	// for never.
	Reconcile time.Duration `json:"reconcile,omitempty"`
	// HistoryLimit is the number of events after which a group continues as new;
	// 0 leaves it to the server.
	HistoryLimit int `json:"historyLimit,omitempty"`
}

// DefaultTiming suits real clouds. Heartbeat: a lost worker is noticed in half
// a minute. Running and Joined: a cloudscale server runs within a minute and a
// Talos node joins within five; three times that is a fault. Provision is a
// minute less than the autoscaler's default of 15 minutes; GroupBackoff is the
// autoscaler's own first pause.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat: 30 * time.Second,
		Poll:      2 * time.Second,
		Running:   6 * time.Minute,
		Joined:    15 * time.Minute,
		Image:     30 * time.Minute,
		Bootstrap: 20 * time.Minute,
		Delete:    20 * time.Minute,
		Backoff:   2 * time.Second,

		Provision:    14 * time.Minute,
		Replacements: 1,
		GroupBackoff: 5 * time.Minute,
		Drain:        10 * time.Minute,
		Reconcile:    15 * time.Minute,
	}
}
