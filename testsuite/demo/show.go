package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/ichor-project/ichor/workflows"
)

// show is the demonstration: 50 pods come and go, and the group follows.
func (d demo) show(ctx context.Context, sys *system) error {
	_, api, err := d.api()
	if err != nil {
		return err
	}
	fmt.Printf("\nThe Cluster Autoscaler runs; the group demo/%s has no machine. %d pods of 500m CPU and 128Mi follow.\n", group, podsWanted)
	fmt.Printf("Watch the group: %s/namespaces/default/workflows/cluster%%2Fdemo%%2Fgroup%%2F%s\n\n", sys.UI, group)
	started := time.Now()
	if err := d.deploy(ctx, api, podsWanted, "500m"); err != nil {
		return err
	}
	say(started, "%d pods created", podsWanted)
	top, err := d.follow(ctx, sys, api, started, func(s scene, facts workflows.GroupFacts) bool {
		return s.Ready == facts.Max && s.Running == min(podsWanted, facts.Max*podsPerNode)
	})
	if err != nil {
		return err
	}
	up := time.Since(started).Round(time.Second)
	say(started, "the group is at its max of %d; %d pods run, %d must wait", top.Target, top.Running, top.Pods-top.Running)
	if err := d.nodes(ctx, sys); err != nil {
		return err
	}
	if err := d.refused(ctx, sys); err != nil {
		return err
	}
	fmt.Println()
	if err := d.resize(ctx, api, 0); err != nil {
		return err
	}
	say(started, "the deployment is scaled to zero; what follows is the autoscaler's own decision")
	if _, err := d.follow(ctx, sys, api, started, func(s scene, facts workflows.GroupFacts) bool {
		return s.Target == facts.Min && s.Leaving == 0 && s.Nodes == 1
	}); err != nil {
		return err
	}
	say(started, "the group is at its min of 0: no machine, no Node object is left of it")
	var st workflows.GroupStatus
	if err := d.status(ctx, sys, &st); err != nil {
		return err
	}
	fmt.Printf("\nWhat the autoscaler asked for, as the group remembers it:\n\n")
	for _, r := range st.Requests {
		fmt.Printf("  %s  %-22s %s\n", r.At.UTC().Format(time.TimeOnly), r.Op, r.Message)
	}
	fmt.Printf("\nFrom nothing to %d nodes and %d pods in %s, and back in %s (cloud speed factor %g).\n",
		top.Target, top.Running, up, (time.Since(started) - up).Round(time.Second), d.speed)
	return nil
}

// podsPerNode: a node of 4 cores has 3950m to give away.
const podsPerNode = 7

// follow prints every change until the scene is as wanted.
func (d demo) follow(ctx context.Context, sys *system, api kubernetes.Interface, started time.Time, done func(scene, workflows.GroupFacts) bool) (scene, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var last scene
	for {
		var st workflows.GroupStatus
		if err := d.status(ctx, sys, &st); err != nil {
			return last, err
		}
		now, err := look(ctx, api, st)
		if err != nil {
			return last, err
		}
		if now != last {
			say(started, "%s", now)
			last = now
		}
		if done(now, st.GroupFacts) {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return last, errors.Join(fmt.Errorf("it does not get further than: %s", last), ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func look(ctx context.Context, api kubernetes.Interface, st workflows.GroupStatus) (scene, error) {
	s := scene{Target: st.Target}
	for _, m := range st.Members {
		switch m.Phase {
		case workflows.MemberReady:
			s.Ready++
		case workflows.MemberDraining, workflows.MemberDeleting, workflows.MemberGone:
			s.Leaving++
		case workflows.MemberFailed:
			s.Bad++
		case workflows.MemberWanted, workflows.MemberCreating, workflows.MemberBooting, workflows.MemberJoined:
			s.Creating++
		}
	}
	pods, err := api.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + workload})
	if err != nil {
		return s, err
	}
	s.Pods = len(pods.Items)
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			s.Running++
		}
	}
	nodes, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, err
	}
	s.Nodes = len(nodes.Items)
	return s, nil
}

// The workload and the label of the nodes that are for it.
const (
	workload      = "pause"
	workloadLabel = "example.com/workload"
)

// deploy makes the workload: so many pods with so much of a CPU each.
func (d demo) deploy(ctx context.Context, api kubernetes.Interface, n int32, cpu string) error {
	labels, grace := map[string]string{"app": workload}, int64(0)
	yes, no := true, false
	_, err := api.AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: workload},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: &grace, NodeSelector: map[string]string{workloadLabel: workload},
					SecurityContext: &corev1.PodSecurityContext{
						RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
					Containers: []corev1.Container{{
						Name: workload, Image: "registry.k8s.io/pause:3.10",
						SecurityContext: &corev1.SecurityContext{
							AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
						},
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
							corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("128Mi"),
						}},
					}},
				},
			},
		},
	}, metav1.CreateOptions{})
	return err
}

func (d demo) resize(ctx context.Context, api kubernetes.Interface, n int32) error {
	// The controller writes the same object whenever a pod comes or goes.
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		s, err := api.AppsV1().Deployments("default").GetScale(ctx, workload, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Spec.Replicas = n
		_, err = api.AppsV1().Deployments("default").UpdateScale(ctx, workload, s, metav1.UpdateOptions{})
		return err
	})
}
