package workflows

import (
	"cmp"
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
	"go.temporal.io/api/enums/v1"
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

// soakRun is what one run of the group was told, as its history has it.
type soakRun struct {
	id, previous string
	closed       bool
	told         []told
}

type told struct {
	event int64
	op    string
	req   ScaleRequest
	// update says that the group had obeyed before the event was written.
	update bool
}

// history reads all runs, oldest first; what has ended is read once.
func (s *soak) history(ctx context.Context) []*soakRun {
	s.t.Helper()
	known := map[string]*soakRun{}
	for _, r := range s.runs {
		if r.closed {
			known[r.id] = r
		}
	}
	d, err := s.c.DescribeWorkflowExecution(ctx, s.id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	s.runs = nil
	for id := d.GetWorkflowExecutionInfo().GetExecution().GetRunId(); id != ""; {
		r := known[id]
		if r == nil {
			r = s.readRun(ctx, id)
		}
		s.runs = append(s.runs, r)
		id = r.previous
	}
	slices.Reverse(s.runs)
	return s.runs
}

func (s *soak) readRun(ctx context.Context, id string) *soakRun {
	s.t.Helper()
	r := &soakRun{id: id}
	for it := s.c.GetWorkflowHistory(ctx, s.id, id, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			s.t.Fatal(err)
		}
		var payloads *common.Payloads
		m := told{event: e.GetEventId()}
		switch e.GetEventType() {
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			r.previous = e.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId()
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
			r.closed = true
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
			a := e.GetWorkflowExecutionSignaledEventAttributes()
			m.op, payloads = a.GetSignalName(), a.GetInput()
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
			a := e.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput()
			m.op, payloads, m.update = a.GetName(), a.GetArgs(), true
		}
		if payloads == nil || !slices.Contains(scaleOps, m.op) {
			continue
		}
		if err := converter.GetDefaultDataConverter().FromPayloads(payloads, &m.req); err != nil {
			s.t.Fatal(err)
		}
		r.told = append(r.told, m)
	}
	return r
}

// memo reads both fields without a worker.
func (s *soak) memo(ctx context.Context) (run string, facts GroupFacts, state GroupMemo) {
	s.t.Helper()
	d, err := s.c.DescribeWorkflowExecution(ctx, s.id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	info := d.GetWorkflowExecutionInfo()
	for name, out := range map[string]any{MemoFacts: &facts, MemoState: &state} {
		p := info.GetMemo().GetFields()[name]
		if p == nil {
			s.t.Fatalf("run %s, the %d., has no memo field %s", info.GetExecution().GetRunId(), chainLength(ctx, s.t, s.c, s.id), name)
		}
		if err := converter.GetDefaultDataConverter().FromPayload(p, out); err != nil {
			s.t.Fatal(err)
		}
	}
	return info.GetExecution().GetRunId(), facts, state
}

func (s *soak) inTask(ctx context.Context) bool {
	s.t.Helper()
	d, err := s.c.DescribeWorkflowExecution(ctx, s.id, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return d.GetPendingWorkflowTask().GetState() == enums.PENDING_WORKFLOW_TASK_STATE_STARTED
}

// audit compares, while no worker runs and nobody asks, the memo with what was
// told before its last event, and the whole history with what was acknowledged.
// It returns how many signals the memo does not contain.
func (s *soak) audit(ctx context.Context) int {
	s.t.Helper()
	// Signals that arrive while a worker has a task are written into history when
	// that task has ended, if only by its timeout.
	for s.inTask(ctx) {
		time.Sleep(50 * time.Millisecond)
	}
	run, facts, memo := s.memo(ctx)
	if facts.Cluster != demoRef || facts.Max != 300 {
		s.t.Errorf("memo: %+v", facts)
	}
	var before, after []told
	runs := s.history(ctx)
	passed := memo.RunID == ""
	for i, r := range runs {
		last := i == len(runs)-1
		if last && r.id != run || memo.RunID == r.id && i < len(runs)-2 {
			s.t.Errorf("the memo is of run %s, the %d. of %d", memo.RunID, i+1, len(runs))
		}
		for _, m := range r.told {
			if m.update || !passed && (r.id != memo.RunID || m.event <= memo.EventID) {
				before = append(before, m)
			} else {
				after = append(after, m)
			}
		}
		passed = passed || r.id == memo.RunID
	}
	places, dead, seen := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, m := range before {
		obey(places, dead, seen, m.op, m.req)
	}
	if got := size(places); got != memo.Target {
		s.t.Errorf("the memo of run %s (now %s) up to event %d says %d, what was told until then makes %d; %d signals after it",
			memo.RunID, run, memo.EventID, memo.Target, got, len(after))
		for _, m := range runs[len(runs)-1].told {
			s.t.Logf("event %d: %s %s (update %t) delta %d nodes %v cancel %s", m.event, m.op, m.req.RequestID, m.update, m.req.Delta, m.req.Nodes, m.req.Cancel)
		}
		s.t.Logf("memo: %+v", memo)
	}
	order := func(m told) int { return slices.Index(scaleOps, m.op) }
	slices.SortStableFunc(after, func(a, b told) int { return cmp.Compare(order(a), order(b)) })
	for _, m := range after {
		obey(places, dead, seen, m.op, m.req)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, set := range []map[string]bool{places, s.places} {
		for p := range set {
			if places[p] != s.places[p] {
				s.t.Errorf("place %s: history makes it %t, what was acknowledged %t", p, places[p], s.places[p])
			}
		}
	}
	return len(after)
}

// settled waits until every place has its node.
func (s *soak) settled(ctx context.Context, want int) GroupStatus {
	s.t.Helper()
	for last := (GroupStatus{}); ; {
		var g GroupStatus
		v, err := s.c.QueryWorkflow(ctx, s.id, "", QueryGroup)
		if err == nil {
			err = v.Get(&g)
		}
		if err == nil {
			last = g
		}
		ready := 0
		for _, m := range g.Members {
			if m.Phase == MemberReady {
				ready++
			}
		}
		if err == nil && g.Target == want && ready == want && len(g.Members) == want {
			return g
		}
		if ctx.Err() != nil {
			s.t.Fatalf("the group never came to %d members: %v\n%s", want, err, s.explain(last))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// explain shows what keeps a group from going on.
func (s *soak) explain(g GroupStatus) string {
	var b strings.Builder
	b.WriteString(fmt.Sprintf("target %d\n", g.Target))
	for _, m := range g.Members {
		b.WriteString(fmt.Sprintf("  %s %s %s cloud %q: %s\n", m.Name, m.Instance, m.Phase, m.CloudID, m.Note))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 10*time.Second)
	defer cancel()
	if d, err := s.c.DescribeWorkflowExecution(ctx, s.id, ""); err == nil {
		b.WriteString(fmt.Sprintf("%d events\n", d.GetWorkflowExecutionInfo().GetHistoryLength()))
		for _, a := range d.GetPendingActivities() {
			b.WriteString(fmt.Sprintf("  pending: %s attempt %d: %s\n", a.GetActivityType().GetName(), a.GetAttempt(), a.GetLastFailure().GetMessage()))
		}
	}
	var stack string
	if v, err := s.c.QueryWorkflow(ctx, s.id, "", "__stack_trace"); err == nil && v.Get(&stack) == nil {
		b.WriteString(stack)
	}
	return b.String()
}

// A group that continues as new all the time, whose worker comes and goes, counts
// every acknowledged request once, and its memo tells at any moment which ones it
// contains.
func TestGroupNeverLosesARequest(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s := newSoak(ctx, t)
	var wg sync.WaitGroup
	for who := range 4 {
		wg.Go(func() { s.storm(ctx, fmt.Sprintf("r%d", who), 55, uint64(who)) })
	}
	asked := make(chan struct{})
	go func() { wg.Wait(); close(asked) }()
	// What fills history without making machines lets the group continue as new
	// more often.
	go func() {
		for {
			select {
			case <-asked:
				return
			case <-time.After(25 * time.Millisecond):
			}
			s.asking.RLock()
			if err := s.c.SignalWorkflow(ctx, s.id, "", SignalAsk, nil); err != nil && ctx.Err() == nil {
				t.Errorf("ask: %v", err)
			}
			s.asking.RUnlock()
		}
	}()

	stops, audits, unseen := 0, 0, 0
	for asking := true; asking; {
		select {
		case <-asked:
			asking = false
		case <-time.After(1200 * time.Millisecond):
		}
		// Every other time nobody asks while the worker is away, but for what is
		// sent here.
		stops++
		if stops%2 == 0 && asking {
			s.rest()
			s.work()
			continue
		}
		s.asking.Lock()
		s.rest()
		id := fmt.Sprintf("night-%d", stops)
		for _, m := range []told{
			{op: SignalIncreaseSize, req: ScaleRequest{RequestID: id, Delta: 3}},
			{op: SignalIncreaseSize, req: ScaleRequest{RequestID: id, Delta: 3}},
			{op: SignalDeleteNodes, req: ScaleRequest{RequestID: id + "-del", Nodes: []string{placeOf(id, 1)}, Origin: OriginAutoscaler}},
		} {
			s.signal(ctx, m.op, m.req)
			s.count(m.op, m.req)
		}
		unseen += s.audit(ctx)
		audits++
		s.work()
		s.asking.Unlock()
	}
	want := size(s.places)
	t.Logf("asked %d requests; now waiting for %d members", s.acked, want)
	g := s.settled(ctx, want)
	for _, m := range g.Members {
		if !s.places[m.Instance] {
			t.Errorf("member %s has the place %s, which nobody wants", m.Name, m.Instance)
		}
	}
	s.judge(ctx, g)
	runs := chainLength(ctx, t, s.c, s.id)
	t.Logf("%d requests acknowledged, %d runs, worker stopped %d times; %d audits found %d signals that the memo did not contain; target %d",
		s.acked, runs, stops, audits, unseen, want)
	if runs < 12 || unseen < audits || audits < 2 {
		t.Errorf("that proves little: %d runs, %d audits, %d signals unseen", runs, audits, unseen)
	}

	s.setTargets(ctx, want)
	if err := s.c.SignalWorkflow(ctx, s.id, "", SignalEnd, EndGroup{Cluster: demoRef}); err != nil {
		t.Fatal(err)
	}
	if err := s.c.GetWorkflow(ctx, s.id, "").Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	s.world.change(func() {
		if len(s.world.machines) != 0 || len(s.world.resources) != 0 {
			t.Errorf("left: %v %v", s.world.machines, s.world.resources)
		}
	})
}

// judge compares cloud, memo and what the group says.
func (s *soak) judge(ctx context.Context, g GroupStatus) {
	s.t.Helper()
	s.world.change(func() {
		if len(s.world.machines) != g.Target {
			s.t.Errorf("%d machines, target %d", len(s.world.machines), g.Target)
		}
		for what, n := range s.world.creates {
			if n != 1 {
				s.t.Errorf("%s was created %d times", what, n)
			}
		}
	})
	for {
		_, facts, memo := s.memo(ctx)
		diff := gocmp.Diff(g.GroupFacts, facts)
		if diff == "" && memo.Target == g.Target && memo.Ready == g.Target && len(memo.Wanted)+len(memo.Others)+memo.More == 0 {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("memo %+v\nfacts: %s", memo, diff)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// setTargets lets many people set targets, add and delete at once. Each answer
// says what the target was after it, so the answers in their order make one
// chain.
func (s *soak) setTargets(ctx context.Context, target int) {
	s.t.Helper()
	var mu sync.Mutex
	var answers []ScaleResult
	requests := map[string]ScaleRequest{}
	var wg sync.WaitGroup
	for who := range 5 {
		wg.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(who), 2))
			for i := range 12 {
				req := ScaleRequest{RequestID: fmt.Sprintf("p%d-%d", who, i)}
				op := SignalIncreaseSize
				if dice.IntN(2) == 0 {
					n := 2 + dice.IntN(10)
					op, req.Target = SignalSetTarget, &n
				} else {
					req.Delta = 1 + dice.IntN(3)
				}
				out, err := s.update(ctx, op, req)
				if err != nil {
					s.t.Errorf("%s %s: %v", op, req.RequestID, err)
				}
				mu.Lock()
				answers, requests[req.RequestID] = append(answers, out), req
				mu.Unlock()
			}
		})
	}
	asked := make(chan struct{})
	go func() { wg.Wait(); close(asked) }()
	for asking := true; asking; {
		select {
		case <-asked:
			asking = false
		case <-time.After(500 * time.Millisecond):
			s.rest()
			s.work()
		}
	}
	slices.SortFunc(answers, func(a, b ScaleResult) int { return cmp.Compare(a.Generation, b.Generation) })
	for _, a := range answers {
		req := requests[a.RequestID]
		if req.Target != nil {
			target = *req.Target
		} else {
			target += req.Delta
		}
		if !a.Accepted || a.Target != target {
			s.t.Errorf("%s of %s: %q, want a target of %d: %+v", a.Op, a.RequestID, a.Message, target, a)
		}
	}
	s.judge(ctx, s.settled(ctx, target))
}
