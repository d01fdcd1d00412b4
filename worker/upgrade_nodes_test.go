package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// calmKube is a Kubernetes API in which every node is Ready.
type calmKube struct {
	activities.KubeAPI
	activities.KubeUpgrades
}

func (calmKube) Open(context.Context, cluster.Record, secrets.Value) (activities.KubeAPI, error) {
	return calmKube{}, nil
}

func (calmKube) OpenKubeconfig(context.Context, secrets.Value) (activities.KubeAPI, error) {
	return calmKube{}, nil
}

func (calmKube) Nodes(context.Context) ([]activities.KubeNode, error) { return nil, nil }

func (calmKube) GetNode(_ context.Context, name string) (activities.KubeNode, error) {
	return activities.KubeNode{Name: name, Ready: true}, nil
}

// oneCloud is an account of which only the image format matters.
type oneCloud struct{ cloud.Provider }

func (oneCloud) Open(context.Context, cluster.Cloud) (cloud.Provider, string, error) {
	return oneCloud{}, "acc", nil
}

// Flavors are none that the test needs to tell apart.
func (oneCloud) Flavors(context.Context) ([]cloud.Flavor, error) { return nil, nil }

func (oneCloud) Capabilities() cloud.Capabilities {
	return cloud.Capabilities{TalosPlatform: "openstack"}
}

// twoSchematics is an Image Factory that builds everything.
type twoSchematics struct{}

const (
	plainSchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"
	otherSchematic = "ce4c980550dd2ab1b17bbf2b08801c7eb59418eafe8f279833297925d67c7515"
)

func (twoSchematics) Freeze(_ context.Context, spec cluster.Spec, _ cluster.Talos, _ string, _ cloud.Capabilities) (cluster.Frozen, error) {
	id := spec.Talos.Schematic
	if id == "" {
		id = plainSchematic
	}
	return cluster.Frozen{
		Contract: "v1.13", TalosVersion: spec.Talos.Version, KubernetesVersion: spec.Kubernetes.Version, Schematic: id,
		Image: talos.ImageName(id, spec.Talos.Version, "openstack", "amd64"), InstallerImage: "factory.talos.dev/openstack-installer/" + id + ":" + spec.Talos.Version,
	}, nil
}

func (twoSchematics) CheckInstaller(context.Context, string) error { return nil }

// fleet is a cluster of emulated control planes, and the worker's own adapters.
type fleet struct {
	t       *testing.T
	lab     *nodetest.Lab
	up      *activities.Upgrades
	ref     cluster.Ref
	targets []activities.UpgradeTarget
	nodes   []*talosnode.Node
}

// newFleet boots control planes of Talos v1.13.5 from a record in a real store.
func newFleet(t *testing.T, count int) *fleet {
	t.Helper()
	kept := keptStore(t)
	timing := activities.Timing{Poll: 50 * time.Millisecond}
	f := &fleet{t: t, lab: nodetest.New(t), ref: cluster.Ref{Name: "demo", UID: "u1"}}
	f.up = &activities.Upgrades{
		Store: kept, Configs: configAdapter{}, Factory: twoSchematics{}, Machines: machineAdapter{}, Clouds: oneCloud{},
		Kube: &activities.Kube{Store: kept, Kube: calmKube{}, Timing: timing}, Timing: timing, Now: time.Now,
	}
	spec := cluster.Cluster{Spec: cluster.Spec{
		Cloud: cluster.Cloud{Provider: "dev", Zone: "z"}, Talos: cluster.Talos{Version: "v1.13.5"}, Kubernetes: cluster.Kubernetes{Version: "v1.35.2"},
		Network:      cluster.Network{CIDR: "10.11.0.0/24", AdminCIDRs: []string{"127.0.0.0/8"}},
		ControlPlane: cluster.ControlPlane{Replicas: count, Flavor: "small"},
	}}.Normalise().Spec
	frozen, err := twoSchematics{}.Freeze(t.Context(), spec, spec.Talos, "", cloud.Capabilities{})
	if err != nil {
		t.Fatal(err)
	}
	records := &activities.Records{Store: kept, Configs: configAdapter{}, Now: time.Now}
	frozen.Bundle = ok(t, records.EnsureSecrets, activities.EnsureSecretsInput{Ref: f.ref, Contract: "v1.13"}).Bundle
	rec := cluster.Record{Schema: 1, Ref: f.ref, Phase: cluster.PhaseReady, Spec: spec, SpecDigest: "first", Frozen: frozen, Endpoint: "https://127.0.0.1:6443", BootstrapMachine: "c1"}
	if _, err := kept.PutRecord(t.Context(), rec, 0); err != nil {
		t.Fatal(err)
	}
	frozen.BaseConfig = ok(t, records.EnsureBaseConfigs, activities.EnsureBaseConfigsInput{Ref: f.ref}).BaseConfig
	ok(t, records.UpdateRecord, activities.RecordChange{Ref: f.ref, Frozen: &frozen})
	for range count {
		f.boot()
	}
	if err := (machineAdapter{}).Bootstrap(t.Context(), f.bundle(), f.bootstrapped(0).Node.Address); err != nil {
		t.Fatal(err)
	}
	ok(t, f.up.WaitEtcdGate, activities.EtcdGateInput{Ref: f.ref, Nodes: f.targets})
	return f
}

func (f *fleet) bundle() secrets.Value {
	f.t.Helper()
	v, err := f.up.Store.Object(f.t.Context(), store.BundleKey(f.ref))
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// boot adds a control plane with the config that the record renders.
func (f *fleet) boot() activities.UpgradeTarget {
	f.t.Helper()
	ctx, id := f.t.Context(), fmt.Sprint("c", len(f.targets)+1)
	rec, _, err := f.up.Store.Record(ctx, f.ref.Name)
	if err != nil {
		f.t.Fatal(err)
	}
	base, err := f.up.Store.Object(ctx, rec.Frozen.BaseConfig[0].Ref)
	if err != nil {
		f.t.Fatal(err)
	}
	name := cluster.MachineName(f.ref.Name, cluster.ControlPlaneGroup, id)
	data, _, err := configAdapter{}.UserData(activities.UserDataRequest{
		Record: rec, Bundle: f.bundle(), Base: base, Role: cluster.RoleControlPlane, Group: cluster.ControlPlaneGroup, Machine: name, Gzip: true,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	s := f.lab.Server(name, data.Reveal(), func(s *guest.Server) { s.Image.TalosVersion = rec.Frozen.TalosVersion })
	target := activities.UpgradeTarget{Role: cluster.RoleControlPlane, Group: cluster.ControlPlaneGroup, Node: cluster.NodeAddress{
		MachineID: id, Name: name, Address: s.Loopback.String(),
	}}
	f.nodes, f.targets = append(f.nodes, f.lab.Boot(s)), append(f.targets, target)
	return target
}

// bootstrapped waits until a node's machine API answers.
func (f *fleet) bootstrapped(i int) activities.UpgradeTarget {
	f.t.Helper()
	machines := &activities.Talos{Store: f.up.Store, Configs: configAdapter{}, Machines: machineAdapter{}, Timing: f.up.Timing}
	ok(f.t, machines.WaitMachineAPI, activities.WaitMachineAPIInput{Ref: f.ref, Group: "cp", Role: cluster.RoleControlPlane, Node: f.targets[i].Node})
	return f.targets[i]
}

func (f *fleet) work(i int) activities.NodeWorkInput {
	return activities.NodeWorkInput{Ref: f.ref, Target: f.targets[i], Holder: "test"}
}

func (f *fleet) observe(i int, leg *activities.FreezeLegResult) plan.UpgradeNode {
	f.t.Helper()
	return ok(f.t, f.up.ObserveNodes, activities.ObserveNodesInput{Ref: f.ref, Nodes: f.targets[i : i+1], Leg: leg}).Nodes[0]
}

func (f *fleet) freeze(to plan.Versions) *activities.FreezeLegResult {
	f.t.Helper()
	rec, _, err := f.up.Store.Record(f.t.Context(), f.ref.Name)
	if err != nil {
		f.t.Fatal(err)
	}
	leg := ok(f.t, f.up.FreezeLeg, activities.FreezeLegInput{Ref: f.ref, Spec: rec.Spec, To: to})
	return &leg
}

// ok runs an activity that must succeed.
func ok[In, Out any](t *testing.T, f func(context.Context, In) (Out, error), in In) Out {
	t.Helper()
	out, err := act(t, f, in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// act executes an activity as a worker does, for at most a minute.
func act[In, Out any](t *testing.T, f func(context.Context, In) (Out, error), in In) (Out, error) {
	t.Helper()
	var s testsuite.WorkflowTestSuite
	env := s.NewTestActivityEnvironment()
	var out Out
	var failed error
	once := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		out, failed = f(ctx, in)
		return nil
	}
	env.RegisterActivity(once)
	if _, err := env.ExecuteActivity(once); err != nil {
		t.Fatal(err)
	}
	return out, failed
}

func none[In any](f func(context.Context, In) error) func(context.Context, In) (struct{}, error) {
	return func(ctx context.Context, in In) (struct{}, error) { return struct{}{}, f(ctx, in) }
}

// TestUpgradeOfEmulatedNodes takes nodes through a Talos and a Kubernetes leg with
// the worker's own adapters: what is applied is what is seen, and a lost answer, a
// silent rollback and a second attempt change nothing.
func TestUpgradeOfEmulatedNodes(t *testing.T) {
	f := newFleet(t, 1)
	seen := f.observe(0, nil)
	if seen.Problem != "" || seen.ConfigSHA256 != seen.WantSHA256 || seen.Kubelet != "v1.35.2" || seen.APIServer != "v1.35.2" || !seen.Leader {
		t.Fatalf("a fresh node is seen as %+v", seen)
	}

	to := plan.Versions{Talos: "v1.14.1", Schematic: otherSchematic, Kubernetes: "v1.35.2"}
	leg := f.freeze(to)
	ok(t, none(f.up.PullImage), activities.PullImageInput{NodeWorkInput: f.work(0), Image: leg.Frozen.InstallerImage, Space: activities.SystemImage})
	ok(t, none(f.up.PullComponentImages), activities.PullComponentsInput{NodeWorkInput: f.work(0), Leg: *leg})
	install := func() {
		t.Helper()
		ok(t, none(f.up.InstallTalos), activities.InstallInput{NodeWorkInput: f.work(0), Image: leg.Frozen.InstallerImage})
	}
	reboot := func(bootID string) {
		t.Helper()
		for range 2 { // a second attempt finds it done
			ok(t, none(f.up.RebootNode), activities.RebootInput{NodeWorkInput: f.work(0), BootID: bootID})
		}
	}
	install()
	f.nodes[0].Inject(talosnode.Faults{BootOldSlot: true})
	reboot(seen.BootID)
	_, err := act(t, f.up.WaitBooted, activities.WaitBootedInput{NodeWorkInput: f.work(0), BootID: seen.BootID, Want: to})
	if !fault.Is(err, fault.Unsafe) || !strings.Contains(err.Error(), "booted the old slot: runs v1.13.5") {
		t.Fatalf("a silent rollback ends with %v", err)
	}
	fell := f.observe(0, nil)
	install()
	reboot(fell.BootID)
	up := ok(t, f.up.WaitBooted, activities.WaitBootedInput{NodeWorkInput: f.work(0), BootID: fell.BootID, Want: to, Stable: 200 * time.Millisecond})
	if up.Talos != "v1.14.1" || up.Schematic != otherSchematic || !up.NodeReady {
		t.Errorf("it came up as %+v", up)
	}
	ok(t, f.up.CommitLeg, activities.CommitLegInput{Ref: f.ref, From: "first", Spec: leg.Spec, SpecDigest: leg.SpecDigest, Frozen: leg.Frozen})

	next := f.freeze(plan.Versions{Talos: "v1.14.1", Schematic: otherSchematic, Kubernetes: "v1.36.1"})
	half := activities.Components{ControllerManager: "v1.35.2", Scheduler: "v1.35.2", Kubelet: "v1.35.2"}
	got := ok(t, f.up.ApplyMachineConfig, activities.ApplyConfigInput{NodeWorkInput: f.work(0), Leg: next, Components: half})
	if !got.Changed || got.Staged {
		t.Errorf("a new API server: %+v", got)
	}
	if n := f.observe(0, next); n.APIServer != "v1.36.1" || n.Kubelet != "v1.35.2" || n.ConfigSHA256 != got.SHA256 || n.ConfigSHA256 == n.WantSHA256 {
		t.Errorf("half-way it is %+v", n)
	}
	for i := range 2 {
		got = ok(t, f.up.ApplyMachineConfig, activities.ApplyConfigInput{NodeWorkInput: f.work(0), Leg: next})
		if got.Changed != (i == 0) {
			t.Errorf("attempt %d: %+v", i, got)
		}
	}
	if n := f.observe(0, next); n.Kubelet != "v1.36.1" || n.Scheduler != "v1.36.1" || n.ConfigSHA256 != n.WantSHA256 {
		t.Errorf("at the end it is %+v", n)
	}
}

// TestEtcdOfEmulatedNodes hands leadership over, removes a dead member, and brings
// etcd back from a snapshot after everything is gone.
func TestEtcdOfEmulatedNodes(t *testing.T) {
	f := newFleet(t, 3)
	gate := activities.EtcdGateInput{Ref: f.ref, Nodes: f.targets}
	before := ok(t, f.up.WaitEtcdGate, gate)
	gate.Leaving = before.Leader
	ok(t, f.up.WaitEtcdGate, gate)
	ok(t, none(f.up.ForfeitLeadership), gate)
	gate.Leaving = ""
	if after := ok(t, f.up.WaitEtcdGate, gate); after.Leader == before.Leader {
		t.Errorf("%s leads still", after.Leader)
	}
	snapshot := ok(t, f.up.SnapshotEtcd, activities.SnapshotInput{NodeWorkInput: f.work(0), Name: "before"})
	if snapshot.Bytes == 0 {
		t.Errorf("snapshot %+v", snapshot)
	}

	f.nodes[2].Destroy()
	remove := activities.RemoveEtcdMemberInput{Ref: f.ref, Nodes: f.targets, Name: f.targets[2].Node.Name}
	for range 2 {
		ok(t, none(f.up.RemoveEtcdMember), remove)
	}
	f.nodes[1].Destroy()
	remove.Nodes, remove.Name = f.targets[:2], f.targets[1].Node.Name
	if _, err := act(t, none(f.up.RemoveEtcdMember), remove); !fault.Is(err, fault.Unsafe) || !strings.Contains(err.Error(), "ichor restore demo") {
		t.Errorf("without quorum: %v", err)
	}
	f.nodes[0].Destroy()

	f.boot()
	f.bootstrapped(3)
	restore := activities.RestoreEtcdInput{NodeWorkInput: f.work(3), Snapshot: snapshot, Peers: f.targets[:3], Replaces: "c1"}
	for range 2 {
		ok(t, none(f.up.RestoreEtcd), restore)
	}
	ok(t, f.up.WaitEtcdGate, activities.EtcdGateInput{Ref: f.ref, Nodes: f.targets[3:]})
	rec, _, err := f.up.Store.Record(t.Context(), f.ref.Name)
	if err != nil || rec.BootstrapMachine != "c4" {
		t.Errorf("the record names %s, %v", rec.BootstrapMachine, err)
	}
}
