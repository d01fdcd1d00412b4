package kubelet

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/siderolabs/talos/pkg/machinery/constants"
)

// evictEvery is the pause between attempts to evict a pod that a disruption
// budget protects.
const evictEvery = 500 * time.Millisecond

// Drain implements guest.RunningKubelet. A node that has not joined has nothing
// to drain.
func (k *Kubelet) Drain(ctx context.Context) error {
	k.mu.Lock()
	api := k.api
	k.mu.Unlock()
	if api == nil {
		return nil
	}
	if err := cordon(ctx, api, k.spec.NodeName, true); err != nil {
		return fmt.Errorf("cordon: %w", err)
	}
	for {
		left, err := evict(ctx, api, k.spec.NodeName)
		switch {
		case ctx.Err() != nil:
			return errors.Join(fmt.Errorf("drain: %w", ctx.Err()), err)
		case err == nil && left == 0:
			return nil
		case err != nil && !apierrors.IsTooManyRequests(err):
			k.note("drain", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(evictEvery):
		}
	}
}

// evict asks once for each pod that a drain takes away, and says how many are
// still there.
func evict(ctx context.Context, api kubernetes.Interface, node string) (left int, err error) {
	pods, err := api.CoreV1().Pods("").List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return 0, err
	}
	var all error
	for i := range pods.Items {
		pod := &pods.Items[i]
		if isMirror(pod) || ofDaemonSet(pod) || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		left++
		if pod.DeletionTimestamp != nil {
			continue
		}
		err := api.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
		})
		if err := ignoreGone(err); err != nil {
			all = err
		}
	}
	return left, all
}

func ofDaemonSet(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

// cordon marks the node as Talos does, so that only what Talos cordoned is
// uncordoned by it.
func cordon(ctx context.Context, api kubernetes.Interface, name string, on bool) error {
	value := "null"
	if on {
		value = fmt.Sprintf("%q", constants.AnnotationCordonedValue)
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%s}},"spec":{"unschedulable":%t}}`, constants.AnnotationCordonedKey, value, on)
	_, err := api.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// uncordon undoes what Talos did before the reboot.
func (j *joined) uncordon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	node, err := j.api.CoreV1().Nodes().Get(ctx, j.k.spec.NodeName, metav1.GetOptions{})
	if err != nil || node.Annotations[constants.AnnotationCordonedKey] != constants.AnnotationCordonedValue {
		return err
	}
	return cordon(ctx, j.api, node.Name, false)
}
