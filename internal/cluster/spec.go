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
	// APIVersion is "ichor.dev/v1alpha1".
	APIVersion string `json:"apiVersion" jsonschema:"enum=ichor.dev/v1alpha1"`
	// Kind is "Cluster".
	Kind     string   `json:"kind" jsonschema:"enum=Cluster"`
	Metadata Metadata `json:"metadata"`
	Spec     Spec     `json:"spec"`
}

// Metadata names the cluster.
type Metadata struct {
	// Name is unique per Ichor installation, a DNS label of at most 30
	// characters; it becomes part of every node name.
	Name string `json:"name" jsonschema:"maxLength=30,pattern=^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"`
}

// Spec is what the cluster shall be.
type Spec struct {
	Cloud      Cloud      `json:"cloud"`
	Talos      Talos      `json:"talos"`
	Kubernetes Kubernetes `json:"kubernetes"`
	Network    Network    `json:"network"`
	Endpoint   Endpoint   `json:"endpoint,omitzero"`
	// Datastore is "etcd", the only accepted value (see docs/decisions).
	Datastore    string       `json:"datastore,omitempty" jsonschema:"enum=etcd"`
	ControlPlane ControlPlane `json:"controlPlane"`
	// NodeGroups are the workers, in sets of equal machines.
	NodeGroups []NodeGroup `json:"nodeGroups,omitempty"`
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
	Version string `json:"version" jsonschema:"pattern=^v[0-9]+\\.[0-9]+\\.[0-9]+"`
	// Contract is the config version contract ("v1.13"). It is pinned when the
	// cluster is created; by default it follows Version.
	Contract string `json:"contract,omitempty" jsonschema:"pattern=^v[0-9]+\\.[0-9]+$"`
	// Schematic is an Image Factory id; Extensions is the alternative.
	Schematic string `json:"schematic,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Extensions are official system extensions, for example
	// "siderolabs/intel-ucode".
	Extensions []string `json:"extensions,omitempty"`
	// Patches are strategic-merge config patches for all nodes.
	Patches []Source `json:"patches,omitempty"`
}

// Kubernetes says which Kubernetes the cluster runs.
type Kubernetes struct {
	// Version with leading v, for example "v1.36.3".
	Version string `json:"version" jsonschema:"pattern=^v[0-9]+\\.[0-9]+\\.[0-9]+"`
}

// Network is the private network of the cluster and who may reach it.
type Network struct {
	// CIDR of the private subnet to create, for example "10.200.0.0/24".
	CIDR string `json:"cidr,omitempty"`
	// Existing brings a network along instead of creating one.
	Existing *ExistingNetwork `json:"existing,omitempty"`
	// AdminCIDRs may reach the machine API (50000) and the Kubernetes API
	// (6443). Required; the worker's own address must be inside.
	AdminCIDRs []string `json:"adminCIDRs" jsonschema:"minItems=1"`
	// AllowWorld must be true for 0.0.0.0/0 or ::/0 in AdminCIDRs.
	AllowWorld bool `json:"allowWorld,omitempty"`
	// PodCIDR is the range of pod addresses, a /24 of it per node; default
	// 10.244.0.0/16.
	PodCIDR string `json:"podCIDR,omitempty"`
	// ServiceCIDR is the range of service addresses; default 10.96.0.0/12.
	ServiceCIDR string `json:"serviceCIDR,omitempty"`
}

// ExistingNetwork names a network and subnet that Ichor uses and never deletes.
type ExistingNetwork struct {
	// Network is the cloud's id of the network.
	Network string `json:"network"`
	// Subnet is the cloud's id of the subnet in which machines get addresses.
	Subnet string `json:"subnet"`
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
	Replicas int `json:"replicas" jsonschema:"enum=1,enum=3,enum=5"`
	// Flavor is the cloud's name of a machine size, for example "flex-8-4".
	Flavor string `json:"flavor" jsonschema:"minLength=1"`
	// DiskGiB is the root volume; default 50.
	DiskGiB int `json:"diskGiB,omitempty" jsonschema:"minimum=10"`
	// Zone defaults to the cluster's zone.
	Zone string `json:"zone,omitempty"`
	// Zones are several zones instead, over which the machines are spread evenly.
	Zones []string `json:"zones,omitempty"`
	// Labels of the Kubernetes nodes.
	Labels map[string]string `json:"labels,omitempty"`
	// Tags of the machines in the cloud, beside those that Ichor sets.
	Tags map[string]string `json:"tags,omitempty"`
	// Patches are strategic-merge config patches for the control plane, applied
	// after those for all nodes.
	Patches []Source `json:"patches,omitempty"`
	// AntiAffinity spreads machines over hosts; default true.
	AntiAffinity *bool `json:"antiAffinity,omitempty"`
}

// NodeGroup is a set of equal worker machines that scales as one.
type NodeGroup struct {
	// Name is a DNS label of at most 20 characters, unique in the cluster.
	Name string `json:"name" jsonschema:"maxLength=20,pattern=^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"`
	// Flavor is the cloud's name of a machine size, for example "flex-8-4".
	Flavor string `json:"flavor" jsonschema:"minLength=1"`
	// Min is the smallest number of machines that scaling may reach.
	Min int `json:"min" jsonschema:"minimum=0"`
	// Max is the largest number of machines that scaling may reach.
	Max int `json:"max" jsonschema:"minimum=1,maximum=500"`
	// Count is the initial number of machines; default Min.
	Count *int `json:"count,omitempty" jsonschema:"minimum=0"`
	// Zone defaults to the cluster's zone.
	Zone string `json:"zone,omitempty"`
	// Zones are several zones instead, over which the machines are spread evenly.
	Zones []string `json:"zones,omitempty"`
	// DiskGiB is the root volume; default 50.
	DiskGiB int `json:"diskGiB,omitempty" jsonschema:"minimum=10"`
	// Image overrides the cluster's image by the cloud's own image id.
	Image string `json:"image,omitempty"`
	// Extensions are the group's own system extensions instead of the cluster's, for
	// example a driver. Without them and without a schematic the group runs what the
	// cluster runs.
	Extensions []string `json:"extensions,omitempty"`
	// Schematic is the group's own Image Factory id; Extensions is the alternative.
	Schematic string `json:"schematic,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
	// Networks are further networks (the cloud's ids) beside the cluster's.
	Networks []string `json:"networks,omitempty"`
	// Spot rents machines for less that the cloud may take back at any time; the
	// group then replaces them. Only on clouds that have such machines.
	Spot bool `json:"spot,omitempty"`
	// AntiAffinity spreads machines over hosts; default true.
	AntiAffinity *bool `json:"antiAffinity,omitempty"`
	// Labels of the Kubernetes nodes.
	Labels map[string]string `json:"labels,omitempty"`
	// Taints of the Kubernetes nodes.
	Taints []Taint `json:"taints,omitempty"`
	// Tags of the machines in the cloud, beside those that Ichor sets.
	Tags map[string]string `json:"tags,omitempty"`
	// Patches are strategic-merge config patches for this group, applied after
	// those for all nodes.
	Patches []Source `json:"patches,omitempty"`
	// Alternatives are tried in this order for a machine that the cloud has no
	// capacity for.
	Alternatives []Alternative `json:"alternatives,omitempty"`
	// Autoscaling overrides defaults of the Cluster Autoscaler for this group.
	Autoscaling *Autoscaling `json:"autoscaling,omitempty"`
}

// Alternative is another place or size for a machine of a group; what is empty
// stays as the group has it. The scheduler sees all machines of a group alike,
// so an alternative flavor must not be smaller.
type Alternative struct {
	// Zone defaults to the group's zone.
	Zone string `json:"zone,omitempty"`
	// Flavor defaults to the group's flavor.
	Flavor string `json:"flavor,omitempty"`
}

// Taint is a Kubernetes node taint.
type Taint struct {
	// Key with an optional prefix, for example "example.com/gpu".
	Key string `json:"key"`
	// Value may be empty.
	Value string `json:"value,omitempty"`
	// Effect is NoSchedule, PreferNoSchedule or NoExecute.
	Effect string `json:"effect" jsonschema:"enum=NoSchedule,enum=PreferNoSchedule,enum=NoExecute"`
}

// Source is a document that lives outside the spec. A person writes File, URL
// or Inline; what reaches Temporal is Ref and SHA256 only.
type Source struct {
	// File is a path, relative to the spec file.
	File string `json:"file,omitempty"`
	// URL is fetched once, by the command line; https, or http with SHA256.
	URL string `json:"url,omitempty"`
	// Inline is the document itself.
	Inline string `json:"inline,omitempty"`
	// Ref is a store key that "ichor spec publish" wrote.
	Ref string `json:"ref,omitempty"`
	// SHA256 is the digest of the document in hex: required with Ref, a pin with
	// File and URL.
	SHA256 string `json:"sha256,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$"`
}

// Manifest is a Kubernetes manifest to apply at bootstrap.
type Manifest struct {
	// Name is a DNS label for people, unique in the cluster.
	Name string `json:"name"`
	Source
}

// KubeSecret is one key of a Kubernetes Secret, filled from a reference.
type KubeSecret struct {
	// Namespace of the Secret, for example "kube-system".
	Namespace string `json:"namespace"`
	// Name of the Secret.
	Name string `json:"name"`
	// Key inside of the Secret.
	Key string `json:"key"`
	// From is a reference (env:, file:, kube:, store:) that the worker resolves.
	From string `json:"from"`
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
