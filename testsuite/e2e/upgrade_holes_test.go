package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/workflows"
)

// holed is the cluster of TestUpgradeHoles: one control plane and two workers.
const holed = "holes"

// olderKubernetes is a minor before the one that TestUpgrade begins with.
const olderKubernetes = "v1.34.1"

// holes is a system in which one cluster is upgraded again and again, with another
// list of extensions each time, so that every node reboots into another image.
type holes struct {
	*system
	worker *proc.Process
	// spec0 is what the cluster was made of.
	spec0 cluster.Cluster
	// cp and workers are the names of the machines when a subtest begins.
	cp      string
	workers []string
}

// run makes the helpers report to a subtest while it runs.
func (h *holes) run(t *testing.T, name string, f func(h *holes)) {
	t.Run(name, func(t *testing.T) {
		whole := h.system
		h.system = whole.on(t)
		defer func() { h.system = whole }()
		h.cp, h.workers = h.nodesOf(holed, cluster.ControlPlaneGroup)[0], h.nodesOf(holed, "general")
		f(h)
	})
}

// rounds are lists of extensions; no two neighbours are equal.
var rounds = [][]string{
	{"siderolabs/qemu-guest-agent"}, {"siderolabs/intel-ucode"}, {"siderolabs/iscsi-tools"}, {"siderolabs/util-linux-tools"},
}

// change is the n-th change of extensions.
func change(n int) activities.UpgradeChange {
	return activities.UpgradeChange{Extensions: rounds[n%len(rounds)]}
}

// careful is a strategy that waits for nothing but nodes.
func careful() plan.UpgradeStrategy {
	return plan.UpgradeStrategy{SingleControlPlane: true, Stable: briefly}
}

// TestUpgradeHoles falls into each hole that upgrades of other tools are known
// for, one after the other, on one cluster.
func TestUpgradeHoles(t *testing.T) {
	settings := maps.Clone(upgradeSettings)
	settings["ICHOR_IMAGE_DEADLINE"] = "20s"
	h := &holes{system: startWithoutWorker(t, settings)}
	var err error
	if h.worker, err = h.StartWorker(t.Context()); err != nil {
		t.Fatal(err)
	}
	spec := h.upgradable(holed, 2)
	spec.Spec.Kubernetes.Version = olderKubernetes
	spec.Spec.Manifests = append(spec.Spec.Manifests, configMap("early"))
	h.spec0 = spec
	h.ichor(codeOK, nil, "provision", "-f", h.write(spec))

	h.run(t, "pod disruption budget deadlock", (*holes).budgetDeadlock)
	h.run(t, "everything in the way at once", (*holes).allAtOnce)
	h.run(t, "lost reboot after drain timeout", (*holes).lostReboot)
	h.run(t, "silent rollback", (*holes).silentRollback)
	h.run(t, "installer that fails", (*holes).installerFails)
	h.run(t, "upgrade restarts from zero", (*holes).restartsFromZero)
	h.run(t, "cancel at every phase", (*holes).cancelAtEveryPhase)
	h.run(t, "autoscaled node born old", (*holes).bornOld)
	h.run(t, "autoscaler deletes a surge node", (*holes).surgeNode)
	h.run(t, "bootstrap manifests pruned by surprise", (*holes).pruned)

	h.ichor(codeOK, nil, "delete", holed)
	h.wantEmpty()
}

// budgetDeadlock has the pre-flight name what would stop the roll half-way, all of
// it at once and before anything is changed.
func (h *holes) budgetDeadlock() {
	h.workload("frozen", 1)
	h.budget("frozen", 1)
	before := h.allBoots(holed)
	in := workflows.UpgradeInput{UpgradeChange: change(0)}
	_, err := h.upgrade(holed, in)
	h.wantError(err, "Unsafe", "nothing was changed", "default/frozen", "singleControlPlane")
	h.wantBoots(holed, before, 0)
	h.wantReleased(holed)
	h.lift("frozen")
	h.remove("frozen")

	in.PlanOnly, in.Strategy = true, careful()
	out, err := h.upgrade(holed, in)
	if err != nil || len(out.Plan.Legs) != 1 || len(out.Plan.Legs[0].Nodes) != 3 {
		h.t.Fatalf("the plan: %+v, %v", out.Plan, err)
	}
	if order := []string{out.Plan.Legs[0].Nodes[0].Name, out.Plan.Legs[0].Nodes[1].Name, out.Plan.Legs[0].Nodes[2].Name}; !slices.Equal(order, append([]string{h.cp}, h.workers...)) {
		h.t.Errorf("the order is %v", order)
	}
	h.wantBoots(holed, before, 0)
}

// lostReboot lets a budget hold up a drain beyond its time: the node parks,
// cordoned and with the new system installed, and reboots once when the budget
// allows it and somebody says so. Requests that make no sense meanwhile are
// refused.
func (h *holes) lostReboot() {
	before := h.allBoots(holed)
	in := workflows.UpgradeInput{UpgradeChange: change(0), Strategy: careful()}
	in.Strategy.Approve, in.Strategy.DrainTimeout = plan.ApproveNode, cluster.Duration(15*time.Second)
	h.workload("held", 2)
	run := h.beginUpgrade(holed, in)

	h.untilAsked(holed, h.cp)
	h.ichor(codeConflict, []string{"does not wait for an approval"}, "approve", holed, h.workers[1])
	h.ichor(codeConflict, []string{"neither paused nor parked"}, "resume", holed)
	h.ichor(codeInvalid, []string{"has no node"}, "skip-node", holed, "nobody")
	h.ichor(codeOK, []string{"approved", h.cp}, "approve", holed, h.cp)

	h.untilAsked(holed, h.workers[0])
	h.ichor(codeConflict, []string{"is done"}, "skip-node", holed, h.cp)
	h.budget("held", 2)
	h.ichor(codeOK, nil, "approve", holed)
	h.untilParked(holed, h.workers[0], "held")
	if n := h.node(h.workers[0]); !n.Spec.Unschedulable {
		h.t.Errorf("%s waits for a budget and is not cordoned", n.Name)
	}
	if now := h.allBoots(holed)[h.workers[0]]; len(now) != len(before[h.workers[0]]) {
		h.t.Errorf("%s was rebooted over the head of a budget: %q", h.workers[0], now)
	}
	h.ichor(codeOK, []string{"paused"}, "pause", holed)
	h.ichor(codeConflict, []string{"paused already"}, "pause", holed)
	h.ichor(codeOK, []string{"Parked", "held"}, "status", holed)
	h.lift("held")
	h.ichor(codeOK, nil, "resume", holed)
	h.untilAsked(holed, h.workers[1])
	h.ichor(codeOK, nil, "approve", holed)
	h.wantDone(run)
	h.wantBoots(holed, before, 1)
	h.wantReleased(holed)
	h.remove("held")
}

// silentRollback has a node come back with its old system: that is named, it
// stops the roll, and the next attempt finishes it.
func (h *holes) silentRollback() {
	before := h.allBoots(holed)
	h.breakNode(holed, h.workers[0], map[string]any{"bootOldSlot": true})
	run := h.beginUpgrade(holed, workflows.UpgradeInput{UpgradeChange: change(1), Strategy: careful()})
	st := h.untilParked(holed, h.workers[0], "old slot")
	if got := stateOf(st, h.workers[1]); got != plan.RollPending {
		h.t.Errorf("%s is %s although the node before fell back", h.workers[1], got)
	}
	h.wantReleased(holed)
	h.ichor(codeOK, nil, "resume", holed)
	h.wantDone(run)
	now := h.allBoots(holed)
	for node, want := range map[string]int{h.cp: 1, h.workers[0]: 2, h.workers[1]: 1} {
		if got := len(now[node]) - len(before[node]); got != want {
			h.t.Errorf("%s booted %d times, want %d", node, got, want)
		}
	}
}

// installerFails has images that cannot be pulled and installers that end with
// an exit code: each is told with its reason, nothing is rebooted, and resume
// goes on where it was.
func (h *holes) installerFails() {
	before := h.allBoots(holed)
	h.breakNode(holed, h.workers[0], map[string]any{"installExitCode": 4})
	run := h.beginUpgrade(holed, workflows.UpgradeInput{UpgradeChange: change(2), Strategy: careful()})
	for _, next := range []struct {
		texts  []string
		faults map[string]any
	}{
		{[]string{"exit code 4 (environment)", "Unsafe"}, map[string]any{"installExitCode": 7}},
		{[]string{"exit code 7 (installation)", "Internal"}, map[string]any{"imagePullFails": true}},
	} {
		st := h.untilParked(holed, append(next.texts, h.workers[0])...)
		if got := stateOf(st, h.workers[1]); got != plan.RollPending {
			h.t.Errorf("%s is %s although the installer of the node before failed", h.workers[1], got)
		}
		h.wantReleased(holed)
		h.breakNode(holed, h.workers[0], next.faults)
		h.ichor(codeOK, nil, "resume", holed)
	}
	now := h.allBoots(holed)
	for _, node := range h.workers {
		if len(now[node]) != len(before[node]) {
			h.t.Errorf("%s was rebooted without a new system: %q", node, now[node])
		}
	}
	h.breakNode(holed, h.workers[0], nil)
	h.wantDone(run)
	h.wantBoots(holed, before, 1)
}

// restartsFromZero kills the worker and terminates the workflow half-way: what is
// started again does only what is left.
func (h *holes) restartsFromZero() {
	before := h.allBoots(holed)
	in := workflows.UpgradeInput{UpgradeChange: change(3), Strategy: careful()}
	h.beginUpgrade(holed, in)
	h.untilUpgrade(holed, "the first worker is at work", func(st workflows.UpgradeStatus) bool {
		return stateOf(st, h.workers[0]) == plan.RollRunning
	})
	h.killWorker()
	h.untilUpgrade(holed, "the second worker is at work", func(st workflows.UpgradeStatus) bool {
		return stateOf(st, h.workers[1]) == plan.RollRunning
	})
	if err := h.temporal.TerminateWorkflow(h.t.Context(), cluster.LifecycleID(holed), "", "half-way"); err != nil {
		h.t.Fatal(err)
	}
	out, err := h.upgrade(holed, in)
	if err != nil || out.Upgraded > 1 {
		h.t.Errorf("what was left: %d nodes, %v", out.Upgraded, err)
	}
	h.wantBoots(holed, before, 1)
	h.wantReleased(holed)
	again, err := h.upgrade(holed, in)
	if err != nil || again.Upgraded != 0 {
		h.t.Errorf("a third start did something: %+v, %v", again, err)
	}
	h.wantBoots(holed, before, 1)
}

// killWorker kills Ichor's worker and starts another.
func (h *holes) killWorker() {
	h.t.Helper()
	if err := h.worker.Kill(); err != nil {
		h.t.Fatal(err)
	}
	var err error
	if h.worker, err = h.StartWorker(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *holes) wantDone(run client.WorkflowRun) workflows.UpgradeResult {
	h.t.Helper()
	out, err := h.endUpgrade(run)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *holes) wantError(err error, texts ...string) {
	h.t.Helper()
	if err == nil {
		h.t.Fatal("the upgrade succeeded")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			h.t.Errorf("the error lacks %q: %v", text, err)
		}
	}
}

func (h *holes) node(name string) *corev1.Node {
	h.t.Helper()
	n, err := h.kube(holed).CoreV1().Nodes().Get(h.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// workload runs pods of which at most one is on each worker, and waits for them.
func (h *holes) workload(name string, replicas int32) {
	h.t.Helper()
	ctx, api, labels := h.t.Context(), h.kube(holed), map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "pause", Image: "registry.k8s.io/pause:3.10"}},
					Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
						RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
							LabelSelector: &metav1.LabelSelector{MatchLabels: labels}, TopologyKey: corev1.LabelHostname,
						}},
					}},
				},
			},
		},
	}
	if _, err := api.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{}); err != nil {
		h.t.Fatal(err)
	}
	h.until(fmt.Sprintf("%d pods of %s are ready", replicas, name), func() bool {
		d, err := api.AppsV1().Deployments("default").Get(ctx, name, metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == replicas
	})
}

// budget demands that so many of a workload's pods stay, and waits until it is
// counted.
func (h *holes) budget(name string, least int32) {
	h.t.Helper()
	ctx, api, minimum := h.t.Context(), h.kube(holed).PolicyV1().PodDisruptionBudgets("default"), intstr.FromInt32(least)
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &minimum, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
	}
	if _, err := api.Create(ctx, b, metav1.CreateOptions{}); err != nil {
		h.t.Fatal(err)
	}
	h.until("the budget "+name+" counts its pods", func() bool {
		b, err := api.Get(ctx, name, metav1.GetOptions{})
		return err == nil && b.Status.ExpectedPods > 0 && b.Status.ObservedGeneration == b.Generation
	})
}

// lift removes a budget.
func (h *holes) lift(name string) {
	h.t.Helper()
	if err := h.kube(holed).PolicyV1().PodDisruptionBudgets("default").Delete(h.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		h.t.Fatal(err)
	}
}

// remove removes a workload.
func (h *holes) remove(name string) {
	h.t.Helper()
	if err := h.kube(holed).AppsV1().Deployments("default").Delete(h.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		h.t.Fatal(err)
	}
}
