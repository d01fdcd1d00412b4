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

// Clouds.

func (w *fakeWorld) Open(context.Context, cluster.Cloud) (cloud.Provider, string, error) {
	return fakeProvider{w}, "acct", nil
}

type fakeProvider struct{ w *fakeWorld }

func (fakeProvider) Capabilities() cloud.Capabilities {
	return cloud.Capabilities{
		Idempotency: cloud.TagScan, Settle: 30 * time.Second, AbsenceWindow: time.Minute, CreateTimeout: 2 * time.Minute,
		PostWindow: 20 * time.Second, Poll: 10 * time.Millisecond, SpreadLimit: 4,
	}
}

func (p fakeProvider) Flavors(context.Context) ([]cloud.Flavor, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	before, _ := p.w.enter("flavors")
	return []cloud.Flavor{{Name: "flex-4-2", VCPUs: 2, MemoryMiB: 4096, Arch: "amd64"}}, before
}

func (p fakeProvider) EnsureMachine(_ context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, m := range w.machines {
		if m.Ref.ID == req.Spec.ID && !w.hides {
			// Of several the first is kept.
			w.machines = append(w.machines[:i+1:i+1], slices.DeleteFunc(slices.Clone(w.machines[i+1:]), func(o cloud.Machine) bool { return o.Ref.ID == m.Ref.ID })...)
			return cloud.MachineLook{Machine: &m}, nil
		}
	}
	if !req.Create {
		return cloud.MachineLook{}, nil
	}
	w.asked = append(w.asked, req.Spec)
	before, after := w.enter("create machine")
	if before != nil {
		return cloud.MachineLook{}, before
	}
	w.creates[req.Spec.ID]++
	w.madeOf = append(w.madeOf, req.Spec.ImageID)
	n := len(w.machines) + 1
	m := cloud.Machine{
		Ref: cloud.MachineRef{Owner: req.Spec.Owner, ID: req.Spec.ID, Cloud: fmt.Sprintf("uuid-%d-%d", n, w.calls["create machine"])}, Name: req.Spec.Name,
		State: cloud.MachineRunning, Public: fmt.Sprintf("198.51.100.%d", n), Private: fmt.Sprintf("10.0.0.%d", n), Role: req.Spec.Role,
	}
	m.ProviderID = "fake://" + m.Ref.Cloud
	w.machines = append(w.machines, m)
	return cloud.MachineLook{Machine: &m, Created: true}, after
}

func (p fakeProvider) GetMachine(_ context.Context, ref cloud.MachineRef) (cloud.Machine, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, m := range p.w.machines {
		if m.Ref.Cloud == ref.Cloud {
			return m, nil
		}
	}
	return cloud.Machine{}, fault.New(fault.NotFound, "get", "no such machine")
}

func (p fakeProvider) ListMachines(_ context.Context, o cloud.Owner) ([]cloud.Machine, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.w.machines), func(m cloud.Machine) bool {
		return o.Group != "" && m.Ref.Owner.Group != o.Group
	}), nil
}

func (p fakeProvider) DeleteMachine(_ context.Context, ref cloud.MachineRef) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if before, _ := p.w.enter("delete machine"); before != nil {
		return false, before
	}
	p.w.machines = slices.DeleteFunc(p.w.machines, func(m cloud.Machine) bool { return m.Ref.Cloud == ref.Cloud })
	return true, nil
}

func (p fakeProvider) PlanInfrastructure(cloud.InfrastructureSpec) ([]cloud.Step, error) {
	return p.w.steps, nil
}

func (p fakeProvider) PlacementStep(o cloud.Owner, _ string, shard int) (cloud.Step, error) {
	key := fmt.Sprintf("%s-%d", o.Group, shard)
	return cloud.Step{Kind: "placement", Key: key, Title: "placement " + key}, nil
}

func (p fakeProvider) EnsureResource(_ context.Context, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.resources {
		if r.Key == req.Step.Key {
			return cloud.ResourceLook{Resource: &r}, nil
		}
	}
	if !req.Create {
		return cloud.ResourceLook{}, nil
	}
	before, after := w.enter("create " + req.Step.Kind)
	if before != nil {
		return cloud.ResourceLook{}, before
	}
	w.creates[req.Step.Key]++
	r := cloud.Resource{Kind: req.Step.Kind, Key: req.Step.Key, Name: req.Step.Key, ID: "id-" + req.Step.Key, Ready: true}
	w.resources = append(w.resources, r)
	return cloud.ResourceLook{Resource: &r, Created: true}, after
}

func (p fakeProvider) GetResource(_ context.Context, r cloud.Resource) (cloud.Resource, error) {
	return r, nil
}

func (p fakeProvider) EndpointHost([]cloud.Resource) string { return "192.0.2.1" }

func (p fakeProvider) SyncMembers(context.Context, cloud.SyncMembersRequest) (cloud.MembersStatus, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	before, _ := p.w.enter("sync members")
	return cloud.MembersStatus{}, before
}

func (p fakeProvider) ListResources(context.Context, cloud.Owner) ([]cloud.Resource, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return slices.Clone(p.w.resources), nil
}

func (p fakeProvider) DeleteResource(_ context.Context, r cloud.Resource) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if before, _ := p.w.enter("delete resource"); before != nil {
		return false, before
	}
	p.w.resources = slices.DeleteFunc(p.w.resources, func(o cloud.Resource) bool { return o.ID == r.ID })
	return true, nil
}

func (p fakeProvider) EnsureImage(_ context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.images) > 0 {
		return cloud.ImageLook{Image: &w.images[0]}, nil
	}
	if !req.Create {
		return cloud.ImageLook{}, nil
	}
	before, after := w.enter("create image")
	if before != nil {
		return cloud.ImageLook{}, before
	}
	w.creates["image"]++
	w.images = append(w.images, cloud.Image{ID: "image-1", Name: req.Spec.Name, State: cloud.ImageReady, Users: []string{req.User.Cluster.UID}})
	return cloud.ImageLook{Image: &w.images[0], Created: true}, after
}

func (p fakeProvider) GetImage(context.Context, string) (cloud.Image, error) {
	return p.w.images[0], nil
}

func (p fakeProvider) ReleaseImage(context.Context, cloud.ImageSpec, cloud.Owner) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.images = nil
	return true, nil
}

func (p fakeProvider) ListImages(context.Context, cloud.Owner) ([]cloud.Image, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return slices.Clone(p.w.images), nil
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
