package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestDeploymentLacks(t *testing.T) {
	three := int32(3)
	for _, tc := range []struct {
		name   string
		status appsv1.DeploymentStatus
		paused bool
		want   string
	}{
		{name: "done", status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}},
		{name: "not seen", status: appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}, want: notSeen},
		{name: "paused by somebody", paused: true, status: appsv1.DeploymentStatus{ObservedGeneration: 2}},
		{name: "under way", status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 1, AvailableReplicas: 3}, want: "1 of 3 pods are of its last version"},
		{
			name: "stuck", want: "0 of 3 pods are of its last version: ProgressDeadlineExceeded",
			status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "Enough"},
				{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"},
			}},
		},
		{name: "old ones left", status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 3, AvailableReplicas: 3}, want: "1 pods of the version before are still there"},
		{name: "not available", status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2}, want: "2 of 3 pods are available"},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Spec: appsv1.DeploymentSpec{Replicas: &three, Paused: tc.paused}, Status: tc.status}
		if got := deploymentLacks(d); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	if got := deploymentLacks(&appsv1.Deployment{}); got != "0 of 1 pods are of its last version" {
		t.Errorf("the default of replicas: %q", got)
	}
}

func TestDaemonSetLacks(t *testing.T) {
	for _, tc := range []struct {
		name   string
		away   int32
		manual bool
		status appsv1.DaemonSetStatus
		want   string
	}{
		{name: "done", status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 3, NumberAvailable: 3}},
		{name: "nothing to run", status: appsv1.DaemonSetStatus{ObservedGeneration: 2}},
		{name: "not seen", status: appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 3, NumberAvailable: 3}, want: notSeen},
		{name: "under way", status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 1, NumberAvailable: 3}, want: "1 of 3 pods are of its last version"},
		{name: "not available", status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 3, NumberAvailable: 2}, want: "2 of 3 pods are available"},
		{name: "one node is away", away: 1, status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 2, NumberAvailable: 2}},
		{name: "more is missing than is away", away: 1, status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 2, NumberAvailable: 1}, want: "1 of 3 pods are available"},
		{name: "more are away than it wants", away: 9, status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3}},
		{name: "rolled by hand", manual: true, status: appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, NumberAvailable: 3}},
	} {
		d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: tc.status}
		if tc.manual {
			d.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
		}
		if got := daemonSetLacks(d, tc.away); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestYieldTo: only what another has set to another value is given up, and nothing
// that cannot be found on both sides.
func TestYieldTo(t *testing.T) {
	const live = `
metadata: {labels: {a.b/c: theirs, same: x}}
spec: {replicas: 5, list: [a], ports: [{port: 53, protocol: TCP, name: theirs}, {port: 53, protocol: UDP, name: theirs}], inner: {gone: 1}}
`
	for _, tc := range []struct {
		name, owned, want, left string
		kept                    []string
	}{
		{
			name: "values", owned: `{"f:metadata":{"f:labels":{"f:a.b/c":{},"f:same":{}}},"f:spec":{"f:replicas":{},"f:list":{}}}`,
			want: `{metadata: {labels: {a.b/c: ours, same: x}}, spec: {replicas: 2, list: [b], other: 1}}`,
			left: `{metadata: {labels: {same: x}}, spec: {other: 1}}`,
			kept: []string{"metadata.labels[a.b/c]: set by them", "spec.list: set by them", "spec.replicas: set by them"},
		},
		{
			name: "elements of lists by their keys", owned: `{"f:spec":{"f:ports":{".":{},"k:{\"port\":53,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}}}}`,
			want: `{spec: {ports: [{port: 53, name: ours}, {port: 53, protocol: UDP, name: ours}]}}`,
			left: `{spec: {ports: [{port: 53}, {port: 53, protocol: UDP, name: ours}]}}`,
			kept: []string{"spec.ports[port=53,protocol=TCP].name: set by them"},
		},
		{
			name: "what is not wanted, or not there", owned: `{"f:spec":{"f:inner":{"f:gone":{}},"f:ports":{"k:{\"port\":1}":{"f:name":{}},"v:1":{}},"f:nothing":{}}}`,
			want: `{spec: {inner: {}, ports: [{port: 1, name: ours}]}}`, left: `{spec: {inner: {}, ports: [{port: 1, name: ours}]}}`,
		},
	} {
		object := func(text string) *unstructured.Unstructured {
			var out map[string]any
			if err := yaml.Unmarshal([]byte(text), &out); err != nil {
				t.Fatal(err)
			}
			return &unstructured.Unstructured{Object: out}
		}
		l, w := object(live), object(tc.want)
		for _, manager := range []string{"them", "talos"} { // the second is not asked to be spared
			l.SetManagedFields(append(l.GetManagedFields(), metav1.ManagedFieldsEntry{
				Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(tc.owned),
			}))
		}
		if diff := cmp.Diff(tc.kept, yieldTo([]string{"them"}, l, w)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if diff := cmp.Diff(object(tc.left).Object, w.Object); diff != "" {
			t.Errorf("%s, what is left (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestParseKey(t *testing.T) {
	for entry, want := range map[string]objectKey{
		"kube-system_coredns_apps_Deployment":                       {"apps", "Deployment", "kube-system", "coredns"},
		"_system__coredns_rbac.authorization.k8s.io_ClusterRole":    {"rbac.authorization.k8s.io", "ClusterRole", "", "system:coredns"},
		"kube-system_kubeconfig-in-cluster__ConfigMap":              {"", "ConfigMap", "kube-system", "kubeconfig-in-cluster"},
		"_serviceaccounts.talos.dev_apiextensions.k8s.io_CustomRes": {"apiextensions.k8s.io", "CustomRes", "", "serviceaccounts.talos.dev"},
	} {
		if got, ok := parseKey(entry); !ok || got != want {
			t.Errorf("%s: %+v, %v", entry, got, ok)
		}
	}
	for _, entry := range []string{"", "x", "a_b", "a_b_", "a__b_c_"} {
		if got, ok := parseKey(entry); ok {
			t.Errorf("%q is %+v", entry, got)
		}
	}
}

func TestUseImages(t *testing.T) {
	images := map[string]string{"host:5000/a": "host:5000/a:v2", "b": "b:v2"}
	var got map[string]any
	text := "{spec: {template: {spec: {initContainers: [{image: b}], containers: [{image: 'host:5000/a:v1@sha256:00'}, {image: 'c:v1'}, {name: none}]}}}, data: {containers: x, image: b}}"
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	useImages(got, images)
	out, err := yaml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	const want = `data:
  containers: x
  image: b
spec:
  template:
    spec:
      containers:
      - image: host:5000/a:v2
      - image: c:v1
      - name: none
      initContainers:
      - image: b:v2
`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}
