// Package cloud is the contract between Ichor and a cloud: small, honest and
// the same for all. A cloud is one folder below this one; what not every cloud
// has is an optional interface, found by type assertion.
//
// Errors are faults (internal/fault). Unknown errors of writes are Ambiguous,
// of reads Unavailable; NotFound is only ever positive proof.
package cloud

import (
	"context"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Provider is one account of one cloud. All methods are safe to repeat and to
// run twice at once.
type Provider interface {
	Capabilities() Capabilities
	// EnsureMachine adopts the machine whose id is req.Spec.ID. When there is
	// none it creates one if req.Create is set, and otherwise only reports that
	// a complete look found nothing. Of several it keeps the oldest and deletes
	// the rest. It never sends more than one create request.
	//
	// Ambiguous means that the create may have happened or may still happen.
	EnsureMachine(ctx context.Context, req EnsureMachineRequest) (MachineLook, error)
	// GetMachine reads one machine. NotFound only on positive proof.
	GetMachine(ctx context.Context, ref MachineRef) (Machine, error)
	// ListMachines returns every machine of the owner, sorted by name, or an
	// error; never a part.
	ListMachines(ctx context.Context, owner Owner) ([]Machine, error)
	// DeleteMachine asks for deletion and reports whether the machine is gone
	// for good; it is called until gone. Absent is gone.
	DeleteMachine(ctx context.Context, ref MachineRef) (gone bool, err error)
	// Flavors lists what can be rented, sorted by name.
	Flavors(ctx context.Context) ([]Flavor, error)
}

// Images is implemented by clouds that import operating system images. An image
// is shared by clusters: it is owned by its content and carries one tag per
// user. Callers hold the image's lock (cluster.ImageID).
type Images interface {
	// EnsureImage adopts, repairs or (if req.Create) starts the import of an
	// image, and marks it as used by req.User in either case.
	EnsureImage(ctx context.Context, req EnsureImageRequest) (ImageLook, error)
	// GetImage reads the state of an import.
	GetImage(ctx context.Context, id string) (Image, error)
	// ReleaseImage removes the user's mark, and the image with the last mark.
	// It reports whether nothing of the user remains.
	ReleaseImage(ctx context.Context, spec ImageSpec, user Owner) (released bool, err error)
	// ListImages returns every image that a mark of the user is on.
	ListImages(ctx context.Context, user Owner) ([]Image, error)
}

// IdempotencyMode says what makes a repeated create safe.
type IdempotencyMode string

// Modes of idempotency.
const (
	// NativeToken: the cloud deduplicates by a client token.
	NativeToken IdempotencyMode = "NativeToken"
	// UniqueName: the cloud refuses a second resource of one name.
	UniqueName IdempotencyMode = "UniqueName"
	// TagScan: neither; only looking by tag and proving absence helps.
	TagScan IdempotencyMode = "TagScan"
)

// Capabilities are facts about a cloud and settings of its use.
type Capabilities struct {
	Idempotency IdempotencyMode `json:"idempotency"`
	// Resources is the same for infrastructure, where it differs from machines;
	// empty means Idempotency.
	Resources IdempotencyMode `json:"resources,omitempty"`
	// Settle is how long an ambiguous write is left alone before the first
	// look counts; AbsenceWindow is the least time between the first and the
	// last of the empty looks that prove absence.
	Settle        time.Duration `json:"settle"`
	AbsenceWindow time.Duration `json:"absenceWindow"`
	// CreateTimeout bounds one create call; PostWindow is how long after the
	// start of an attempt its create request may still be sent.
	CreateTimeout time.Duration `json:"createTimeout"`
	PostWindow    time.Duration `json:"postWindow"`
	// Poll is the time between two looks at something that takes a while.
	Poll time.Duration `json:"poll"`
	// UserDataMax is in bytes, after encoding.
	UserDataMax  int  `json:"userDataMax"`
	UserDataGzip bool `json:"userDataGzip"`
	// SpreadLimit is how many machines fit into one placement group; 0 when
	// the cloud has none.
	SpreadLimit int `json:"spreadLimit"`
	// SpreadAtOnce says that machines of one placement group may be made at the
	// same time: the cloud itself keeps them apart. Elsewhere they are made one
	// after the other, because they would race for its places.
	SpreadAtOnce bool `json:"spreadAtOnce,omitempty"`
	// ProviderIDPrefix precedes the machine's cloud id in node.spec.providerID.
	ProviderIDPrefix string `json:"providerIDPrefix"`
	// NodesByProviderID says that the cloud's controller does not find a node by the
	// name of its machine: whoever made the machine tells the node its provider ID.
	NodesByProviderID bool `json:"nodesByProviderID,omitempty"`
	// Spot says that the cloud rents machines for less that it may take back.
	Spot bool `json:"spot,omitempty"`
	// Firewall says whether the cloud filters traffic; when it does not, nodes
	// carry their own ingress rules.
	Firewall bool `json:"firewall"`
	// TalosPlatform names the Talos image flavour, for example "openstack".
	TalosPlatform string `json:"talosPlatform"`
	// ImageFormat is the suffix of an Image Factory asset the cloud imports.
	ImageFormat string `json:"imageFormat"`
}

// Owner says whose a resource is. Group is empty for what belongs to the
// cluster as a whole.
type Owner struct {
	Cluster cluster.Ref `json:"cluster"`
	Group   string      `json:"group,omitempty"`
}

// MachineSpec is a frozen request for one machine: everything is resolved, so
// that repeating it means the same.
type MachineSpec struct {
	// ID is chosen by the workflow and becomes the identity tag.
	ID      string       `json:"id"`
	Name    string       `json:"name"`
	Owner   Owner        `json:"owner"`
	Role    cluster.Role `json:"role"`
	Zone    string       `json:"zone"`
	Flavor  string       `json:"flavor"`
	ImageID string       `json:"imageID"`
	DiskGiB int          `json:"diskGiB"`
	// Subnets are ids of private subnets; Networks ids of further networks.
	Subnets  []string `json:"subnets,omitempty"`
	Networks []string `json:"networks,omitempty"`
	// PlacementGroup is the id of the shard's placement group, or empty.
	PlacementGroup string `json:"placementGroup,omitempty"`
	// Spot asks for a machine that the cloud may take back at any time, only where
	// Capabilities say so. One that was taken back is gone like one that was deleted.
	Spot bool `json:"spot,omitempty"`
	// Params are the cloud's own parameters, out of Resource.Machine, sorted by key.
	Params []cluster.Tag `json:"params,omitempty"`
	// Attempt counts the creates that ended in a machine that is gone again. It
	// is part of what a cloud deduplicates by, and only the workflow raises it.
	Attempt int           `json:"attempt,omitempty"`
	Tags    []cluster.Tag `json:"tags,omitempty"` // the user's own
	// UserDataSHA256 is the digest of the user data that goes with it.
	UserDataSHA256 string `json:"userDataSHA256,omitempty"`
}

// EnsureMachineRequest is a machine and whether it may be created now.
type EnsureMachineRequest struct {
	Spec     MachineSpec
	UserData secrets.Value
	// Create is set only when the workflow knows that no earlier create of
	// this machine can be under way.
	Create bool
}

// MachineLook is what a look, or a create, found.
type MachineLook struct {
	// Machine is nil when a complete look found none.
	Machine *Machine `json:"machine,omitempty"`
	Created bool     `json:"created,omitempty"`
	// Removed counts duplicates whose deletion was asked for.
	Removed int `json:"removed,omitempty"`
}

// MachineRef identifies a machine: by the cloud's id, and by the identity tag
// for proof.
type MachineRef struct {
	Owner Owner  `json:"owner"`
	ID    string `json:"id"`    // machine id
	Cloud string `json:"cloud"` // the cloud's own id
}

// MachineState is what the cloud says of a machine.
type MachineState string

// States of machines. A cloud never invents Running.
const (
	MachineCreating MachineState = "creating"
	MachineRunning  MachineState = "running"
	MachineStopped  MachineState = "stopped"
	MachineDeleting MachineState = "deleting"
	MachineFailed   MachineState = "failed"
	MachineUnknown  MachineState = "unknown"
)

// Machine is a fact about a machine.
type Machine struct {
	Ref        MachineRef   `json:"ref"`
	Name       string       `json:"name"`
	ProviderID string       `json:"providerID"`
	Role       cluster.Role `json:"role"`
	Zone       string       `json:"zone"`
	Flavor     string       `json:"flavor"`
	ImageID    string       `json:"imageID"`
	State      MachineState `json:"state"`
	// Public and Private are the first addresses of each sort, or empty.
	Public    string    `json:"public,omitempty"`
	Private   string    `json:"private,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
}

// Flavor is a size that can be rented.
type Flavor struct {
	Name      string   `json:"name"`
	VCPUs     int      `json:"vcpus"`
	MemoryMiB int      `json:"memoryMiB"`
	GPUs      int      `json:"gpus,omitempty"`
	GPUName   string   `json:"gpuName,omitempty"`
	Arch      string   `json:"arch"` // amd64 or arm64
	Zones     []string `json:"zones,omitempty"`
}

// ImageSpec names an image by content.
type ImageSpec struct {
	// Name is schematic, version, platform and architecture in one word.
	Name      string `json:"name"`
	Schematic string `json:"schematic"`
	Version   string `json:"version"`
	Arch      string `json:"arch"`
	URL       string `json:"url"`
	Zone      string `json:"zone"`
}

// EnsureImageRequest asks for an image on behalf of a cluster.
type EnsureImageRequest struct {
	Spec   ImageSpec `json:"spec"`
	User   Owner     `json:"user"`
	Create bool      `json:"create"`
}

// ImageState is how far an import is.
type ImageState string

// States of images.
const (
	ImageImporting ImageState = "importing"
	ImageReady     ImageState = "ready"
	ImageFailed    ImageState = "failed"
)

// Image is a fact about an image.
type Image struct {
	ID    string     `json:"id"`
	Name  string     `json:"name"`
	State ImageState `json:"state"`
	// Message is the cloud's reason of a failed import.
	Message string   `json:"message,omitempty"`
	Users   []string `json:"users,omitempty"` // cluster uids, sorted
}

// ImageLook is what a look, or the start of an import, found.
type ImageLook struct {
	Image   *Image `json:"image,omitempty"`
	Created bool   `json:"created,omitempty"`
	Removed int    `json:"removed,omitempty"`
}
