package cloud

import (
	"context"
	"slices"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Infrastructure is implemented by clouds whose networks, endpoints and
// placement groups Ichor manages. The cloud decides which resources there are;
// the workflow ensures them one by one, so each is a step of its own.
type Infrastructure interface {
	// PlanInfrastructure returns the resources of a cluster in the order of
	// creation. It is pure: no calls, same answer for the same spec.
	PlanInfrastructure(spec InfrastructureSpec) ([]Step, error)
	// PlacementStep returns the resource that spreads the members of one shard
	// of a group over hosts.
	PlacementStep(owner Owner, zone string, shard int) (Step, error)
	// EnsureResource is EnsureMachine for one resource: adopt, repair, create
	// at most once and only if req.Create is set.
	EnsureResource(ctx context.Context, req EnsureResourceRequest) (ResourceLook, error)
	// GetResource reads one resource again, to learn whether it is Ready.
	GetResource(ctx context.Context, r Resource) (Resource, error)
	// EndpointHost returns the host of the Kubernetes API out of the ensured
	// resources, "" when none of them is an endpoint.
	EndpointHost(have []Resource) string
	// SyncMembers makes the endpoint forward to exactly these members: it adds
	// the new ones before it removes old ones. Absent endpoint with an empty
	// set is success.
	SyncMembers(ctx context.Context, req SyncMembersRequest) (MembersStatus, error)
	// ListResources returns everything that carries the owner's cluster tag
	// except machines and images, in the order of deletion, or an error.
	ListResources(ctx context.Context, owner Owner) ([]Resource, error)
	// DeleteResource asks for deletion; called until gone. Absent is gone.
	DeleteResource(ctx context.Context, r Resource) (gone bool, err error)
}

// InfrastructureSpec is what a cluster needs of a cloud beside machines.
type InfrastructureSpec struct {
	Owner Owner  `json:"owner"`
	Zone  string `json:"zone"`
	// Zones are all that machines of the cluster may be in, sorted; empty means
	// Zone alone.
	Zones    []string                 `json:"zones,omitempty"`
	CIDR     string                   `json:"cidr,omitempty"`
	Existing *cluster.ExistingNetwork `json:"existing,omitempty"`
	// LoadBalancer is nil when the endpoint is a given address.
	LoadBalancer *cluster.LoadBalancer `json:"loadBalancer,omitempty"`
	// AllowedCIDRs may reach the endpoint; nodes always may.
	AllowedCIDRs []string `json:"allowedCIDRs,omitempty"`
}

// Step is one resource to ensure.
type Step struct {
	// Kind is the cloud's own word ("network"), Key is unique in the cluster.
	Kind string `json:"kind"`
	Key  string `json:"key"`
	Name string `json:"name"`
	// Title is what people read: "load balancer demo-api".
	Title string `json:"title"`
	// Params are the cloud's own frozen parameters, sorted by key.
	Params []cluster.Tag `json:"params,omitempty"`
}

// EnsureResourceRequest asks for one step.
type EnsureResourceRequest struct {
	Owner Owner      `json:"owner"`
	Step  Step       `json:"step"`
	Have  []Resource `json:"have,omitempty"` // what earlier steps made
	// Create is set only when no earlier create of it can be under way.
	Create bool `json:"create"`
	// Doomed says that the resource is looked for to be deleted: it is returned as it
	// is found, since settings that cannot be mended must not keep it.
	Doomed bool `json:"doomed,omitempty"`
}

// Param returns a frozen parameter, "" if there is none of that key.
func (s Step) Param(key string) string {
	i := slices.IndexFunc(s.Params, func(p cluster.Tag) bool { return p.Key == key })
	if i < 0 {
		return ""
	}
	return s.Params[i].Value
}

// Need returns the id of the resource of a kind that an earlier step made. Error:
// Internal when none did, since the cloud itself ordered the steps.
func (r EnsureResourceRequest) Need(kind string) (string, error) {
	id := IDOf(r.Have, kind)
	if id == "" {
		return "", fault.New(fault.Internal, "create "+r.Step.Title, "it needs a %s, and none was made before", kind)
	}
	return id, nil
}

// IDOf returns the id of the first resource of a kind, "" if there is none.
func IDOf(have []Resource, kind string) string {
	i := slices.IndexFunc(have, func(r Resource) bool { return r.Kind == kind })
	if i < 0 {
		return ""
	}
	return have[i].ID
}

// Resource is a fact about an infrastructure resource.
type Resource struct {
	Kind string `json:"kind"`
	Key  string `json:"key"`
	Name string `json:"name"`
	ID   string `json:"id"`
	// Parent is the id of the resource this one lives in, when its own id is
	// not enough to reach it.
	Parent string `json:"parent,omitempty"`
	// Ready says that later steps may build on it; State is the cloud's word.
	Ready      bool          `json:"ready"`
	State      string        `json:"state,omitempty"`
	Attributes []cluster.Tag `json:"attributes,omitempty"` // sorted by key
	// Zone is set on subnets that serve one zone; machines of other zones are not
	// attached to them.
	Zone string `json:"zone,omitempty"`
	// Machine is what every machine of the cluster carries because of this
	// resource, in the cloud's own keys; it is frozen into MachineSpec.Params.
	Machine []cluster.Tag `json:"machine,omitempty"`
	// Foreign resources were brought along and are never deleted.
	Foreign bool `json:"foreign,omitempty"`
}

// ResourceLook is what a look, or a create, found.
type ResourceLook struct {
	Resource *Resource `json:"resource,omitempty"`
	Created  bool      `json:"created,omitempty"`
	Removed  int       `json:"removed,omitempty"`
}

// Member is a target of the endpoint.
type Member struct {
	MachineID string `json:"machineID"`
	Name      string `json:"name"`
	Address   string `json:"address"` // in the cluster's network
}

// SyncMembersRequest is the full set of members.
type SyncMembersRequest struct {
	Owner   Owner      `json:"owner"`
	Have    []Resource `json:"have,omitempty"`
	Members []Member   `json:"members,omitempty"`
}

// MembersStatus is what the endpoint forwards to after a sync.
type MembersStatus struct {
	Total   int `json:"total"`
	Healthy int `json:"healthy"`
}

// KindSubnet is the one kind of resource that workflows know: machines are
// attached to every ensured resource of this kind that serves their zone.
const KindSubnet = "subnet"
