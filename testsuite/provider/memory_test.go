package provider

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/workflows"
)

// No worker runs, three machines are asked for and accepted, and the provider is
// killed: its successor shows the same, before it has been asked to refresh and
// after, and when a worker comes there are three machines. Then the same with
// machines that exist: nobody but the entity and the cloud knows them.
func TestNothingIsForgottenWithoutAWorker(t *testing.T) {
	s := start(t)
	w := s.worker()
	s.begin()
	s.must(w.Kill())

	p := s.serve("--cluster", "shop")
	s.increase(p, 3)
	asked := s.now(p)
	if asked.Target != 3 || asked.count("Creating") != 3 || len(asked.Instances) != 3 {
		t.Fatalf("after an accepted request: %+v", asked)
	}
	p = s.restart(p)
	s.same("before the first refresh of the next provider", p, asked)
	s.refresh(p)
	s.same("after it", p, asked)
	if _, err := p.NodeGroupIncreaseSize(t.Context(), &pb.NodeGroupIncreaseSizeRequest{Id: groupID, Delta: 3}); status.Code(err) != codes.OutOfRange {
		t.Errorf("three and three are more than max: %v", err)
	}
	if n := s.signals(workflows.SignalIncreaseSize); n != 1 {
		t.Errorf("%d requests are in history", n)
	}

	w = s.worker()
	three := s.sees(p, "three machines", func(g group) bool { return g.Target == 3 && g.count("Running") == 3 && g.named() })
	if machines, creates := s.machines(); machines != 3 || creates != 3 {
		t.Errorf("%d machines of %d create requests", machines, creates)
	}
	for id := range asked.Instances {
		if g := s.groupOf(p, id); g != groupID {
			t.Errorf("placeholder %s belongs to %q", id, g)
		}
	}
	s.must(w.Kill())

	// Which machines are ready is in no memo; the cloud names them.
	p = s.restart(p)
	s.sees(p, "the three machines without a worker", func(g group) bool { return maps.Equal(g.Instances, three.Instances) })
	victim := slices.Sorted(maps.Keys(three.Instances))[0]
	s.remove(p, victim)
	s.remove(p, victim)
	left := s.now(p)
	if left.Target != 2 || left.Instances[victim] != "Deleting" || left.count("Running") != 2 {
		t.Errorf("after a deletion: %+v", left)
	}
	if n := s.signals(workflows.SignalDeleteNodes); n != 1 {
		t.Errorf("%d deletions are in history", n)
	}
	p = s.restart(p)
	s.sees(p, "two machines and one that leaves", func(g group) bool { return g.Target == 2 && maps.Equal(g.Instances, left.Instances) })

	s.worker()
	s.sees(p, "two machines", func(g group) bool { return g.Target == 2 && len(g.Instances) == 2 && g.count("Running") == 2 })
	s.until("two machines", func() bool { n, _ := s.machines(); return n == 2 })
	s.remove(p, victim) // gone is success
	if machines, creates := s.machines(); machines != 2 || creates != 3 {
		t.Errorf("%d machines of %d create requests", machines, creates)
	}
}

// The cloud's API hangs and no worker runs: a provider starts all the same, shows
// the right number, and accepts.
func TestACloudThatHangsHoldsNothingUp(t *testing.T) {
	s := start(t)
	w := s.worker()
	s.begin()
	p := s.serve("--cluster", "shop")
	s.increase(p, 2)
	s.sees(p, "two machines", func(g group) bool { return g.count("Running") == 2 })
	s.until("a memo with two ready", func() bool { return s.memo().Ready == 2 })
	s.must(w.Kill())
	s.must(s.Cloud(t.Context(), http.MethodPost, "_devcloud/faults", map[string]any{"id": "hang", "route": chosen.Routes.All, "effect": "hang", "count": -1}, nil))

	p = s.restart(p)
	s.refresh(p)
	if g := s.now(p); g.Target != 2 || len(g.Instances) != 2 || g.count("Running") != 2 {
		t.Errorf("without worker and cloud: %+v", g)
	}
	s.increase(p, 1)
	s.refresh(p)
	g := s.now(p)
	if g.Target != 3 || g.count("Creating") != 1 || g.count("Running") != 2 {
		t.Errorf("after an accepted request: %+v", g)
	}
	for id := range g.Instances {
		if strings.Contains(id, "unnamed") {
			_, err := p.NodeGroupDeleteNodes(t.Context(), &pb.NodeGroupDeleteNodesRequest{Id: groupID, Nodes: []*pb.ExternalGrpcNode{{ProviderID: id, Name: id}}})
			if err == nil {
				t.Errorf("nobody knows which machine %s is, and it was deleted", id)
			}
		}
	}
	s.must(s.Cloud(t.Context(), http.MethodDelete, "_devcloud/faults/hang", nil, nil))
	s.worker()
	s.sees(p, "three machines", func(g group) bool {
		return g.Target == 3 && g.count("Running") == 3 && g.named()
	})
}

// A provider starts the entity of its file while no worker runs. What it accepts
// is known to its successor, which has neither memo nor answer to go by.
func TestAGroupThatHasNeverRun(t *testing.T) {
	s := start(t)
	s.must(s.worker().Kill()) // it has made the search attributes
	config := s.config()
	p := s.serve("--config", config)
	s.increase(p, 2)
	asked := s.now(p)
	if asked.Target != 2 || asked.count("Creating") != 2 {
		t.Fatalf("after an accepted request: %+v", asked)
	}
	s.must(p.Process.Kill())
	p = s.serve("--config", config)
	s.same("before the first refresh of the next provider", p, asked)
	s.worker()
	s.sees(p, "two machines", func(g group) bool { return g.Target == 2 && g.count("Running") == 2 })
	if machines, creates := s.machines(); machines != 2 || creates != 2 {
		t.Errorf("%d machines of %d create requests", machines, creates)
	}
}

// Two providers accept five machines each at once, for a group of five at most:
// what was acknowledged keeps its place, without a machine and with a reason,
// until somebody gives it up.
func TestTwoProvidersExceedMax(t *testing.T) {
	s := start(t)
	w := s.worker()
	s.begin()
	s.must(w.Kill()) // so that neither can hear of the other
	one, two := s.serve("--cluster", "shop"), s.serve("--cluster", "shop")
	var both sync.WaitGroup
	for _, p := range []*server{one, two} {
		both.Go(func() {
			if _, err := p.NodeGroupIncreaseSize(t.Context(), &pb.NodeGroupIncreaseSizeRequest{Id: groupID, Delta: 3}); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	for _, p := range []*server{one, two} {
		s.sees(p, "six places, five machines", func(g group) bool { return g.Target == 6 && g.count("Creating 99 beyond-max") == 1 })
	}
	s.worker()
	g := s.sees(one, "five machines", func(g group) bool {
		return g.Target == 6 && g.count("Running") == 5 && g.count("Creating 99 beyond-max") == 1
	})
	for id, state := range g.Instances {
		if state != "Running" {
			s.remove(two, id)
		}
	}
	for _, p := range []*server{one, two} {
		s.sees(p, "five places", func(g group) bool { return g.Target == 5 && g.count("Running") == 5 && len(g.Instances) == 5 })
	}
	if machines, creates := s.machines(); machines != 5 || creates != 5 {
		t.Errorf("%d machines of %d create requests", machines, creates)
	}
}

// Temporal is away: nothing changes, nothing is accepted, and what was refused
// never takes effect.
func TestWithoutTemporalNothingChanges(t *testing.T) {
	s := start(t)
	s.worker()
	s.begin()
	p := s.serve("--cluster", "shop")
	s.increase(p, 1)
	before := s.sees(p, "one machine", func(g group) bool { return g.count("Running") == 1 })
	s.must(s.KillTemporal())
	if _, err := p.Refresh(t.Context(), &pb.RefreshRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("refresh without Temporal: %v", err)
	}
	if _, err := p.NodeGroupIncreaseSize(t.Context(), &pb.NodeGroupIncreaseSizeRequest{Id: groupID, Delta: 2}); err == nil {
		t.Error("accepted without Temporal")
	}
	s.same("without Temporal", p, before)
	s.must(s.StartTemporal(t.Context()))
	s.sees(p, "one machine again", func(g group) bool { return g.Target == 1 && g.count("Running") == 1 })
	s.until("the cancellation is in history", func() bool { return s.signals(workflows.SignalCancelRequest) == 1 })
	if n := s.signals(workflows.SignalIncreaseSize); n != 1 {
		t.Errorf("%d increases are in history", n)
	}
	s.same("after the cancellation", p, before)
}

func (s *system) until(what string, f func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: not yet", what)
		}
	}
}
