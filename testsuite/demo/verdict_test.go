package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestVerdict: what judges an upgrade finds each way in which one can be bad.
func TestVerdict(t *testing.T) {
	old := func(name string) corev1.Node { return node(name, "v1.13.9", "v1.35.2", "first") }
	upgraded := func(name string) corev1.Node { return node(name, toTalos, toKubernetes, "second") }
	born := func(boot string) corev1.Node { return node("c", toTalos, "v1.35.2", boot) }
	type step struct {
		pods  []corev1.Pod
		nodes []corev1.Node
	}
	// Pods of a move away from a before it reboots, as they should.
	well := []step{
		{nodes: []corev1.Node{cordoned(old("a")), old("b")}, pods: pods("b", "b", "b", "b", "b")},
		{nodes: []corev1.Node{cordoned(upgraded("a")), old("b"), born("birth")}, pods: pods("b", "b", "b", "b", "b")},
		{nodes: []corev1.Node{upgraded("a"), upgraded("b"), node("c", toTalos, toKubernetes, "birth")}, pods: pods("a", "a", "c", "c", "c")},
	}
	with := func(change func(s []step)) []step {
		s := slices.Clone(well)
		change(s)
		return s
	}
	for name, test := range map[string]struct {
		steps []step
		want  []string
	}{
		"well": {steps: well},
		"budget broken": {
			steps: with(func(s []step) { s[1].pods = pods("b", "b", "b", "b") }),
			want:  []string{"the budget was broken: 4 pods were available at "},
		},
		"pods on a node that reboots": {
			steps: append([]step{{nodes: []corev1.Node{old("a"), old("b")}, pods: pods("a", "b", "b", "b", "b")}}, with(func(s []step) {
				s[0].pods, s[1].pods, s[2].pods = pods("a", "b", "b", "b", "b"), pods("a", "b", "b", "b", "b"), pods("a", "c", "c", "c", "c")
			})...),
			want: []string{"pod a-0 was still on a when it rebooted"},
		},
		"two at once": {
			steps: with(func(s []step) { s[1].nodes = []corev1.Node{cordoned(upgraded("a")), cordoned(old("b")), born("birth")} }),
			want:  []string{"2 workers were away at once"},
		},
		"left cordoned, old, held and gone": {
			steps: with(func(s []step) {
				s[2].nodes = []corev1.Node{cordoned(old("a")), node("c", toTalos, toKubernetes, "birth")}
				s[2].nodes[0].Annotations = map[string]string{"ichor.dev/held-by": "x"}
			}),
			want: []string{"a is still cordoned", "a runs Talos (v1.13.9), kubelet v1.35.2", "a still has ichor.dev/held-by", "b is gone"},
		},
		"born old": {
			steps: with(func(s []step) { s[1].nodes = []corev1.Node{upgraded("a"), old("b"), old("c")} }),
			want:  []string{"c was not born with Talos v1.14.1"},
		},
		"rebooted after birth": {
			steps: with(func(s []step) { s[1].nodes = []corev1.Node{upgraded("a"), old("b"), born("another")} }),
			want:  []string{"c was not born with Talos v1.14.1"},
		},
		"nothing added": {
			steps: with(func(s []step) {
				s[1].nodes, s[2].nodes, s[2].pods = s[1].nodes[:2], s[2].nodes[:2], pods("a", "a", "a", "b", "b")
			}),
			want: []string{"no node was added"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &watch{first: map[string]corev1.Node{}}
			w.reset()
			w.machines(time.Now(), []corev1.Node{old("a"), old("b")})
			w.begin()
			for _, s := range test.steps {
				w.workload(s.pods)
				w.machines(time.Now(), s.nodes)
			}
			w.after = w.now.nodes
			got := w.verdict()
			for i := range min(len(got), len(test.want)) { // without the time of day
				got[i] = got[i][:min(len(got[i]), len(test.want[i]))]
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

func node(name, talos, kubelet, boot string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{workloadLabel: workload}}}
	n.Status.NodeInfo = corev1.NodeSystemInfo{OSImage: "Talos (" + talos + ")", KubeletVersion: kubelet, BootID: boot}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	return n
}

func cordoned(n corev1.Node) corev1.Node {
	n.Spec.Unschedulable = true
	return n
}

// pods are available pods on nodes; a pod that stays where it was is the same.
func pods(nodes ...string) []corev1.Pod {
	var out []corev1.Pod
	for i, n := range nodes {
		name := n + "-" + string(rune('0'+i))
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: corev1.PodSpec{NodeName: n}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		out = append(out, p)
	}
	return out
}
