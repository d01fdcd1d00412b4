package activities

import (
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

// KubeTarget says how the cluster's Kubernetes API is reached: through the
// cluster's record, or, for a cluster that was built by other means, with a
// kubeconfig.
type KubeTarget struct {
	Ref cluster.Ref `json:"ref"`
	// Kubeconfig is a reference; empty for clusters that Ichor has a record of.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// None says that there is no way to the Kubernetes API: a machine that runs
	// counts as ready then.
	None bool `json:"none,omitempty"`
}

// UserData names prepared user data in the store, for machines whose config
// Ichor does not render.
type UserData struct {
	Ref    string `json:"ref"`
	SHA256 string `json:"sha256"`
}

// CordonNodeInput names a node on which nothing new may be scheduled.
type CordonNodeInput struct {
	Kube KubeTarget `json:"kube"`
	Name string     `json:"name"`
}

// DrainNodeInput names a node whose pods are to be evicted.
type DrainNodeInput struct {
	Kube KubeTarget `json:"kube"`
	Name string     `json:"name"`
}

// InspectGroupInput says what the entity knows of its members.
type InspectGroupInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	Owner cloud.Owner   `json:"owner"`
	Kube  KubeTarget    `json:"kube"`
	// Known are the members with a machine, sorted by id. Read of each are ID,
	// CloudID, Name and NodeReady.
	Known []MemberFact `json:"known"`
	// Account is where an owner without a record began, if that is known.
	Account string `json:"account,omitempty"`
}

// InspectGroupResult tells only what differs from what was known.
type InspectGroupResult struct {
	// Missing are ids of members whose machine is proven absent: not in a
	// complete list, and NotFound when asked for itself.
	Missing []string `json:"missing,omitempty"`
	// Stopped are ids of members whose machine is not running.
	Stopped []string `json:"stopped,omitempty"`
	// NotReady are ids of members that were ready and whose node is not, or is
	// not there.
	NotReady []string `json:"notReady,omitempty"`
	// Unseen says why the nodes could not be looked at; NotReady is empty then.
	Unseen string `json:"unseen,omitempty"`
	// Duplicates are machines that carry a member's id but are not its machine.
	// EnsureMachine without Create repairs them; DeleteMachine with the member's
	// id would delete its own machine, too.
	Duplicates []cloud.MachineRef `json:"duplicates,omitempty"`
	// Unknown are machines with the group's tags whose id no known member has.
	Unknown []cloud.Machine `json:"unknown,omitempty"`
	// Observed is the least of what the group's ready nodes really have.
	Observed *Observed `json:"observed,omitempty"`
}

// Observed are the amounts of real nodes: of each amount the least seen. An
// amount of 0 was not reported.
type Observed struct {
	Capacity    cluster.NodeResources `json:"capacity"`
	Allocatable cluster.NodeResources `json:"allocatable"`
}

// GetNodeTemplateInput asks what the next node of a group will look like.
type GetNodeTemplateInput struct {
	Ref     cluster.Ref   `json:"ref"`
	Cloud   cluster.Cloud `json:"cloud"`
	Group   string        `json:"group"`
	Role    cluster.Role  `json:"role"`
	Zone    string        `json:"zone"`
	Flavor  string        `json:"flavor"`
	DiskGiB int           `json:"diskGiB"`
	// Standalone groups have no record: labels and taints are as given, and
	// Talos' own defaults are assumed.
	Standalone bool            `json:"standalone,omitempty"`
	Labels     []cluster.Tag   `json:"labels,omitempty"`
	Taints     []cluster.Taint `json:"taints,omitempty"`
}

// AdoptMachinesInput names machines that were made by other means.
type AdoptMachinesInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	Owner cloud.Owner   `json:"owner"`
	Role  cluster.Role  `json:"role"`
	// Tag is the tag that the machines carry; Also are tags that they carry, too.
	Tag  cluster.Tag   `json:"tag"`
	Also []cluster.Tag `json:"also,omitempty"`
}
