package kube

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// staticPods are what Talos runs on a control plane node while its API server
// runs, as its kubelet shows them to the API.
func (c *cluster) staticPods(node string) []*corev1.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cp := range c.nodes {
		if cp.name == node {
			return []*corev1.Pod{
				staticPod("kube-apiserver", cp.version),
				staticPod("kube-controller-manager", cp.version),
				staticPod("kube-scheduler", cp.version),
			}
		}
	}
	return nil
}

func staticPod(name, version string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: metav1.NamespaceSystem,
			Labels: map[string]string{
				"k8s-app": name, "component": name, "tier": "control-plane",
				"app.kubernetes.io/name": name, "app.kubernetes.io/version": version,
			},
		},
		Spec: corev1.PodSpec{
			HostNetwork:       true,
			PriorityClassName: "system-cluster-critical",
			Containers: []corev1.Container{{
				Name: name, Image: "registry.k8s.io/" + name + ":" + version, Command: []string{"/usr/local/bin/" + name},
			}},
		},
	}
}
