package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// phased begins the names of the histories that phases records: they share a folder
// with those of upgrade, and neither replaces the other's.
const phased = "phase-"

// held is what keeps the cluster busy while requests are made: a pod under a budget,
// and a health gate.
const held = "held"

// phases makes each request in each phase of a roll that lasts: asked, draining,
// parked, between legs, while a node reboots, paused, and in the middle of a
// Kubernetes leg. Each run ends with the request that it is named after; what
// others made before it is in it, too.
func (r *recorder) phases(ctx context.Context) error {
	c, err := r.spec(rolled)
	if err != nil {
		return err
	}
	c.Spec.Talos.Version, c.Spec.Kubernetes.Version, c.Spec.Talos.Extensions = "v1.13.9", "v1.35.2", nil
	c.Spec.NodeGroups = c.Spec.NodeGroups[:1]
	p := &phasing{recorder: r, group: "-" + c.Spec.NodeGroups[0].Name + "-"}
	in := workflows.UpgradeInput{
		UpgradeChange: activities.UpgradeChange{KubernetesVersion: "v1.36.3", Extensions: []string{"siderolabs/qemu-guest-agent"}},
		Strategy: plan.UpgradeStrategy{
			SingleControlPlane: true, Stable: cluster.Duration(time.Millisecond), Approve: plan.ApproveLeg, DrainTimeout: cluster.Duration(3 * time.Second),
		},
	}
	gated := in
	gated.Strategy.Gates = []plan.Gate{{Name: held, Resource: "v1/configmaps", Namespace: metav1.NamespaceDefault, ObjectName: held, Expression: `object.data.open == "yes"`}}
	const talos, kube = "extensions", "Kubernetes"
	return all(ctx,
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c) },
		p.open,

		// Nothing was begun: the worker may still be left out.
		r.rolling(phased+"asked-cancel", in, nil,
			p.asked(talos), r.tell(workflows.SignalPause), r.tell(workflows.SignalResume), p.skip, p.cancel, r.over(cancelled)),

		// Approved during a pause, it waits for the end of that.
		r.rolling(phased+"paused-cancel", in, nil,
			p.asked(talos), r.tell(workflows.SignalPause), r.tell(workflows.SignalApprove), p.skip, p.cancel, r.over(cancelled)),

		// A budget holds up the worker's drain until it parks.
		r.rolling(phased+"draining-cancel", in, nil,
			p.asked(talos), p.hold, r.tell(workflows.SignalApprove), p.works("DrainForWork"), r.tell(workflows.SignalPause), r.tell(workflows.SignalResume),
			p.cancel, r.over(cancelled)),
		p.keepNode("draining-cancel"), p.release,
		r.rolling(phased+"parked-cancel", in, nil,
			p.asked(talos), p.hold, r.tell(workflows.SignalApprove), p.parked, r.tell(workflows.SignalPause), r.tell(workflows.SignalResume), p.goesOn, p.parked,
			p.cancel, r.over(cancelled)),
		p.keepNode("parked-cancel"), p.release,
		r.rolling(phased+"between-legs-cancel", in, nil,
			p.asked(talos), p.hold, r.tell(workflows.SignalApprove), p.parked, p.skip,
			p.asked(kube), r.tell(workflows.SignalPause), r.tell(workflows.SignalApprove), r.tell(workflows.SignalResume), p.cancel, r.over(cancelled)),
		p.keepNode("parked-skip"), p.release,

		// The worker's reboot lasts, and is seen through.
		func(ctx context.Context) error { return r.faults(ctx, p.group, map[string]any{"bootDelay": bootDelay}) },
		r.rolling(phased+"reboot-cancel", in, nil,
			p.asked(talos), r.tell(workflows.SignalApprove), p.works("WaitBooted"), r.tell(workflows.SignalPause), r.tell(workflows.SignalResume),
			p.cancel, r.over(cancelled)),
		p.keepNode("reboot-cancel"),
		func(ctx context.Context) error { return r.faults(ctx, p.group, map[string]any{}) },

		// A health gate holds up the API server.
		r.rolling(phased+"kubernetes-cancel", gated, nil,
			p.asked(kube), p.gate("no"), r.tell(workflows.SignalApprove), p.worksOn("-cp-", "WaitGates"), r.tell(workflows.SignalPause), r.tell(workflows.SignalResume),
			p.cancel, p.gate("yes"), r.over(cancelled)),
		p.keepNodeOf("-cp-", "kubernetes-cancel"),
		r.deleting(rolled),
	)
}

// bootDelay is how much longer a boot takes, as the cloud's clock counts.
const bootDelay = 4 * speed * time.Second

type phasing struct {
	*recorder
	group string // what names of the group's machines contain
	kube  kubernetes.Interface
}

// open opens a client of the cluster and makes what is held up later.
func (p *phasing) open(ctx context.Context) error {
	file := filepath.Join(p.dir, "kubeconfig")
	if err := p.ichor(ctx, codeOK, "kubeconfig", rolled, "--write", file); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return err
	}
	config.WarningHandler = rest.NoWarnings{} // of the pod's own rights
	if p.kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	_, err = p.kube.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: held}, Data: map[string]string{"open": "yes"},
	}, metav1.CreateOptions{})
	return err
}

func (p *phasing) gate(open string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := p.kube.CoreV1().ConfigMaps(metav1.NamespaceDefault).Update(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: held}, Data: map[string]string{"open": open},
		}, metav1.UpdateOptions{})
		return err
	}
}

// hold puts a pod on the worker that no drain gets away. The pre-flight has passed:
// it would refuse that.
func (p *phasing) hold(ctx context.Context) error {
	worker, err := p.name(ctx, p.group)
	if err != nil {
		return err
	}
	labels, none := map[string]string{"app": held}, intstr.FromInt32(0)
	pods := p.kube.CoreV1().Pods(metav1.NamespaceDefault)
	yes := true
	if _, err := pods.Create(ctx, &corev1.Pod{
		// A drain lets nobody's pods be; the owner need not be there.
		ObjectMeta: metav1.ObjectMeta{Name: held, Labels: labels, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "example.com/v1", Kind: "Holder", Name: held, UID: "holder", Controller: &yes},
		}},
		Spec: corev1.PodSpec{NodeName: worker, Containers: []corev1.Container{{Name: "pause", Image: "registry.k8s.io/pause:3.10"}}},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err = p.kube.PolicyV1().PodDisruptionBudgets(metav1.NamespaceDefault).Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: held},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &none, Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return p.comes(ctx, "a running pod under a budget", func(ctx context.Context) (bool, error) {
		pod, err := pods.Get(ctx, held, metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning, err
	})
}

// release ends what hold began.
func (p *phasing) release(ctx context.Context) error {
	now := int64(0)
	err := p.kube.PolicyV1().PodDisruptionBudgets(metav1.NamespaceDefault).Delete(ctx, held, metav1.DeleteOptions{})
	if err != nil {
		return err
	}
	return p.kube.CoreV1().Pods(metav1.NamespaceDefault).Delete(ctx, held, metav1.DeleteOptions{GracePeriodSeconds: &now})
}

func (p *phasing) asked(what string) func(context.Context) error {
	return p.rollIs(func(s workflows.UpgradeStatus) bool { return strings.Contains(s.Asks, what) })
}

func (p *phasing) parked(ctx context.Context) error {
	return p.rollIs(func(s workflows.UpgradeStatus) bool { return strings.Contains(s.Parked, "drain") })(ctx)
}

// goesOn waits until nothing is parked any more.
func (p *phasing) goesOn(ctx context.Context) error {
	return p.rollIs(func(s workflows.UpgradeStatus) bool { return s.Parked == "" })(ctx)
}

func (p *phasing) skip(ctx context.Context) error {
	worker, err := p.name(ctx, p.group)
	if err != nil {
		return err
	}
	return p.request(ctx, workflows.SignalSkipNode, workflows.UpgradeRequest{Node: worker})
}

func (p *phasing) cancel(ctx context.Context) error {
	return p.temporal.CancelWorkflow(ctx, cluster.LifecycleID(rolled), "")
}

func (p *phasing) works(activity string) func(context.Context) error {
	return p.worksOn(p.group, activity)
}

// worksOn waits until an activity of a node is under way.
func (p *phasing) worksOn(part, activity string) func(context.Context) error {
	return func(ctx context.Context) error {
		node, err := p.name(ctx, part)
		if err != nil {
			return err
		}
		return p.comes(ctx, activity+" of "+node, func(ctx context.Context) (bool, error) {
			d, err := p.temporal.DescribeWorkflowExecution(ctx, cluster.NodeWorkID(rolled, node), "")
			if err != nil {
				return false, err
			}
			running := d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
			for _, a := range d.GetPendingActivities() {
				if running && a.GetActivityType().GetName() == activity {
					return true, nil
				}
			}
			return false, nil
		})
	}
}

// comes waits until ok; errors may pass.
func (p *phasing) comes(ctx context.Context, what string, ok func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		var came bool
		if came, last = ok(ctx); came {
			return nil
		}
	}
	return fmt.Errorf("%s never came: %w", what, errors.Join(last, ctx.Err()))
}

func (p *phasing) keepNode(file string) func(context.Context) error {
	return p.keepNodeOf(p.group, file)
}

// keepNodeOf keeps the last run of the work on a node.
func (p *phasing) keepNodeOf(part, file string) func(context.Context) error {
	return func(ctx context.Context) error {
		node, err := p.name(ctx, part)
		if err != nil {
			return err
		}
		return p.keepRun(ctx, phased+file+"-node", cluster.NodeWorkID(rolled, node))
	}
}

// name finds the machine of the cluster whose name contains part.
func (p *phasing) name(ctx context.Context, part string) (string, error) {
	a, err := p.Account(ctx)
	if err != nil {
		return "", err
	}
	for _, s := range a.Machines() {
		if strings.Contains(s.Name, part) {
			return s.Name, nil
		}
	}
	return "", fmt.Errorf("no machine is named *%s*", part)
}
