package kubelet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// configHash is the annotation by which a kubelet recognises the version of a
// static pod.
const configHash = "kubernetes.io/config.hash"

// mirror shows the node's static pods to the API: made when missing, replaced
// when changed, removed when no longer wanted. Whoever deletes one only makes
// the kubelet show it again.
func (j *joined) mirror(ctx context.Context) error {
	if j.k.opts.StaticPods == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var all error
	wanted := map[string]*corev1.Pod{}
	for _, static := range j.k.opts.StaticPods() {
		pod, err := j.mirrorOf(static)
		if err != nil {
			return err
		}
		wanted[pod.Name] = pod
	}
	for _, have := range j.pods.list() {
		if _, ok := have.Annotations[corev1.MirrorPodAnnotationKey]; !ok || have.DeletionTimestamp != nil {
			continue
		}
		want := wanted[have.Name]
		if want != nil && want.Annotations[configHash] == have.Annotations[configHash] {
			delete(wanted, have.Name)
			continue
		}
		options := metav1.NewDeleteOptions(0)
		options.Preconditions = &metav1.Preconditions{UID: &have.UID}
		all = errors.Join(all, ignoreGone(j.api.CoreV1().Pods(have.Namespace).Delete(ctx, have.Name, *options)))
	}
	for _, pod := range wanted {
		_, err := j.api.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			all = errors.Join(all, fmt.Errorf("static pod %s: %w", pod.Name, err))
		}
	}
	return all
}

func (j *joined) mirrorOf(static *corev1.Pod) (*corev1.Pod, error) {
	text, err := json.Marshal(static.Spec)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	hash := hex.EncodeToString(sum[:16])
	pod, node := static.DeepCopy(), j.k.spec.NodeName
	pod.Name += "-" + node
	pod.Annotations = map[string]string{
		corev1.MirrorPodAnnotationKey: hash, configHash: hash, "kubernetes.io/config.source": "file",
	}
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "Node", Name: node, UID: j.uid, Controller: new(true),
	}}
	pod.Spec.NodeName = node
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}
	return pod, nil
}
