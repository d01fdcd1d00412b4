package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/ichor-project/ichor/internal/fault"
)

// mirror makes the mirror pod of a component of node n.
func mirror(component, image string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: component + "-n", Annotations: map[string]string{
			corev1.MirrorPodAnnotationKey: "x", annotationConfigVersion: "7",
		}},
		Spec:   corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: component, Image: image}}},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func TestStaticPod(t *testing.T) {
	const image = "registry.k8s.io/kube-apiserver:v1.36.3"
	for _, tc := range []struct {
		name string
		pod  *corev1.Pod
		want StaticPod
		kind fault.Kind
	}{
		{"ready", mirror("kube-apiserver", image), StaticPod{image, "v1.36.3", "7", true}, ""},
		{"by digest", mirror("kube-apiserver", image+"@sha256:ab"), StaticPod{image + "@sha256:ab", "v1.36.3", "7", true}, ""},
		{"a registry with a port and no tag", mirror("kube-apiserver", "r:5000/kube-apiserver"), StaticPod{"r:5000/kube-apiserver", "", "7", true}, ""},
		{"beside another container", mirror("kube-apiserver", image, func(p *corev1.Pod) {
			p.Spec.Containers = append([]corev1.Container{{Name: "proxy", Image: "proxy:v9"}}, p.Spec.Containers...)
		}), StaticPod{image, "v1.36.3", "7", true}, ""},
		{"not ready", mirror("kube-apiserver", image, func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }), StaticPod{image, "v1.36.3", "7", false}, ""},
		{"ending", mirror("kube-apiserver", image, ending(drainStart)), StaticPod{image, "v1.36.3", "7", false}, ""},
		{"of Talos before it said so", mirror("kube-apiserver", image, func(p *corev1.Pod) { delete(p.Annotations, annotationConfigVersion) }), StaticPod{image, "v1.36.3", "", true}, ""},
		{"another component", mirror("kube-scheduler", image), StaticPod{}, fault.NotFound},
		{"only its name", mirror("kube-apiserver", image, func(p *corev1.Pod) { p.Annotations = nil }), StaticPod{}, fault.NotFound},
		{"on another node", mirror("kube-apiserver", image, func(p *corev1.Pod) { p.Spec.NodeName = "m" }), StaticPod{}, fault.NotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := holding(fake.NewClientset(tc.pod)).StaticPod(t.Context(), "n", "kube-apiserver")
			if fault.KindOf(err) != tc.kind {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAutoscalerVersion(t *testing.T) {
	running := func(name, image string, change ...func(*appsv1.Deployment)) runtime.Object {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name}}
		d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "sidecar", Image: "example.com/sidecar:v9.9.9"}, {Name: "c", Image: image}}
		for _, f := range change {
			f(d)
		}
		return d
	}
	off := func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32) }
	charted := func(d *appsv1.Deployment) { d.Labels = map[string]string{labelVersion: "1.35.0"} }
	const official = "registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.0"
	for _, tc := range []struct {
		name    string
		objects []runtime.Object
		want    string
	}{
		{"none", []runtime.Object{running("a", "example.com/app:v1.2.3")}, ""},
		{"official", []runtime.Object{running("a", official)}, "v1.36.0"},
		{"of an architecture", []runtime.Object{running("a", "x/cluster-autoscaler-arm64:v1.35.2@sha256:ab")}, "v1.35.2"},
		{"the lowest counts", []runtime.Object{running("a", official), running("b", "x/cluster-autoscaler:1.34.1")}, "v1.34.1"},
		{"switched off", []runtime.Object{running("a", official, off)}, ""},
		{"by its label", []runtime.Object{running("a", "x/cluster-autoscaler@sha256:ab", charted)}, "v1.35.0"},
		{"without a version", []runtime.Object{running("a", "x/cluster-autoscaler:latest")}, ""},
		{"something like it", []runtime.Object{running("a", "x/not-cluster-autoscaler:v1.0.0"), running("b", "x/cluster-autoscaler/docs:v1.0.0")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := holding(fake.NewClientset(tc.objects...)).AutoscalerVersion(t.Context())
			if err != nil || got != tc.want {
				t.Errorf("got %q, want %q: %v", got, tc.want, err)
			}
		})
	}
}
