package kube

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ichor-project/ichor/internal/fault"
)

// Annotations of nodes at work.
const (
	// AnnotationHeld says who holds a node and what was set before, as JSON.
	AnnotationHeld = "ichor.dev/held-by"
	// AnnotationNoScaleDown keeps the Cluster Autoscaler from removing a node
	// (its FAQ, "How can I prevent Cluster Autoscaler from scaling down a
	// particular node?").
	AnnotationNoScaleDown = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
)

// noScaleDown is the only value that the autoscaler heeds.
const noScaleDown = "true"

// hold is what AnnotationHeld carries.
type hold struct {
	Holder string `json:"holder"`
	// Cordoned says that the holder cordoned the node, which was schedulable.
	Cordoned bool `json:"cordoned,omitempty"`
	// ScaleDown is what AnnotationNoScaleDown was before; nil when it was absent.
	ScaleDown *string `json:"scaleDownBefore,omitempty"`
}

// holdAttempts is how often a change of a node is tried that somebody else
// changed in between; kubelets and controllers write to it every few seconds.
const holdAttempts = 8

// HoldNode marks a node as being worked on: the autoscaler leaves it alone and,
// with cordon, no new pod gets there. What was set before is remembered for
// ReleaseNode. A hold without cordon can be made one with it, not the other way.
// Safe to repeat. Errors: NotFound; Conflict naming the other holder; Invalid
// when the annotation is not readable.
func (c *Client) HoldNode(ctx context.Context, name, holder string, cordon bool) error {
	op := "hold node " + name
	if holder == "" {
		return fault.New(fault.Invalid, op, "a holder needs a name")
	}
	return c.changeNode(ctx, op, name, func(n *corev1.Node) (*nodeChange, error) {
		held, err := heldBy(op, n)
		switch {
		case err != nil:
			return nil, err
		case held == nil:
			held = &hold{Holder: holder}
			if before, set := n.Annotations[AnnotationNoScaleDown]; set {
				held.ScaleDown = &before
			}
		case held.Holder != holder:
			return nil, fault.New(fault.Conflict, op, "it is held by %s", held.Holder)
		}
		var unschedulable *bool
		if cordon && !n.Spec.Unschedulable {
			held.Cordoned = true
			unschedulable = &cordon
		}
		text, err := json.Marshal(held)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, op, err)
		}
		if unschedulable == nil && n.Annotations[AnnotationHeld] == string(text) && n.Annotations[AnnotationNoScaleDown] == noScaleDown {
			return nil, nil
		}
		return &nodeChange{
			annotations:   map[string]any{AnnotationHeld: string(text), AnnotationNoScaleDown: noScaleDown},
			unschedulable: unschedulable,
		}, nil
	})
}

// ReleaseNode takes back what HoldNode of the same holder did. A node that was
// cordoned before stays so, and so does one that Retire marked since; what
// somebody changed during the hold stays as they left it. Not held by this
// holder, or absent, is success. Error: Invalid when the annotation is not
// readable.
func (c *Client) ReleaseNode(ctx context.Context, name, holder string) error {
	op := "release node " + name
	err := c.changeNode(ctx, op, name, func(n *corev1.Node) (*nodeChange, error) {
		held, err := heldBy(op, n)
		if err != nil || held == nil || held.Holder != holder {
			return nil, err
		}
		change := &nodeChange{annotations: map[string]any{AnnotationHeld: nil}}
		if n.Annotations[AnnotationNoScaleDown] == noScaleDown {
			change.annotations[AnnotationNoScaleDown] = held.ScaleDown
		}
		if held.Cordoned && n.Spec.Unschedulable && !retired(n) {
			schedulable := false
			change.unschedulable = &schedulable
		}
		return change, nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// retired reports whether a node is to stay cordoned for good.
func retired(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == TaintDeleting && t.Effect == corev1.TaintEffectNoSchedule
	})
}

func heldBy(op string, n *corev1.Node) (*hold, error) {
	text, set := n.Annotations[AnnotationHeld]
	if !set {
		return nil, nil
	}
	var out hold
	if err := json.Unmarshal([]byte(text), &out); err != nil || out.Holder == "" {
		return nil, fault.New(fault.Invalid, op, "its annotation %s is not readable, so nobody knows what was set before; "+
			"make the node what it should be and remove the annotation", AnnotationHeld)
	}
	return &out, nil
}

// nodeChange is what to set on a node; a nil value removes an annotation.
type nodeChange struct {
	annotations   map[string]any
	unschedulable *bool
}

// changeNode sets what decide returns, if nobody changed the node since decide
// saw it; otherwise it asks decide again. A nil change ends it.
func (c *Client) changeNode(ctx context.Context, op, name string, decide func(*corev1.Node) (*nodeChange, error)) error {
	for range holdAttempts {
		n, err := c.core.Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return apiError(op, err)
		}
		change, err := decide(n)
		if err != nil || change == nil {
			return err
		}
		patch := map[string]any{"metadata": map[string]any{
			"resourceVersion": n.ResourceVersion, "annotations": change.annotations,
		}}
		if change.unschedulable != nil {
			patch["spec"] = map[string]any{"unschedulable": *change.unschedulable}
		}
		body, err := json.Marshal(patch)
		if err != nil {
			return fault.Wrap(fault.Internal, op, err)
		}
		_, err = c.core.Nodes().Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: FieldManager})
		if !apierrors.IsConflict(err) {
			return apiError(op, err)
		}
	}
	return fault.New(fault.Unavailable, op, "the node changed each of the %d times that it was to be changed", holdAttempts)
}
