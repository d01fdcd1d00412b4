package kube_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
)

// serves looks at the version that the API emulates: minor and gitVersion stay
// those of the program.
func serves(ctx context.Context, api *client.Client, want string) error {
	version, err := api.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	if got := version.EmulationMajor + "." + version.EmulationMinor; got != want {
		return fmt.Errorf("serves %s, want %s: %+v", got, want, version)
	}
	return ctx.Err()
}

// One control plane after the other goes from one minor version to the next, as
// in an upgrade, with the API servers of their own and with shared ones.
func TestRollingMinorUpgrade(t *testing.T) {
	for name, exclusive := range map[string]bool{"own API servers": true, "shared API servers": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "")
			at := func(version string) func(*guest.ControlPlane) {
				return func(spec *guest.ControlPlane) { spec.KubernetesVersion, spec.Exclusive = version, exclusive }
			}
			first, second := w.startPlane("cp-1", at("v1.35.4")), w.startPlane("cp-2", at("v1.35.4"))
			eventually(t, "both ready", isTrue("ready", func() bool { return first.Ready() && second.Ready() }))
			api, backend := w.admin(), first.Backend()
			remember(t, api, "one")
			eventually(t, "old version", func(ctx context.Context) error { return serves(ctx, api, "1.35") })
			controllersWork(t, api, "before")

			w.balance(second)
			if err := first.Restart(w.planeSpec("cp-1", at("v1.36.3"))); err != nil {
				t.Fatal(err)
			}
			eventually(t, "first ready again", isTrue("ready", first.Ready))
			if first.Backend() != backend {
				t.Errorf("moved from %s to %s", backend, first.Backend())
			}
			if err := serves(t.Context(), api, "1.35"); err != nil {
				t.Error("the other one:", err)
			}
			w.balance(first)
			w.endpoint.Cut()
			eventually(t, "new version", func(ctx context.Context) error { return serves(ctx, api, "1.36") })
			if err := second.Restart(w.planeSpec("cp-2", at("v1.36.3"))); err != nil {
				t.Fatal(err)
			}
			eventually(t, "second ready again", isTrue("ready", second.Ready))
			if err := remembered(t.Context(), api, "one"); err != nil {
				t.Error(err)
			}
			controllersWork(t, api, "after")
		})
	}
}

// A kubelet shows its static pods as they are: version, annotations, readiness.
func TestStaticPodsAsTheyAre(t *testing.T) {
	w := newWorld(t, "")
	plane := w.startPlane("cp-1")
	eventually(t, "ready", isTrue("ready", plane.Ready))
	var pod atomic.Pointer[guest.StaticPod]
	pod.Store(&guest.StaticPod{
		Name: "kube-scheduler", Image: "registry.k8s.io/kube-scheduler:v1.35.4", Ready: true,
		Annotations: map[string]string{"talos.dev/config-version": "1"},
	})
	w.runner.StartKubelet(w.kubeletSpec("cp-1", controlPlane, func(spec *guest.Kubelet) {
		spec.StaticPods = func() []guest.StaticPod { return []guest.StaticPod{*pod.Load()} }
	}))
	api := w.admin()
	shown := func(image, version string, want corev1.ConditionStatus) func(context.Context) error {
		return func(ctx context.Context) error {
			have, err := api.CoreV1().Pods("kube-system").Get(ctx, "kube-scheduler-cp-1", metav1.GetOptions{})
			if err != nil {
				return err
			}
			got := fmt.Sprint(have.Spec.Containers[0].Image, " ", have.Annotations["talos.dev/config-version"], " ",
				have.Labels["app.kubernetes.io/version"], " ", readyStatus(have))
			_, tag, _ := strings.Cut(image, ":")
			if want := fmt.Sprint(image, " ", version, " ", tag, " ", want); got != want {
				return fmt.Errorf("have %s, want %s", got, want)
			}
			return nil
		}
	}
	eventually(t, "shown", shown("registry.k8s.io/kube-scheduler:v1.35.4", "1", corev1.ConditionTrue))
	next := *pod.Load()
	next.Image, next.Ready = "registry.k8s.io/kube-scheduler:v1.36.3", false
	next.Annotations = map[string]string{"talos.dev/config-version": "2"}
	pod.Store(&next)
	eventually(t, "replaced", func(ctx context.Context) error {
		if err := shown(next.Image, "2", corev1.ConditionFalse)(ctx); err == nil {
			return nil
		}
		return shown(next.Image, "2", "")(ctx)
	})
	last := next
	last.Ready = true
	pod.Store(&last)
	eventually(t, "ready", shown(last.Image, "2", corev1.ConditionTrue))
	again := last // the kubelet reads the other
	again.Ready = false
	pod.Store(&again)
	eventually(t, "not ready", shown(last.Image, "2", corev1.ConditionFalse))
}

func readyStatus(pod *corev1.Pod) corev1.ConditionStatus {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status
		}
	}
	return ""
}
