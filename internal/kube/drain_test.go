package kube

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/ichor-project/ichor/internal/fault"
)

var drainStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func nodeNamed(name string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
	}
}

// podOn makes a pod whose controller is of a kind; none when it is empty.
func podOn(node, name, controller string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name, UID: "the-uid"},
		Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if controller != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: controller, Name: "owner", Controller: &yes}}
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func ending(at time.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp = &metav1.Time{Time: at}
		p.Finalizers = []string{"example.com/keep"} // the fake drops ending pods without one
	}
}

func TestEvict(t *testing.T) {
	budget := &apierrors.StatusError{ErrStatus: metav1.Status{
		Code: 429, Reason: metav1.StatusReasonTooManyRequests, Message: "Cannot evict pod as it would violate the pod's disruption budget.",
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "The disruption budget web needs 2 healthy pods and has 2 currently"}}},
	}}
	pods := schema.GroupResource{Resource: "pods"}
	for _, tc := range []struct {
		name    string
		ready   corev1.ConditionStatus
		pod     *corev1.Pod
		answer  error // of the eviction
		asked   bool
		why     string // "" when the pod does not count
		refused fault.Kind
	}{
		{name: "evicted", pod: podOn("n", "p", "ReplicaSet"), asked: true, why: "is ending"},
		{name: "with an empty dir", pod: podOn("n", "p", "ReplicaSet", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}), asked: true, why: "is ending"},
		{name: "elsewhere", pod: podOn("other", "p", "ReplicaSet")},
		{name: "of a DaemonSet", pod: podOn("n", "p", "DaemonSet")},
		{name: "static", pod: podOn("n", "p", "Node", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} })},
		{name: "without controller", pod: podOn("n", "p", ""), why: "has no controller that would start it again elsewhere; delete it yourself"},
		{name: "finished, without controller", pod: podOn("n", "p", "", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), asked: true, why: "is ending"},
		{name: "ending already", pod: podOn("n", "p", "ReplicaSet", ending(drainStart)), why: "is ending"},
		{name: "ending long on a live node", pod: podOn("n", "p", "ReplicaSet", ending(drainStart.Add(-time.Hour))), why: "is ending"},
		{name: "ending long on a silent node", ready: corev1.ConditionUnknown, pod: podOn("n", "p", "ReplicaSet", ending(drainStart.Add(-silence-time.Second)))},
		{name: "ending on a silent node", ready: corev1.ConditionUnknown, pod: podOn("n", "p", "ReplicaSet", ending(drainStart.Add(-silence+time.Second))), why: "is ending"},
		{name: "gone meanwhile", pod: podOn("n", "p", "ReplicaSet"), answer: apierrors.NewNotFound(pods, "p"), asked: true},
		{name: "held by a budget", pod: podOn("n", "p", "ReplicaSet"), answer: budget, asked: true, why: "The disruption budget web needs 2 healthy pods and has 2 currently (Cannot evict pod as it would violate the pod's disruption budget)"},
		{
			name: "held by two budgets", pod: podOn("n", "p", "ReplicaSet"), asked: true,
			answer: apierrors.NewInternalError(errTwo), why: "Internal error occurred: This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
		},
		{name: "replaced", pod: podOn("n", "p", "StatefulSet"), answer: apierrors.NewConflict(pods, "p", errTwo), asked: true, why: "changed meanwhile"},
		{name: "API overloaded", pod: podOn("n", "p", "ReplicaSet"), answer: apierrors.NewTooManyRequests("later", 3), asked: true, refused: fault.RateLimited},
		{
			name: "refused by a webhook", pod: podOn("n", "p", "StatefulSet"), answer: apierrors.NewForbidden(pods, "p", errWebhook), asked: true,
			why: "may not be evicted: evict pod apps/p: pods \"p\" is forbidden: the volume is being rebuilt (Forbidden, HTTP 403)",
		},
		{name: "not allowed", pod: podOn("n", "p", "ReplicaSet"), answer: apierrors.NewForbidden(pods, "p", errCannot), asked: true, refused: fault.Unauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.ready == "" {
				tc.ready = corev1.ConditionTrue
			}
			api := fake.NewClientset(nodeNamed("n", tc.ready), tc.pod)
			var asked []string
			api.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
				if a.GetSubresource() != "eviction" {
					return false, nil, nil
				}
				e := a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
				if uid := e.DeleteOptions.Preconditions.UID; uid == nil || *uid != tc.pod.UID {
					t.Errorf("the eviction is not for this very pod: uid %v", uid)
				}
				asked = append(asked, e.Namespace+"/"+e.Name)
				return true, nil, tc.answer
			})
			c := &Client{core: api.CoreV1(), policy: api.PolicyV1(), now: func() time.Time { return drainStart }}
			left, err := c.Evict(t.Context(), "n")
			if fault.KindOf(err) != tc.refused {
				t.Fatalf("error %v", err)
			}
			var want []PodLeft
			if tc.why != "" {
				want = []PodLeft{{Namespace: "apps", Name: "p", Why: tc.why}}
			}
			if diff := cmp.Diff(want, left); diff != "" && len(want)+len(left) > 0 {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if (len(asked) == 1) != tc.asked {
				t.Errorf("evictions asked for: %v", asked)
			}
		})
	}
}

func TestEvictNamesPodsInOrder(t *testing.T) {
	objects := []runtime.Object{nodeNamed("n", corev1.ConditionTrue)}
	for _, name := range []string{"c", "a", "d", "b"} {
		objects = append(objects, podOn("n", name, "ReplicaSet"))
	}
	api := fake.NewClientset(objects...)
	c := &Client{core: api.CoreV1(), policy: api.PolicyV1(), now: time.Now}
	left, err := c.Evict(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range left {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c", "d"}) {
		t.Errorf("left: %v", names)
	}
	if _, err := c.Evict(t.Context(), "gone"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("draining an absent node: %v", err)
	}
}

func TestRetireIsRepeatedAfterAConflict(t *testing.T) {
	n := nodeNamed("n", corev1.ConditionTrue)
	n.Spec.Unschedulable = true // an autoscaler's own mark is not enough
	n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Value: "1", Effect: corev1.TaintEffectNoSchedule}}
	api := fake.NewClientset(n)
	writes := 0
	api.PrependReactor("patch", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		writes++
		if writes == 1 {
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, "n", errTwo)
		}
		return false, nil, nil
	})
	c := &Client{core: api.CoreV1(), policy: api.PolicyV1(), now: time.Now}
	if err := c.Retire(t.Context(), "n"); fault.KindOf(err) != fault.Conflict {
		t.Fatalf("first: %v", err)
	}
	for range 2 {
		if err := c.Retire(t.Context(), "n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := api.CoreV1().Nodes().Get(t.Context(), "n", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []corev1.Taint{n.Spec.Taints[0], {Key: TaintDeleting, Effect: corev1.TaintEffectNoSchedule}}
	if diff := cmp.Diff(want, got.Spec.Taints); diff != "" || !got.Spec.Unschedulable {
		t.Errorf("unschedulable %v, taints (-want +got):\n%s", got.Spec.Unschedulable, diff)
	}
	if writes != 2 {
		t.Errorf("%d writes; a node that is retired already needs none", writes)
	}
}

type text string

func (e text) Error() string { return string(e) }

const (
	errTwo     text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
	errWebhook text = "the volume is being rebuilt"
	errCannot  text = `User "x" cannot create resource "pods/eviction"`
)
