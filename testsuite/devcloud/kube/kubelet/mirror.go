package kubelet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// configHash is the annotation by which a kubelet recognises the version of a
// static pod.
const configHash = "kubernetes.io/config.hash"

// mirror shows the node's static pods to the API: made when missing, replaced
// when changed, removed when no longer wanted. Whoever deletes one only makes
// the kubelet show it again.
func (j *joined) mirror(ctx context.Context) error {
	if j.k.spec.StaticPods == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var all error
	wanted := map[string]*corev1.Pod{}
	unready := map[string]bool{}
	for _, static := range j.k.spec.StaticPods() {
		pod, err := j.mirrorOf(static)
		if err != nil {
			return err
		}
		wanted[pod.Name] = pod
		unready[pod.Name] = !static.Ready
	}
	j.pods.unready = unready
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

func (j *joined) mirrorOf(static guest.StaticPod) (*corev1.Pod, error) {
	node := j.k.spec.NodeName
	pod := staticPod(static)
	pod.Name += "-" + node
	pod.Spec.NodeName = node
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}
	text, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	hash := hex.EncodeToString(sum[:16])
	pod.Annotations[corev1.MirrorPodAnnotationKey] = hash
	pod.Annotations[configHash] = hash
	pod.Annotations["kubernetes.io/config.source"] = "file"
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "Node", Name: node, UID: j.uid, Controller: new(true),
	}}
	return pod, nil
}

// staticPod is the manifest that Talos writes, as far as it shows.
func staticPod(static guest.StaticPod) *corev1.Pod {
	_, version, _ := strings.Cut(static.Image[strings.LastIndexByte(static.Image, '/')+1:], ":")
	version, _, _ = strings.Cut(version, "@")
	annotations := map[string]string{}
	maps.Copy(annotations, static.Annotations)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: static.Name, Namespace: metav1.NamespaceSystem, Annotations: annotations,
			Labels: map[string]string{
				"k8s-app": static.Name, "component": static.Name, "tier": "control-plane",
				"app.kubernetes.io/name": static.Name, "app.kubernetes.io/version": version,
				"app.kubernetes.io/component": "control-plane", "app.kubernetes.io/managed-by": "Talos",
			},
		},
		Spec: corev1.PodSpec{
			HostNetwork:       true,
			PriorityClassName: "system-cluster-critical",
			Containers:        []corev1.Container{{Name: static.Name, Image: static.Image, Command: static.Command}},
		},
	}
}
