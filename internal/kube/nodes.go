package kube

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// uninitializedTaint is on a node until the external cloud controller has set
// its provider ID and addresses (k8s.io/cloud-provider/api).
const uninitializedTaint = "node.cloudprovider.kubernetes.io/uninitialized"

// Node is a Node object as far as Ichor looks at it.
type Node struct {
	Name string
	// Ready is the node's own condition; it says nothing of the cloud.
	Ready bool
	// Reason says why the node is not ready, in Kubernetes' words.
	Reason     string
	ProviderID string
	// Uninitialized says that the cloud controller has not seen the node yet:
	// nothing but system pods is scheduled there.
	Uninitialized  bool
	KubeletVersion string // for example "v1.36.3"
	Unschedulable  bool
	// HeldBy is who works on the node by HoldNode, empty when nobody does.
	HeldBy    string
	CreatedAt time.Time
	Labels    map[string]string
	// Capacity and Allocatable are what the kubelet reported, zero before that.
	Capacity    cluster.NodeResources
	Allocatable cluster.NodeResources
}

// Nodes lists all nodes, sorted by name.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	list, err := c.core.Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, apiError("list nodes", err)
	}
	out := make([]Node, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, nodeOf(&list.Items[i]))
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Node reads one node. Error: NotFound.
func (c *Client) Node(ctx context.Context, name string) (Node, error) {
	n, err := c.core.Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Node{}, apiError("look at node "+name, err)
	}
	return nodeOf(n), nil
}

func nodeOf(n *corev1.Node) Node {
	out := Node{
		Name: n.Name, ProviderID: n.Spec.ProviderID, KubeletVersion: n.Status.NodeInfo.KubeletVersion,
		Unschedulable: n.Spec.Unschedulable, CreatedAt: n.CreationTimestamp.UTC(), Labels: n.Labels,
		Reason:   "the kubelet has reported nothing yet",
		Capacity: resourcesOf(n.Status.Capacity), Allocatable: resourcesOf(n.Status.Allocatable),
	}
	if held, err := heldBy("", n); err != nil {
		out.HeldBy = "somebody whose annotation is not readable"
	} else if held != nil {
		out.HeldBy = held.Holder
	}
	for _, taint := range n.Spec.Taints {
		out.Uninitialized = out.Uninitialized || taint.Key == uninitializedTaint
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type != corev1.NodeReady {
			continue
		}
		out.Ready = cond.Status == corev1.ConditionTrue
		out.Reason = ""
		if !out.Ready {
			out.Reason = strings.TrimPrefix(strings.TrimSuffix(cond.Reason+": "+cond.Message, ": "), ": ")
		}
	}
	return out
}

// gpuResources are the names by which device plugins count GPUs (the ones that
// the Cluster Autoscaler knows).
var gpuResources = []corev1.ResourceName{"nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/xe", "habana.ai/gaudi", "microsoft.com/directx"}

func resourcesOf(list corev1.ResourceList) cluster.NodeResources {
	out := cluster.NodeResources{
		MilliCPU: list.Cpu().MilliValue(), MemoryBytes: list.Memory().Value(),
		StorageBytes: list.StorageEphemeral().Value(), Pods: list.Pods().Value(),
	}
	for _, name := range gpuResources {
		if q, ok := list[name]; ok && !q.IsZero() {
			out.GPUs, out.GPUResource = q.Value(), string(name)
			break
		}
	}
	return out
}

// DeleteNode removes a Node object. Absent is success. The machine has to be
// gone first: a running kubelet would register again.
func (c *Client) DeleteNode(ctx context.Context, name string) error {
	err := apiError("delete node "+name, c.core.Nodes().Delete(ctx, name, metav1.DeleteOptions{}))
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// Cordon marks a node as unschedulable, or as schedulable again. Error: NotFound.
func (c *Client) Cordon(ctx context.Context, name string, unschedulable bool) error {
	body := []byte(`{"spec":{"unschedulable":null}}`)
	if unschedulable {
		body = []byte(`{"spec":{"unschedulable":true}}`)
	}
	_, err := c.core.Nodes().Patch(ctx, name, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: FieldManager})
	return apiError("cordon node "+name, err)
}

// SetProviderID tells a node which machine it is, unless it knows: Kubernetes lets
// nobody change it afterwards. Error: NotFound.
func (c *Client) SetProviderID(ctx context.Context, name, providerID string) error {
	const op = "set the provider ID of node "
	n, err := c.core.Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil || n.Spec.ProviderID != "" {
		return apiError(op+name, err)
	}
	// One who was faster is not overruled: the API refuses to change it.
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": n.UID},
		"spec":     map[string]any{"providerID": providerID},
	})
	if err != nil {
		return fault.Wrap(fault.Internal, op+name, err)
	}
	_, err = c.core.Nodes().Patch(ctx, name, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: FieldManager})
	return apiError(op+name, err)
}
