// Package cluster has the nouns of Ichor: the Cluster spec, node groups, names,
// tags and ids. It depends on the standard library and a YAML decoder only.
package cluster

// APIVersion and Kind open every spec file.
const (
	APIVersion = "ichor.dev/v1alpha1"
	Kind       = "Cluster"
)

// Cluster is one declared Talos cluster: what a platform engineer writes.
type Cluster struct {
	APIVersion string   `json:"apiVersion" jsonschema:"enum=ichor.dev/v1alpha1"`
	Kind       string   `json:"kind" jsonschema:"enum=Cluster"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata names the cluster.
type Metadata struct {
	// Name is unique per Ichor installation, a DNS label of at most 30
	// characters; it becomes part of every node name.
	Name string `json:"name"`
}

// Spec is what the cluster shall be.
type Spec struct {
	Cloud      Cloud      `json:"cloud"`
	Talos      Talos      `json:"talos"`
	Kubernetes Kubernetes `json:"kubernetes"`
	Network    Network    `json:"network"`
	Endpoint   Endpoint   `json:"endpoint,omitzero"`
	// Datastore is "etcd", the only accepted value (see docs/decisions).
	Datastore    string       `json:"datastore,omitempty"`
	ControlPlane ControlPlane `json:"controlPlane"`
	NodeGroups   []NodeGroup  `json:"nodeGroups,omitempty"`
	// Manifests are applied server-side, in this order, as soon as the
	// Kubernetes API answers: CNI, cloud controller manager and the like.
	Manifests []Manifest `json:"manifests,omitempty"`
	// Secrets become Kubernetes Secrets before the manifests are applied.
	Secrets []KubeSecret `json:"secrets,omitempty"`
	// OnFailure is "rollback" (default: undo newest first) or "keep".
	OnFailure string `json:"onFailure,omitempty" jsonschema:"enum=rollback,enum=keep"`
}

// Cloud says where the machines run.
type Cloud struct {
	// Provider is the name of a registered cloud, for example "cloudscale".
	Provider string `json:"provider"`
	// Zone is the default zone of every machine, for example "lpg1".
	Zone string `json:"zone"`
	// Credentials is a reference (env:, file:, kube:, store:) that the worker
	// resolves; never the credential itself.
	Credentials string `json:"credentials"`
}

// Talos says which operating system the nodes run.
type Talos struct {
	// Version with leading v, for example "v1.13.5".
	Version string `json:"version"`
	// Contract is the config version contract ("v1.13"). It is pinned when the
	// cluster is created; by default it follows Version.
	Contract string `json:"contract,omitempty"`
	// Schematic is an Image Factory id; Extensions is the alternative.
	Schematic string `json:"schematic,omitempty"`
	// Extensions are official system extensions, for example
	// "siderolabs/intel-ucode".
	Extensions []string `json:"extensions,omitempty"`
	// Patches are strategic-merge config patches for all nodes.
	Patches []Source `json:"patches,omitempty"`
}

// Kubernetes says which Kubernetes the cluster runs.
type Kubernetes struct {
	// Version with leading v, for example "v1.36.3".
	Version string `json:"version"`
}

// Network is the private network of the cluster and who may reach it.
type Network struct {
	// CIDR of the private subnet to create, for example "10.200.0.0/24".
	CIDR string `json:"cidr,omitempty"`
	// Existing brings a network along instead of creating one.
	Existing *ExistingNetwork `json:"existing,omitempty"`
	// AdminCIDRs may reach the machine API (50000) and the Kubernetes API
	// (6443). Required; the worker's own address must be inside.
	AdminCIDRs []string `json:"adminCIDRs"`
	// AllowWorld must be true for 0.0.0.0/0 or ::/0 in AdminCIDRs.
	AllowWorld bool `json:"allowWorld,omitempty"`
	// PodCIDR defaults to 10.244.0.0/16, ServiceCIDR to 10.96.0.0/12.
	PodCIDR     string `json:"podCIDR,omitempty"`
	ServiceCIDR string `json:"serviceCIDR,omitempty"`
}

// ExistingNetwork names a network and subnet that Ichor uses and never deletes.
type ExistingNetwork struct {
	Network string `json:"network"`
	Subnet  string `json:"subnet"`
	// CIDR of that subnet, for the ingress rules.
	CIDR string `json:"cidr"`
}

// Endpoint is how the Kubernetes API is reached. Exactly one way is set; the
// default is a load balancer.
type Endpoint struct {
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// Address is a given host name or IP address that already leads to the
	// control planes, port 6443.
	Address string `json:"address,omitempty"`
}

// LoadBalancer asks the cloud for one.
type LoadBalancer struct {
	// Flavor defaults to the cloud's own default.
	Flavor string `json:"flavor,omitempty"`
}

// ControlPlane is the group of control plane nodes.
type ControlPlane struct {
	// Replicas is 1, 3 or 5.
	Replicas int    `json:"replicas"`
	Flavor   string `json:"flavor"`
	// DiskGiB is the root volume; default 50.
	DiskGiB int               `json:"diskGiB,omitempty"`
	Zone    string            `json:"zone,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Patches []Source          `json:"patches,omitempty"`
	// AntiAffinity spreads machines over hosts; default true.
	AntiAffinity *bool `json:"antiAffinity,omitempty"`
}

// NodeGroup is a set of equal worker machines that scales as one.
type NodeGroup struct {
	// Name is a DNS label of at most 20 characters, unique in the cluster.
	Name   string `json:"name"`
	Flavor string `json:"flavor"`
	Min    int    `json:"min"`
	Max    int    `json:"max"`
	// Count is the initial number of machines; default Min.
	Count *int   `json:"count,omitempty"`
	Zone  string `json:"zone,omitempty"`
	// DiskGiB is the root volume; default 50.
	DiskGiB int `json:"diskGiB,omitempty"`
	// Image overrides the cluster's image by the cloud's own image id.
	Image string `json:"image,omitempty"`
	// Networks are further networks (the cloud's ids) beside the cluster's.
	Networks     []string          `json:"networks,omitempty"`
	AntiAffinity *bool             `json:"antiAffinity,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Taints       []Taint           `json:"taints,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	Patches      []Source          `json:"patches,omitempty"`
}

// Taint is a Kubernetes node taint.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect" jsonschema:"enum=NoSchedule,enum=PreferNoSchedule,enum=NoExecute"`
}

// Source is a document that lives outside the spec. A person writes File, URL
// or Inline; what reaches Temporal is Ref and SHA256 only.
type Source struct {
	File   string `json:"file,omitempty"`
	URL    string `json:"url,omitempty"`
	Inline string `json:"inline,omitempty"`
	// Ref is a store key that `ichor` wrote, SHA256 the hex digest of the body.
	Ref    string `json:"ref,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// Manifest is a Kubernetes manifest to apply at bootstrap.
type Manifest struct {
	Name string `json:"name"`
	Source
}

// KubeSecret is one key of a Kubernetes Secret, filled from a reference.
type KubeSecret struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Key       string `json:"key"`
	From      string `json:"from"`
}

// Values of Spec.OnFailure.
const (
	OnFailureRollback = "rollback"
	OnFailureKeep     = "keep"
)

// Defaults of optional fields. The networks are those of Talos itself.
const (
	DefaultDiskGiB     = 50
	DefaultPodCIDR     = "10.244.0.0/16"
	DefaultServiceCIDR = "10.96.0.0/12"
	DefaultDatastore   = "etcd"
)
