package kube

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/fault"
)

// RolledOut returns nil when a Deployment or a DaemonSet runs what it says: its
// controller has seen the last change, all its pods are of it, and all are
// available. Pods that a DaemonSet has on nodes that are not Ready are not waited
// for: nobody could replace them. Other kinds, and workloads that do not exist,
// have nothing to wait for. Error: NotYet saying what is missing.
func (c *Client) RolledOut(ctx context.Context, kind, namespace, name string) error {
	op := "wait for " + describe(kind, namespace, name)
	var missing string
	var err error
	switch kind {
	case "Deployment":
		var d *appsv1.Deployment
		if d, err = c.all.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			missing = deploymentLacks(d)
		}
	case "DaemonSet":
		var d *appsv1.DaemonSet
		if d, err = c.all.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
			var away int32
			if away, err = c.notReady(ctx); err == nil {
				missing = daemonSetLacks(d, away)
			}
		}
	}
	err = apiError(op, err)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err == nil && missing != "":
		return fault.New(fault.NotYet, op, "%s", missing)
	}
	return err
}

// notReady counts the nodes that are not Ready.
func (c *Client) notReady(ctx context.Context) (int32, error) {
	nodes, err := c.Nodes(ctx)
	var out int32
	for _, n := range nodes {
		if !n.Ready {
			out++
		}
	}
	return out, err
}

const notSeen = "its last change has not been seen by its controller"

func deploymentLacks(d *appsv1.Deployment) string {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return notSeen
	case d.Spec.Paused:
		return "" // whoever paused it decides when it goes on
	case s.UpdatedReplicas < want:
		return fmt.Sprintf("%d of %d pods are of its last version%s", s.UpdatedReplicas, want, whyNot(d.Status.Conditions))
	case s.Replicas > s.UpdatedReplicas:
		return fmt.Sprintf("%d pods of the version before are still there", s.Replicas-s.UpdatedReplicas)
	case s.AvailableReplicas < want:
		return fmt.Sprintf("%d of %d pods are available%s", s.AvailableReplicas, want, whyNot(d.Status.Conditions))
	}
	return ""
}

// whyNot is what the controller says of a Deployment that makes no progress.
func whyNot(conditions []appsv1.DeploymentCondition) string {
	for _, c := range conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue ||
			c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse {
			return ": " + c.Reason
		}
	}
	return ""
}

// daemonSetLacks takes how many nodes are not Ready.
func daemonSetLacks(d *appsv1.DaemonSet, away int32) string {
	s := d.Status
	want := max(s.DesiredNumberScheduled-away, 0)
	switch {
	case s.ObservedGeneration < d.Generation:
		return notSeen
	case d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType:
		return "" // whoever chose that deletes the pods
	case s.UpdatedNumberScheduled < want:
		return fmt.Sprintf("%d of %d pods are of its last version", s.UpdatedNumberScheduled, s.DesiredNumberScheduled)
	case s.NumberAvailable < want:
		return fmt.Sprintf("%d of %d pods are available", s.NumberAvailable, s.DesiredNumberScheduled)
	}
	return ""
}
