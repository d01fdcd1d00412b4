package kube

import (
	"context"
	"io"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/kubectl/pkg/drain"

	"github.com/ichor-project/ichor/internal/fault"
)

// DrainOptions are those of `kubectl drain`; pods of DaemonSets always stay.
type DrainOptions struct {
	// Force evicts pods that no controller starts again, too.
	Force bool
	// DeleteEmptyDir evicts pods whose emptyDir is lost then.
	DeleteEmptyDir bool
	// GraceSeconds overrides the pods' own grace period; negative leaves it.
	GraceSeconds int
}

// Drain is one round of a drain: it asks for the eviction of each pod that
// kubectl's rules select and returns those that are still there, sorted, with the
// reason. It waits for nothing: call it until none is left. Pods that are ending
// already are left to end, whatever the options. Errors: NotFound when there is no
// such node; Invalid, naming the pods, when the options forbid to evict some: then
// none was evicted.
func (c *Client) Drain(ctx context.Context, node string, opts DrainOptions) ([]PodLeft, error) {
	pods, err := c.podsOf(ctx, node)
	if err != nil {
		return nil, err
	}
	var going, running []corev1.Pod
	for i := range pods {
		switch p := &pods[i]; {
		case p.DeletionTimestamp == nil:
			running = append(running, *p)
		case !stays(p):
			going = append(going, *p)
		}
	}
	chosen, err := c.choose(ctx, node, running, opts)
	if err != nil {
		return nil, err
	}
	// Those that end need no call; evictAll says so of each.
	return c.evictAll(ctx, append(chosen, going...), opts)
}

// choose lets kubectl's filters judge pods.
func (c *Client) choose(ctx context.Context, node string, pods []corev1.Pod, opts DrainOptions) ([]corev1.Pod, error) {
	op := "drain node " + node
	view := &drainView{Interface: c.all, pods: pods}
	helper := &drain.Helper{
		Ctx: ctx, Client: view, Force: opts.Force, GracePeriodSeconds: opts.GraceSeconds,
		IgnoreAllDaemonSets: true, DeleteEmptyDirData: opts.DeleteEmptyDir, Out: io.Discard, ErrOut: io.Discard,
	}
	list, refusals := helper.GetPodsForDeletion(node)
	if view.failed != nil {
		return nil, apiError(op, view.failed)
	}
	if len(refusals) > 0 {
		reasons := make([]string, 0, len(refusals))
		for _, r := range refusals {
			reasons = append(reasons, inOurWords.Replace(r.Error()))
		}
		slices.Sort(reasons)
		return nil, fault.New(fault.Invalid, op, "%s", strings.Join(reasons, "; "))
	}
	return list.Pods(), nil
}

// inOurWords replaces the flags of the command line, which nobody gave, by the
// options that mean the same here.
var inOurWords = strings.NewReplacer(
	"cannot delete", "may not evict",
	"use --force to override", "the option force overrides it",
	"use --delete-emptydir-data to override", "the option deleteEmptyDir overrides it",
)

// drainView shows kubectl's filters the pods that were listed already, and keeps
// the errors of the API, which the filters turn into text: an API that does not
// answer must not look like a pod that may not be evicted.
type drainView struct {
	kubernetes.Interface
	pods   []corev1.Pod
	failed error
}

func (v *drainView) CoreV1() coreclient.CoreV1Interface { return viewCore{v.Interface.CoreV1(), v} }
func (v *drainView) AppsV1() appsclient.AppsV1Interface { return viewApps{v.Interface.AppsV1(), v} }

type viewCore struct {
	coreclient.CoreV1Interface
	view *drainView
}

func (c viewCore) Pods(namespace string) coreclient.PodInterface {
	return viewPods{c.CoreV1Interface.Pods(namespace), c.view}
}

type viewPods struct {
	coreclient.PodInterface
	view *drainView
}

func (p viewPods) List(context.Context, metav1.ListOptions) (*corev1.PodList, error) {
	return &corev1.PodList{Items: p.view.pods}, nil
}

type viewApps struct {
	appsclient.AppsV1Interface
	view *drainView
}

func (a viewApps) DaemonSets(namespace string) appsclient.DaemonSetInterface {
	return viewDaemonSets{a.AppsV1Interface.DaemonSets(namespace), a.view}
}

type viewDaemonSets struct {
	appsclient.DaemonSetInterface
	view *drainView
}

func (d viewDaemonSets) Get(ctx context.Context, name string, opts metav1.GetOptions) (*appsv1.DaemonSet, error) {
	out, err := d.DaemonSetInterface.Get(ctx, name, opts)
	if err != nil && !apierrors.IsNotFound(err) && d.view.failed == nil {
		d.view.failed = err
	}
	return out, err
}
