package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// togetherMax is small, so that two can exceed it together.
const togetherMax = 6

// together is a group that several scale at once.
type together struct {
	*rig.Rig
	t         *testing.T
	ctx       context.Context
	providers [2]*rig.Provider
}

const groupID = rig.Cluster + "/" + scaled

// Whoever scales a group at the same time as others loses no update, and the
// answers say what happened.
func TestNeverLostTogether(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := scalable(ctx, t, togetherMax)
	s := &together{Rig: r, t: t, ctx: ctx}
	s.providers[0], s.providers[1] = r.StartProvider(t, "provider"), r.StartProvider(t, "second-provider")
	t.Run("a person sets 3 while the autoscaler adds 1", func(t *testing.T) { s.on(t).setAndAdd() })
	t.Run("a person pauses while the autoscaler asks", func(t *testing.T) { s.on(t).pause() })
	t.Run("two providers", func(t *testing.T) { s.on(t).twoProviders() })
	if t.Failed() {
		t.Log(r.Explain(t.Context()))
	}
}

func (s *together) on(t *testing.T) *together {
	sub := *s
	sub.t = t
	return &sub
}

// command runs Ichor's command line on the group and demands an exit code.
func (s *together) command(code int, args ...string) stack.Result {
	s.t.Helper()
	r, err := s.Ichor(s.ctx, args...)
	if err != nil || r.Code != code {
		s.t.Errorf("ichor %s: %v %s", strings.Join(args, " "), err, r)
	}
	return r
}

// set makes the target n and waits until there are n ready machines.
func (s *together) set(n int) {
	s.t.Helper()
	s.command(codeOK, "scale", groupID, "--to", fmt.Sprint(n), "--force")
	s.settled(n)
}

// settled waits until group, cloud and both providers show n.
func (s *together) settled(n int) {
	s.t.Helper()
	g := settle(s.ctx, s.t, s.Rig)
	if g.Target != n {
		s.t.Errorf("the target is %d, want %d", g.Target, n)
	}
	machines(s.t, s.Rig, g)
	for i := range s.providers {
		eventually(s.ctx, s.t, s.Rig, "the provider shows it", func() error {
			target, instances, err := s.seen(i)
			if err == nil && (target != n || len(instances) != n) {
				err = fmt.Errorf("target %d, instances %v", target, instances)
			}
			return err
		})
	}
}

// seen is what an autoscaler sees after a refresh: the target and the states of
// instances by id.
func (s *together) seen(provider int) (target int, instances map[string]string, err error) {
	p := s.providers[provider]
	if _, err := p.Refresh(s.ctx, &pb.RefreshRequest{}); err != nil {
		return 0, nil, err
	}
	size, err := p.NodeGroupTargetSize(s.ctx, &pb.NodeGroupTargetSizeRequest{Id: groupID})
	if err != nil {
		return 0, nil, err
	}
	nodes, err := p.NodeGroupNodes(s.ctx, &pb.NodeGroupNodesRequest{Id: groupID})
	if err != nil {
		return 0, nil, err
	}
	instances = map[string]string{}
	for _, i := range nodes.GetInstances() {
		state := i.GetStatus().GetInstanceState().String()
		if e := i.GetStatus().GetErrorInfo(); e != nil {
			state += ": " + e.GetErrorMessage()
		}
		instances[i.GetId()] = state
	}
	return int(size.GetTargetSize()), instances, nil
}

func (s *together) increase(provider, delta int) error {
	ctx, cancel := context.WithTimeout(s.ctx, rpcTimeout)
	defer cancel()
	_, err := s.providers[provider].NodeGroupIncreaseSize(ctx, &pb.NodeGroupIncreaseSizeRequest{Id: groupID, Delta: int32(delta)})
	return err
}

// setAndAdd: both count, in the order that the answers tell.
func (s *together) setAndAdd() {
	for round := range 4 {
		s.set(1)
		var answer workflows.ScaleResult
		var added error
		all(
			func() {
				r := s.command(codeOK, "scale", groupID, "--to", "3", "-o", "json")
				if err := json.Unmarshal([]byte(r.Stdout), &answer); err != nil {
					s.t.Errorf("%v: %s", err, r)
				}
			},
			func() {
				// The command line needs a moment to begin: now it is first, now last.
				time.Sleep(time.Duration(round) * 150 * time.Millisecond)
				added = s.increase(0, 1)
			},
		)
		if added != nil {
			s.t.Fatalf("the autoscaler: %v", added)
		}
		g, err := statusOf(s.ctx, s.Rig, scaled)
		if err != nil {
			s.t.Fatal(err)
		}
		// Its signal may come after all other answers.
		eventually(s.ctx, s.t, s.Rig, "both were obeyed", func() error {
			if g, err = statusOf(s.ctx, s.Rig, scaled); err != nil {
				return err
			}
			if n := len(g.Requests); n < 2 || g.Requests[n-1].RequestID != answer.RequestID && g.Requests[n-2].RequestID != answer.RequestID {
				return fmt.Errorf("the last requests are %+v, want %s among them", g.Requests, answer.RequestID)
			}
			return nil
		})
		want := 4
		if last := g.Requests[len(g.Requests)-1]; last.RequestID == answer.RequestID {
			want = 3 // the person came last
		}
		if answer.Target != 3 || !strings.Contains(answer.Message, "to 3") {
			s.t.Errorf("round %d: the person was told %+v", round, answer)
		}
		s.settled(want)
		s.t.Logf("round %d: the person was told %q; then the target was %d", round, answer.Message, want)
	}
}

// pause: the autoscaler is told of the pause, and what it was promised before
// counts, but is made only afterwards.
func (s *together) pause() {
	s.set(1)
	const reason = "ask Ada"
	promised := 0
	var refusal error
	all(
		func() { s.command(codeOK, "pause", groupID, "--reason", reason) },
		func() {
			for promised < togetherMax && refusal == nil {
				if refusal = s.increase(0, 1); refusal == nil {
					promised++
				}
				if _, err := s.providers[0].Refresh(s.ctx, &pb.RefreshRequest{}); err != nil {
					s.t.Errorf("refresh: %v", err)
				}
			}
		},
	)
	eventually(s.ctx, s.t, s.Rig, "the provider knows of the pause", func() error {
		if _, err := s.providers[0].Refresh(s.ctx, &pb.RefreshRequest{}); err != nil {
			return err
		}
		err := s.increase(0, 1)
		if err == nil {
			promised++
		}
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), reason) {
			return fmt.Errorf("the autoscaler is told %w", err)
		}
		return nil
	})
	s.command(codeConflict, "scale", groupID, "--to", "2")
	g, err := statusOf(s.ctx, s.Rig, scaled)
	if err != nil || g.Paused == nil || g.Paused.Reason != reason {
		s.t.Errorf("the group does not show the pause: %+v, %v", g.Paused, err)
	}
	if target, _, err := s.seen(0); err != nil || target != 1+promised || g.Target != target {
		s.t.Errorf("paused with %d promised to the autoscaler: it sees %d, the group says %d (%v)", promised, target, g.Target, err)
	}
	s.command(codeOK, "resume", groupID)
	s.settled(1 + promised)
	s.t.Logf("%d promised before the pause was known, then: %v", promised, refusal)
}

// twoProviders: each grants what fits into max as far as it knows. All of it is
// counted, no more than max is made, and the rest is reported until the
// autoscaler gives it up, which counts once.
func (s *together) twoProviders() {
	s.set(2)
	var granted [2]error
	all(
		func() { granted[0] = s.increase(0, 3) },
		func() { granted[1] = s.increase(1, 3) },
	)
	want := 2
	for i, err := range granted {
		switch {
		case err == nil:
			want += 3
		case status.Code(err) != codes.InvalidArgument:
			s.t.Errorf("provider %d: %v", i, err)
		}
	}
	if want < 5 {
		s.t.Fatalf("neither was granted: %v", granted)
	}
	var extra []string
	for i := range s.providers {
		eventually(s.ctx, s.t, s.Rig, "both show all of it", func() error {
			target, instances, err := s.seen(i)
			if err != nil || target != want || len(instances) != want {
				return fmt.Errorf("provider %d: target %d, want %d: %v (%w)", i, target, want, instances, err)
			}
			extra = extra[:0]
			for id, state := range instances {
				if strings.Contains(state, "beyond max") {
					extra = append(extra, id)
				}
			}
			if len(extra) != max(0, want-togetherMax) {
				return fmt.Errorf("provider %d: %d beyond max: %v", i, len(extra), instances)
			}
			return nil
		})
	}
	slices.Sort(extra)
	if len(extra) > 0 {
		req := &pb.NodeGroupDeleteNodesRequest{Id: groupID}
		for _, id := range extra {
			req.Nodes = append(req.Nodes, &pb.ExternalGrpcNode{Name: id, ProviderID: id})
		}
		var gone [2]error
		all(
			func() { _, gone[0] = s.providers[0].NodeGroupDeleteNodes(s.ctx, req) },
			func() { _, gone[1] = s.providers[1].NodeGroupDeleteNodes(s.ctx, req) },
		)
		if gone[0] != nil || gone[1] != nil {
			s.t.Errorf("delete what is beyond max: %v", gone)
		}
	}
	s.settled(min(want, togetherMax))
	s.t.Logf("two providers asked for 3 each: %v; target %d, beyond max %v", granted, want, extra)
}
