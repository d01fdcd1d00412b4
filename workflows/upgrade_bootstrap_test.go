package workflows

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

var someObjects = activities.SyncBootstrapResult{
	Node: "demo-cp-00", Changed: []string{"DaemonSet kube-system/kube-proxy"}, Unchanged: 20,
	Kept: []string{"Deployment kube-system/coredns: spec.replicas: set by kubectl"}, Left: []string{"ConfigMap kube-system/old"},
	Workloads: []activities.WorkloadRef{{Kind: "DaemonSet", Namespace: "kube-system", Name: "kube-proxy"}},
}

const rollout = "rollout [DaemonSet kube-system/kube-proxy] "

// What Talos renders follows each leg, when no kubelet is behind it any more, and
// is not asked for once more when nothing has changed since.
func TestUpgradeSyncsBootstrapManifests(t *testing.T) {
	f := newFleet(3, 2, v13, v14)
	f.synced, f.diff.Bootstrap = someObjects, []activities.ObjectChange{{Kind: "DaemonSet", Name: "kube-proxy", Change: activities.ChangeChanged}}
	out, err := f.run(t, UpgradeInput{Cluster: "demo"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var at []int
	for i, entry := range f.log {
		if entry == "sync " {
			at = append(at, i)
			if f.log[i+1] != rollout {
				t.Errorf("after a sync comes %s", f.log[i+1])
			}
		}
	}
	last := func(entry string) int {
		for i := len(f.log) - 1; i >= 0; i-- {
			if f.log[i] == entry {
				return i
			}
		}
		return -1
	}
	if len(at) != 2 || at[0] < last("reboot demo-worker-01") || at[0] > f.index("wait kube-apiserver demo-cp-01") || at[1] < last("wait kubelet demo-worker-01") {
		t.Errorf("synced at %v of %v", at, f.log)
	}
	if !strings.Contains(out.Message, "nodes were upgraded; 1 object of Kubernetes brought to what Talos renders") ||
		out.Manifests == nil || len(out.Manifests.Bootstrap) != 1 || !slices.Equal(out.Bootstrap.Left, someObjects.Left) {
		t.Errorf("%+v", out)
	}
}

// Whoever stopped between a leg and what Talos renders comes back to it; a cluster
// where all is as it should be is not touched.
func TestUpgradeAgainSyncsBootstrapManifests(t *testing.T) {
	for _, changes := range []bool{true, false} {
		f := newFleet(3, 1, v14, v14)
		f.record.SpecDigest = "to-" + v14.Talos + v14.Kubernetes
		f.synced = someObjects
		want := []string{"sync ", rollout}
		if !changes {
			f.synced.Changed, want = nil, nil
		}
		out, err := f.run(t, UpgradeInput{Cluster: "demo"}, nil)
		if err != nil || !slices.Equal(f.log, want) || strings.Contains(out.Message, "nothing was changed") == changes {
			t.Errorf("%t: %q, %v, %v", changes, out.Message, err, f.log)
		}
	}
}

// A rollout that does not come to an end parks the run with what is missing, and
// is waited for again.
func TestUpgradeParksAtARollout(t *testing.T) {
	f := newFleet(1, 1, v13, plan.Versions{Talos: v13.Talos, Schematic: v13.Schematic, Kubernetes: v14.Kubernetes})
	f.synced = someObjects
	f.refuse = func(action, _ string, n int) error {
		if strings.HasPrefix(action, "rollout") && n == 1 {
			return temporal.NewNonRetryableApplicationError("DaemonSet kube-system/kube-proxy: 1 of 2 pods are available", string(fault.NotYet), nil)
		}
		return nil
	}
	out, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true}}, map[time.Duration]act{
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := upgradeStatus(t, env)
			if !strings.Contains(s.Parked, "kube-proxy: 1 of 2 pods are available") || !slices.Equal(s.Bootstrap.Kept, someObjects.Kept) {
				t.Errorf("%+v", s)
			}
			update(env, t, SignalResume, "r1", UpgradeRequest{}, func(_ UpgradeAnswer, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		},
	})
	if err != nil || f.counts["sync "] != 2 || f.counts[rollout] != 2 || out.Upgraded == 0 {
		t.Errorf("%+v, %v, %v", out, err, f.log)
	}
}

// A plan tells what manifests would change, and writes nothing; one that cannot
// tell says so and is a plan all the same.
func TestUpgradePlanTellsOfManifests(t *testing.T) {
	proxy := activities.ObjectChange{Kind: "DaemonSet", Name: "kube-proxy", Change: activities.ChangeChanged, Fields: []string{"image"}}
	for _, tc := range []struct {
		name, message, warning string
		to                     plan.Versions
		err                    error
	}{
		{name: "with legs", to: v14, message: "Talos v1.13.9 to v1.14.1"},
		{name: "without", to: v13, message: "nothing to do but for objects of Kubernetes"},
		{
			name: "API away", to: v14, err: temporal.NewNonRetryableApplicationError("the API does not answer", string(fault.Internal), nil),
			message: "Talos v1.13.9 to v1.14.1", warning: "what they would change cannot be told: the API does not answer",
		},
	} {
		f := newFleet(3, 1, v13, tc.to)
		f.diff.Bootstrap, f.synced = []activities.ObjectChange{proxy}, someObjects
		f.refuse = func(_, _ string, _ int) error { return tc.err }
		out, err := f.run(t, UpgradeInput{Cluster: "demo", PlanOnly: true}, nil)
		if err != nil || !strings.Contains(out.Message, tc.message) || len(f.log) != 0 {
			t.Errorf("%s: %q, %v, %v", tc.name, out.Message, err, f.log)
		}
		if tc.err == nil && (out.Manifests == nil || out.Manifests.Bootstrap[0].Name != proxy.Name) {
			t.Errorf("%s: %+v", tc.name, out.Manifests)
		}
		if tc.err != nil && (out.Manifests != nil || len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0].Reason, tc.warning)) {
			t.Errorf("%s: %+v", tc.name, out.Warnings)
		}
	}
}
