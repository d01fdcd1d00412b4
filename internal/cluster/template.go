package cluster

import "time"

// NodeResources are amounts of a node in Kubernetes' own units.
type NodeResources struct {
	MilliCPU     int64 `json:"milliCPU"`
	MemoryBytes  int64 `json:"memoryBytes"`
	StorageBytes int64 `json:"storageBytes"` // ephemeral
	Pods         int64 `json:"pods"`
	// GPUs and the name of the resource that counts them, "nvidia.com/gpu".
	GPUs        int64  `json:"gpus,omitempty"`
	GPUResource string `json:"gpuResource,omitempty"`
}

// NodeTemplate is what the next node of a group will look like to the
// scheduler. It never promises more than a real node of the group had.
type NodeTemplate struct {
	Capacity    NodeResources `json:"capacity"`
	Allocatable NodeResources `json:"allocatable"`
	Labels      []Tag         `json:"labels,omitempty"` // sorted by key
	Taints      []Taint       `json:"taints,omitempty"`
	// Observed says that real nodes corrected the amounts.
	Observed bool `json:"observed,omitempty"`
}

// Autoscaling overrides defaults of the Cluster Autoscaler for one group. All
// fields have values, since the contract takes all or none.
type Autoscaling struct {
	// ScaleDownUtilizationThreshold is a fraction; a node that is used less is a
	// candidate for removal.
	ScaleDownUtilizationThreshold float64 `json:"scaleDownUtilizationThreshold,omitempty" jsonschema:"minimum=0,maximum=1"`
	// ScaleDownGPUUtilizationThreshold is the same for nodes with GPUs.
	ScaleDownGPUUtilizationThreshold float64 `json:"scaleDownGPUUtilizationThreshold,omitempty" jsonschema:"minimum=0,maximum=1"`
	// ScaleDownUnneededTime is how long a node must be unneeded before it is
	// removed, for example "10m".
	ScaleDownUnneededTime Duration `json:"scaleDownUnneededTime,omitempty" jsonschema:"type=string"`
	// ScaleDownUnreadyTime is how long a node must be not ready before it is
	// removed, for example "20m".
	ScaleDownUnreadyTime Duration `json:"scaleDownUnreadyTime,omitempty" jsonschema:"type=string"`
	// MaxNodeProvisionTime is how long the autoscaler waits for a node.
	MaxNodeProvisionTime Duration `json:"maxNodeProvisionTime,omitempty" jsonschema:"type=string"`
	// IgnoreDaemonSetsUtilization leaves pods of daemon sets out of the fraction.
	IgnoreDaemonSetsUtilization bool `json:"ignoreDaemonSetsUtilization,omitempty"`
}

// Duration is a time span that people write as "10m".
type Duration time.Duration

// MarshalText writes the span as "10m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads "10m".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}
