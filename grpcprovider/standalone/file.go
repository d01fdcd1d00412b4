package standalone

import (
	"github.com/ichor-project/ichor/internal/cluster"
)

// File is the file as it is written. Fields under "other spelling" mean the
// same as fields of ours and cannot be combined with them.
type File struct {
	// Cluster is the name of the cluster: a DNS label of at most 30 characters.
	// It becomes part of the autoscaler's node group ids ("demo/worker"), of
	// workflow ids and of the names of new servers. It never changes.
	Cluster string `json:"cluster"`
	// Cloud is the name of a registered cloud; default "cloudscale".
	Cloud string `json:"cloud"`
	// Zone is the default zone of the groups.
	Zone string `json:"zone"`
	// Credentials is a reference (env:, file:, kube:, store:) that the worker
	// resolves, never the credential itself.
	Credentials string `json:"credentials"`
	// Kubeconfig is a reference to a kubeconfig, "in-cluster" (the default: the
	// cluster in which the worker runs) or "none".
	Kubeconfig string  `json:"kubeconfig"`
	NodeGroups []Group `json:"nodeGroups"`
	// Prices are per hour, by flavor, in any currency; all flavors or none.
	Prices map[string]float64 `json:"prices"`

	// Other spelling. ClusterTag is the value of the tag "k8s-cluster" on all
	// servers; it is also the cluster's name if there is none.
	ClusterTag string `json:"clusterTag"`
	// CloudscaleAPIToken is taken if it names an environment variable: ${NAME}.
	CloudscaleAPIToken string `json:"cloudscaleAPIToken"`
	// Listen and TLS are settings of the command here; they have no effect.
	Listen string `json:"listen"`
	TLS    *TLS   `json:"tls"`
}

// TLS is accepted and has no effect.
type TLS struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
	CAFile   string `json:"caFile"`
}

// Group is a set of equal worker machines.
type Group struct {
	// Name is a DNS label of at most 20 characters.
	Name   string `json:"name"`
	Flavor string `json:"flavor"`
	// Min and Max bound the number of machines.
	Min *int `json:"min"`
	Max *int `json:"max"`
	// Image is the cloud's slug or id of an image.
	Image string `json:"image"`
	Zone  string `json:"zone"`
	// UserData is what new servers boot with: "@path" names a file, relative to
	// the folder of this one; anything else is the text itself.
	UserData string `json:"userData"`
	// Tag is the key of a tag whose value is the group's name, or "key=value".
	// Servers that carry it when the group starts for the first time become its
	// members; new servers carry it, too.
	Tag string `json:"tag"`
	// Tags are further tags of new servers.
	Tags map[string]string `json:"tags"`
	// Labels and Taints are what nodes of the group have by their user data; the
	// autoscaler is told of them before there is a node.
	Labels map[string]string `json:"labels"`
	Taints []cluster.Taint   `json:"taints"`
	// DiskGiB is the root volume; default 50.
	DiskGiB *int `json:"diskGiB"`
	// Networks and Subnets are ids of private networks that servers get an
	// interface in.
	Networks []string `json:"networks"`
	Subnets  []string `json:"subnets"`
	// Params are the cloud's own words for what machines carry: at AWS securityGroup
	// (ids, with commas between them) and instanceProfile (a name or an ARN).
	Params map[string]string `json:"params"`
	// AntiAffinity spreads machines over hosts; default true.
	AntiAffinity *bool                 `json:"antiAffinity"`
	Alternatives []cluster.Alternative `json:"alternatives"`
	Autoscaling  *cluster.Autoscaling  `json:"autoscaling"`

	// Other spelling.
	MinSize           *int     `json:"minSize"`
	MaxSize           *int     `json:"maxSize"`
	VolumeSizeGB      *int     `json:"volumeSizeGB"`
	NetworkUUID       string   `json:"networkUUID"`
	SubnetUUID        string   `json:"subnetUUID"`
	UsePublicNetwork  *bool    `json:"usePublicNetwork"`
	UsePrivateNetwork *bool    `json:"usePrivateNetwork"`
	ServerGroupUUID   string   `json:"serverGroupUUID"`
	SSHKeys           []string `json:"sshKeys"`
}

// Values of File.Kubeconfig that are not references.
const (
	// KubeconfigNone says that Kubernetes is not asked: a machine that runs
	// counts as joined, none is replaced, and no Node object is deleted.
	KubeconfigNone = "none"
	// KubeconfigInCluster is the cluster in which the worker runs.
	KubeconfigInCluster = "in-cluster"
)

// Tags that kubeterm-sh/autoscaler-cloudscale finds its servers by.
const (
	otherGroupTag   = "k8s-autoscaler-group"
	otherClusterTag = "k8s-cluster"
)

// Decode reads a file, YAML or JSON. It is as strict as the decoder of cluster
// specs: unknown fields, keys given twice and wrong types are problems, all are
// reported at once with path and line, and values are never repeated.
func Decode(data []byte) (File, cluster.Positions, error) {
	var f File
	pos, err := cluster.DecodeInto(data, &f)
	return f, pos, err
}
