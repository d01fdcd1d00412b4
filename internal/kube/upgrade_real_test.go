package kube_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/kube"
	"github.com/ichor-project/ichor/internal/plan"
)

// inNamespace makes a namespace in which pods can be made.
func inNamespace(t *testing.T, judge kubernetes.Interface, name string) {
	t.Helper()
	if _, err := judge.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "service account of "+name, func() error {
		_, err := judge.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		if err != nil {
			return fault.Wrap(fault.NotYet, "service account", err)
		}
		return nil
	}, fault.NotYet)
}

// report plays the kubelet: it reports a pod as running, ready or not.
func report(t *testing.T, judge kubernetes.Interface, namespace, name string, ready corev1.ConditionStatus) {
	t.Helper()
	eventually(t, "report pod "+name, func() error {
		p, err := judge.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}}
		_, err = judge.CoreV1().Pods(namespace).UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			return fault.Wrap(fault.Conflict, "report", err)
		}
		return err
	}, fault.Conflict)
}

// onNode makes a node, cordoned so that the scheduler does not use it.
func onNode(t *testing.T, judge kubernetes.Interface, name string) {
	t.Helper()
	_, err := judge.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Unschedulable: true}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func replicas(n int32) *int32 { return &n }

// serve makes a Deployment whose pods are bound to a node, and waits for them.
func serve(t *testing.T, judge kubernetes.Interface, namespace, name, node string, n int32, change ...func(*corev1.PodSpec)) {
	t.Helper()
	spec := corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "example.com/c:1"}}}
	for _, f := range change {
		f(&spec)
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: replicas(n), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: spec},
	}}
	if _, err := judge.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pods of "+name, func() error {
		list, err := judge.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		if len(list.Items) != int(n) {
			return fault.New(fault.NotYet, "pods", "%d of %d", len(list.Items), n)
		}
		for _, p := range list.Items {
			report(t, judge, namespace, p.Name, corev1.ConditionTrue)
		}
		return nil
	}, fault.NotYet)
}

func guard(t *testing.T, judge kubernetes.Interface, namespace, name, app string, spec policyv1.PodDisruptionBudgetSpec) {
	t.Helper()
	spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	_, err := judge.PolicyV1().PodDisruptionBudgets(namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func number(n int32) *intstr.IntOrString { v := intstr.FromInt32(n); return &v }

func percent(s string) *intstr.IntOrString { v := intstr.FromString(s); return &v }

// budgets: PDB deadlock. The real disruption controller judges; only what can
// never be satisfied is reported.
func budgets(t *testing.T, c *kube.Client, judge kubernetes.Interface) {
	inNamespace(t, judge, "guarded")
	onNode(t, judge, "guarded-1")
	for app, n := range map[string]int32{"one": 1, "all": 2, "none": 2, "some": 2, "waits": 2, "twice": 1} {
		serve(t, judge, "guarded", app, "guarded-1", n)
	}
	guard(t, judge, "guarded", "one", "one", policyv1.PodDisruptionBudgetSpec{MinAvailable: number(1)})
	guard(t, judge, "guarded", "all", "all", policyv1.PodDisruptionBudgetSpec{MinAvailable: percent("100%")})
	guard(t, judge, "guarded", "none", "none", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: percent("0%")})
	guard(t, judge, "guarded", "some", "some", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)})
	guard(t, judge, "guarded", "waits", "waits", policyv1.PodDisruptionBudgetSpec{MinAvailable: number(1)})
	guard(t, judge, "guarded", "first", "twice", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)})
	guard(t, judge, "guarded", "second", "twice", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)})
	// One of two is not healthy: this budget allows nothing, but only for now.
	list, err := judge.CoreV1().Pods("guarded").List(t.Context(), metav1.ListOptions{LabelSelector: "app=waits"})
	if err != nil {
		t.Fatal(err)
	}
	report(t, judge, "guarded", list.Items[0].Name, corev1.ConditionFalse)
	eventually(t, "the controller has judged", func() error {
		list, err := judge.PolicyV1().PodDisruptionBudgets("guarded").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, b := range list.Items {
			settled := b.Status.ObservedGeneration == b.Generation && b.Status.ExpectedPods > 0
			want := int32(0)
			if b.Name == "some" || b.Name == "first" || b.Name == "second" {
				want = 1
			}
			if !settled || b.Status.DisruptionsAllowed != want || b.Name == "waits" && b.Status.CurrentHealthy != 1 {
				return fault.New(fault.NotYet, "judge", "%s: %+v", b.Name, b.Status)
			}
		}
		return nil
	}, fault.NotYet)
	got, err := c.StuckBudgets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pods, err := judge.CoreV1().Pods("guarded").List(t.Context(), metav1.ListOptions{LabelSelector: "app=twice"})
	if err != nil {
		t.Fatal(err)
	}
	const never = " and so never allows an eviction; relax it or add replicas"
	want := []plan.Refusal{
		{Field: "PodDisruptionBudget guarded/all", Reason: "needs 2 healthy pods of 2 (minAvailable: 100%)" + never},
		{Field: "PodDisruptionBudget guarded/first", Reason: "covers pod " + pods.Items[0].Name + " together with budget second; the eviction API refuses pods with several budgets"},
		{Field: "PodDisruptionBudget guarded/none", Reason: "needs 2 healthy pods of 2 (maxUnavailable: 0%)" + never},
		{Field: "PodDisruptionBudget guarded/one", Reason: "needs 1 healthy pods of 1 (minAvailable: 1)" + never},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// rounds drains a held node in rounds, with a budget of the real API between.
func rounds(t *testing.T, c *kube.Client, judge kubernetes.Interface) {
	ctx := t.Context()
	inNamespace(t, judge, "rounds")
	onNode(t, judge, "rounds-1")
	if err := c.Cordon(ctx, "rounds-1", false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.HoldNode(ctx, "rounds-1", "upgrade-1", true); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.HoldNode(ctx, "rounds-1", "upgrade-2", true); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "upgrade-1") {
		t.Errorf("a second holder: %v", err)
	}
	n, err := judge.CoreV1().Nodes().Get(ctx, "rounds-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !n.Spec.Unschedulable || n.Annotations[kube.AnnotationNoScaleDown] != "true" || n.Annotations[kube.AnnotationHeld] != `{"holder":"upgrade-1","cordoned":true}` {
		t.Errorf("held: %v %v", n.Spec.Unschedulable, n.Annotations)
	}

	serve(t, judge, "rounds", "web", "rounds-1", 2, func(s *corev1.PodSpec) {
		s.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	})
	guard(t, judge, "rounds", "web", "web", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)})
	eventually(t, "the budget is judged", func() error {
		b, err := judge.PolicyV1().PodDisruptionBudgets("rounds").Get(ctx, "web", metav1.GetOptions{})
		if err == nil && b.Status.DisruptionsAllowed != 1 {
			return fault.New(fault.NotYet, "judge", "%+v", b.Status)
		}
		return err
	}, fault.NotYet)

	keep := kube.DrainOptions{GraceSeconds: -1}
	if left, err := c.Drain(ctx, "rounds-1", keep); fault.KindOf(err) != fault.Invalid || strings.Count(err.Error(), "rounds/web-") != 2 {
		t.Errorf("local data: %v, %v", left, err)
	}
	left, err := c.Drain(ctx, "rounds-1", kube.DrainOptions{DeleteEmptyDir: true, GraceSeconds: 0})
	if err != nil {
		t.Fatal(err)
	}
	// A pod that nobody runs ends at once without grace, so it may be gone or
	// ending; the other one waits for the budget. How many are healthy then
	// depends on whether the controller has counted again.
	held := 0
	for _, p := range left {
		if strings.Contains(p.Why, "web needs 1 healthy pods and has ") {
			held++
		} else if p.Why != "is ending" {
			t.Errorf("%+v", p)
		}
	}
	if held != 1 {
		t.Errorf("the budget holds up %d pods, not 1: %+v", held, left)
	}

	for range 2 {
		if err := c.ReleaseNode(ctx, "rounds-1", "upgrade-1"); err != nil {
			t.Fatal(err)
		}
	}
	n, err = judge.CoreV1().Nodes().Get(ctx, "rounds-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, noScaleDown := n.Annotations[kube.AnnotationNoScaleDown]
	_, stillHeld := n.Annotations[kube.AnnotationHeld]
	if n.Spec.Unschedulable || noScaleDown || stillHeld {
		t.Errorf("released: %v %v", n.Spec.Unschedulable, n.Annotations)
	}
	// Retired for good: no release undoes it.
	if err := c.HoldNode(ctx, "rounds-1", "upgrade-3", true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "retire", func() error { return c.Retire(ctx, "rounds-1") }, fault.Conflict)
	if err := c.ReleaseNode(ctx, "rounds-1", "upgrade-3"); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Node(ctx, "rounds-1"); err != nil || !got.Unschedulable {
		t.Errorf("a release uncordoned a node that is being deleted: %+v, %v", got, err)
	}
}

// asks reads what upgrades want to know of a real API.
func asks(t *testing.T, c *kube.Client, judge kubernetes.Interface) {
	ctx := t.Context()
	onNode(t, judge, "asked-1")
	const image = "registry.k8s.io/kube-scheduler:v1.36.3"
	_, err := judge.CoreV1().Pods("kube-system").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-scheduler-asked-1", Annotations: map[string]string{
			corev1.MirrorPodAnnotationKey: "x", "talos.dev/config-version": "3",
		}},
		Spec: corev1.PodSpec{NodeName: "asked-1", Containers: []corev1.Container{{
			Name: "kube-scheduler", Image: image, Command: []string{"kube-scheduler", "--feature-gates=GangScheduling=true"},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := kube.StaticPod{Image: image, Version: "v1.36.3", ConfigVersion: "3"}
	if got, err := c.StaticPod(ctx, "asked-1", "kube-scheduler"); err != nil || got != want {
		t.Errorf("static pod %+v, %v", got, err)
	}
	report(t, judge, "kube-system", "kube-scheduler-asked-1", corev1.ConditionTrue)
	want.Ready = true
	if got, err := c.StaticPod(ctx, "asked-1", "kube-scheduler"); err != nil || got != want {
		t.Errorf("static pod %+v, %v", got, err)
	}
	if _, err := c.StaticPod(ctx, "asked-1", "kube-apiserver"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("absent static pod: %v", err)
	}

	// Endpoints are deprecated since 1.33 but are never removed: that somebody
	// uses them, as here, stops nothing.
	if _, err := judge.CoreV1().Endpoints("default").List(ctx, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	removed, err := c.RemovedAPIs(ctx, "v1.36.3", "v1.37.0")
	if err != nil {
		t.Fatal(err)
	}
	if len(removed) != 0 {
		t.Errorf("removed: %+v", removed)
	}

	inNamespace(t, judge, "asked")
	if v, err := c.AutoscalerVersion(ctx); err != nil || v != "" {
		t.Errorf("autoscaler %q, %v", v, err)
	}
	serve(t, judge, "asked", "ca", "asked-1", 1, func(s *corev1.PodSpec) {
		s.Containers[0].Image = "registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.0"
	})
	if v, err := c.AutoscalerVersion(ctx); err != nil || v != "v1.36.0" {
		t.Errorf("autoscaler %q, %v", v, err)
	}

	gate := func(resource, namespace, name, selector, expression string) plan.Gate {
		return plan.Gate{Name: "g", Resource: resource, Namespace: namespace, ObjectName: name, Selector: selector, Expression: expression}
	}
	eventually(t, "a gate that holds", func() error {
		return c.Gate(ctx, gate("apps/v1/deployments", "asked", "ca", "", "object.status.readyReplicas == object.spec.replicas"))
	}, fault.NotYet)
	for g, kind := range map[plan.Gate]fault.Kind{
		gate("v1/pods", "asked", "", "app=ca", `object.status.phase == "Running"`):         "",
		gate("apps/v1/deployments", "asked", "ca", "", "object.spec.replicas == 2"):        fault.NotYet,
		gate("v1/pods", "asked", "", "app=nobody", "true"):                                 fault.NotYet,
		gate("apps/v1/deployment", "asked", "", "", "true"):                                fault.Invalid,
		gate("nosuch.example.com/v1/things", "", "", "", "true"):                           fault.Invalid,
		gate("v1/nodes", "", "", "", `has(object.metadata.name) && object.kind == "Node"`): "",
	} {
		if err := c.Gate(ctx, g); fault.KindOf(err) != kind {
			t.Errorf("%+v: %v", g, err)
		}
	}
}
