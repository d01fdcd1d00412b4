package kube_test

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestClusterComesUp(t *testing.T) {
	w := newWorld(t, "")
	plane := w.startPlane("cp-1")
	eventually(t, "API ready", isTrue("ready", plane.Ready))
	api := w.admin()

	cp := w.runner.StartKubelet(w.kubeletSpec("cp-1", controlPlane))
	worker := w.runner.StartKubelet(w.kubeletSpec("worker-1"))
	eventually(t, "nodes ready", func(ctx context.Context) error {
		for _, name := range []string{"cp-1", "worker-1"} {
			if err := node(ctx, api, name, nodeReady); err != nil {
				return errors.Join(err, errors.New(cp.LastError()), errors.New(worker.LastError()))
			}
		}
		return nil
	})
	got, err := api.CoreV1().Nodes().Get(t.Context(), "cp-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", got.Spec)
	pods, err := api.CoreV1().Pods(corev1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		t.Logf("%s %s %s %s", pod.Name, pod.Spec.NodeName, pod.Status.Phase, pod.Status.PodIP)
	}
}
