//go:build !race

package workflows

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// A group that continues as new all the time, whose worker comes and goes, counts
// every acknowledged request once, and its memo tells at any moment which ones it
// contains.
func TestGroupNeverLosesARequest(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s := newSoak(ctx, t)
	var wg sync.WaitGroup
	for who := range 4 {
		wg.Go(func() { s.storm(ctx, fmt.Sprintf("r%d", who), 42, uint64(who)) })
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
	// A busy machine answers more requests in one run; four are enough to see that
	// nothing is lost between them.
	if runs < 4 || unseen == 0 || audits < 2 {
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
