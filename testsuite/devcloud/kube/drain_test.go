package kube_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// A node that drains itself, as old Talos does, honours disruption budgets, and
// its next boot uncordons it; pods that stay with the machine start anew.
func TestNodeDrainsItself(t *testing.T) {
	w := newWorld(t, "")
	plane := w.startPlane("cp-1")
	boot := func(id string) func(*guest.Kubelet) { return func(spec *guest.Kubelet) { spec.BootID = id } }
	k := w.runner.StartKubelet(w.kubeletSpec("worker-1", boot("first")))
	eventually(t, "ready", isTrue("ready", func() bool { return plane.Ready() && k.Ready() }))
	api := w.admin()
	apply(t, api, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web"}}},
			},
		},
	})
	eventually(t, "available", func(ctx context.Context) error { return available(ctx, api) })
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: new(intstr.FromInt32(2)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		},
	}
	if _, err := api.PolicyV1().PodDisruptionBudgets("default").Create(t.Context(), budget, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "budget known", func(ctx context.Context) error {
		have, err := api.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "web", metav1.GetOptions{})
		if err == nil && have.Status.CurrentHealthy != 2 {
			err = errors.New("not yet")
		}
		return err
	})

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := k.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain against a budget: %v", err)
	}
	if err := available(t.Context(), api); err != nil {
		t.Error("the budget was broken:", err)
	}
	cordoned := func(want bool) func(context.Context) error {
		return func(ctx context.Context) error {
			return node(ctx, api, "worker-1", func(node *corev1.Node) error {
				if node.Spec.Unschedulable != want || (node.Annotations["talos.dev/cordoned"] != "") != want {
					return fmt.Errorf("unschedulable %v, %v", node.Spec.Unschedulable, node.Annotations)
				}
				return nil
			})
		}
	}
	eventually(t, "cordoned", cordoned(true))

	k.Stop()
	k = w.runner.StartKubelet(w.kubeletSpec("worker-1", boot("second")))
	eventually(t, "uncordoned", cordoned(false))
	eventually(t, "pods restarted", func(ctx context.Context) error {
		pods, err := api.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if n := pod.Status.ContainerStatuses[0].RestartCount; n != 1 || readyStatus(&pod) != corev1.ConditionTrue {
				return fmt.Errorf("%s: %d restarts, ready %s", pod.Name, n, readyStatus(&pod))
			}
		}
		return nil
	})

	if err := api.PolicyV1().PodDisruptionBudgets("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "drained", k.Drain)
}
