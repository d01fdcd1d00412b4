package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/ichor-project/ichor/internal/cluster"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/workflows"
)

// A call is a request as its caller saw it.
type call struct {
	op    string // the signal of the same meaning
	delta int
	nodes []string
	// id is known for people's requests; that of an autoscaler's is found by the
	// time at which the provider took it.
	id           string
	began, ended time.Time
	err          error
	// answered says that the provider itself said so, as opposed to a connection
	// that broke or a time that ran out.
	answered bool
	// reported is when the group was next reported to the same autoscaler.
	reported time.Time
	// result is the answer to a person.
	result workflows.ScaleResult
}

func (c *call) String() string {
	return fmt.Sprintf("%s delta %d nodes %v id %q at %s for %s: answered %t, %v",
		c.op, c.delta, c.nodes, c.id, c.began.Format(time.StampMilli), c.ended.Sub(c.began).Round(time.Millisecond), c.answered, c.err)
}

// budget is how many requests are still to be made.
type budget struct{ left atomic.Int64 }

func newBudget(n int) *budget {
	b := &budget{}
	b.left.Store(int64(n))
	return b
}

func (b *budget) take() bool { return b.left.Add(-1) >= 0 }

// autoscaler asks a provider for what an autoscaler does, one call at a time.
type autoscaler struct {
	*rig.Provider
	group string
	max   int
	dice  *rand.Rand
	calls []*call
	// strike kills somebody in the middle of a call, after a moment; nil never.
	strike func(who string, after time.Duration)
}

// strikes is one call in how many loses somebody it needs.
const strikes = 10

// rpcTimeout is the autoscaler's own for every call.
const rpcTimeout = 5 * time.Second

// run makes requests as long as there is budget for them.
func (a *autoscaler) run(ctx context.Context, left *budget) {
	for ctx.Err() == nil {
		ok := a.refresh(ctx)
		if ok && !left.take() {
			return
		}
		if ok {
			a.change(ctx)
		}
		time.Sleep(time.Duration(50+a.dice.IntN(200)) * time.Millisecond)
	}
}

// refresh reports whether the provider told the state of the groups.
func (a *autoscaler) refresh(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	if _, err := a.Refresh(ctx, &pb.RefreshRequest{}); err != nil {
		return false
	}
	for _, c := range a.calls {
		if c.reported.IsZero() {
			c.reported = time.Now()
		}
	}
	return true
}

// change makes one request that an autoscaler could make of what it sees.
func (a *autoscaler) change(ctx context.Context) {
	size, err := a.NodeGroupTargetSize(ctx, &pb.NodeGroupTargetSizeRequest{Id: a.group})
	if err != nil {
		return
	}
	nodes, err := a.NodeGroupNodes(ctx, &pb.NodeGroupNodesRequest{Id: a.group})
	if err != nil {
		return
	}
	var there []string
	for _, i := range nodes.GetInstances() {
		if i.GetStatus().GetInstanceState() != pb.InstanceStatus_instanceDeleting {
			there = append(there, i.GetId())
		}
	}
	target := int(size.GetTargetSize())
	switch roll := a.dice.IntN(10); {
	case len(there) == 0 || roll < 5 && target < a.max*3/4:
		delta := 1 + a.dice.IntN(3)
		a.call(ctx, &call{op: workflows.SignalIncreaseSize, delta: delta}, func(ctx context.Context, opts ...grpc.CallOption) error {
			_, err := a.NodeGroupIncreaseSize(ctx, &pb.NodeGroupIncreaseSizeRequest{Id: a.group, Delta: int32(delta)}, opts...)
			return err
		})
	case roll == 9:
		delta := 1 + a.dice.IntN(2)
		a.call(ctx, &call{op: workflows.SignalDecreaseTargetSize, delta: -delta}, func(ctx context.Context, opts ...grpc.CallOption) error {
			_, err := a.NodeGroupDecreaseTargetSize(ctx, &pb.NodeGroupDecreaseTargetSizeRequest{Id: a.group, Delta: int32(-delta)}, opts...)
			return err
		})
	default:
		a.dice.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
		there = there[:min(len(there), 1+a.dice.IntN(3))]
		req := &pb.NodeGroupDeleteNodesRequest{Id: a.group}
		for _, id := range there {
			req.Nodes = append(req.Nodes, &pb.ExternalGrpcNode{Name: id, ProviderID: id})
		}
		a.call(ctx, &call{op: workflows.SignalDeleteNodes, nodes: there}, func(ctx context.Context, opts ...grpc.CallOption) error {
			_, err := a.NodeGroupDeleteNodes(ctx, req, opts...)
			return err
		})
	}
}

// call makes a request and notes what the caller saw of it.
func (a *autoscaler) call(ctx context.Context, c *call, f func(context.Context, ...grpc.CallOption) error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	var header, trailer metadata.MD
	if who := [...]string{"temporal", "provider", "temporal"}; a.strike != nil && a.dice.IntN(strikes) == 0 {
		// A call takes a few milliseconds.
		a.strike(who[a.dice.IntN(len(who))], time.Duration(a.dice.IntN(4000))*time.Microsecond)
	}
	c.began = time.Now()
	c.err = f(ctx, grpc.Header(&header), grpc.Trailer(&trailer))
	c.ended = time.Now()
	c.answered = c.err == nil || len(header)+len(trailer) > 0
	a.calls = append(a.calls, c)
}

// person asks the group itself, with the command line or with Temporal's SDK, and
// repeats what got no answer under the same id.
type person struct {
	*rig.Rig
	name, group string
	max         int
	dice        *rand.Rand
	// commands says that Ichor's command line is used.
	commands bool
	calls    []*call
}

func (p *person) run(ctx context.Context, left *budget) {
	for n := 0; ctx.Err() == nil && left.take(); n++ {
		p.calls = append(p.calls, p.ask(ctx, fmt.Sprintf("%s-%d", p.name, n)))
		time.Sleep(time.Duration(100+p.dice.IntN(300)) * time.Millisecond)
	}
}

func (p *person) ask(ctx context.Context, id string) *call {
	c := &call{id: id, began: time.Now()}
	req := workflows.ScaleRequest{RequestID: id, Reason: "soak"}
	args := []string{"scale", rig.Cluster + "/" + p.group, "--request-id", id, "--timeout", "10s", "-o", "json"}
	members := p.members(ctx)
	switch roll := p.dice.IntN(10); {
	case roll < 2:
		n := 4 + p.dice.IntN(p.max/2)
		c.op, req.Target, args = workflows.SignalSetTarget, &n, append(args, "--to", strconv.Itoa(n))
	case roll < 7 || len(members) == 0:
		c.op, c.delta = workflows.SignalIncreaseSize, 1+p.dice.IntN(3)
		req.Delta, args = c.delta, append(args, "--by", strconv.Itoa(c.delta))
	default:
		c.op, c.nodes = workflows.SignalDeleteNodes, members[:min(len(members), 1+p.dice.IntN(2))]
		req.Nodes, args = c.nodes, append(args, "--delete", strings.Join(c.nodes, ","))
	}
	for again := true; again && ctx.Err() == nil; {
		if p.commands {
			again = p.byCommand(ctx, c, args)
		} else {
			again = p.byUpdate(ctx, c, req)
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.ended = time.Now()
	return c
}

// Exit codes of the command line.
const (
	codeOK, codeInvalid, codeConflict, codeUnavailable, codeUnanswered = 0, 3, 4, 6, 7
)

// byCommand reports whether there was no answer.
func (p *person) byCommand(ctx context.Context, c *call, args []string) (again bool) {
	r, err := p.Ichor(ctx, args...)
	switch {
	case err != nil:
		c.err = err
	case r.Code == codeOK:
		c.answered, c.err = true, nil
	case r.Code == codeInvalid || r.Code == codeConflict:
		c.answered, c.err = true, errors.New(r.Stderr)
	case r.Code == codeUnavailable || r.Code == codeUnanswered:
		return true
	default:
		c.err = errors.New(r.String())
	}
	return false
}

func (p *person) byUpdate(ctx context.Context, c *call, req workflows.ScaleRequest) (again bool) {
	try, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	h, err := p.Temporal.UpdateWorkflow(try, client.UpdateWorkflowOptions{
		WorkflowID: cluster.GroupID(rig.Cluster, p.group), UpdateID: c.id, UpdateName: c.op, Args: []any{req},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = h.Get(try, &c.result)
	}
	var refused *temporal.ApplicationError
	if err == nil || errors.As(err, &refused) && refused.Type() != "AcceptedUpdateCompletedWorkflow" {
		c.answered, c.err = true, err
		return false
	}
	return true
}

// members are names of some machines that count, none if nobody answers.
func (p *person) members(ctx context.Context) []string {
	g, err := statusOf(ctx, p.Rig, p.group)
	if err != nil {
		return nil
	}
	var out []string
	for _, m := range g.Members {
		if m.Counted() {
			out = append(out, m.Name)
		}
	}
	p.dice.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func statusOf(ctx context.Context, r *rig.Rig, group string) (g workflows.GroupStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v, err := r.Temporal.QueryWorkflow(ctx, cluster.GroupID(rig.Cluster, group), "", workflows.QueryGroup)
	if err == nil {
		err = v.Get(&g)
	}
	return g, err
}

// reaper kills the provider, the worker and the Temporal server, alone and
// together, until ctx ends; then all of them run.
type reaper struct {
	*rig.Rig
	provider *rig.Provider
	dice     *rand.Rand

	mu    sync.Mutex // one at a time
	kills map[string]int
}

// strike kills while a call is under way.
func (k *reaper) strike(ctx context.Context, who string, after time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	time.Sleep(after)
	return k.kill(ctx, who, 500*time.Millisecond)
}

func (k *reaper) run(ctx, alive context.Context) error {
	ways := []string{"provider", "worker", "temporal", "provider and temporal", "worker"}
	for n := 0; ; n++ {
		if n%len(ways) == 0 {
			k.dice.Shuffle(len(ways), func(i, j int) { ways[i], ways[j] = ways[j], ways[i] })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(1000+k.dice.IntN(5000)) * time.Millisecond):
		}
		k.mu.Lock()
		err := k.kill(alive, ways[n%len(ways)], time.Duration(k.dice.IntN(1500))*time.Millisecond)
		k.mu.Unlock()
		if err != nil {
			return fmt.Errorf("kill %s: %w", ways[n%len(ways)], err)
		}
	}
}

// kill needs the lock.
func (k *reaper) kill(ctx context.Context, who string, away time.Duration) error {
	k.kills[who]++
	var errs []error
	if strings.Contains(who, "worker") {
		errs = append(errs, k.KillWorker(ctx))
	}
	if strings.Contains(who, "temporal") {
		errs = append(errs, k.KillTemporal())
	}
	if strings.Contains(who, "provider") {
		errs = append(errs, k.provider.Kill())
	}
	time.Sleep(away)
	if strings.Contains(who, "provider") {
		errs = append(errs, k.provider.Start())
	}
	if strings.Contains(who, "temporal") {
		errs = append(errs, k.StartTemporal(ctx))
	}
	return errors.Join(errs...)
}

// all runs actors to their end.
func all(fs ...func()) {
	var wg sync.WaitGroup
	for _, f := range fs {
		wg.Go(f)
	}
	wg.Wait()
}

// eventually waits until f has nothing to complain about.
func eventually(ctx context.Context, t *testing.T, r *rig.Rig, what string, f func() error) {
	t.Helper()
	for {
		err := f()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: %v\n%s", what, err, r.Explain(t.Context()))
		}
		time.Sleep(200 * time.Millisecond)
	}
}
