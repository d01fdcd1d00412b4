package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ichor-project/ichor/internal/fault"
)

// TaintDeleting is on a node that Ichor deletes. Unlike the mark of cordoning, no
// autoscaler removes it when it starts.
const TaintDeleting = "ichor.dev/deleting"

// Retire makes a node unschedulable and taints it, so that no new pod gets
// there. Safe to repeat. Errors: NotFound; Conflict when the node changed in
// between, to be repeated.
func (c *Client) Retire(ctx context.Context, name string) error {
	op := "cordon node " + name
	n, err := c.core.Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return apiError(op, err)
	}
	tainted := retired(n)
	if n.Spec.Unschedulable && tainted {
		return nil
	}
	spec := map[string]any{"unschedulable": true}
	if !tainted {
		// The list is replaced as a whole, so nobody may have changed it since.
		spec["taints"] = append(slices.Clone(n.Spec.Taints), corev1.Taint{Key: TaintDeleting, Effect: corev1.TaintEffectNoSchedule})
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": n.ResourceVersion}, "spec": spec})
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	_, err = c.core.Nodes().Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: FieldManager})
	return apiError(op, err)
}

// PodLeft is a pod that is still on a node, and why.
type PodLeft struct {
	Namespace string
	Name      string
	Why       string
}

// evictionsAtOnce is how many evictions of one node are under way; a full node
// takes seconds then even where a webhook looks at each.
const evictionsAtOnce = 8

// Evict asks for the eviction of each pod of a node once and returns those that
// are still there, sorted: call it until none is left. It does what `kubectl
// drain --ignore-daemonsets --delete-emptydir-data` does: pods of DaemonSets and
// static pods stay, disruption budgets are honoured, and a running pod that no
// controller would start again is not evicted. On a node whose kubelet is silent
// pods that were evicted do not end by themselves; they are left out once their
// grace period is over. Errors: NotFound when there is no such node.
func (c *Client) Evict(ctx context.Context, node string) ([]PodLeft, error) {
	pods, err := c.podsOf(ctx, node)
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return stays(&p) })
	return c.evictAll(ctx, pods, DrainOptions{GraceSeconds: -1})
}

// podsOf lists the pods of a node without those that have ended for all anybody
// will ever know: the node is silent and their grace period is over. Errors:
// NotFound when there is no such node.
func (c *Client) podsOf(ctx context.Context, node string) ([]corev1.Pod, error) {
	op := "drain node " + node
	n, err := c.core.Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return nil, apiError(op, err)
	}
	list, err := c.core.Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, apiError(op, err)
	}
	silent, now := !nodeOf(n).Ready, c.now()
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		dead := silent && p.DeletionTimestamp != nil && now.After(p.DeletionTimestamp.Add(silence))
		return dead || p.Spec.NodeName != node
	}), nil
}

// evictAll asks for the eviction of each pod once and returns those that are
// still there, sorted.
func (c *Client) evictAll(ctx context.Context, pods []corev1.Pod, opts DrainOptions) ([]PodLeft, error) {
	left := make([]PodLeft, len(pods))
	failed := make([]error, len(pods))
	slots := make(chan struct{}, evictionsAtOnce)
	var calls sync.WaitGroup
	for i := range pods {
		left[i] = PodLeft{Namespace: pods[i].Namespace, Name: pods[i].Name}
		calls.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			left[i].Why, failed[i] = c.evict(ctx, &pods[i], opts)
		})
	}
	calls.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, firstFault(failed)
	}
	left = slices.DeleteFunc(left, func(p PodLeft) bool { return p.Why == "" })
	slices.SortFunc(left, func(a, b PodLeft) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return left, nil
}

// silence is how long after its grace period a pod of a silent kubelet counts as
// dead: clocks differ.
const silence = time.Minute

// firstFault returns the first error: one is enough to know what to do.
func firstFault(errs []error) error {
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	return errs[i]
}

// stays reports whether a drain leaves a pod where it is: it belongs to the node
// rather than to the cluster.
func stays(p *corev1.Pod) bool {
	if _, static := p.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return true
	}
	owner := metav1.GetControllerOf(p)
	return owner != nil && owner.Kind == "DaemonSet"
}

// evict asks for the eviction of one pod and says why it is still there; "" when
// it is not.
func (c *Client) evict(ctx context.Context, p *corev1.Pod, opts DrainOptions) (why string, err error) {
	finished := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	switch {
	case p.DeletionTimestamp != nil:
		return "is ending", nil
	case !opts.Force && !finished && metav1.GetControllerOf(p) == nil:
		return "has no controller that would start it again elsewhere; delete it yourself", nil
	}
	uid := p.UID
	how := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
	if opts.GraceSeconds >= 0 {
		grace := int64(opts.GraceSeconds)
		how.GracePeriodSeconds = &grace
	}
	err = c.policy.Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}, DeleteOptions: how,
	})
	switch {
	case err == nil:
		return "is ending", nil
	case apierrors.IsNotFound(err):
		return "", nil
	case apierrors.IsConflict(err): // another pod of the same name, which is somewhere else
		return "changed meanwhile", nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return "is in a namespace that is being deleted", nil
	}
	op := "evict pod " + p.Namespace + "/" + p.Name
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		s := status.Status()
		if budget := causeOf(s, policyv1.DisruptionBudgetCause); budget != "" {
			return budget, nil
		}
		// Several budgets for one pod are an error of whoever wrote them.
		if strings.Contains(s.Message, "PodDisruptionBudget") {
			return s.Message, nil
		}
	}
	refused := apiError(op, err)
	if fault.Is(refused, fault.Invalid) { // by a webhook, which may think otherwise later
		return "may not be evicted: " + refused.Error(), nil
	}
	return "", refused
}

func causeOf(s metav1.Status, kind metav1.CauseType) string {
	if s.Details == nil {
		return ""
	}
	for _, cause := range s.Details.Causes {
		if cause.Type == kind {
			return fmt.Sprintf("%s (%s)", cause.Message, strings.TrimSuffix(s.Message, "."))
		}
	}
	return ""
}
