package kubelet

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// running is the status of a pod all of whose containers run and are ready.
func running(pod *corev1.Pod, host, address netip.Addr) corev1.PodStatus {
	now := metav1.Now()
	status := *pod.Status.DeepCopy()
	status.Phase = corev1.PodRunning
	status.HostIP, status.PodIP = host.String(), address.String()
	status.HostIPs = []corev1.HostIP{{IP: status.HostIP}}
	status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	if status.StartTime == nil {
		status.StartTime = &now
	}
	for _, kind := range []corev1.PodConditionType{
		corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.PodReadyToStartContainers,
	} {
		status.Conditions = setCondition(status.Conditions, kind, corev1.ConditionTrue, "", now)
	}
	status.InitContainerStatuses = containers(pod.Spec.InitContainers, func(container corev1.Container) corev1.ContainerState {
		if always(container) {
			return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: *status.StartTime}}
		}
		return done(*status.StartTime, now)
	})
	restarts := map[string]int32{}
	for _, container := range status.ContainerStatuses {
		restarts[container.Name] = container.RestartCount
	}
	status.ContainerStatuses = containers(pod.Spec.Containers, func(corev1.Container) corev1.ContainerState {
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: *status.StartTime}}
	})
	for i, container := range status.ContainerStatuses {
		status.ContainerStatuses[i].RestartCount = restarts[container.Name]
	}
	return status
}

// unready is the status of a pod whose containers run and are not ready.
func unready(pod *corev1.Pod) corev1.PodStatus {
	now := metav1.Now()
	status := *pod.Status.DeepCopy()
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		status.Conditions = setCondition(status.Conditions, kind, corev1.ConditionFalse, "ContainersNotReady", now)
	}
	for i := range status.ContainerStatuses {
		status.ContainerStatuses[i].Ready = false
	}
	return status
}

// restarted is the status of a pod whose containers are started anew after they
// ended with their machine.
func restarted(pod *corev1.Pod) corev1.PodStatus {
	status := unready(pod)
	for i := range status.ContainerStatuses {
		status.ContainerStatuses[i].RestartCount++
	}
	return status
}

// succeeded is the status of a pod all of whose containers ended well.
func succeeded(pod *corev1.Pod) corev1.PodStatus {
	now := metav1.Now()
	status := *pod.Status.DeepCopy()
	status.Phase = corev1.PodSucceeded
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		status.Conditions = setCondition(status.Conditions, kind, corev1.ConditionFalse, "PodCompleted", now)
	}
	status.ContainerStatuses = containers(pod.Spec.Containers, func(corev1.Container) corev1.ContainerState {
		return done(*status.StartTime, now)
	})
	return status
}

// always says whether an init container is a side car.
func always(container corev1.Container) bool {
	return container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func done(started, finished metav1.Time) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: "Completed", StartedAt: started, FinishedAt: finished,
	}}
}

func containers(all []corev1.Container, state func(corev1.Container) corev1.ContainerState) []corev1.ContainerStatus {
	var statuses []corev1.ContainerStatus
	for _, container := range all {
		status := corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: container.Image, State: state(container),
		}
		up := status.State.Running != nil
		status.Started = &up
		status.Ready = up || (status.State.Terminated != nil && slices.ContainsFunc(all, always))
		statuses = append(statuses, status)
	}
	return statuses
}

func setCondition(
	all []corev1.PodCondition, kind corev1.PodConditionType, value corev1.ConditionStatus, reason string, now metav1.Time,
) []corev1.PodCondition {
	want := corev1.PodCondition{Type: kind, Status: value, Reason: reason, LastTransitionTime: now}
	for i, have := range all {
		if have.Type != kind {
			continue
		}
		if have.Status == value {
			want.LastTransitionTime = have.LastTransitionTime
		}
		all[i] = want
		return all
	}
	return append(all, want)
}
