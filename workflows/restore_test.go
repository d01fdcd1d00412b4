package workflows

import (
	"context"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/activity"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// restoring is a fleet that has lost etcd.
type restoring struct {
	*replacing
	lives bool
	seeds []string // machines that etcd was begun on
}

func (r *restoring) ProveEtcdLost(context.Context, activities.EtcdGateInput) error {
	if r.lives {
		return fault.New(fault.Unsafe, "prove", "etcd lives")
	}
	return nil
}

func (r *restoring) RestoreEtcd(_ context.Context, in activities.RestoreEtcdInput) error {
	if in.Replaces != r.record.BootstrapMachine || len(in.Peers) != 2 {
		return fault.New(fault.Unsafe, "restore", "replaces %s, peers %d", in.Replaces, len(in.Peers))
	}
	r.record.BootstrapMachine = in.Target.Node.MachineID
	r.seeds = append(r.seeds, in.Target.Node.MachineID)
	return r.did("restore " + in.Target.Node.Name)
}

func (r *restoring) WaitKubernetesAPI(context.Context, activities.WaitAPIInput) error {
	return r.did("kubernetes answers")
}

func (r *restoring) run(t *testing.T, key string) (RestoreResult, error) {
	t.Helper()
	env := repairEnv(t, r.fakeFleet, RestoreCluster)
	s := &slots{fakeFleet: r.fakeFleet}
	for name, fn := range map[string]any{
		"GetRecord": s.GetRecord, "OpenAccount": s.OpenAccount, "ReplaceMember": r.ReplaceMember, "ProveEtcdLost": r.ProveEtcdLost,
		"SyncEndpoint": r.SyncEndpoint, "UpdateRecord": r.UpdateRecord, "WaitMachineAPI": r.WaitMachineAPI, "WaitEtcdGate": r.WaitEtcdGate,
		"DeleteNode": r.DeleteNode, "ListOwned": r.ListOwned, "RestoreEtcd": r.RestoreEtcd, "WaitKubernetesAPI": r.WaitKubernetesAPI,
	} {
		env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	env.ExecuteWorkflow(RestoreCluster, RestoreInput{Cluster: "demo", Snapshot: activities.SnapshotResult{Key: key}})
	if !env.IsWorkflowCompleted() {
		t.Fatal("it did not end")
	}
	var out RestoreResult
	err := env.GetWorkflowError()
	if err == nil {
		if gerr := env.GetWorkflowResult(&out); gerr != nil {
			t.Fatal(gerr)
		}
	}
	return out, err
}

func newRestoring() *restoring {
	r := &restoring{replacing: newReplacing(3)}
	r.etcd = nil // it is lost
	return r
}

// Wherever it is broken off, the same command goes on with the machines that were
// made, and etcd is begun on one machine only.
func TestRestore(t *testing.T) {
	for _, at := range []string{"", "replace", "sync", "answers", "restore", "kubernetes", "votes", "object"} {
		t.Run("broken at "+at, func(t *testing.T) {
			r := newRestoring()
			r.breaks = at
			out, err := r.run(t, "etcd/one")
			if at != "" {
				if err == nil || !strings.Contains(err.Error(), "broken for once") {
					t.Fatalf("it was not broken: %v", err)
				}
				out, err = r.run(t, "etcd/one")
			}
			if err != nil {
				t.Fatal(err)
			}
			names := []string{"demo-cp-10", "demo-cp-11", "demo-cp-12"}
			var recorded []string
			for _, n := range r.record.ControlPlanes {
				recorded = append(recorded, n.Name)
			}
			slices.Sort(r.forwards)
			if !slices.Equal(out.ControlPlanes, names) || !slices.Equal(recorded, names) || !slices.Equal(r.forwards, []string{"cp10", "cp11", "cp12"}) {
				t.Errorf("result %v, record %v, endpoint %v", out.ControlPlanes, recorded, r.forwards)
			}
			if len(slices.Compact(slices.Clone(r.seeds))) != 1 || r.record.BootstrapMachine != r.seeds[0] {
				t.Errorf("etcd was begun on %v, the record says %s", r.seeds, r.record.BootstrapMachine)
			}
			if want := append([]string{"demo-worker-00"}, names...); !slices.Equal(r.objects, want) {
				t.Errorf("Node objects %v, want %v", r.objects, want)
			}
		})
	}
}

func TestRestoreRefused(t *testing.T) {
	for _, c := range []struct {
		want    string
		key     string
		prepare func(*restoring)
	}{
		{"etcd lives", "etcd/one", func(r *restoring) { r.lives = true }},
		{"snapshot.key: is required", "", func(*restoring) {}},
		{"names no control planes", "etcd/one", func(r *restoring) { r.record.ControlPlanes = []cluster.NodeAddress{} }},
	} {
		r := newRestoring()
		c.prepare(r)
		if _, err := r.run(t, c.key); err == nil || !strings.Contains(err.Error(), c.want) || len(r.heirs) != 0 {
			t.Errorf("want %q: %v", c.want, err)
		}
	}
}
