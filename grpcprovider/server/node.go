package server

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// uninitialized is the taint that a cloud controller manager removes within
// seconds: in a template it would keep every pod away.
const uninitialized = "node.cloudprovider.kubernetes.io/uninitialized"

// templateNode makes the Node that the autoscaler schedules on in its mind. It
// gives the node a name and the label of it of its own.
func templateNode(g *provider.Group) *corev1.Node {
	t := g.Facts.Template
	name := "template-" + strings.ReplaceAll(g.ID, "/", "-")
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels(g.Facts)},
		Status: corev1.NodeStatus{
			Capacity:    resources(t.Capacity),
			Allocatable: resources(t.Allocatable),
			Conditions: []corev1.NodeCondition{{
				Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Template",
			}},
		},
	}
	node.Labels[corev1.LabelHostname] = name
	for _, taint := range t.Taints {
		if taint.Key != uninitialized {
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: taint.Key, Value: taint.Value, Effect: corev1.TaintEffect(taint.Effect)})
		}
	}
	return node
}

// labels are those of the template over what every node of the group has.
func labels(f workflows.GroupFacts) map[string]string {
	out := map[string]string{
		corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		corev1.LabelInstanceTypeStable: f.Flavor, corev1.LabelTopologyZone: f.Zone,
	}
	known, _ := catalog.Named(f.Cloud.Provider)
	for _, l := range slices.Concat(known.NodeLabels(f.Zone), f.Template.Labels) {
		out[l.Key] = l.Value
	}
	// The kubelet still sets these beside those without "beta".
	out["beta.kubernetes.io/os"], out["beta.kubernetes.io/arch"] = out[corev1.LabelOSStable], out[corev1.LabelArchStable]
	return out
}

func resources(r cluster.NodeResources) corev1.ResourceList {
	out := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewMilliQuantity(r.MilliCPU, resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(r.MemoryBytes, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(r.StorageBytes, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(r.Pods, resource.DecimalSI),
	}
	if r.GPUs > 0 && r.GPUResource != "" {
		out[corev1.ResourceName(r.GPUResource)] = *resource.NewQuantity(r.GPUs, resource.DecimalSI)
	}
	return out
}
