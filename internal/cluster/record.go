package cluster

import "time"

// Phase is where a cluster is in its life.
type Phase string

// Phases of a cluster.
const (
	PhaseCreating Phase = "creating"
	PhaseReady    Phase = "ready"
	PhaseFailed   Phase = "failed" // creation failed and what exists was kept
	PhaseDeleting Phase = "deleting"
	PhaseDeleted  Phase = "deleted"
	// PhaseUpgrading is shown while an upgrade runs; the record stays ready.
	PhaseUpgrading Phase = "upgrading"
	// PhaseRepairing is shown while a node is rolled back or replaced, or etcd is
	// restored; the record stays ready.
	PhaseRepairing Phase = "repairing"
)

// Record is what Ichor knows of a cluster outside Temporal: enough to show it
// and to delete it after the Temporal database is lost. It is stored encrypted
// and versioned; writers compare and swap.
type Record struct {
	// Schema is the version of this structure, now 1.
	Schema     int    `json:"schema"`
	Ref        Ref    `json:"ref"`
	Phase      Phase  `json:"phase"`
	Spec       Spec   `json:"spec"` // normalised; bodies as references
	SpecDigest string `json:"specDigest"`
	// Frozen holds what was resolved once, at creation.
	Frozen Frozen `json:"frozen"`
	// Endpoint is the URL of the Kubernetes API, https://host:6443.
	Endpoint string `json:"endpoint,omitempty"`
	// BootstrapMachine is the id of the one machine on which etcd was, or is
	// being, bootstrapped.
	BootstrapMachine string `json:"bootstrapMachine,omitempty"`
	// Entities are the workflow ids of the groups.
	Entities []string `json:"entities,omitempty"`
	// ControlPlanes are the addresses of the machine API of the control planes.
	ControlPlanes []NodeAddress `json:"controlPlanes,omitempty"`
	// Accounts name the cloud accounts, by their credentials, in which things of
	// the cluster were seen or are made: one, and one more for each renewed
	// credential.
	Accounts []string `json:"accounts,omitempty"`
	// Former are images that the cluster used before an upgrade and has not given
	// back yet.
	Former []FormerImage `json:"former,omitempty"`
	// Documents are store keys of documents that earlier specs referred to; they
	// go with the cluster.
	Documents []string `json:"documents,omitempty"`
	// Failure is the message of the failure that ended creation, if any.
	Failure   string    `json:"failure,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// FormerImage is an image by what Frozen says of it.
type FormerImage struct {
	Image        string `json:"image"`
	ImageURL     string `json:"imageURL,omitempty"`
	Schematic    string `json:"schematic,omitempty"`
	TalosVersion string `json:"talosVersion,omitempty"`
	Arch         string `json:"arch,omitempty"`
}

// NodeAddress says where a machine is reached.
type NodeAddress struct {
	MachineID string `json:"machineID"`
	Name      string `json:"name"`
	Address   string `json:"address"`           // for the machine API
	Private   string `json:"private,omitempty"` // in the cluster's network
}

// Frozen is the outcome of resolving a spec: later runs use it as it is, so a
// newer Ichor or a newer image list never changes an existing cluster.
type Frozen struct {
	Contract          string `json:"contract,omitempty"`
	TalosVersion      string `json:"talosVersion,omitempty"`
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	Schematic         string `json:"schematic,omitempty"`
	// Image names the image by content (schematic, version, platform, arch).
	Image string `json:"image,omitempty"`
	// ImageURL is where the cloud imports it from.
	ImageURL string `json:"imageURL,omitempty"`
	// ImageID is the cloud's own id once it exists.
	ImageID string `json:"imageID,omitempty"`
	// InstallerImage is what an upgrade or install on the node pulls.
	InstallerImage string `json:"installerImage,omitempty"`
	// Arch is that of the image; empty means amd64.
	Arch string `json:"arch,omitempty"`
	// Variants are what groups run that do not run the above, by another
	// architecture or by extensions of their own.
	Variants []Variant `json:"variants,omitempty"`
	// Bundle is the store key of the PKI bundle.
	Bundle string `json:"bundle,omitempty"`
	// BaseConfig are store keys of the rendered base configs, one per role.
	BaseConfig []BaseConfig `json:"baseConfig,omitempty"`
}

// BaseConfig is one rendered machine config without per-node parts.
type BaseConfig struct {
	Role   Role   `json:"role"`
	Ref    string `json:"ref"`
	SHA256 string `json:"sha256"`
}
