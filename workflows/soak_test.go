//go:build !race

package workflows

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
)

// historyLimit makes a group continue as new every few requests.
const historyLimit = 60

// quick makes a single-shard server dispatch tasks at once.
var quick = []string{
	"--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000",
	"--dynamic-config-value", "matching.numTaskqueueReadPartitions=1",
	"--dynamic-config-value", "matching.numTaskqueueWritePartitions=1",
}

// soak is a group on a real server whose worker comes and goes, and what has
// been asked of it.
type soak struct {
	t     *testing.T
	c     client.Client
	id    string
	world *fakeWorld

	// asking is held for reading while a request is under way.
	asking sync.RWMutex

	mu     sync.Mutex
	stop   func() // of the worker; nil while none runs
	places map[string]bool
	// dead are ids that were cancelled: they count no more, whenever they come.
	dead    map[string]bool
	acked   int
	results map[string]ScaleResult
	runs    []*soakRun
}

func newSoak(ctx context.Context, t *testing.T) *soak {
	t.Helper()
	s := &soak{
		t: t, c: realServer(ctx, t, quick...), id: cluster.GroupID("demo", "worker"), world: newFakeWorld(),
		places: map[string]bool{}, dead: map[string]bool{}, results: map[string]ScaleResult{},
	}
	s.world.rev, s.world.record = 1, cluster.Record{Ref: demoRef, Phase: cluster.PhaseReady, Endpoint: "https://192.0.2.1:6443", Frozen: cluster.Frozen{
		Bundle: "bundle", BaseConfig: []cluster.BaseConfig{{Role: cluster.RoleWorker, Ref: "base"}},
	}}
	s.world.objects["etcd"] = "runs"
	in := groupInput(0)
	in.Max = 300
	in.Site.Timing.HistoryLimit = historyLimit
	in.Site.Timing.Backoff, in.Site.Timing.Heartbeat = 20*time.Millisecond, 2*time.Second
	in.Site.Capabilities.Settle, in.Site.Capabilities.AbsenceWindow = 200*time.Millisecond, 200*time.Millisecond
	_, err := s.c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: s.id, TaskQueue: TaskQueue,
		// What a stopped worker leaves behind holds signals back for so long.
		WorkflowTaskTimeout: 2 * time.Second,
	}, ScaleNodeGroup, in)
	if err != nil {
		t.Fatal(err)
	}
	s.work()
	t.Cleanup(s.rest)
	s.settled(ctx, 0)
	return s
}

// work starts a worker, rest stops it.
func (s *soak) work() {
	w := startWorker(s.t, s.c, s.world)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = w.Stop
}

func (s *soak) rest() {
	s.mu.Lock()
	stop := s.stop
	s.stop = nil
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// signal is durable when it returns, whether a worker runs or not.
func (s *soak) signal(ctx context.Context, op string, req ScaleRequest) {
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(req)
	if err != nil {
		s.t.Error(err)
	}
	msg := &workflowservice.SignalWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &common.WorkflowExecution{WorkflowId: s.id}, SignalName: op, Input: payloads,
		RequestId: fmt.Sprintf("%s-%d", req.RequestID, rand.Uint64()), // the server must not be the one that counts once
	}
	for {
		_, err = s.c.WorkflowService().SignalWorkflowExecution(ctx, msg)
		var busy *serviceerror.ResourceExhausted // between two runs
		if err == nil || !errors.As(err, &busy) {
			break
		}
	}
	if err != nil {
		s.t.Errorf("%s %s: %v", op, req.RequestID, err)
	}
}

// update asks until there is an answer, always with the same id.
func (s *soak) update(ctx context.Context, op string, req ScaleRequest) (ScaleResult, error) {
	for {
		out, err := s.try(ctx, op, req)
		var answer *temporal.ApplicationError
		// The server answers so itself for a run that ended in the meantime.
		if err == nil || errors.As(err, &answer) && answer.Type() != "AcceptedUpdateCompletedWorkflow" || ctx.Err() != nil {
			return out, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *soak) try(ctx context.Context, op string, req ScaleRequest) (out ScaleResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	h, err := s.c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: s.id, UpdateName: op, UpdateID: req.RequestID, Args: []any{req}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = h.Get(ctx, &out)
	}
	return out, err
}

// ask makes one request by signal or by update, whichever dice say, and once in
// a while again, which must not count.
func (s *soak) ask(ctx context.Context, dice *rand.Rand, op string, req ScaleRequest) {
	req.Origin = OriginAutoscaler
	for again := true; again; again = dice.IntN(4) == 0 {
		s.asking.RLock()
		if dice.IntN(2) == 0 {
			s.signal(ctx, op, req)
		} else if out, err := s.update(ctx, op, req); err == nil {
			s.answered(out)
		} else if !s.died(req.RequestID) {
			s.t.Errorf("%s %s was refused: %v", op, req.RequestID, err)
			s.asking.RUnlock()
			return
		}
		s.count(op, req)
		s.asking.RUnlock()
		time.Sleep(time.Duration(dice.IntN(250)) * time.Millisecond)
	}
}

func (s *soak) died(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead[id]
}

// answered checks that one id has one answer.
func (s *soak) answered(out ScaleResult) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.results[out.RequestID]; ok && !gocmp.Equal(first, out) {
		s.t.Errorf("%s was answered twice: %+v, then %+v", out.RequestID, first, out)
	}
	s.results[out.RequestID] = out
}

func placeOf(request string, n int) string { return PlaceholderInstance("demo", "worker", request, n) }

// count notes a request that was acknowledged. A repetition changes nothing here
// either.
func (s *soak) count(op string, req ScaleRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked++
	obey(s.places, s.dead, map[string]bool{}, op, req)
}

// obey is what a request does to the set of places, written from the contract:
// the ids of places follow from the request. Requests of this test commute, but
// for a deletion, which comes after what it deletes. removed outlives
// repetitions of what it removes.
func obey(places, dead, seen map[string]bool, op string, req ScaleRequest) {
	if op == SignalCancelRequest {
		dead[req.Cancel] = true
		for p := range places {
			if places[p] && strings.HasPrefix(p, PlaceholderPrefix("demo", "worker", req.Cancel)+"-") {
				places[p] = false
			}
		}
		return
	}
	if seen[req.RequestID] || dead[req.RequestID] {
		return
	}
	seen[req.RequestID] = true
	switch op {
	case SignalIncreaseSize:
		for n := range req.Delta {
			if _, known := places[placeOf(req.RequestID, n)]; !known {
				places[placeOf(req.RequestID, n)] = true
			}
		}
	case SignalDeleteNodes:
		for _, p := range req.Nodes {
			places[p] = false
		}
	}
}

func size(places map[string]bool) int {
	n := 0
	for _, there := range places {
		if there {
			n++
		}
	}
	return n
}

// storm makes n requests: increases, deletions of some of their places, and
// cancellations before and after what they cancel.
func (s *soak) storm(ctx context.Context, who string, n int, seed uint64) {
	dice := rand.New(rand.NewPCG(seed, 1))
	var mine []string
	for i := range n {
		id := fmt.Sprintf("%s-%d", who, i)
		switch roll := dice.IntN(10); {
		case roll < 4 || len(mine) == 0:
			delta := 1 + dice.IntN(3)
			s.ask(ctx, dice, SignalIncreaseSize, ScaleRequest{RequestID: id, Delta: delta})
			for k := range delta {
				mine = append(mine, placeOf(id, k))
			}
		case roll < 8:
			some := min(len(mine), 1+dice.IntN(3))
			s.ask(ctx, dice, SignalDeleteNodes, ScaleRequest{RequestID: id, Nodes: slices.Clone(mine[:some])})
			mine = mine[some:]
		case roll < 9: // cancelled before it comes
			s.ask(ctx, dice, SignalCancelRequest, ScaleRequest{RequestID: "cancel-" + id, Cancel: id})
			s.ask(ctx, dice, SignalIncreaseSize, ScaleRequest{RequestID: id, Delta: 2})
		default: // cancelled after it came
			s.ask(ctx, dice, SignalIncreaseSize, ScaleRequest{RequestID: id, Delta: 2})
			s.ask(ctx, dice, SignalCancelRequest, ScaleRequest{RequestID: "cancel-" + id, Cancel: id})
		}
	}
}
