package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/internal/cluster"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/workflows"
)

const (
	// providerSpeed is how fast the cloud of the provider's machines runs: they
	// only have to exist.
	providerSpeed = 100
	// providerLimit bounds the measurement of one size.
	providerLimit = 40 * time.Minute
	// refreshes, increases and loops are how often each is done: enough for a
	// 99th percentile that is not the slowest call, or for a median.
	refreshes, changes, increases, loops = 101, 51, 201, 3
	// pause lets entities come to rest between two changes of all of them; the
	// autoscaler itself comes every ten seconds.
	pause = 500 * time.Millisecond
	// foreign are nodes without a group: 1,000 of them are a requirement.
	foreign = 1000
	// unmanaged are the nodes without a group in the autoscaler's loop: three
	// control plane nodes.
	unmanaged = 3
)

// served is what was measured at one size.
type served struct {
	size  size
	reads []timed
	// floor is the health check of the same connection: what gRPC, TLS and the
	// machine take without any work of the provider.
	floor latency

	quiet                        latency // Refresh
	changed, hanging, workerless refreshed
	increase, increaseWorkerless latency
	signal                       latency // straight to Temporal, the floor of requests
	loop                         []time.Duration
	calls                        int // of one loop
	foreign                      time.Duration
	started, after               memory
}

// refreshed is how long refreshes took after changes, and how many of them were
// answered with Unavailable, which the autoscaler tries again.
type refreshed struct {
	latency
	refused int
}

// timed is one kind of call.
type timed struct {
	name string
	latency
}

// provider measures what the autoscaler sees.
func provider(ctx context.Context, s settings) (string, error) {
	host := watchHost()
	var all []served
	for _, z := range s.sizes {
		fmt.Fprintf(os.Stderr, "provider with %s machines\n", z)
		one, err := s.provide(ctx, z)
		if err != nil {
			return "", fmt.Errorf("%s: %w", z, err)
		}
		fmt.Fprintf(os.Stderr, "  %+v\n", one.summary())
		all = append(all, one)
	}
	return providerText(s, host(), all), nil
}

func (s settings) provide(ctx context.Context, z size) (out served, err error) {
	ctx, cancel := context.WithTimeout(ctx, providerLimit)
	defer cancel()
	sys, err := s.begin(ctx, "provider-"+z.String(), providerSpeed, nil)
	if err != nil {
		return out, err
	}
	defer func() { err = joinEnd(sys.explain(err), sys) }()
	f, err := sys.settle(ctx, z, oneCluster)
	if err != nil {
		return out, err
	}
	if err := sys.serve(ctx, "--cluster", fleetCluster, "--refresh-every", "1h"); err != nil {
		return out, err
	}
	b := caller{system: sys, fleet: f, ctx: ctx, out: &out}
	out.size = z
	for _, step := range []struct {
		name string
		do   func(settings) error
	}{{"complete", b.complete}, {"reads", b.reads}, {"refreshes", b.refreshes}, {"loops", b.loops}, {"hang", b.hang}, {"workerless", b.workerless}} {
		fmt.Fprintf(os.Stderr, "  %s %s\n", time.Now().Format(time.TimeOnly), step.name)
		if err := step.do(s); err != nil {
			return out, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	out.after, err = memoryOf(sys.provider.process.PID())
	return out, err
}

// caller is the autoscaler of the measurement.
type caller struct {
	*system
	*fleet
	ctx context.Context
	out *served
}

func (c *caller) id(g int) string { return fleetCluster + "/" + c.inputs[g%c.groups].Group }

// node is the i-th node of the fleet; neighbours belong to different groups.
func (c *caller) node(i int) *pb.ExternalGrpcNode {
	m := c.inputs[i%c.groups].State.Members[i/c.groups%c.members]
	return &pb.ExternalGrpcNode{ProviderID: m.ProviderID, Name: m.Name, Labels: map[string]string{"kubernetes.io/hostname": m.Name}}
}

// stranger is a node of no group.
func stranger(i int) *pb.ExternalGrpcNode {
	name := fmt.Sprintf("stranger-%04d", i)
	return &pb.ExternalGrpcNode{ProviderID: fmt.Sprintf("cloudscale://00000000-0000-4000-8000-%012d", i), Name: name}
}

// complete waits until the provider shows the whole fleet as it is.
func (c *caller) complete(settings) error {
	ctx, cancel := context.WithTimeout(c.ctx, 10*time.Minute)
	defer cancel()
	err := until(ctx, time.Second, fmt.Sprintf("%d groups with %d running instances each", c.groups, c.members), func(ctx context.Context) (bool, error) {
		if _, err := c.provider.Refresh(ctx, &pb.RefreshRequest{}); err != nil {
			return false, err
		}
		for g := range c.groups {
			nodes, err := c.provider.NodeGroupNodes(ctx, &pb.NodeGroupNodesRequest{Id: c.id(g)})
			if err != nil {
				return false, err
			}
			running := 0
			for _, i := range nodes.GetInstances() {
				if i.GetStatus().GetInstanceState() == pb.InstanceStatus_instanceRunning {
					running++
				}
			}
			if running != c.members {
				return false, fmt.Errorf("%s has %d running instances", c.id(g), running)
			}
			if _, err := c.provider.NodeGroupTemplateNodeInfo(ctx, &pb.NodeGroupTemplateNodeInfoRequest{Id: c.id(g)}); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	c.out.started, err = memoryOf(c.provider.process.PID())
	return err
}

// reads takes the time of each answer that changes nothing.
func (c *caller) reads(s settings) (err error) {
	p, ctx := c.provider, c.ctx
	if c.out.floor, err = sample(ctx, s.calls, func(int) error {
		_, err := p.health.Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	}); err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	for _, r := range []struct {
		name string
		call func(i int) error
	}{
		{"NodeGroups", func(int) error { _, err := p.NodeGroups(ctx, &pb.NodeGroupsRequest{}); return err }},
		{"NodeGroupForNode", func(i int) error { return c.belongs(c.node(i), c.id(i)) }},
		{"NodeGroupForNode, foreign node", func(i int) error { return c.belongs(stranger(i), "") }},
		{"NodeGroupTargetSize", func(i int) error {
			_, err := p.NodeGroupTargetSize(ctx, &pb.NodeGroupTargetSizeRequest{Id: c.id(i)})
			return err
		}},
		{fmt.Sprintf("NodeGroupNodes, %d instances", c.members), func(i int) error {
			_, err := p.NodeGroupNodes(ctx, &pb.NodeGroupNodesRequest{Id: c.id(i)})
			return err
		}},
		{"NodeGroupTemplateNodeInfo", func(i int) error {
			_, err := p.NodeGroupTemplateNodeInfo(ctx, &pb.NodeGroupTemplateNodeInfoRequest{Id: c.id(i)})
			return err
		}},
		{"NodeGroupGetOptions, configured", func(i int) error { return c.options(2*(i%max(c.groups/2, 1)), codes.OK) }},
		{"NodeGroupGetOptions, not configured", func(i int) error {
			if c.groups < 2 {
				return nil
			}
			return c.options(2*(i%(c.groups/2))+1, codes.Unimplemented)
		}},
		{"PricingNodePrice, not configured", func(i int) error {
			_, err := p.PricingNodePrice(ctx, &pb.PricingNodePriceRequest{Node: c.node(i)})
			return wants(err, codes.Unimplemented)
		}},
		{"GPULabel", func(int) error { _, err := p.GPULabel(ctx, &pb.GPULabelRequest{}); return err }},
		{"GetAvailableGPUTypes", func(int) error {
			_, err := p.GetAvailableGPUTypes(ctx, &pb.GetAvailableGPUTypesRequest{})
			return err
		}},
	} {
		l, err := sample(ctx, s.calls, r.call)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		c.out.reads = append(c.out.reads, timed{r.name, l})
	}
	return nil
}

// belongs asks for the group of a node; an answer that is wrong is not measured.
func (c *caller) belongs(n *pb.ExternalGrpcNode, want string) error {
	r, err := c.provider.NodeGroupForNode(c.ctx, &pb.NodeGroupForNodeRequest{Node: n})
	if got := r.GetNodeGroup().GetId(); err == nil && got != want {
		return fmt.Errorf("%s belongs to %q, not to %q", n.GetName(), got, want)
	}
	return err
}

func (c *caller) options(g int, want codes.Code) error {
	_, err := c.provider.NodeGroupGetOptions(c.ctx, &pb.NodeGroupAutoscalingOptionsRequest{
		Id: c.id(g), Defaults: &pb.NodeGroupAutoscalingOptions{ScaleDownUtilizationThreshold: 0.5},
	})
	return wants(err, want)
}

// wants takes an expected refusal for an answer.
func wants(err error, code codes.Code) error {
	if status.Code(err) == code {
		return nil
	}
	return fmt.Errorf("answered %w, not %s", err, code)
}

func (c *caller) refresh() error {
	_, err := c.provider.Refresh(c.ctx, &pb.RefreshRequest{})
	return err
}

// refreshes takes the time of Refresh while nothing changes, and when all groups
// have just changed: each gets a request that takes no machine, and the answers
// contain it.
func (c *caller) refreshes(settings) (err error) {
	if c.out.quiet, err = sample(c.ctx, refreshes, func(int) error { return c.refresh() }); err != nil {
		return err
	}
	c.out.changed, err = c.afterChanges(changes, pause)
	return err
}

func (c *caller) afterChanges(n int, rest time.Duration) (out refreshed, err error) {
	for i := range n {
		if err := c.touch(i); err != nil {
			return out, err
		}
		began := time.Now()
		err := c.refresh()
		out.latency = append(out.latency, time.Since(began))
		if status.Code(err) == codes.Unavailable {
			out.refused++
		} else if err != nil {
			return out, err
		}
		time.Sleep(rest)
	}
	slices.Sort(out.latency)
	return out, nil
}

// touch sends every group a request that changes nothing but its history.
func (c *caller) touch(i int) error {
	return parallel(c.groups, func(g int) error { return c.send(g, fmt.Sprintf("touch-%d-%d", i, g)) })
}

// send has a group forget a request that never was.
func (c *caller) send(g int, request string) error {
	return c.temporal.SignalWorkflow(c.ctx, cluster.GroupID(fleetCluster, c.inputs[g].Group), "", workflows.SignalCancelRequest,
		workflows.ScaleRequest{RequestID: request + "-" + time.Now().Format(time.RFC3339Nano), Cancel: request})
}

// loops makes the calls of one steady loop of the autoscaler 1.36, one after the
// other, as recorded from it.
func (c *caller) loops(settings) error {
	c.out.calls = loopCalls(c.size, unmanaged)
	for range loops {
		began := time.Now()
		n, err := c.once()
		if err != nil {
			return err
		}
		if n != c.out.calls {
			return fmt.Errorf("a loop of %d calls, not %d", n, c.out.calls)
		}
		c.out.loop = append(c.out.loop, time.Since(began))
	}
	began := time.Now()
	for i := range foreign {
		if err := c.belongs(stranger(i), ""); err != nil {
			return err
		}
	}
	c.out.foreign = time.Since(began)
	return nil
}

// Calls per loop of the autoscaler 1.36.1, counted with a recording server while
// all nodes are candidates for removal.
const (
	asksPerStranger = 7 // NodeGroupForNode
	asksPerGroup    = 3 // NodeGroupTargetSize
	asksPerNode     = 4 // NodeGroupGetOptions
)

// loopCalls is the number of calls of one loop.
func loopCalls(z size, strangers int) int {
	return 1 + 1 + z.nodes() + asksPerStranger*strangers + asksPerGroup*z.groups + asksPerNode*z.nodes()
}

func (c *caller) once() (calls int, err error) {
	do := func(f func() error) {
		if err == nil {
			err = f()
			calls++
		}
	}
	do(c.refresh)
	do(func() error { _, err := c.provider.NodeGroups(c.ctx, &pb.NodeGroupsRequest{}); return err })
	for i := range c.nodes() {
		do(func() error { return c.belongs(c.node(i), c.id(i)) })
	}
	for i := range asksPerStranger * unmanaged {
		do(func() error { return c.belongs(stranger(i%unmanaged), "") })
	}
	for g := range asksPerGroup * c.groups {
		do(func() error {
			_, err := c.provider.NodeGroupTargetSize(c.ctx, &pb.NodeGroupTargetSizeRequest{Id: c.id(g)})
			return err
		})
	}
	for i := range asksPerNode * c.nodes() {
		want := codes.OK
		if i%c.groups%2 == 1 {
			want = codes.Unimplemented
		}
		do(func() error { return c.options(i%c.groups, want) })
	}
	return calls, err
}

// hang takes the time of requests while no call to the cloud ever returns.
func (c *caller) hang(settings) (err error) {
	if err = c.bend(c.ctx, "* /v1/**", "hang"); err != nil {
		return err
	}
	if c.out.increase, err = c.increases(); err != nil {
		return err
	}
	c.out.signal, err = sample(c.ctx, increases, func(i int) error { return c.send(i%c.groups, fmt.Sprintf("floor-%d", i)) })
	if err != nil {
		return err
	}
	c.out.hanging, err = c.afterChanges(changes, pause)
	return err
}

func (c *caller) increases() (latency, error) {
	return sample(c.ctx, increases, func(i int) error {
		_, err := c.provider.NodeGroupIncreaseSize(c.ctx, &pb.NodeGroupIncreaseSizeRequest{Id: c.id(i), Delta: 1})
		return err
	})
}

// workerless does so while no worker runs either.
func (c *caller) workerless(settings) (err error) {
	if err = c.worker.process.Kill(); err != nil {
		return err
	}
	if c.out.workerless, err = c.afterChanges(changes/2, 0); err != nil {
		return err
	}
	c.out.increaseWorkerless, err = c.increases()
	return err
}

// summary is one line for whoever waits.
func (o served) summary() string {
	worst := time.Duration(0)
	for _, r := range o.reads {
		worst = max(worst, r.p99())
	}
	return fmt.Sprintf("worst p99 of reads %s, Refresh %s and %s, IncreaseSize %s, loop %s, %s",
		short(worst), short(o.quiet.p50()), short(o.changed.p50()), short(o.increase.p99()), short(median(o.loop)), o.after)
}
