package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// budget makes one for the pods labelled app: web.
func budget(name, minAvailable, maxUnavailable string, status policyv1.PodDisruptionBudgetStatus) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name, Generation: 1},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
		Status:     status,
	}
	if b.Status.ObservedGeneration == 0 {
		b.Status.ObservedGeneration = 1
	}
	if minAvailable != "" {
		v := intstr.Parse(minAvailable)
		b.Spec.MinAvailable = &v
	}
	if maxUnavailable != "" {
		v := intstr.Parse(maxUnavailable)
		b.Spec.MaxUnavailable = &v
	}
	return b
}

func healthy(current, desired, expected, allowed int32) policyv1.PodDisruptionBudgetStatus {
	return policyv1.PodDisruptionBudgetStatus{CurrentHealthy: current, DesiredHealthy: desired, ExpectedPods: expected, DisruptionsAllowed: allowed}
}

func webPod(name, ownerKind, owner string) *corev1.Pod {
	p := podOn("n", name, ownerKind)
	p.Labels = map[string]string{"app": "web"}
	for i := range p.OwnerReferences {
		p.OwnerReferences[i].Name, p.OwnerReferences[i].UID = owner, "uid-of-"+p.OwnerReferences[i].UID
	}
	return p
}

func TestStuckBudgets(t *testing.T) {
	three, yes := int32(3), true
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "web-1", OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: "web", UID: "d", Controller: &yes}}},
		Spec:       appsv1.ReplicaSetSpec{Replicas: new(int32)},
	}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "web"}, Spec: appsv1.DeploymentSpec{Replicas: &three}}
	stateful := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "db"}}
	failed := healthy(0, 0, 0, 0)
	failed.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: "widgets.example.com does not implement the scale subresource"}}
	stale := healthy(2, 2, 2, 0)
	stale.ObservedGeneration = 7

	for _, tc := range []struct {
		name    string
		objects []runtime.Object
		reason  string // "" when the budget is fine
	}{
		{"maxUnavailable 0", []runtime.Object{budget("b", "", "0", healthy(2, 2, 2, 0))}, "needs 2 healthy pods of 2 (maxUnavailable: 0) and so never allows an eviction; relax it or add replicas"},
		{"maxUnavailable 0%", []runtime.Object{budget("b", "", "0%", healthy(2, 2, 2, 0))}, "needs 2 healthy pods of 2 (maxUnavailable: 0%) and so never allows an eviction; relax it or add replicas"},
		{"minAvailable 100%, not even healthy now", []runtime.Object{budget("b", "100%", "", healthy(1, 2, 2, 0))}, "needs 2 healthy pods of 2 (minAvailable: 100%) and so never allows an eviction; relax it or add replicas"},
		{"the only replica, by the default", []runtime.Object{budget("b", "", "", healthy(1, 1, 1, 0))}, "needs 1 healthy pods of 1 (minAvailable: 1, the default) and so never allows an eviction; relax it or add replicas"},
		{"the only replica of a StatefulSet", []runtime.Object{budget("b", "1", "", healthy(1, 1, 1, 0)), stateful, webPod("db-0", "StatefulSet", "db")}, "needs 1 healthy pods of 1 (minAvailable: 1) and so never allows an eviction; relax it or add replicas"},
		{"more demanded than there are", []runtime.Object{budget("b", "4", "", healthy(3, 4, 3, 0)), set, deployment, webPod("web-1-a", "ReplicaSet", "web-1")}, "needs 4 healthy pods of 3 (minAvailable: 4) and so never allows an eviction; relax it or add replicas"},
		{"not computable", []runtime.Object{budget("b", "", "1", failed)}, "allows no eviction because the disruption controller cannot compute it: widgets.example.com does not implement the scale subresource"},
		{"waits for a pod to get healthy", []runtime.Object{budget("b", "", "1", healthy(2, 2, 3, 0))}, ""},
		{"waits for pods to be made", []runtime.Object{budget("b", "2", "", healthy(2, 2, 2, 0)), set, deployment, webPod("web-1-a", "ReplicaSet", "web-1"), webPod("web-1-b", "ReplicaSet", "web-1")}, ""},
		{"allows one", []runtime.Object{budget("b", "1", "", healthy(2, 1, 2, 1))}, ""},
		{"guards nothing", []runtime.Object{budget("b", "1", "", healthy(0, 1, 0, 0))}, ""},
		{"not judged yet", []runtime.Object{budget("b", "", "0", stale)}, ""},
		{"two for one pod", []runtime.Object{budget("b", "", "1", healthy(3, 2, 3, 1)), budget("c", "1", "", healthy(3, 1, 3, 2)), webPod("z", "", ""), webPod("a", "", "")}, "covers pod a together with budget c; the eviction API refuses pods with several budgets"},
		{"two, one of them for finished pods", []runtime.Object{budget("b", "", "1", healthy(3, 2, 3, 1)), budget("c", "1", "", healthy(3, 1, 3, 2)), func() *corev1.Pod { p := webPod("z", "", ""); finished(p); return p }()}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := holding(fake.NewClientset(tc.objects...)).StuckBudgets(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var want []plan.Refusal
			if tc.reason != "" {
				want = []plan.Refusal{{Field: "PodDisruptionBudget apps/b", Reason: tc.reason}}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStuckBudgetsDoNotHideErrors(t *testing.T) {
	for _, resource := range []string{"poddisruptionbudgets", "pods", "replicasets"} {
		api := fake.NewClientset(budget("b", "1", "", healthy(1, 1, 1, 0)), webPod("w", "ReplicaSet", "web-1"))
		api.PrependReactor("*", resource, func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewServiceUnavailable("starting")
		})
		if _, err := holding(api).StuckBudgets(t.Context()); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", resource, err)
		}
	}
}
