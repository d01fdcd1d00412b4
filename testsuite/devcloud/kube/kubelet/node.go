package kubelet

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// uninitialized is the taint of a node whose cloud has not been asked about it.
const uninitialized = "node.cloudprovider.kubernetes.io/uninitialized"

// noNetwork is what a kubelet says while no CNI configuration is on the host.
const noNetwork = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady " +
	"message:Network plugin returns error: cni plugin not initialized"

// newNode is the Node object a kubelet registers.
func newNode(spec guest.Kubelet, bootID string) *corev1.Node {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   spec.NodeName,
			Labels: ownLabels(spec),
			Annotations: map[string]string{
				"volumes.kubernetes.io/controller-managed-attach-detach": "true",
			},
		},
		Spec: corev1.NodeSpec{ProviderID: spec.ProviderID},
	}
	for _, taint := range spec.Taints {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{
			Key: taint.Key, Value: taint.Value, Effect: corev1.TaintEffect(taint.Effect),
		})
	}
	if spec.ExternalCloudProvider {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{
			Key: uninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule,
		})
		if spec.InternalIP.IsValid() {
			node.Annotations["alpha.kubernetes.io/provided-node-ip"] = spec.InternalIP.String()
		}
	}
	node.Status = newStatus(spec, bootID, false)
	node.Status.Addresses = addresses(spec)
	node.Status.Conditions = conditions(false, metav1.Now())
	return node
}

// ownLabels are the labels every kubelet gives its node.
func ownLabels(spec guest.Kubelet) map[string]string {
	return map[string]string{
		corev1.LabelHostname: spec.NodeName, corev1.LabelOSStable: "linux", corev1.LabelArchStable: arch(spec),
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": arch(spec),
	}
}

func arch(spec guest.Kubelet) string { return cmp.Or(spec.Arch, "amd64") }

// configuredLabels are the ones Talos adds afterwards.
func configuredLabels(spec guest.Kubelet) map[string]string {
	labels := map[string]string{}
	for key, value := range spec.Labels {
		labels[key] = value
	}
	if spec.ControlPlane {
		labels["node-role.kubernetes.io/control-plane"] = ""
	}
	return labels
}

func addresses(spec guest.Kubelet) []corev1.NodeAddress {
	var all []corev1.NodeAddress
	if spec.InternalIP.IsValid() {
		all = append(all, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: spec.InternalIP.String()})
	}
	if spec.ExternalIP.IsValid() {
		all = append(all, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: spec.ExternalIP.String()})
	}
	return all
}

// newStatus is the part of the status that changes only with the machine. GPUs are
// counted by a pod, which needs the network.
func newStatus(spec guest.Kubelet, bootID string, network bool) corev1.NodeStatus {
	resources := Resources{
		VCPUs: spec.VCPUs, MemoryMiB: spec.MemoryMiB, DiskGiB: spec.DiskGiB, ControlPlane: spec.ControlPlane,
	}
	if network {
		resources.GPUs = spec.GPUs
	}
	status := corev1.NodeStatus{
		Capacity:    resources.Capacity(),
		Allocatable: resources.Allocatable(),
		NodeInfo: corev1.NodeSystemInfo{
			MachineID:               machineID(spec),
			SystemUUID:              spec.ServerUUID,
			BootID:                  bootID,
			KernelVersion:           kernel(spec.TalosVersion),
			OSImage:                 fmt.Sprintf("Talos (%s)", spec.TalosVersion),
			ContainerRuntimeVersion: "containerd://2.1.4",
			KubeletVersion:          spec.Version,
			OperatingSystem:         "linux",
			Architecture:            arch(spec),
		},
	}
	status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	return status
}

// kernel is the kind of kernel a Talos release ships; only the shape matters.
func kernel(talosVersion string) string {
	if strings.HasPrefix(talosVersion, "v1.14") {
		return "6.18.9-talos"
	}
	return "6.12.48-talos"
}

// machineID is stable for a machine, as the id in its STATE partition.
func machineID(spec guest.Kubelet) string {
	sum := sha256.Sum256([]byte(spec.ServerUUID + "/" + spec.NodeName))
	return hex.EncodeToString(sum[:16])
}

func conditions(network bool, now metav1.Time) []corev1.NodeCondition {
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{
			Type: kind, Status: status, Reason: reason, Message: message,
			LastHeartbeatTime: now, LastTransitionTime: now,
		}
	}
	ready := condition(corev1.NodeReady, corev1.ConditionFalse, "KubeletNotReady", noNetwork)
	if network {
		ready = condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status")
	}
	return []corev1.NodeCondition{
		condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		ready,
	}
}
