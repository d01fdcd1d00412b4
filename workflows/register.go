package workflows

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
)

// Registry is the part of a worker that takes registrations.
type Registry interface {
	worker.WorkflowRegistry
	worker.ActivityRegistry
}

// Activities are the instances that a worker runs.
type Activities struct {
	Records  *activities.Records
	Cloud    *activities.Cloud
	Watch    *activities.Watch
	Talos    *activities.Talos
	Kube     *activities.Kube
	Sweeps   *activities.Sweeps
	Locks    *activities.Locks
	Upgrades *activities.Upgrades
}

// Register registers every workflow under its public name and every activity. A
// name that is used twice panics.
func Register(r Registry, a Activities) {
	r.RegisterWorkflowWithOptions(ProvisionCluster, workflow.RegisterOptions{Name: TypeProvisionCluster})
	r.RegisterWorkflowWithOptions(DeleteCluster, workflow.RegisterOptions{Name: TypeDeleteCluster})
	r.RegisterWorkflowWithOptions(ScaleNodeGroup, workflow.RegisterOptions{Name: TypeScaleNodeGroup})
	r.RegisterWorkflowWithOptions(HoldImage, workflow.RegisterOptions{Name: TypeHoldImage})
	r.RegisterWorkflowWithOptions(SweepOrphans, workflow.RegisterOptions{Name: TypeSweepOrphans})
	r.RegisterWorkflowWithOptions(RollingUpgrade, workflow.RegisterOptions{Name: TypeRollingUpgrade})
	r.RegisterWorkflowWithOptions(UpgradeNode, workflow.RegisterOptions{Name: TypeUpgradeNode})
	r.RegisterWorkflowWithOptions(RollbackNode, workflow.RegisterOptions{Name: TypeRollbackNode})
	r.RegisterWorkflowWithOptions(ReplaceNode, workflow.RegisterOptions{Name: TypeReplaceNode})
	r.RegisterWorkflowWithOptions(RestoreCluster, workflow.RegisterOptions{Name: TypeRestoreCluster})
	for _, s := range []any{a.Records, a.Cloud, a.Watch, a.Talos, a.Kube, a.Sweeps, a.Locks, a.Upgrades} {
		r.RegisterActivity(s)
	}
}
