package kube_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/kube"
)

// drains empties a node of a real API, where nothing but the API itself judges
// budgets. There is no kubelet, so the test ends pods in its place.
func drains(t *testing.T, c *kube.Client, judge kubernetes.Interface) {
	ctx := t.Context()
	const node = "full"
	_, err := judge.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "example.com/mine", Effect: corev1.TaintEffectNoSchedule}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owner, err := judge.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owned := []metav1.OwnerReference{*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("ConfigMap"))}
	for name, owners := range map[string][]metav1.OwnerReference{"app": owned, "guarded": owned, "bare": nil} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}, OwnerReferences: owners},
			Spec: corev1.PodSpec{
				NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "example.com/c:1"}},
				Volumes: []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			},
		}
		eventually(t, "create pod "+name, func() error {
			_, err := judge.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{})
			if err != nil && strings.Contains(err.Error(), "serviceaccount") {
				return fault.Wrap(fault.NotYet, "create pod", err)
			}
			return err
		}, fault.NotYet)
		made, err := judge.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		made.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
		if _, err := judge.CoreV1().Pods("default").UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	one := intstr.FromInt32(1)
	_, err = judge.PolicyV1().PodDisruptionBudgets("default").Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "guard"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "guarded"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	for range 2 {
		if err := c.Retire(ctx, node); err != nil {
			t.Fatal(err)
		}
	}
	n, err := judge.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	taints := map[string]corev1.TaintEffect{}
	for _, taint := range n.Spec.Taints {
		taints[taint.Key] = taint.Effect
	}
	if !n.Spec.Unschedulable || taints["example.com/mine"] != corev1.TaintEffectNoSchedule || taints[kube.TaintDeleting] != corev1.TaintEffectNoSchedule {
		t.Errorf("after Retire the node is unschedulable %v with taints %v", n.Spec.Unschedulable, taints)
	}

	remaining := func(want ...string) []kube.PodLeft {
		t.Helper()
		left, err := c.Evict(ctx, node)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, p := range left {
			names = append(names, p.Name)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Fatalf("pods left (-want +got):\n%s", diff)
		}
		return left
	}
	end := func(name string) {
		t.Helper()
		if err := judge.CoreV1().Pods("default").Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
	}
	// The disruption controller may not have seen the budget at first; until
	// then the API refuses, too, but without saying why.
	eventually(t, "the budget is judged", func() error {
		left := remaining("app", "bare", "guarded")
		if left[0].Why != "is ending" || !strings.Contains(left[1].Why, "no controller") {
			t.Fatalf("%+v", left)
		}
		if !strings.Contains(left[2].Why, "guard needs 1 healthy pods and has 1 currently") {
			return fault.New(fault.NotYet, "judge", "%s", left[2].Why)
		}
		return nil
	}, fault.NotYet)
	end("app")
	end("bare")
	remaining("guarded")
	if err := judge.PolicyV1().PodDisruptionBudgets("default").Delete(ctx, "guard", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the budget is gone", func() error {
		if left := remaining("guarded"); left[0].Why != "is ending" {
			return fault.New(fault.NotYet, "evict", "%s", left[0].Why)
		}
		return nil
	}, fault.NotYet)
	end("guarded")
	remaining()

	if _, err := c.Evict(ctx, "nowhere"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("draining an absent node: %v", err)
	}
	if err := c.Retire(ctx, "nowhere"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("cordoning an absent node: %v", err)
	}
}
