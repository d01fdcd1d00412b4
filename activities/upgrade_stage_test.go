package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// canary is in every secret of the scene and must not leave an activity.
const canary = "CANARY-7f3a"

const (
	schematicA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	schematicB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// scene is a cluster with three control planes and two workers, with everything
// that an upgrade touches, in memory. It is safe for concurrent use.
type scene struct {
	mu sync.Mutex

	rec      cluster.Record
	rev      int64
	objects  map[string]string
	streams  map[string]string
	bodies   map[string]string
	storeErr error
	// meanwhile runs before the next write of the record, as another writer.
	meanwhile func(*cluster.Record)

	nodes map[string]*fakeNode // by address
	// hook is asked before each call to a node, and again after its effect; an
	// error is the call's.
	hook func(method, address string, after bool) error
	// tick runs at each look at a node.
	tick  func(n *fakeNode)
	calls []string

	objectsOf map[string]*KubeNode // Node objects by name
	kubeErr   error
	held      []string
	rounds    [][]PodLeft
	drainErr  error
	options   []DrainOptions
	pods      map[string]StaticPodView // by node and component
	gates     map[string]error
	applied   []string
	stuck     []plan.Refusal
	removed   []plan.Refusal
	scaler    string

	checkErr   error
	freezeErr  error
	installers []string // that exist; nil for all
	inspected  sceneInspection
	leases     func(LeaseInput) (LeaseResult, error)
	frozen     int
}

type fakeNode struct {
	name, address string
	facts         NodeFacts
	err           error // of every call
	etcd          EtcdHealth
	staged        string
	needsReboot   bool
	boots         int
}

var (
	upgradeSpec = cluster.Spec{
		Cloud:        cluster.Cloud{Provider: "fake", Zone: "z1", Credentials: "env:TOKEN"},
		Talos:        cluster.Talos{Version: "v1.13.5", Contract: "v1.13", Extensions: []string{"siderolabs/a"}},
		Kubernetes:   cluster.Kubernetes{Version: "v1.35.1"},
		Network:      cluster.Network{CIDR: "10.0.0.0/24", AdminCIDRs: []string{"192.0.2.0/24"}},
		ControlPlane: cluster.ControlPlane{Replicas: 3, Flavor: "small"},
		NodeGroups:   []cluster.NodeGroup{{Name: "worker", Flavor: "small", Min: 1, Max: 5}},
		Manifests: []cluster.Manifest{
			{Name: "cni", Source: cluster.Source{Ref: "m1", SHA256: "s1"}}, {Name: "ccm", Source: cluster.Source{Ref: "m2", SHA256: "s2"}},
		},
	}
	planes  = []UpgradeTarget{plane(1), plane(2), plane(3)}
	workers = []UpgradeTarget{workerNode(1), workerNode(2)}
	all     = slices.Concat(planes, workers)
)

func plane(i int) UpgradeTarget {
	return UpgradeTarget{Role: cluster.RoleControlPlane, Group: "cp", Node: cluster.NodeAddress{
		MachineID: fmt.Sprint("c", i), Name: fmt.Sprint("demo-cp-", i), Address: fmt.Sprint("192.0.2.", i),
	}}
}

func workerNode(i int) UpgradeTarget {
	return UpgradeTarget{Role: cluster.RoleWorker, Group: "worker", Node: cluster.NodeAddress{
		MachineID: fmt.Sprint("w", i), Name: fmt.Sprint("demo-worker-", i), Address: fmt.Sprint("192.0.2.1", i),
	}}
}

func newScene() *scene {
	spec := cluster.Cluster{Spec: upgradeSpec}.Normalise().Spec
	s := &scene{
		objects: map[string]string{"bundle": canary + " bundle", "base-cp": canary + " base-cp v1.13.5 v1.35.1", "base-w": canary + " base-w v1.13.5 v1.35.1"},
		streams: map[string]string{}, bodies: map[string]string{"m1@s1": "cni", "m2@s2": "ccm"},
		nodes: map[string]*fakeNode{}, objectsOf: map[string]*KubeNode{}, pods: map[string]StaticPodView{}, gates: map[string]error{},
		inspected: newInspection(), scaler: "v1.35.0",
		rec: cluster.Record{
			Schema: 1, Ref: testRef, Phase: cluster.PhaseReady, Spec: spec, SpecDigest: "old", Endpoint: "https://192.0.2.100:6443",
			BootstrapMachine: "c1",
			Frozen: cluster.Frozen{
				Contract: "v1.13", TalosVersion: "v1.13.5", KubernetesVersion: "v1.35.1", Schematic: schematicA,
				Image: "a-v1.13.5", ImageURL: "https://factory/a", ImageID: "img-1", InstallerImage: "factory/fake-installer/" + schematicA + ":v1.13.5",
				Bundle: "bundle", BaseConfig: []cluster.BaseConfig{
					{Role: cluster.RoleControlPlane, Ref: "base-cp", SHA256: "1"}, {Role: cluster.RoleWorker, Ref: "base-w", SHA256: "2"},
				},
			},
		},
		rev: 7,
	}
	var members []EtcdMemberView
	for i, t := range planes {
		members = append(members, EtcdMemberView{ID: uint64(i + 1), Name: t.Node.Name})
	}
	for i, t := range all {
		n := &fakeNode{name: t.Node.Name, address: t.Node.Address, facts: NodeFacts{
			Version: "v1.13.5", Schematic: schematicA, BootID: "boot-0", Stage: "running", Ready: true, FreeBytes: 20 << 30,
			Kubelet: "ghcr.io/siderolabs/kubelet:v1.35.1",
		}}
		if t.Role == cluster.RoleControlPlane {
			n.etcd = EtcdHealth{Running: true, MemberID: uint64(i + 1), Leader: 2, Members: members}
			n.facts.APIServer = "registry.k8s.io/kube-apiserver:v1.35.1"
		}
		s.nodes[t.Node.Address] = n
		s.objectsOf[t.Node.Name] = &KubeNode{Name: t.Node.Name, Ready: true, Version: "v1.35.1"}
	}
	return s
}

// upgrades ties the activities to the scene.
func (s *scene) upgrades() *Upgrades {
	store := sceneStore{scene: s}
	return &Upgrades{
		Store: store, Checker: s, Configs: sceneConfigs{s}, Factory: sceneFactory{s}, Releases: s, Machines: s, Inspect: sceneInspector{s}, Groups: s, Clouds: s,
		Kube:   &Kube{Store: store, Kube: sceneKube{scene: s}, Timing: quick},
		Timing: quick, Now: func() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) },
	}
}

func (s *scene) called(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *scene) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

// act runs an activity with a bound, in a time of its own, and looks for the canary
// in what it returns.
func act[In, Out any](t *testing.T, f func(context.Context, In) (Out, error), in In) (Out, error) {
	t.Helper()
	var out Out
	var err error
	synctest.Test(t, func(t *testing.T) {
		err = (&stage{}).run(t, func(ctx context.Context) error {
			var err error
			out, err = f(ctx, in)
			return err
		})
	})
	text, jerr := json.Marshal(out)
	if jerr != nil {
		t.Fatal(jerr)
	}
	if strings.Contains(string(text), canary) || err != nil && strings.Contains(err.Error(), canary) {
		t.Errorf("a secret left the activity: %s, %v", text, err)
	}
	return out, err
}

// do is act for activities without a result.
func do[In any](t *testing.T, f func(context.Context, In) error, in In) error {
	t.Helper()
	_, err := act(t, func(ctx context.Context, in In) (struct{}, error) { return struct{}{}, f(ctx, in) }, in)
	return err
}

func workOn(t UpgradeTarget) NodeWorkInput {
	return NodeWorkInput{Ref: testRef, Target: t, Holder: "cluster/demo/node/" + t.Node.Name}
}
