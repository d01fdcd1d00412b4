package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ichor-project/ichor/internal/plan"
)

// StuckBudgets returns the pod disruption budgets that would hold up a drain for
// ever, sorted: those that allow no eviction even while all their pods are
// healthy, those that the controller cannot compute, and pairs that share a pod,
// which the eviction API refuses. A budget that merely waits for pods to get
// healthy is none, nor one without pods.
func (c *Client) StuckBudgets(ctx context.Context) ([]plan.Refusal, error) {
	const op = "list pod disruption budgets"
	list, err := c.policy.PodDisruptionBudgets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, apiError(op, err)
	}
	byNamespace := map[string][]policyv1.PodDisruptionBudget{}
	for _, b := range list.Items {
		byNamespace[b.Namespace] = append(byNamespace[b.Namespace], b)
	}
	var out []plan.Refusal
	for namespace, budgets := range byNamespace {
		pods, err := c.core.Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, apiError("list pods of namespace "+namespace, err)
		}
		workloads := &workloads{client: c, namespace: namespace, seen: map[types.UID]workload{}}
		for i := range budgets {
			reason, err := stuck(ctx, &budgets[i], pods.Items, workloads)
			if err != nil {
				return nil, err
			}
			if reason != "" {
				out = append(out, refuseBudget(&budgets[i], reason))
			}
		}
		out = append(out, shared(budgets, pods.Items)...)
	}
	slices.SortFunc(out, func(a, b plan.Refusal) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Reason, b.Reason))
	})
	return out, nil
}

func refuseBudget(b *policyv1.PodDisruptionBudget, reason string) plan.Refusal {
	return plan.Refusal{Field: "PodDisruptionBudget " + b.Namespace + "/" + b.Name, Reason: reason}
}

// stuck says why a budget can never allow an eviction as things are; empty when
// it can.
func stuck(ctx context.Context, b *policyv1.PodDisruptionBudget, pods []corev1.Pod, w *workloads) (string, error) {
	s := b.Status
	if s.ObservedGeneration != b.Generation || s.DisruptionsAllowed > 0 {
		return "", nil // not judged yet, or allows one now
	}
	if failed := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition); failed != nil && failed.Reason == policyv1.SyncFailedReason {
		return "allows no eviction because the disruption controller cannot compute it: " + failed.Message, nil
	}
	if s.ExpectedPods == 0 {
		return "", nil
	}
	expected := s.ExpectedPods
	if least := b.Spec.MinAvailable; least != nil && least.Type == intstr.Int {
		// With a number the controller counts the pods that exist, which may be
		// fewer than there will be.
		intended, err := w.intended(ctx, b, pods)
		if err != nil {
			return "", err
		}
		expected = max(expected, intended)
	}
	if s.DesiredHealthy < expected {
		return "", nil
	}
	return fmt.Sprintf("needs %d healthy pods of %d (%s) and so never allows an eviction; relax it or add replicas",
		s.DesiredHealthy, expected, rule(b)), nil
}

// rule is what a budget demands, as it is written there.
func rule(b *policyv1.PodDisruptionBudget) string {
	switch {
	case b.Spec.MaxUnavailable != nil:
		return "maxUnavailable: " + b.Spec.MaxUnavailable.String()
	case b.Spec.MinAvailable != nil:
		return "minAvailable: " + b.Spec.MinAvailable.String()
	default:
		return "minAvailable: 1, the default"
	}
}

// matching returns the pods that count for a budget.
func matching(b *policyv1.PodDisruptionBudget, pods []corev1.Pod) []*corev1.Pod {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return nil // the API server validates selectors
	}
	var out []*corev1.Pod
	for i := range pods {
		finished := pods[i].Status.Phase == corev1.PodSucceeded || pods[i].Status.Phase == corev1.PodFailed
		if !finished && pods[i].DeletionTimestamp == nil && selector.Matches(labels.Set(pods[i].Labels)) {
			out = append(out, &pods[i])
		}
	}
	return out
}

// shared finds the budgets that have a pod in common.
func shared(budgets []policyv1.PodDisruptionBudget, pods []corev1.Pod) []plan.Refusal {
	owners := map[string][]int{}
	for i := range budgets {
		for _, p := range matching(&budgets[i], pods) {
			owners[p.Name] = append(owners[p.Name], i)
		}
	}
	type pair struct{ first, second int }
	example := map[pair]string{}
	for pod, of := range owners {
		for i, first := range of {
			for _, second := range of[i+1:] {
				p := pair{first, second}
				if known, ok := example[p]; !ok || pod < known {
					example[p] = pod
				}
			}
		}
	}
	var out []plan.Refusal
	for p, pod := range example {
		out = append(out, refuseBudget(&budgets[p.first], fmt.Sprintf(
			"covers pod %s together with budget %s; the eviction API refuses pods with several budgets", pod, budgets[p.second].Name)))
	}
	return out
}

// workloads finds how many pods the controllers of one namespace want.
type workloads struct {
	client    *Client
	namespace string
	seen      map[types.UID]workload // by the uid of a pod's controller
}

type workload struct {
	uid      types.UID
	replicas int32
}

// intended is how many pods of a budget there will be when all controllers have
// made theirs, as far as their kinds are known.
func (w *workloads) intended(ctx context.Context, b *policyv1.PodDisruptionBudget, pods []corev1.Pod) (int32, error) {
	var total int32
	counted := map[types.UID]bool{}
	for _, p := range matching(b, pods) {
		owner := metav1.GetControllerOf(p)
		if owner == nil {
			total++
			continue
		}
		found, err := w.of(ctx, owner)
		if err != nil {
			return 0, err
		}
		if !counted[found.uid] {
			counted[found.uid] = true
			total += found.replicas
		}
	}
	return total, nil
}

func (w *workloads) of(ctx context.Context, owner *metav1.OwnerReference) (workload, error) {
	if known, ok := w.seen[owner.UID]; ok {
		return known, nil
	}
	out := workload{uid: owner.UID}
	apps := w.client.all.AppsV1()
	var err error
	switch owner.Kind {
	case "StatefulSet":
		set, e := apps.StatefulSets(w.namespace).Get(ctx, owner.Name, metav1.GetOptions{})
		if err = e; err == nil {
			out.replicas = wanted(set.Spec.Replicas)
		}
	case "ReplicaSet":
		set, e := apps.ReplicaSets(w.namespace).Get(ctx, owner.Name, metav1.GetOptions{})
		if err = e; err != nil {
			break
		}
		out.replicas = wanted(set.Spec.Replicas)
		// During a rollout a Deployment has several sets.
		if above := metav1.GetControllerOf(set); above != nil && above.Kind == "Deployment" {
			deployment, e := apps.Deployments(w.namespace).Get(ctx, above.Name, metav1.GetOptions{})
			if err = e; err == nil {
				out = workload{uid: above.UID, replicas: wanted(deployment.Spec.Replicas)}
			}
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return out, apiError("look at "+describe(owner.Kind, w.namespace, owner.Name), err)
	}
	w.seen[owner.UID] = out
	return out, nil
}

// wanted is a number of replicas; the API's default is one.
func wanted(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}
