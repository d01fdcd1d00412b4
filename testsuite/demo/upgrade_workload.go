package main

import (
	"context"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// guarded makes the workload and its disruption budget, and returns when the
// controllers have taken notice of the budget.
func (d demo) guarded(ctx context.Context, api kubernetes.Interface) error {
	if err := d.deploy(ctx, api, podsBefore, podCPU); err != nil {
		return err
	}
	least := intstr.FromInt32(podsAtLeast)
	budgets := api.PolicyV1().PodDisruptionBudgets("default")
	_, err := budgets.Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: workload},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": workload}},
		},
	}, metav1.CreateOptions{})
	for err == nil {
		var b *policyv1.PodDisruptionBudget
		if b, err = budgets.Get(ctx, workload, metav1.GetOptions{}); err == nil && b.Status.DesiredHealthy == podsAtLeast && b.Status.CurrentHealthy == podsBefore {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
	}
	return err
}
