package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
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

func emptyDir(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
}

func finished(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }

func daemon(p *corev1.Pod) {
	yes := true
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "agent", Controller: &yes}}
}

func static(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }

func TestDrainRound(t *testing.T) {
	agent := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "agent"}}
	keep := DrainOptions{GraceSeconds: -1}
	force := DrainOptions{Force: true, GraceSeconds: -1}
	for _, tc := range []struct {
		name    string
		pods    []runtime.Object
		opts    DrainOptions
		asked   []string
		left    map[string]string
		refused string // what the Invalid error says
	}{
		{
			name: "what a node carries", opts: keep,
			pods:  []runtime.Object{agent, podOn("n", "app", "ReplicaSet"), podOn("n", "agent-1", "", daemon), podOn("n", "etcd-n", "Node", static), podOn("other", "b", "")},
			asked: []string{"app"}, left: map[string]string{"app": "is ending"},
		},
		{
			name: "one that nobody restarts", opts: keep, pods: []runtime.Object{podOn("n", "app", "ReplicaSet"), podOn("n", "bare", "")},
			refused: "may not evict Pods that declare no controller (the option force overrides it): apps/bare",
		},
		{
			name: "forced", opts: force, pods: []runtime.Object{podOn("n", "bare", "")},
			asked: []string{"bare"}, left: map[string]string{"bare": "is ending"},
		},
		{
			name: "local data", opts: keep, pods: []runtime.Object{podOn("n", "app", "ReplicaSet", emptyDir), podOn("n", "other", "ReplicaSet", emptyDir)},
			refused: "may not evict Pods with local storage (the option deleteEmptyDir overrides it): apps/app, apps/other",
		},
		{
			name: "local data given up", opts: DrainOptions{DeleteEmptyDir: true, GraceSeconds: -1}, pods: []runtime.Object{podOn("n", "app", "ReplicaSet", emptyDir)},
			asked: []string{"app"}, left: map[string]string{"app": "is ending"},
		},
		{
			name: "both reasons", opts: keep, pods: []runtime.Object{podOn("n", "app", "ReplicaSet", emptyDir), podOn("n", "bare", "")},
			refused: "apps/bare; may not evict Pods with local storage",
		},
		{
			name: "finished pods go whatever they are", opts: keep, pods: []runtime.Object{podOn("n", "job", "", finished), podOn("n", "scratch", "Job", finished, emptyDir)},
			asked: []string{"job", "scratch"}, left: map[string]string{"job": "is ending", "scratch": "is ending"},
		},
		{
			name: "ending pods need no permission", opts: keep,
			pods: []runtime.Object{agent, podOn("n", "bare", "", ending(drainStart)), podOn("n", "data", "ReplicaSet", emptyDir, ending(drainStart)), podOn("n", "agent-1", "", daemon, ending(drainStart)), podOn("n", "etcd-n", "Node", static, ending(drainStart))},
			left: map[string]string{"bare": "is ending", "data": "is ending"},
		},
		{
			name: "orphan of a DaemonSet", opts: keep, pods: []runtime.Object{podOn("n", "agent-1", "", daemon)},
			refused: `"agent" not found: apps/agent-1`,
		},
		{
			name: "orphan of a DaemonSet, forced", opts: force, pods: []runtime.Object{podOn("n", "agent-1", "", daemon)},
			asked: []string{"agent-1"}, left: map[string]string{"agent-1": "is ending"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			api := fake.NewClientset(append(tc.pods, nodeNamed("n", corev1.ConditionTrue))...)
			asked := map[string]bool{}
			api.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
				asked[a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction).Name] = true
				return true, nil, nil
			})
			c := holding(api)
			c.now = func() time.Time { return drainStart }
			left, err := c.Drain(t.Context(), "n", tc.opts)
			if tc.refused != "" {
				if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), tc.refused) || strings.Contains(err.Error(), "--") {
					t.Errorf("refusal: %s: %v", fault.KindOf(err), err)
				}
				if len(asked) > 0 {
					t.Errorf("evicted all the same: %v", asked)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, p := range left {
				got[p.Name] = p.Why
			}
			want := map[string]bool{}
			for _, name := range tc.asked {
				want[name] = true
			}
			if diff := cmp.Diff(want, asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.left, got); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDrainOverridesGrace(t *testing.T) {
	for _, tc := range []struct {
		opts DrainOptions
		want *int64
	}{{DrainOptions{GraceSeconds: -1}, nil}, {DrainOptions{}, new(int64)}, {DrainOptions{GraceSeconds: 30}, &[]int64{30}[0]}} {
		api := fake.NewClientset(nodeNamed("n", corev1.ConditionTrue), podOn("n", "p", "ReplicaSet"))
		var got *policyv1.Eviction
		api.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
			got = a.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
			return true, nil, nil
		})
		if _, err := holding(api).Drain(t.Context(), "n", tc.opts); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got.DeleteOptions.GracePeriodSeconds); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tc.opts, diff)
		}
	}
}

// TestDrainTellsSilenceFromRefusal: kubectl's filters turn every error of the API
// into a pod that may not be evicted.
func TestDrainTellsSilenceFromRefusal(t *testing.T) {
	daemonSets := schema.GroupResource{Group: "apps", Resource: "daemonsets"}
	for want, answer := range map[fault.Kind]error{
		fault.RateLimited:  apierrors.NewTooManyRequests("later", 3),
		fault.Unavailable:  apierrors.NewServiceUnavailable("starting"),
		fault.Unauthorized: apierrors.NewForbidden(daemonSets, "agent", text(`User "x" cannot get resource "daemonsets"`)),
	} {
		api := fake.NewClientset(nodeNamed("n", corev1.ConditionTrue), podOn("n", "agent-1", "", daemon), podOn("n", "bare", ""))
		api.PrependReactor("get", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, answer })
		if _, err := holding(api).Drain(t.Context(), "n", DrainOptions{}); fault.KindOf(err) != want {
			t.Errorf("want %s: %v", want, err)
		}
	}
	if _, err := holding(fake.NewClientset()).Drain(t.Context(), "n", DrainOptions{}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("absent node: %v", err)
	}
}
