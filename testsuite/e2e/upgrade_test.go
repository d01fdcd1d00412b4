package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
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

// TestUpgrade takes a cluster of three control planes to other versions of Talos
// and Kubernetes in one go.
func TestUpgrade(t *testing.T) {
	s := start(t, upgradeSettings)
	name := "roll"
	spec := s.spec(name)
	spec.Spec.Talos.Version, spec.Spec.Kubernetes.Version = oldTalos, oldKubernetes
	spec.Spec.ControlPlane.Replicas = 3
	workers := 2
	spec.Spec.NodeGroups[0].Count = &workers
	spec.Spec.NodeGroups[0].Max = 4
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	s.wantVersions(name, oldTalos, oldKubernetes)

	out, err := s.upgrade(name, workflows.UpgradeInput{
		UpgradeChange: activities.UpgradeChange{TalosVersion: newTalos, KubernetesVersion: newKubernetes, Extensions: []string{"siderolabs/qemu-guest-agent"}},
		Strategy:      plan.UpgradeStrategy{MaxUnavailable: "2", Stable: cluster.Duration(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", out.Message)
	s.wantVersions(name, newTalos, newKubernetes)
	if images := s.account().Kind("custom_images"); len(images) != 1 {
		t.Errorf("the former image was not given back: %v", images)
	}
	again, err := s.upgrade(name, workflows.UpgradeInput{})
	if err != nil || again.Upgraded != 0 {
		t.Errorf("a second upgrade did something: %+v, %v", again, err)
	}
	s.ichor(codeOK, nil, "delete", name)
	s.wantEmpty()
}

// upgrade runs RollingUpgrade as any Temporal client would.
func (s *system) upgrade(name string, in workflows.UpgradeInput) (workflows.UpgradeResult, error) {
	s.t.Helper()
	in.Cluster = name
	var out workflows.UpgradeResult
	run, err := s.temporal.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{
		ID: cluster.LifecycleID(name), TaskQueue: workflows.TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, workflows.TypeRollingUpgrade, in)
	if err != nil {
		s.t.Fatal(err)
	}
	err = run.Get(s.t.Context(), &out)
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		err = fmt.Errorf("%s: %s", app.Type(), app.Message())
	}
	return out, err
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
		if n.Spec.Unschedulable {
			s.t.Errorf("%s is cordoned", n.Name)
		}
		for key := range n.Annotations {
			if strings.Contains(key, "scale-down-disabled") || strings.Contains(key, "ichor.dev/held") {
				s.t.Errorf("%s still has %s", n.Name, key)
			}
		}
	}
}
