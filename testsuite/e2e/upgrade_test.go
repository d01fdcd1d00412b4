package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// The versions between which the suite upgrades: a minor of Talos with other
// extensions, and a minor of Kubernetes.
const (
	oldTalos, newTalos           = "v1.13.9", "v1.14.1"
	oldKubernetes, newKubernetes = "v1.35.2", "v1.36.3"
)

// upgradeSettings shorten what is waited for between nodes.
var upgradeSettings = map[string]string{"ICHOR_DRAIN_DEADLINE": "15s", "ICHOR_RECONCILE_INTERVAL": "5s"}

// briefly is for how long a gate must hold here: devcloud's nodes do not waver.
const briefly = cluster.Duration(1)

// TestUpgrade takes a cluster of three control planes to other versions of Talos
// and Kubernetes in one go.
func TestUpgrade(t *testing.T) {
	s := start(t, upgradeSettings)
	name := "roll"
	spec := s.upgradable(name, 2)
	spec.Spec.ControlPlane.Replicas = 3
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	s.wantVersions(name, oldTalos, oldKubernetes)
	if err := quorum.Reset(t.Context(), s.CloudURL); err != nil {
		t.Fatal(err)
	}

	out, err := s.upgrade(name, workflows.UpgradeInput{
		UpgradeChange: activities.UpgradeChange{TalosVersion: newTalos, KubernetesVersion: newKubernetes, Extensions: []string{"siderolabs/qemu-guest-agent"}},
		Strategy:      plan.UpgradeStrategy{MaxUnavailable: "2", Stable: briefly},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", out.Message)
	s.wantVersions(name, newTalos, newKubernetes)
	if images := s.account().Kind(stack.Images); len(images) != 1 {
		t.Errorf("the former image was not given back: %v", images)
	}
	record, err := quorum.Fetch(t.Context(), s.CloudURL)
	if err != nil || len(record.Clusters) != 1 || !record.Clusters[0].Intact() {
		t.Errorf("the quorum was not kept: %+v, %v", record, err)
	}
	for node, boots := range s.allBoots(name) {
		if len(boots) != 2 {
			t.Errorf("%s booted %q, want one reboot", node, boots)
		}
	}
	again, err := s.upgrade(name, workflows.UpgradeInput{})
	if err != nil || again.Upgraded != 0 {
		t.Errorf("a second upgrade did something: %+v, %v", again, err)
	}
	s.ichor(codeOK, nil, "delete", name)
	s.wantEmpty()
}

// upgradable is a small cluster on the older versions, without extensions.
func (s *system) upgradable(name string, workers int) cluster.Cluster {
	s.t.Helper()
	spec := s.spec(name)
	spec.Spec.Talos.Version, spec.Spec.Kubernetes.Version = oldTalos, oldKubernetes
	spec.Spec.Talos.Extensions = nil
	spec.Spec.NodeGroups[0].Count = &workers
	spec.Spec.NodeGroups[0].Max = workers + 2
	return spec
}

// beginUpgrade starts RollingUpgrade as any Temporal client would.
func (s *system) beginUpgrade(name string, in workflows.UpgradeInput) client.WorkflowRun {
	s.t.Helper()
	in.Cluster = name
	run, err := s.temporal.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{
		ID: cluster.LifecycleID(name), TaskQueue: workflows.TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, workflows.TypeRollingUpgrade, in)
	if err != nil {
		s.t.Fatal(err)
	}
	return run
}

// endUpgrade waits for the end of a roll. The kind of its error is part of the
// text.
func (s *system) endUpgrade(run client.WorkflowRun) (workflows.UpgradeResult, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	var out workflows.UpgradeResult
	err := run.Get(ctx, &out)
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return out, fmt.Errorf("%s: %s", app.Type(), app.Message())
	}
	var canceled *temporal.CanceledError
	if errors.As(err, &canceled) {
		var report string
		if canceled.HasDetails() {
			if derr := canceled.Details(&report); derr != nil {
				s.t.Fatal(derr)
			}
		}
		return out, fmt.Errorf("canceled: %s", report)
	}
	if ctx.Err() != nil {
		s.t.Fatalf("the upgrade %s did not end: %v", run.GetID(), err)
	}
	return out, err
}

func (s *system) upgrade(name string, in workflows.UpgradeInput) (workflows.UpgradeResult, error) {
	s.t.Helper()
	return s.endUpgrade(s.beginUpgrade(name, in))
}

// upgradeStatus asks the latest run of a cluster what it does; empty while none
// answers.
func (s *system) upgradeStatus(name string) workflows.UpgradeStatus {
	s.t.Helper()
	var st workflows.UpgradeStatus
	v, err := s.temporal.QueryWorkflow(s.t.Context(), cluster.LifecycleID(name), "", workflows.QueryUpgrade)
	if err != nil {
		return st
	}
	if err := v.Get(&st); err != nil {
		s.t.Fatalf("status of the upgrade of %s: %v", name, err)
	}
	return st
}

// untilUpgrade waits until a roll is in a state, or has ended, which fails.
func (s *system) untilUpgrade(name, what string, ok func(workflows.UpgradeStatus) bool) (st workflows.UpgradeStatus) {
	s.t.Helper()
	s.until(what, func() bool {
		st = s.upgradeStatus(name)
		if ok(st) {
			return true
		}
		if l, err := s.temporal.DescribeWorkflowExecution(s.t.Context(), cluster.LifecycleID(name), ""); err == nil && l.GetWorkflowExecutionInfo().GetCloseTime() != nil {
			s.t.Fatalf("the upgrade ended before: %s: %v", what, s.runError(cluster.LifecycleID(name), ""))
		}
		return false
	})
	return st
}

// untilParked waits until a roll or one of its nodes parks for the reasons.
func (s *system) untilParked(name string, texts ...string) workflows.UpgradeStatus {
	s.t.Helper()
	return s.untilUpgrade(name, "it parks for "+strings.Join(texts, ", "), func(st workflows.UpgradeStatus) bool {
		for _, text := range texts {
			if !strings.Contains(st.Parked, text) {
				return false
			}
		}
		return true
	})
}

func (s *system) untilAsked(name, text string) {
	s.t.Helper()
	s.untilUpgrade(name, "it asks for "+text, func(st workflows.UpgradeStatus) bool { return strings.Contains(st.Asks, text) })
}

// stateOf is how far a node is in the roll under way.
func stateOf(st workflows.UpgradeStatus, node string) plan.RollState {
	for _, n := range st.Nodes {
		if n.Name == node {
			return n.State
		}
	}
	return ""
}

// machinesOf are a cluster's machines in the account, by name.
func (s *system) machinesOf(name string) map[string]stack.Resource {
	s.t.Helper()
	out := map[string]stack.Resource{}
	for _, r := range s.account().Machines() {
		if r.Tags[cluster.TagClusterName] == name {
			out[r.Name] = r
		}
	}
	return out
}

// byHand does something to a cluster's machine in the cloud's panel.
func (s *system) byHand(name, node string, what stack.Action) {
	s.t.Helper()
	m, ok := s.machinesOf(name)[node]
	if !ok {
		s.t.Fatalf("the account has no machine %s", node)
	}
	if err := s.ByHand(s.t.Context(), m, what); err != nil {
		s.t.Fatal(err)
	}
}

// nodesOf are the names of a group's machines, sorted.
func (s *system) nodesOf(name, group string) []string {
	s.t.Helper()
	var out []string
	for node, m := range s.machinesOf(name) {
		if m.Tags[cluster.TagGroup] == group {
			out = append(out, node)
		}
	}
	slices.Sort(out)
	return out
}

// allBoots are the systems that each machine has booted, as its console shows
// them.
func (s *system) allBoots(name string) map[string][]string {
	s.t.Helper()
	out := map[string][]string{}
	for node, m := range s.machinesOf(name) {
		lines, err := s.Console(s.t.Context(), m)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, line := range lines {
			if _, boot, ok := strings.Cut(line, "booting Talos "); ok {
				version, _, _ := strings.Cut(boot, " ")
				out[node] = append(out[node], version)
			}
		}
	}
	return out
}

// wantBoots demands that each machine has booted so many times since before.
func (s *system) wantBoots(name string, before map[string][]string, want int) {
	s.t.Helper()
	for node, boots := range s.allBoots(name) {
		if got := len(boots) - len(before[node]); got != want {
			s.t.Errorf("%s booted %d times, want %d: before %q, now %q", node, got, want, before[node], boots)
		}
	}
}

// breakNode injects faults of a machine; nil heals it.
func (s *system) breakNode(name, node string, faults map[string]any) {
	s.t.Helper()
	if err := s.Break(s.t.Context(), s.machinesOf(name)[node], faults); err != nil {
		s.t.Fatal(err)
	}
}

// wantVersions asks every node through Kubernetes what it runs.
func (s *system) wantVersions(name, talos, kubernetes string) {
	s.t.Helper()
	nodes, err := s.kube(name).CoreV1().Nodes().List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range nodes.Items {
		info := n.Status.NodeInfo
		if info.KubeletVersion != kubernetes || !strings.Contains(info.OSImage, talos) {
			s.t.Errorf("%s runs %s, kubelet %s; want %s, %s", n.Name, info.OSImage, info.KubeletVersion, talos, kubernetes)
		}
	}
	s.wantReleased(name)
}

// wantReleased demands that nothing of an upgrade holds any node.
func (s *system) wantReleased(name string) {
	s.t.Helper()
	nodes, err := s.kube(name).CoreV1().Nodes().List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range nodes.Items {
		if n.Spec.Unschedulable {
			s.t.Errorf("%s is cordoned", n.Name)
		}
		for key := range n.Annotations {
			if strings.Contains(key, "scale-down-disabled") || strings.Contains(key, "ichor.dev/held") {
				s.t.Errorf("%s still has %s", n.Name, key)
			}
		}
	}
	for _, g := range s.status(name).Groups {
		for _, m := range g.Members {
			if m.Lease != nil {
				s.t.Errorf("%s: the group says that %s works on it", m.Name, m.Lease.Holder)
			}
		}
	}
}
