package kube

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/fault"
)

// state of a node as far as holds touch it.
type nodeState struct {
	Cordoned    bool
	Annotations map[string]string
}

func stateOf(t testing.TB, api *fake.Clientset, name string) nodeState {
	t.Helper()
	n, err := api.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := nodeState{Cordoned: n.Spec.Unschedulable, Annotations: maps.Clone(n.Annotations)}
	if len(out.Annotations) == 0 {
		out.Annotations = nil
	}
	return out
}

func holding(api *fake.Clientset) *Client {
	return &Client{all: api, core: api.CoreV1(), policy: api.PolicyV1(), now: time.Now}
}

func TestHoldIsTakenBackExactly(t *testing.T) {
	no := "false"
	for _, tc := range []struct {
		name   string
		before nodeState
		cordon bool
		during func(*corev1.Node)
		after  *nodeState // nil: as before
	}{
		{name: "plain", cordon: true},
		{name: "without cordon"},
		{name: "cordoned before", before: nodeState{Cordoned: true}, cordon: true},
		{name: "the autoscaler was kept away before", before: nodeState{Annotations: map[string]string{AnnotationNoScaleDown: noScaleDown}}, cordon: true},
		{name: "another value before", before: nodeState{Annotations: map[string]string{AnnotationNoScaleDown: no, "mine": "x"}}, cordon: true},
		{
			name: "retired meanwhile", cordon: true, after: &nodeState{Cordoned: true},
			during: func(n *corev1.Node) {
				n.Spec.Taints = []corev1.Taint{{Key: TaintDeleting, Effect: corev1.TaintEffectNoSchedule}}
			},
		},
		{name: "uncordoned by hand meanwhile", cordon: true, during: func(n *corev1.Node) { n.Spec.Unschedulable = false }},
		{
			name: "somebody changed the autoscaler's annotation", after: &nodeState{Annotations: map[string]string{AnnotationNoScaleDown: no}},
			during: func(n *corev1.Node) { n.Annotations[AnnotationNoScaleDown] = no },
		},
		{
			name: "somebody removed it", before: nodeState{Annotations: map[string]string{AnnotationNoScaleDown: noScaleDown}}, after: &nodeState{},
			during: func(n *corev1.Node) { delete(n.Annotations, AnnotationNoScaleDown) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := nodeNamed("n", corev1.ConditionTrue)
			n.Spec.Unschedulable, n.Annotations = tc.before.Cordoned, maps.Clone(tc.before.Annotations)
			api := fake.NewClientset(n)
			c := holding(api)
			for range 2 {
				if err := c.HoldNode(t.Context(), "n", "upgrade-1", tc.cordon); err != nil {
					t.Fatal(err)
				}
			}
			held := stateOf(t, api, "n")
			if held.Annotations[AnnotationNoScaleDown] != noScaleDown || tc.cordon && !held.Cordoned {
				t.Errorf("held: %+v", held)
			}
			if n, err := c.Node(t.Context(), "n"); err != nil || n.HeldBy != "upgrade-1" {
				t.Errorf("held by %q, %v", n.HeldBy, err)
			}
			if tc.during != nil {
				now, err := api.CoreV1().Nodes().Get(t.Context(), "n", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				tc.during(now)
				if _, err := api.CoreV1().Nodes().Update(t.Context(), now, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := c.ReleaseNode(t.Context(), "n", "upgrade-1"); err != nil {
					t.Fatal(err)
				}
			}
			want := tc.before
			if tc.after != nil {
				want = *tc.after
			}
			if diff := cmp.Diff(want, stateOf(t, api, "n")); diff != "" {
				t.Errorf("after the release (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHoldBelongsToOne(t *testing.T) {
	api := fake.NewClientset(nodeNamed("n", corev1.ConditionTrue))
	c := holding(api)
	if err := c.HoldNode(t.Context(), "n", "upgrade-1", true); err != nil {
		t.Fatal(err)
	}
	before := stateOf(t, api, "n")
	err := c.HoldNode(t.Context(), "n", "repair-2", true)
	if fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "held by upgrade-1") {
		t.Errorf("second holder: %s: %v", fault.KindOf(err), err)
	}
	if err := c.ReleaseNode(t.Context(), "n", "repair-2"); err != nil {
		t.Errorf("release of what another holds: %v", err)
	}
	if diff := cmp.Diff(before, stateOf(t, api, "n")); diff != "" {
		t.Errorf("the other's hold changed:\n%s", diff)
	}
	if err := c.HoldNode(t.Context(), "absent", "upgrade-1", true); fault.KindOf(err) != fault.NotFound {
		t.Errorf("hold of an absent node: %v", err)
	}
	if err := c.ReleaseNode(t.Context(), "absent", "upgrade-1"); err != nil {
		t.Errorf("release of an absent node: %v", err)
	}
	if err := c.HoldNode(t.Context(), "n", "", true); fault.KindOf(err) != fault.Invalid {
		t.Errorf("hold of nobody: %v", err)
	}
}

func TestHoldDoesNotGuess(t *testing.T) {
	n := nodeNamed("n", corev1.ConditionTrue)
	n.Annotations = map[string]string{AnnotationHeld: "me!"}
	c := holding(fake.NewClientset(n))
	for what, err := range map[string]error{
		"hold": c.HoldNode(t.Context(), "n", "upgrade-1", true), "release": c.ReleaseNode(t.Context(), "n", "upgrade-1"),
	} {
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), AnnotationHeld) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n, err := c.Node(t.Context(), "n"); err != nil || n.HeldBy == "" {
		t.Errorf("held by %q, %v", n.HeldBy, err)
	}
}

// TestHoldIsNotLostToOtherWriters: between reading and writing, others write.
func TestHoldIsNotLostToOtherWriters(t *testing.T) {
	api := fake.NewClientset(nodeNamed("n", corev1.ConditionTrue))
	conflicts, versions := 0, 0
	api.PrependReactor("patch", "nodes", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if strings.Contains(string(a.(clienttesting.PatchAction).GetPatch()), "resourceVersion") {
			versions++
		}
		if conflicts > 0 {
			conflicts--
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, "n", errTwo)
		}
		return false, nil, nil
	})
	c := holding(api)
	conflicts = holdAttempts - 1
	if err := c.HoldNode(t.Context(), "n", "upgrade-1", true); err != nil {
		t.Error(err)
	}
	if versions != holdAttempts {
		t.Errorf("%d of %d writes name the version they saw", versions, holdAttempts)
	}
	conflicts = holdAttempts
	if err := c.ReleaseNode(t.Context(), "n", "upgrade-1"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a node that changes all the time: %v", err)
	}
}

// TestHoldsAndReleasesRestore: any order of holds and releases of two holders ends,
// after both released, where it began.
func TestHoldsAndReleasesRestore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := nodeNamed("n", corev1.ConditionTrue)
		n.Spec.Unschedulable = rapid.Bool().Draw(rt, "cordoned")
		if rapid.Bool().Draw(rt, "annotated") {
			n.Annotations = map[string]string{AnnotationNoScaleDown: rapid.SampledFrom([]string{"true", "false", ""}).Draw(rt, "value")}
		}
		api := fake.NewClientset(n)
		c := holding(api)
		before := stateOf(t, api, "n")
		holders := []string{"a", "b"}
		for range rapid.IntRange(0, 8).Draw(rt, "steps") {
			holder := rapid.SampledFrom(holders).Draw(rt, "holder")
			if rapid.Bool().Draw(rt, "hold") {
				if err := c.HoldNode(t.Context(), "n", holder, rapid.Bool().Draw(rt, "cordon")); err != nil && fault.KindOf(err) != fault.Conflict {
					rt.Fatal(err)
				}
			} else if err := c.ReleaseNode(t.Context(), "n", holder); err != nil {
				rt.Fatal(err)
			}
		}
		for _, holder := range holders {
			if err := c.ReleaseNode(t.Context(), "n", holder); err != nil {
				rt.Fatal(err)
			}
		}
		if diff := cmp.Diff(before, stateOf(t, api, "n")); diff != "" {
			rt.Errorf("(-before +after):\n%s", diff)
		}
	})
}
