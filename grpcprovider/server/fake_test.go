package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/grpcprovider/server"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// fake is a Source of fixed groups. It counts what is asked of it.
type fake struct {
	groups []*provider.Group
	nodes  map[string]string // provider ID or name to group

	mu      sync.Mutex
	calls   map[string]int
	changes []change
	err     error // of changes and refreshes
	panics  bool
	stats   provider.Stats
}

// change is a request as it reached the source.
type change struct {
	Op, Group string
	Delta     int
	Nodes     []provider.NodeRef
	hasID     bool
}

func (f *fake) count(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[name]++
}

func (f *fake) Refresh(ctx context.Context) error {
	f.count("Refresh")
	if _, ok := ctx.Deadline(); !ok {
		return errors.New("no deadline")
	}
	return f.err
}

func (f *fake) Groups() []*provider.Group {
	f.count("Groups")
	return f.groups
}

func (f *fake) Group(id string) (*provider.Group, bool) {
	f.count("Group")
	for _, g := range f.groups {
		if g.ID == id {
			return g, true
		}
	}
	return nil, false
}

func (f *fake) GroupForNode(ref provider.NodeRef) (string, bool) {
	f.count("GroupForNode")
	if f.panics {
		panic("a bug")
	}
	for _, key := range []string{ref.ProviderID, ref.Name} {
		if id, ok := f.nodes[key]; ok && key != "" {
			return id, true
		}
	}
	return "", false
}

func (f *fake) change(ctx context.Context, c change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.hasID = provider.RequestID(ctx) != ""
	f.changes = append(f.changes, c)
	return f.err
}

func (f *fake) IncreaseSize(ctx context.Context, group string, delta int) error {
	return f.change(ctx, change{Op: "increase", Group: group, Delta: delta})
}

func (f *fake) DeleteNodes(ctx context.Context, group string, nodes []provider.NodeRef) error {
	return f.change(ctx, change{Op: "delete", Group: group, Nodes: nodes})
}

func (f *fake) DecreaseTargetSize(ctx context.Context, group string, delta int) error {
	return f.change(ctx, change{Op: "decrease", Group: group, Delta: delta})
}

func (f *fake) Stats() provider.Stats { return f.stats }

// worker is a group that scales, with instances of every kind.
func worker() *provider.Group {
	return &provider.Group{
		ID: "demo/worker", Target: 4, Generation: 7,
		Facts: workflows.GroupFacts{
			Cluster: cluster.Ref{Name: "demo", UID: "u1"}, Group: "worker", Cloud: cluster.Cloud{Provider: "cloudscale"},
			Zone: "lpg1", Flavor: "flex-8-4", Min: 1, Max: 5,
			Template: &cluster.NodeTemplate{
				Capacity:    cluster.NodeResources{MilliCPU: 4000, MemoryBytes: 8 << 30, StorageBytes: 50 << 30, Pods: 110, GPUs: 1, GPUResource: "nvidia.com/gpu"},
				Allocatable: cluster.NodeResources{MilliCPU: 3950, MemoryBytes: 7 << 30, StorageBytes: 44 << 30, Pods: 110, GPUs: 1, GPUResource: "nvidia.com/gpu"},
				Labels:      []cluster.Tag{{Key: "example.com/pool", Value: "w"}, {Key: "ichor.dev/gpu", Value: "l40s"}, {Key: "topology.kubernetes.io/zone", Value: "lpg1"}},
				Taints: []cluster.Taint{
					{Key: "example.com/gpu", Value: "yes", Effect: "NoSchedule"},
					{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: "NoSchedule"},
				},
			},
		},
		Instances: []provider.Instance{
			{ID: "cloudscale://1", State: provider.Running, Name: "demo-worker-1"},
			{ID: "cloudscale://2", State: provider.Deleting, Name: "demo-worker-2"},
			{ID: "ichor://demo/worker/r-0", State: provider.Creating},
			{ID: "ichor://demo/worker/r-1", State: provider.Creating, Error: &provider.InstanceError{Class: provider.OutOfResources, Code: "Quota", Message: "no servers left"}},
			{ID: "ichor://demo/worker/r-2", State: provider.Creating, Error: &provider.InstanceError{Class: provider.Other, Code: "Invalid", Message: "no such image"}},
		},
	}
}

// tuned is a group with options of its own and no template.
func tuned() *provider.Group {
	return &provider.Group{
		ID: "demo/tuned", Target: 0, Paused: "maintenance",
		Facts: workflows.GroupFacts{
			Cluster: cluster.Ref{Name: "demo", UID: "u1"}, Group: "tuned", Zone: "lpg1", Flavor: "flex-4-2", Max: 3,
			Autoscaling: &cluster.Autoscaling{
				ScaleDownUtilizationThreshold: 0.25, ScaleDownGPUUtilizationThreshold: 0.75,
				ScaleDownUnneededTime: cluster.Duration(time.Minute), ScaleDownUnreadyTime: cluster.Duration(90 * time.Second),
				MaxNodeProvisionTime: cluster.Duration(2 * time.Minute), IgnoreDaemonSetsUtilization: true,
			},
		},
	}
}

func newFake() *fake {
	return &fake{
		groups: []*provider.Group{tuned(), worker()},
		nodes:  map[string]string{"cloudscale://1": "demo/worker", "demo-worker-1": "demo/worker", "stale": "demo/removed"},
	}
}

// raw is a codec that leaves messages as bytes, so that tests see the wire and
// not somebody's idea of it. To the server it looks like any other client.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// service is part of the contract: it must not follow from generated code here.
const service = "/clusterautoscaler.cloudprovider.v1.externalgrpc.CloudProvider/"

type fixture struct {
	source   *fake
	conn     *grpc.ClientConn
	registry *prometheus.Registry
	log      *logged
}

type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// serve runs the server on loopback.
func serve(t testing.TB, source *fake, prices *server.Prices) *fixture {
	t.Helper()
	f := &fixture{source: source, registry: prometheus.NewRegistry(), log: &logged{}}
	l := slog.New(slog.NewTextHandler(f.log, nil))
	metrics, err := server.NewMetrics(f.registry, source)
	if err != nil {
		t.Fatal(err)
	}
	g := server.NewGRPC(nil, l, metrics)
	server.New(server.Options{Source: source, Prices: prices, GPULabel: "ichor.dev/gpu", Logger: l}).Register(g)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve(ln) }()
	f.conn, err = grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return f
}

// call sends bytes and returns bytes.
func (f *fixture) call(t testing.TB, method string, in []byte) ([]byte, error) {
	t.Helper()
	if in == nil {
		in = []byte{}
	}
	var out []byte
	err := f.conn.Invoke(t.Context(), service+method, in, &out, grpc.ForceCodecV2(raw{}))
	return out, err
}
