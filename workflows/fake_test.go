package workflows

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// fakeWorld is a cloud, a store and a cluster in memory: enough to run whole
// workflows with time skipping. The real protocol is tested against devcloud;
// here it is the decisions that are tested.
type fakeWorld struct {
	mu        sync.Mutex
	record    cluster.Record
	rev       int64
	objects   map[string]string
	machines  []cloud.Machine
	resources []cloud.Resource
	images    []cloud.Image
	calls     map[string]int
	creates   map[string]int
	// inject is asked before and after each create and before other calls.
	inject func(op string, n int) (before, after error)
	// mocks replaces activities.
	mocks func(*testsuite.TestWorkflowEnvironment)
	// silent machines run, but their nodes never join.
	silent func(cloud.Machine) bool
	// cordoned, drained and forgotten are names of nodes, in order.
	cordoned, drained, forgotten []string
	steps                        []cloud.Step
	// madeOf are the images of the machines that were made, asked are the requests
	// for machines that were sent, in order.
	madeOf []string
	asked  []cloud.MachineSpec
	// hides says that looks for one machine do not show it.
	hides bool
}

func newFakeWorld() *fakeWorld {
	return &fakeWorld{objects: map[string]string{}, calls: map[string]int{}, creates: map[string]int{}, steps: []cloud.Step{
		{Kind: "network", Key: "network", Title: "network"},
		{Kind: "subnet", Key: "subnet", Title: "subnet"},
		{Kind: "lb", Key: "lb", Title: "load balancer"},
	}}
}

// change makes a change from a test: activities of an ended environment may
// still look.
func (w *fakeWorld) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// enter counts a call and returns its faults.
func (w *fakeWorld) enter(op string) (before, after error) {
	w.calls[op]++
	if w.inject == nil {
		return nil, nil
	}
	return w.inject(op, w.calls[op])
}

// Store.

func (w *fakeWorld) Record(_ context.Context, name string) (cluster.Record, int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rev == 0 {
		return cluster.Record{}, 0, fault.New(fault.NotFound, "read record", "no cluster %q", name)
	}
	return w.record, w.rev, nil
}

func (w *fakeWorld) PutRecord(_ context.Context, rec cluster.Record, expect int64) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if expect != w.rev {
		return 0, fault.New(fault.Conflict, "put record", "revision %d", w.rev)
	}
	w.rev++
	w.record = rec
	return w.rev, nil
}

func (w *fakeWorld) EnsureBundle(context.Context, cluster.Ref, func() (secrets.Value, error)) (string, error) {
	return "bundle", nil
}

func (w *fakeWorld) EnsureObject(_ context.Context, _ cluster.Ref, name string, _ secrets.Value) (string, string, error) {
	return name, "sum", nil
}

func (w *fakeWorld) Object(context.Context, string) (secrets.Value, error) {
	return secrets.NewValue([]byte("x")), nil
}

func (w *fakeWorld) Body(context.Context, string, string) (secrets.Value, error) {
	return secrets.NewValue([]byte("x")), nil
}

func (w *fakeWorld) Forget(context.Context, cluster.Record) error { return nil }

// Checker, Factory, MachineConfigs, Machines.

func (w *fakeWorld) Check(_ context.Context, c cluster.Cluster) (cluster.Cluster, string, error) {
	if c.Spec.ControlPlane.Replicas == 2 {
		return c, "", fault.New(fault.Invalid, "check spec", "spec.controlPlane.replicas: must be 1, 3 or 5")
	}
	return c, fmt.Sprintf("digest-%d", c.Spec.ControlPlane.Replicas), nil
}

func (w *fakeWorld) Freeze(_ context.Context, s cluster.Spec, _ cluster.Talos, _ string, _ cloud.Capabilities) (cluster.Frozen, error) {
	return cluster.Frozen{Contract: "v1.13", TalosVersion: s.Talos.Version, Image: "img", KubernetesVersion: s.Kubernetes.Version}, nil
}

func (w *fakeWorld) NewBundle(string) (secrets.Value, error) {
	return secrets.NewValue([]byte("b")), nil
}

func (w *fakeWorld) Base(cluster.Record, secrets.Value, cluster.Role) (secrets.Value, error) {
	return secrets.NewValue([]byte("base")), nil
}

func (w *fakeWorld) UserData(activities.UserDataRequest) (secrets.Value, string, error) {
	return secrets.NewValue([]byte("config")), "sha", nil
}

func (w *fakeWorld) NodeSettings(secrets.Value) (activities.NodeSettings, error) {
	return activities.NodeSettings{}, nil
}

func (w *fakeWorld) Probe(context.Context, secrets.Value, string) (activities.NodeProbe, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, _ := w.enter("probe")
	return activities.NodeProbe{Version: "v1.13.5", Stage: "running"}, before
}

func (w *fakeWorld) ApplyMaintenance(context.Context, string, secrets.Value) error { return nil }

func (w *fakeWorld) Bootstrap(context.Context, secrets.Value, string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, _ := w.enter("bootstrap")
	if before == nil {
		w.objects["etcd"] = "runs"
	}
	return before
}

func (w *fakeWorld) Etcd(context.Context, secrets.Value, string) (activities.EtcdView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.objects["etcd"] == "" {
		return activities.EtcdView{}, nil
	}
	v := activities.EtcdView{Running: true, Leader: "x"}
	for _, m := range w.machines {
		if m.Role == cluster.RoleControlPlane {
			v.Voters = append(v.Voters, m.Name)
		}
	}
	slices.Sort(v.Voters)
	return v, nil
}

// Kubernetes.

type fakeKube struct{ w *fakeWorld }

func (k fakeKube) Open(context.Context, cluster.Record, secrets.Value) (activities.KubeAPI, error) {
	return k, nil
}

func (k fakeKube) OpenKubeconfig(context.Context, secrets.Value) (activities.KubeAPI, error) {
	return k, nil
}

func (k fakeKube) NameMachine(context.Context, string, string) error { return nil }

func (k fakeKube) CordonNode(_ context.Context, name string) error {
	k.w.change(func() { k.w.cordoned = append(k.w.cordoned, name) })
	return nil
}

func (k fakeKube) EvictPods(_ context.Context, name string) ([]activities.PodLeft, error) {
	k.w.change(func() { k.w.drained = append(k.w.drained, name) })
	return nil, nil
}

func (k fakeKube) Ready(context.Context) error {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	before, _ := k.w.enter("ready")
	return before
}

func (k fakeKube) EnsureSecret(context.Context, string, string, string, secrets.Value) error {
	return nil
}

func (k fakeKube) Apply(context.Context, string, []byte) error { return nil }

func (k fakeKube) Nodes(context.Context) ([]activities.KubeNode, error) {
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	if before, _ := k.w.enter("nodes"); before != nil {
		return nil, before
	}
	if k.w.objects["etcd"] == "" {
		return nil, fault.New(fault.Unavailable, "list nodes", "no API yet")
	}
	var out []activities.KubeNode
	for _, m := range k.w.machines {
		if k.w.silent == nil || !k.w.silent(m) {
			out = append(out, activities.KubeNode{Name: m.Name, Ready: true, ProviderID: m.ProviderID})
		}
	}
	return out, nil
}

func (k fakeKube) DeleteNode(_ context.Context, name string) error {
	k.w.change(func() { k.w.forgotten = append(k.w.forgotten, name) })
	return nil
}

func (w *fakeWorld) Resolve(_ context.Context, ref secrets.Ref) (secrets.Value, error) {
	if strings.Contains(string(ref), "missing") {
		return secrets.Value{}, fault.New(fault.NotFound, "resolve", "nothing there")
	}
	return secrets.NewValue([]byte("s")), nil
}

func (w *fakeWorld) EnsureSchedule(context.Context, cluster.Ref, activities.SweepSettings) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.objects["schedule"] = "on"
	return nil
}

func (w *fakeWorld) DeleteSchedule(context.Context, cluster.Ref) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.objects, "schedule")
	return nil
}

func (w *fakeWorld) Claims(context.Context, []string) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, _ := w.enter("claims")
	return strings.Fields(w.objects["claims"]), before
}

func (w *fakeWorld) Holder(context.Context, string) (string, string, error) {
	return "run-7", TypeProvisionCluster, nil
}

func (w *fakeWorld) activities() Activities {
	t := activities.DefaultTiming()
	t.Poll = 10 * time.Millisecond
	kube := &activities.Kube{Store: fakeStore{w}, Kube: fakeKube{w}, Secrets: w, Timing: t}
	return Activities{
		Records: &activities.Records{Store: fakeStore{w}, Checker: w, Configs: w, Now: time.Now},
		Cloud:   &activities.Cloud{Clouds: w, Store: fakeStore{w}, Configs: w, Factory: w, Timing: t, Secrets: w},
		Watch:   &activities.Watch{Clouds: w, Kube: kube, Timing: t},
		Talos:   &activities.Talos{Store: fakeStore{w}, Configs: w, Machines: w, Timing: t},
		Kube:    kube,
		Locks:   &activities.Locks{Runs: w},
		Sweeps: &activities.Sweeps{
			Store: fakeStore{w}, Clouds: w, Schedules: w, Owners: w, Now: time.Now,
			Settings: activities.SweepSettings{Mode: activities.SweepReport, Every: time.Hour, Age: time.Hour},
		},
	}
}

// fakeStore is the store of a fakeWorld, whose machines have a Probe of their own.
type fakeStore struct{ *fakeWorld }

// Only upgrades need what follows; they are tested with a fakeFleet.

func (fakeStore) Probe(context.Context, cluster.Ref) error { return nil }

func (fakeStore) Stream(context.Context, cluster.Ref, string) (activities.StoredStream, error) {
	return activities.StoredStream{}, fault.New(fault.NotFound, "read stream", "there is none")
}

func (fakeStore) EnsureStream(context.Context, cluster.Ref, string, func(io.Writer) error) (activities.StoredStream, error) {
	return activities.StoredStream{}, nil
}

func (fakeStore) ReadStream(context.Context, activities.StoredStream, io.Writer) error { return nil }

func (w *fakeWorld) CheckInstaller(context.Context, string) error { return nil }

func (w *fakeWorld) Rebase(_ cluster.Record, base secrets.Value, _ cluster.Role) (secrets.Value, error) {
	return base, nil
}

func (w *fakeWorld) Digest(secrets.Value) (string, error) { return "sum", nil }

func (w *fakeWorld) BootstrapImages(secrets.Value, string) (activities.BootstrapImages, error) {
	return activities.BootstrapImages{}, nil
}

func (w *fakeWorld) Images(secrets.Value) (activities.ComponentImages, error) {
	return activities.ComponentImages{}, nil
}
