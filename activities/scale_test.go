package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func TestDrainNode(t *testing.T) {
	web := PodLeft{Namespace: "apps", Name: "web", Why: "The disruption budget web needs 2 healthy pods and has 2 currently"}
	job := PodLeft{Namespace: "apps", Name: "job", Why: "is ending"}
	many := make([]PodLeft, 7)
	for i := range many {
		many[i] = PodLeft{Namespace: "a", Name: fmt.Sprint("p", i), Why: "is ending"}
	}
	for _, tc := range []struct {
		name  string
		s     stage
		kube  KubeTarget
		want  fault.Kind
		words []string
	}{
		{name: "empties in rounds", s: stage{pods: [][]PodLeft{{job, web}, {web}, {}}}},
		{name: "budget holds", s: stage{pods: [][]PodLeft{{job, web}, {web}}}, want: fault.NotYet, words: []string{"drain node n", "1 pods are left: apps/web: The disruption budget web needs 2"}},
		{name: "names a few", s: stage{pods: [][]PodLeft{many}}, want: fault.NotYet, words: []string{"7 pods are left: a/p0", "and 2 more"}},
		{name: "node gone", s: stage{absent: true}},
		{name: "no way to the API", kube: KubeTarget{None: true}, s: stage{evictErr: errors.New("must not be asked")}},
		{name: "API down", s: stage{evictErr: fault.New(fault.Unavailable, "drain node", "refused")}, want: fault.Unavailable},
		{name: "not allowed", s: stage{evictErr: fault.New(fault.Unauthorized, "evict", "cannot")}, want: fault.Unauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := tc.s.kube()
			tc.kube.Ref = testRef
			err := tc.s.run(t, func(ctx context.Context) error {
				return k.DrainNode(ctx, DrainNodeInput{Kube: tc.kube, Name: "n"})
			})
			wantType(t, err, tc.want, tc.words...)
		})
	}
}

func TestCordonAndDeleteNodes(t *testing.T) {
	for _, absent := range []bool{false, true} {
		s := &stage{absent: absent}
		k := s.kube()
		err := s.run(t, func(ctx context.Context) error {
			return errors.Join(
				k.CordonNode(ctx, CordonNodeInput{Kube: KubeTarget{Ref: testRef}, Name: "n"}),
				k.DeleteNode(ctx, DeleteNodeInput{Ref: testRef, Name: "old"}),
				k.DeleteNode(ctx, DeleteNodeInput{Kube: KubeTarget{Ref: testRef}, Name: "new"}),
				k.CordonNode(ctx, CordonNodeInput{Kube: KubeTarget{None: true}, Name: "unseen"}),
				k.DeleteNode(ctx, DeleteNodeInput{Kube: KubeTarget{None: true}, Name: "unseen"}),
			)
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]string{{"n"}, {"old", "new"}}, [][]string{s.cordoned, s.deleted}); diff != "" {
			t.Error(diff)
		}
	}
}

func TestKubeconfigIsResolvedAndKept(t *testing.T) {
	s := &stage{values: map[secrets.Ref]string{"env:KUBECONFIG_BODY": "one", "env:EMPTY": ""}}
	k := s.kube()
	cordon := func(config string) error {
		return s.run(t, func(ctx context.Context) error {
			return k.CordonNode(ctx, CordonNodeInput{Kube: KubeTarget{Kubeconfig: config}, Name: "n"})
		})
	}
	for range 2 {
		wantType(t, cordon("env:KUBECONFIG_BODY"), "")
	}
	wantType(t, cordon(InCluster), "")
	wantType(t, cordon("env:MISSING"), fault.NotFound, "read kubeconfig")
	wantType(t, cordon("env:EMPTY"), fault.Invalid)
	if diff := cmp.Diff([]string{"one", ""}, s.opened); diff != "" {
		t.Errorf("opened (-want +got):\n%s", diff)
	}
	// Refused credentials may have been renewed in the meantime.
	s.nodesErr, s.values["env:KUBECONFIG_BODY"] = fault.New(fault.Unauthorized, "list nodes", "expired"), "two"
	err := s.run(t, func(ctx context.Context) error {
		api, err := k.open(ctx, viaConfig)
		if err != nil {
			return err
		}
		_, err = k.list(ctx, viaConfig, api)
		return err
	})
	wantType(t, err, fault.Unauthorized)
	wantType(t, cordon("env:KUBECONFIG_BODY"), "")
	if got := s.opened[len(s.opened)-1]; got != "two" {
		t.Errorf("after credentials were refused, %q was opened", got)
	}
}

func machine(id, cloudID string, state cloud.MachineState) cloud.Machine {
	return cloud.Machine{Ref: cloud.MachineRef{Owner: testOwner, ID: id, Cloud: cloudID}, Name: "demo-worker-" + id, ProviderID: "fake://" + cloudID, State: state}
}

func fact(id, cloudID string, change ...func(*MemberFact)) MemberFact {
	f := MemberFact{ID: id, CloudID: cloudID, Name: "demo-worker-" + id, State: cloud.MachineRunning, ProviderID: "fake://" + cloudID}
	for _, c := range change {
		c(&f)
	}
	return f
}

func wasReady(f *MemberFact) { f.Joined, f.NodeReady = true, true }

func node(id, cloudID string, ready bool, memory int64) KubeNode {
	r := cluster.NodeResources{MilliCPU: 2000, MemoryBytes: memory, StorageBytes: memory, Pods: 110}
	a := r
	a.MemoryBytes -= 10
	return KubeNode{Name: "demo-worker-" + id, ProviderID: "fake://" + cloudID, Ready: ready, Capacity: r, Allocatable: a}
}

func TestInspectGroup(t *testing.T) {
	gpu := node("g", "c", true, 300)
	gpu.Capacity.GPUs, gpu.Capacity.GPUResource = 2, "nvidia.com/gpu"
	for _, tc := range []struct {
		name  string
		s     stage
		known []MemberFact
		kube  KubeTarget
		want  InspectGroupResult
		kind  fault.Kind
	}{
		{
			name:  "as it was",
			s:     stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}, nodes: []KubeNode{node("a", "1", true, 100)}},
			known: []MemberFact{fact("a", "1", wasReady)},
			want:  InspectGroupResult{Observed: &Observed{Capacity: node("a", "1", true, 100).Capacity, Allocatable: node("a", "1", true, 100).Allocatable}},
		},
		{
			name: "everything at once",
			s: stage{
				machines: []cloud.Machine{
					machine("a", "1", cloud.MachineRunning), machine("a", "9", cloud.MachineRunning), machine("s", "2", cloud.MachineStopped),
					machine("f", "3", cloud.MachineFailed), machine("n", "4", cloud.MachineRunning), machine("x", "5", cloud.MachineRunning),
					machine("l", "6", cloud.MachineRunning), machine("r", "8", cloud.MachineCreating),
				},
				hidden: []string{"6"},
				nodes:  []KubeNode{node("a", "1", true, 100), node("n", "4", false, 50)},
			},
			known: []MemberFact{
				fact("a", "1", wasReady), fact("f", "3", wasReady), fact("gone", "7", wasReady), fact("l", "6", wasReady),
				fact("n", "4", wasReady), fact("r", "8", wasReady), fact("s", "2"),
			},
			want: InspectGroupResult{
				Missing: []string{"gone"}, Stopped: []string{"f", "s"}, NotReady: []string{"n"},
				Duplicates: []cloud.MachineRef{{Owner: testOwner, ID: "a", Cloud: "9"}},
				Unknown:    []cloud.Machine{machine("x", "5", cloud.MachineRunning)},
				Observed:   &Observed{Capacity: node("a", "1", true, 100).Capacity, Allocatable: node("a", "1", true, 100).Allocatable},
			},
		},
		{
			name:  "the one that is left of two is no duplicate",
			s:     stage{machines: []cloud.Machine{machine("a", "9", cloud.MachineRunning)}},
			known: []MemberFact{fact("a", "1", wasReady)},
			want:  InspectGroupResult{Missing: []string{"a"}},
		},
		{
			name:  "a node that is gone is not ready; one that never was is not told",
			s:     stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning), machine("b", "2", cloud.MachineRunning)}},
			known: []MemberFact{fact("a", "1", wasReady), fact("b", "2")},
			want:  InspectGroupResult{NotReady: []string{"a"}},
		},
		{
			name: "somebody else's node of the name",
			s: stage{
				machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)},
				nodes:    []KubeNode{{Name: "demo-worker-a", ProviderID: "fake://other", Ready: true}},
			},
			known: []MemberFact{fact("a", "1", wasReady)},
			want:  InspectGroupResult{NotReady: []string{"a"}},
		},
		{
			name: "least of what was seen",
			s: stage{
				machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning), machine("b", "2", cloud.MachineRunning), machine("g", "c", cloud.MachineRunning), machine("z", "3", cloud.MachineRunning)},
				nodes:    []KubeNode{node("a", "1", true, 200), node("b", "2", true, 150), gpu, {Name: "demo-worker-z", ProviderID: "fake://3", Ready: true}},
			},
			known: []MemberFact{fact("a", "1", wasReady), fact("b", "2", wasReady), fact("g", "c", wasReady), fact("z", "3", wasReady)},
			want: InspectGroupResult{Observed: &Observed{
				Capacity:    cluster.NodeResources{MilliCPU: 2000, MemoryBytes: 150, StorageBytes: 150, Pods: 110, GPUs: 2, GPUResource: "nvidia.com/gpu"},
				Allocatable: node("b", "2", true, 150).Allocatable,
			}},
		},
		{
			name:  "Kubernetes is silent",
			s:     stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}, nodesErr: fault.New(fault.Unavailable, "list nodes", "refused")},
			known: []MemberFact{fact("a", "1", wasReady), fact("b", "2", wasReady)},
			want:  InspectGroupResult{Missing: []string{"b"}, Unseen: "list nodes: refused"},
		},
		{
			name:  "no way to Kubernetes",
			s:     stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}, nodesErr: errors.New("must not be asked")},
			known: []MemberFact{fact("a", "1", wasReady)}, kube: KubeTarget{None: true},
		},
		{
			name:  "half a list proves nothing",
			s:     stage{listErr: fault.New(fault.Unavailable, "list servers", "503")},
			known: []MemberFact{fact("a", "1", wasReady)}, kind: fault.Unavailable,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got InspectGroupResult
			if !tc.kube.None {
				tc.kube.Ref = testRef
			}
			err := tc.s.run(t, func(ctx context.Context) (err error) {
				got, err = tc.s.watch().InspectGroup(ctx, InspectGroupInput{Owner: testOwner, Kube: tc.kube, Known: tc.known})
				return err
			})
			wantType(t, err, tc.kind)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWatchGroup(t *testing.T) {
	booting := func(f *MemberFact) { f.State, f.ProviderID = cloud.MachineCreating, "" }
	for _, tc := range []struct {
		name  string
		s     stage
		kube  KubeTarget
		known []MemberFact
		want  WatchGroupResult
	}{
		{
			name:  "deleted by hand while it boots",
			s:     stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineCreating)}},
			known: []MemberFact{fact("a", "1", booting), fact("b", "2", booting)},
			want:  WatchGroupResult{Members: []MemberFact{{ID: "a", CloudID: "1", Name: "demo-worker-a", State: cloud.MachineCreating, ProviderID: "fake://1", Detail: "the cloud says creating"}, fact("b", "2", booting)}, Missing: []string{"b"}},
		},
		{
			name:  "deleted by hand while it joins",
			known: []MemberFact{fact("a", "1")},
			want:  WatchGroupResult{Members: []MemberFact{fact("a", "1")}, Missing: []string{"a"}},
		},
		{
			name:  "not listed yet is not gone",
			s:     stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}, hidden: []string{"1"}, nodes: []KubeNode{node("a", "1", true, 100)}},
			known: []MemberFact{fact("a", "1")},
			want: WatchGroupResult{
				Members:  []MemberFact{fact("a", "1", wasReady)},
				Observed: &Observed{Capacity: node("a", "1", true, 100).Capacity, Allocatable: node("a", "1", true, 100).Allocatable},
			},
		},
		{
			name:  "running is ready without Kubernetes",
			s:     stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}, nodesErr: errors.New("must not be asked")},
			kube:  KubeTarget{None: true},
			known: []MemberFact{fact("a", "1")},
			want:  WatchGroupResult{Members: []MemberFact{fact("a", "1", wasReady)}},
		},
		{
			name:  "through a kubeconfig",
			s:     stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}, nodes: []KubeNode{node("a", "1", true, 0)}, values: map[secrets.Ref]string{"env:KUBECONFIG_BODY": "one"}},
			kube:  viaConfig,
			known: []MemberFact{fact("a", "1")},
			want:  WatchGroupResult{Members: []MemberFact{fact("a", "1", wasReady)}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got WatchGroupResult
			err := tc.s.run(t, func(ctx context.Context) (err error) {
				got, err = tc.s.watch().WatchGroup(ctx, WatchGroupInput{Owner: testOwner, Kube: tc.kube, Known: tc.known})
				return err
			})
			wantType(t, err, "")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

// Where the cloud's controller does not find nodes by their names they are told
// which machine they are, again if that fails; elsewhere nobody meddles.
func TestWatchGroupNamesMachines(t *testing.T) {
	for _, byID := range []bool{true, false} {
		n := node("a", "1", true, 0)
		n.ProviderID, n.Uninitialized = "", true
		s := &stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}, nodes: []KubeNode{n}, byID: byID}
		got := WatchGroupResult{Members: []MemberFact{fact("a", "1")}}
		for range 3 { // it tells what has changed, and is asked again
			err := s.run(t, func(ctx context.Context) (err error) {
				got, err = s.watch().WatchGroup(ctx, WatchGroupInput{Owner: testOwner, Known: got.Members})
				return err
			})
			wantType(t, err, "")
		}
		want := []string{"demo-worker-a fake://1", "demo-worker-a fake://1"}
		if !byID {
			want = nil
		}
		if !slices.Equal(s.named, want) || got.Members[0].NodeReady != byID {
			t.Errorf("by ID %t: named %v, %+v", byID, s.named, got.Members)
		}
	}
}

// TestWatchGroupSparesTheAccount: while all machines run, nodes are looked at
// more often than the cloud's list.
func TestWatchGroupSparesTheAccount(t *testing.T) {
	s := &stage{machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}}
	looks := 0
	s.nodesErr = fault.New(fault.Unavailable, "list nodes", "refused")
	w := s.watch()
	w.Kube.Kube = counting{kubeOf{stage: s}, &looks}
	err := s.run(t, func(ctx context.Context) error {
		_, err := w.WatchGroup(ctx, WatchGroupInput{Owner: testOwner, Known: []MemberFact{fact("a", "1")}})
		return err
	})
	wantType(t, err, "")
	if s.lists == 0 || s.lists > looks/listEvery+1 {
		t.Errorf("%d lists for %d looks at nodes", s.lists, looks)
	}
}

type counting struct {
	kubeOf
	looks *int
}

func (c counting) Open(context.Context, cluster.Record, secrets.Value) (KubeAPI, error) {
	return c, nil
}

func (c counting) Nodes(ctx context.Context) ([]KubeNode, error) {
	*c.looks++
	return c.kubeOf.Nodes(ctx)
}
