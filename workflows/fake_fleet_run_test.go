package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// members are what the groups would report.
func (f *fakeFleet) members(group string) GroupReport {
	r := GroupReport{Cluster: demoRef, Group: group, Full: true}
	if f.trouble != nil {
		f.trouble(&r)
	}
	for _, n := range f.nodes {
		if n.Group == group {
			r.Members = append(r.Members, MemberStatus{ID: n.Machine, Name: n.Name, Group: group, Role: n.Role, Phase: MemberReady, Address: "192.0.2.1"})
		}
	}
	return r
}

// run runs the upgrade, with acts at given times, and returns its outcome.
func (f *fakeFleet) run(t *testing.T, in UpgradeInput, acts map[time.Duration]act) (UpgradeResult, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute, Interceptors: []interceptor.WorkerInterceptor{&activities.Boundary{}}})
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: cluster.LifecycleID("demo"), TaskQueue: TaskQueue})
	env.RegisterWorkflow(RollingUpgrade)
	env.RegisterWorkflow(UpgradeNode)
	env.RegisterWorkflow(HoldImage)
	f.register(env)
	env.OnWorkflow(HoldImage, mock.Anything, mock.Anything).Return(ImageResult{ID: "image-new"}, nil).Maybe()
	env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, SignalAsk, mock.Anything).Return(
		func(_, id, _, _ string, _ any) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			r := f.members(groupOf(id))
			env.RegisterDelayedCallback(func() { env.SignalWorkflow(SignalReport, r) }, 0)
			return nil
		})
	env.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, SignalConfigure, mock.Anything).Return(nil).Maybe()
	for change, v := range f.versions {
		env.OnGetVersion(change, workflow.DefaultVersion, workflow.Version(1)).Return(v).Maybe()
	}
	for at, do := range acts {
		env.RegisterDelayedCallback(func() { do(env) }, at)
	}
	env.ExecuteWorkflow(RollingUpgrade, in)
	if !env.IsWorkflowCompleted() {
		t.Fatal("the upgrade did not end")
	}
	err := env.GetWorkflowError()
	var out UpgradeResult
	if err == nil {
		if gerr := env.GetWorkflowResult(&out); gerr != nil {
			t.Fatal(gerr)
		}
	}
	for _, n := range f.nodes {
		if n.held || n.Cordoned || n.leased != "" {
			t.Errorf("%s was left held %t, cordoned %t, leased %q", n.Name, n.held, n.Cordoned, n.leased)
		}
	}
	if f.worst > 1 {
		t.Errorf("%d control planes were out at once", f.worst)
	}
	return out, err
}

func (f *fakeFleet) register(env *testsuite.TestWorkflowEnvironment) {
	for name, fn := range map[string]any{
		"ResolveUpgrade": f.ResolveUpgrade, "FreezeLeg": f.FreezeLeg, "CommitLeg": f.CommitLeg, "UpdateRecord": f.UpdateRecord,
		"ObserveNodes": f.ObserveNodes, "CheckUpgrade": f.CheckUpgrade, "SnapshotEtcd": f.SnapshotEtcd, "PullImage": f.PullImage,
		"PullComponentImages": f.PullComponentImages, "InstallTalos": f.InstallTalos, "UpgradeTalosWhole": f.UpgradeTalosWhole,
		"RebootNode": f.RebootNode, "WaitBooted": f.WaitBooted, "HoldNode": f.HoldNode, "ReleaseNode": f.ReleaseNode, "DrainForWork": f.DrainForWork,
		"WaitEtcdGate": f.WaitEtcdGate, "ForfeitLeadership": f.ForfeitLeadership, "ApplyMachineConfig": f.ApplyMachineConfig,
		"WaitComponent": f.WaitComponent, "WaitGates": f.WaitGates, "LeaseMember": f.LeaseMember, "ApplyUpgradeManifests": f.ApplyUpgradeManifests,
		"DiffUpgradeManifests": f.DiffUpgradeManifests, "SyncBootstrapManifests": f.SyncBootstrapManifests, "WaitRollout": f.WaitRollout,
	} {
		env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
}

var (
	v13 = plan.Versions{Talos: "v1.13.9", Schematic: "s1", Kubernetes: "v1.35.2"}
	v14 = plan.Versions{Talos: "v1.14.1", Schematic: "s2", Kubernetes: "v1.36.3"}
)

func upgradeStatus(t *testing.T, env *testsuite.TestWorkflowEnvironment) UpgradeStatus {
	t.Helper()
	var s UpgradeStatus
	v, err := env.QueryWorkflow(QueryUpgrade)
	if err == nil {
		err = v.Get(&s)
	}
	if err != nil {
		t.Error(err)
	}
	return s
}
