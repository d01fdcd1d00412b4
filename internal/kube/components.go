package kube

import (
	"context"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/ichor-project/ichor/internal/fault"
)

// annotationConfigVersion is set by Talos on its static pods: the version of the
// machine's config resource that the pod was made from.
const annotationConfigVersion = "talos.dev/config-version"

// StaticPod is a static pod as its kubelet reports it.
type StaticPod struct {
	Image         string
	Version       string // the image's tag
	ConfigVersion string // empty when the pod does not say
	Ready         bool
}

// StaticPod looks at the mirror pod of a control plane's component, for example
// "kube-apiserver". A pod that ends is not ready. Error: NotFound when the node has
// none.
func (c *Client) StaticPod(ctx context.Context, node, component string) (StaticPod, error) {
	op := "look at the " + component + " of node " + node
	p, err := c.core.Pods(metav1.NamespaceSystem).Get(ctx, component+"-"+node, metav1.GetOptions{})
	if err != nil {
		return StaticPod{}, apiError(op, err)
	}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; !mirror || p.Spec.NodeName != node || len(p.Spec.Containers) == 0 {
		return StaticPod{}, fault.New(fault.NotFound, op, "the pod of that name is not a static pod of the node")
	}
	image := p.Spec.Containers[0].Image
	if i := slices.IndexFunc(p.Spec.Containers, func(s corev1.Container) bool { return s.Name == component }); i >= 0 {
		image = p.Spec.Containers[i].Image
	}
	ready := p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(s corev1.PodCondition) bool {
		return s.Type == corev1.PodReady && s.Status == corev1.ConditionTrue
	})
	return StaticPod{Image: image, Version: tagOf(image), ConfigVersion: p.Annotations[annotationConfigVersion], Ready: ready}, nil
}

// tagOf is the tag of an image reference, empty when it has none.
func tagOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, _ := strings.Cut(name, ":")
	return tag
}

// autoscalerImage matches the names under which the project and distributions
// publish the Cluster Autoscaler, per architecture, too.
var autoscalerImage = regexp.MustCompile(`(^|/)cluster-autoscaler(-[a-z0-9]+)?[:@]`)

// labelVersion is what Helm charts put on their objects.
const labelVersion = "app.kubernetes.io/version"

// AutoscalerVersion is the version of the Cluster Autoscaler that runs in the
// cluster as a Deployment, "v1.36.0"; the lowest when there are several, empty
// when there is none or its version is not known.
func (c *Client) AutoscalerVersion(ctx context.Context) (string, error) {
	var lowest *version.Version
	list, err := c.all.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", apiError("look for a cluster autoscaler", err)
	}
	for _, d := range list.Items {
		if wanted(d.Spec.Replicas) == 0 {
			continue
		}
		for _, container := range d.Spec.Template.Spec.Containers {
			if !autoscalerImage.MatchString(container.Image + ":") {
				continue
			}
			found, err := version.ParseGeneric(tagOf(container.Image))
			if err != nil { // a tag such as "latest", or a digest only
				found, err = version.ParseGeneric(d.Labels[labelVersion])
			}
			if err == nil && (lowest == nil || found.LessThan(lowest)) {
				lowest = found
			}
		}
	}
	if lowest == nil {
		return "", nil
	}
	return "v" + lowest.String(), nil
}
